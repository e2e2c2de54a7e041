"""QR codes, octet by octet as the specification has them, and as a camera reads them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import qr
from bridgekit.matrix.crypto.sas import Cancelled, Party, Verification
from bridgekit.matrix.crypto.signing import unpadded
from tests.matrix.crypto.qr_reader import scanned

OURS, THEIRS = bytes(range(32)), bytes(range(16, 48))
EVENT = "$ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
SCANS = ["m.sas.v1", "m.qr_code.scan.v1", "m.reciprocate.v1"]


def verification(*, in_room: bool = True, master: str = unpadded(THEIRS)) -> Verification:
    ours = Party(PersonId("@bot:hs.test"), "BK1", {"BK1": "botkey"}, unpadded(OURS))
    theirs = Party(PersonId("@ann:hs.test"), "PHONE", {"PHONE": "annkey"}, master)
    return Verification(ours, theirs, EVENT, can_show=in_room)


def start(secret: bytes) -> dict[str, Any]:
    return {"from_device": "PHONE", "method": "m.reciprocate.v1", "secret": unpadded(secret)}


def test_a_code_is_what_the_specification_says_and_a_camera_reads_it() -> None:
    """Client-Server API, "QR code format": "MATRIX", version 2, mode 0, the event's id with its length, both keys,
    the secret."""
    secret = bytes(range(0x20, 0x30))
    code = qr.written(EVENT, unpadded(OURS), unpadded(THEIRS), secret)
    assert code == b"MATRIX\x02\x00\x00\x2d" + EVENT.encode() + OURS + THEIRS + secret
    assert scanned(qr.drawn(code).data) == code


def test_what_is_no_key_is_in_no_code() -> None:
    with pytest.raises(ValueError):
        qr.written(EVENT, unpadded(OURS), "AAAA", b"secret")
    with pytest.raises(Cancelled) as why:
        verification(master="AAAA").requested({"methods": SCANS})
    assert why.value.code == "m.key_mismatch"


def test_who_can_scan_is_shown_a_code_and_is_through_with_its_secret() -> None:
    one = verification()
    methods = ["m.sas.v1", "m.qr_code.show.v1", "m.reciprocate.v1"]
    assert one.requested({"methods": SCANS}) == [("ready", {"from_device": "BK1", "methods": methods})]
    secret = one.code[-qr.SECRET_BYTES :]
    assert one.code == qr.written(EVENT, unpadded(OURS), unpadded(THEIRS), secret)
    assert not one.done
    assert one.started(start(secret), start(secret)) == [("done", {})]
    assert one.done


def test_each_code_has_a_secret_of_its_own() -> None:
    one, other = verification(), verification()
    one.requested({"methods": SCANS})
    other.requested({"methods": SCANS})
    assert one.code != other.code


@pytest.mark.parametrize("secret", [b"", b"\0" * qr.SECRET_BYTES, base64.b64decode("c2VjcmV0")])
def test_another_secret_ends_it(secret: bytes) -> None:
    one = verification()
    one.requested({"methods": SCANS})
    with pytest.raises(Cancelled) as why:
        one.started(start(secret), start(secret))
    assert (why.value.code, one.done) == ("m.key_mismatch", False)


@pytest.mark.parametrize("secret", [None, 5, ["x"], "ü"])
def test_a_secret_that_is_none_ends_it(secret: Any) -> None:
    one = verification()
    one.requested({"methods": SCANS})
    content = {**start(b""), "secret": secret}
    with pytest.raises(Cancelled):
        one.started(content, content)


@pytest.mark.parametrize(
    ("one", "methods"),
    [
        (verification(in_room=False), SCANS),
        (verification(master=""), SCANS),
        (verification(), ["m.sas.v1", "m.qr_code.scan.v1"]),
        (verification(), ["m.sas.v1", "m.qr_code.show.v1", "m.reciprocate.v1"]),
    ],
    ids=["no room to show it in", "no identity", "nothing follows from the scan", "who only shows"],
)
def test_where_nobody_could_scan_it_there_is_no_code(one: Verification, methods: list[str]) -> None:
    assert one.requested({"methods": methods}) == [("ready", {"from_device": "BK1", "methods": ["m.sas.v1"]})]
    assert one.code == b""
    with pytest.raises(Cancelled) as why:
        one.started(start(b""), start(b""))
    assert why.value.code == "m.unknown_method"
