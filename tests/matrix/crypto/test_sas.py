"""Verification, with matrix-nio on the other side, mended in three places to what the specification says."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import nio
import pytest
from nio.crypto import OlmDevice
from nio.crypto.sas import Sas

from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto.sas import Cancelled, Party, Verification

BOT, ANN = PersonId("@bot:hs.test"), PersonId("@ann:hs.test")
TXN = "txn-1"
OURS = Party(BOT, "BK1", {"BK1": "botkey", "master": "master"})


def verification(theirs: str = "annkey") -> Verification:
    return Verification(OURS, Party(ANN, "PHONE", {"PHONE": theirs}), TXN)


class Peer(Sas):  # type: ignore[misc]
    """nio makes the commitment hexadecimal, where the specification (and every other client) wants unpadded base64."""

    def _check_commitment(self, key: str) -> bool:
        start = nio.Api.to_canonical_json(self.start_verification().content)
        digest = hashlib.sha256(f"{key}{start}".encode()).digest()
        return bool(self.commitment == base64.b64encode(digest).decode().rstrip("="))

    def shown(self) -> tuple[str, ...]:
        """nio takes what vodozemac calls indices for bytes, and cuts them up once more."""
        return tuple(self.emoji[i][0] for i in self.established_sas.bytes(self._extra_info).emoji_indices)


@pytest.fixture(autouse=True)
def _method(monkeypatch: pytest.MonkeyPatch) -> None:
    """nio computes hkdf-hmac-sha256.v2, and calls it by its predecessor's name."""
    monkeypatch.setattr(Sas, "_mac_v1", ["hkdf-hmac-sha256.v2"])


def peer() -> Peer:
    bot = OlmDevice(BOT, "BK1", {"ed25519": "botkey", "curve25519": "curve"})
    return Peer(ANN, "PHONE", "annkey", bot, TXN)


def event(kind: str, content: dict[str, Any]) -> Any:
    """What nio makes of one of our answers."""
    whole = {**content, "transaction_id": TXN}
    return nio.ToDeviceEvent.parse_event(
        {"type": f"m.key.verification.{kind}", "sender": BOT, "content": whole}
    )


def compared(ours: Verification, theirs: Peer) -> None:
    """Up to the point where both show something."""
    start = theirs.start_verification().content
    ((kind, accept),) = ours.started(start, start)
    theirs.receive_accept_event(event(kind, accept))
    ((kind, key),) = ours.keyed(theirs.share_key().content)
    theirs.receive_key_event(event(kind, key))


def test_both_show_the_same_and_trust_each_other_once_it_is_confirmed() -> None:
    ours, theirs = verification(), peer()
    compared(ours, theirs)
    assert ours.shown == theirs.shown()
    assert not ours.done
    theirs.accept_sas()
    (kind, mac), (last, _) = ours.macced(theirs.get_mac().content)
    assert (ours.done, last) == (True, "done")
    theirs.receive_mac_event(event(kind, mac))
    assert theirs.verified
    assert theirs.verified_devices == ["BK1"]


def test_a_key_that_is_not_the_one_we_know_ends_it() -> None:
    ours, theirs = verification(theirs="another"), peer()
    compared(ours, theirs)
    theirs.accept_sas()
    with pytest.raises(Cancelled) as why:
        ours.macced(theirs.get_mac().content)
    assert (why.value.code, ours.done) == ("m.key_mismatch", False)


def test_a_confirmation_of_nothing_confirms_nothing() -> None:
    ours, theirs = verification(), peer()
    compared(ours, theirs)
    listed = ours._calculate("", f"{ours._info(ours.other, ours._ours)}KEY_IDS")
    with pytest.raises(Cancelled, match="none of their keys") as why:
        ours.macced({"mac": {}, "keys": listed})
    assert (why.value.code, ours.done) == ("m.key_mismatch", False)


def test_a_request_is_answered_if_it_offers_what_we_know() -> None:
    assert verification().requested({"methods": ["m.qr_code.scan.v1", "m.sas.v1"]}) == [
        ("ready", {"from_device": "BK1", "methods": ["m.sas.v1"]})
    ]
    with pytest.raises(Cancelled, match="only SAS"):
        verification().requested({"methods": ["m.qr_code.scan.v1"]})


@pytest.mark.parametrize(
    "content", [{}, {"key": 5}, {"key": "?"}, {"mac": {}, "keys": ""}, {"method": "m.sas.v1"}]
)
def test_what_comes_at_the_wrong_time_or_is_nothing_ends_it(content: dict[str, Any]) -> None:
    fresh, started = verification(), verification()
    start = peer().start_verification().content
    started.started(start, start)
    for one in (fresh, started):
        with pytest.raises(Cancelled):
            one.keyed(content)
        with pytest.raises(Cancelled):
            one.macced(content)
    with pytest.raises(Cancelled):
        started.started(start, start)
    with pytest.raises(Cancelled):
        fresh.started(content, content)
