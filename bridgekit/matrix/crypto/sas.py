"""One verification that somebody's client asked for, as a machine without waiting: by a short string that people
compare, or by a QR code that their client scans.

Client-Server API, "Key verification framework", "Short Authentication String (SAS) verification" and "QR codes". Pure
but for the dice in its key and its secret.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, NamedTuple

from vodozemac import Curve25519PublicKey, EstablishedSas, Sas

from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import qr
from bridgekit.matrix.crypto.signing import Json, canonical, unpadded

PREFIX = "m.key.verification."
METHOD = "m.sas.v1"
AGREEMENT = "curve25519-hkdf-sha256"
MAC = "hkdf-hmac-sha256.v2"
# Client-Server API, "SAS method: emoji", by number.
EMOJI = (
    "🐶 🐱 🦁 🐎 🦄 🐷 🐘 🐰 🐼 🐓 🐧 🐢 🐟 🐙 🦋 🌷 🌳 🌵 🍄 🌏 🌙 ☁️ 🔥 🍌 🍎 🍓 🌽 🍕 🎂 ❤️ 😀 🤖 🎩 👓 🔧 🎅 👍 "
    "☂️ ⌛ ⏰ 🎁 💡 📕 ✏️ 📎 ✂️ 🔒 🔑 🔨 ☎️ 🏁 🚂 🚲 ✈️ 🚀 🏆 ⚽ 🎸 🎺 🔔 ⚓ 🎧 📁 📌"
).split()


class Cancelled(Exception):
    """It cannot go on; `code` is the specification's."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Party(NamedTuple):
    """One side: who, with which device, and the public keys that stand for it (by key id, without "ed25519:"); `master`
    is the one of them that is its identity's, "" where there is none."""

    user: PersonId
    device: str
    keys: dict[str, str]
    master: str = ""


class Verification:
    """Our side of one verification, which the other side asked for and starts.

    Each call takes the content of one event and returns what to answer, as (type without the prefix, content without
    the transaction). `shown` is what people compare, once it is known; `code` what a QR code holds that their client
    can scan, b"" where there is none; `done` whether both sides are through. Raises Cancelled.
    """

    def __init__(self, ours: Party, theirs: Party, transaction: str, *, can_show: bool = False) -> None:
        """`can_show`: there is a place where the other side would see a QR code."""
        self._ours = ours
        self._theirs = theirs
        self._transaction = transaction
        self._sas: Sas | None = Sas()
        self._key = self._sas.public_key.to_base64()
        self._start: Json = {}
        self._established: EstablishedSas | None = None
        self._answered = False
        self._can_show = can_show and bool(ours.master and theirs.master)
        self._secret = secrets.token_bytes(qr.SECRET_BYTES)
        self.shown: tuple[str, ...] = ()
        self.code = b""
        self.done = False

    @property
    def other(self) -> Party:
        """The other side."""
        return self._theirs

    def requested(self, content: Json) -> list[tuple[str, Json]]:
        """Answer a request."""
        offered = _strings(content.get("methods"))
        methods = [METHOD] if METHOD in offered else []
        if self._can_show and qr.can_scan(offered):
            try:
                self.code = qr.written(
                    self._transaction, self._ours.master, self._theirs.master, self._secret
                )
            except ValueError:
                raise Cancelled("m.key_mismatch", "the identity has no key") from None
            methods += [qr.SHOW, qr.RECIPROCATE]
        if not methods:
            raise Cancelled(
                "m.unknown_method", "only SAS is known here, and QR codes that are scanned in a room"
            )
        return [("ready", {"from_device": self._ours.device, "methods": methods})]

    def started(self, content: Json, raw: Json) -> list[tuple[str, Json]]:
        """Answer a start: with our commitment, or, where our code was scanned, with the end. `raw` is the content as it
        was sent, which the commitment is made of."""
        if self._start:
            raise Cancelled("m.unexpected_message", "it has started")
        if self.code and content.get("method") == qr.RECIPROCATE:
            return self._scanned(content)
        offers = {
            name: _strings(content.get(name))
            for name in ("key_agreement_protocols", "hashes", "message_authentication_codes")
        }
        if (
            content.get("method") != METHOD
            or AGREEMENT not in offers["key_agreement_protocols"]
            or "sha256" not in offers["hashes"]
            or MAC not in offers["message_authentication_codes"]
        ):
            raise Cancelled("m.unknown_method", "nothing of it is known here")
        self._start = raw
        strings = [
            kind
            for kind in ("emoji", "decimal")
            if kind in _strings(content.get("short_authentication_string"))
        ]
        commitment = hashlib.sha256(self._key.encode() + _whole(raw)).digest()
        answer: Json = {
            "method": METHOD,
            "key_agreement_protocol": AGREEMENT,
            "hash": "sha256",
            "message_authentication_code": MAC,
            "short_authentication_string": strings or ["decimal"],
            "commitment": unpadded(commitment),
        }
        return [("accept", answer)]

    def _scanned(self, content: Json) -> list[tuple[str, Json]]:
        """Their client has found its own keys and ours in the code. Nobody is asked whether it says so on its screen:
        that would be for trust in their keys, which the bridge does not take from a verification."""
        secret = content.get("secret")
        if not isinstance(secret, str) or not hmac.compare_digest(
            secret.encode(), unpadded(self._secret).encode()
        ):
            raise Cancelled("m.key_mismatch", "the secret is not that of the code")
        self.done = True
        return [("done", {})]

    def keyed(self, content: Json) -> list[tuple[str, Json]]:
        """Answer the other side's key with ours; from then on there is something to compare."""
        key = content.get("key")
        if not self._start or self._sas is None or not isinstance(key, str):
            raise Cancelled("m.unexpected_message", "no key is due")
        try:
            self._established = self._sas.diffie_hellman(Curve25519PublicKey.from_base64(key))
        except ValueError:
            raise Cancelled("m.invalid_message", "the key is none") from None
        self._sas = None
        # Who sent the start comes first.
        info = "|".join(
            (
                "MATRIX_KEY_VERIFICATION_SAS",
                *(self._theirs.user, self._theirs.device, key),
                *(self._ours.user, self._ours.device, self._key),
                self._transaction,
            )
        )
        made = self._established.bytes(info)
        if "emoji" in _strings(self._start.get("short_authentication_string")):
            self.shown = tuple(EMOJI[index] for index in made.emoji_indices)
        else:
            self.shown = tuple(str(number) for number in made.decimals)
        return [("key", {"key": self._key})]

    def macced(self, content: Json) -> list[tuple[str, Json]]:
        """Their person has said that the strings match: see whether their keys do, and vouch for ours."""
        macs, keys = content.get("mac"), content.get("keys")
        if self._established is None or not isinstance(macs, dict) or not isinstance(keys, str):
            raise Cancelled("m.unexpected_message", "no confirmation is due")
        base = self._info(self._theirs, self._ours)
        if keys != self._calculate(",".join(sorted(macs)), f"{base}KEY_IDS"):
            raise Cancelled("m.key_mismatch", "the list of keys is not theirs")
        known = {f"ed25519:{id}": key for id, key in self._theirs.keys.items()}
        confirmed = known.keys() & macs.keys()
        if not confirmed:
            raise Cancelled("m.key_mismatch", "none of their keys is confirmed")
        for name in confirmed:
            if macs[name] != self._calculate(known[name], f"{base}{name}"):
                raise Cancelled("m.key_mismatch", "a key is not theirs")
        self.done = True
        base = self._info(self._ours, self._theirs)
        ours = {
            f"ed25519:{id}": self._calculate(key, f"{base}ed25519:{id}")
            for id, key in self._ours.keys.items()
        }
        listed = self._calculate(",".join(sorted(ours)), f"{base}KEY_IDS")
        return [("mac", {"mac": ours, "keys": listed}), ("done", {})]

    def _info(self, sender: Party, recipient: Party) -> str:
        parts = (sender.user, sender.device, recipient.user, recipient.device, self._transaction)
        return "MATRIX_KEY_VERIFICATION_MAC" + "".join(parts)

    def _calculate(self, what: str, info: str) -> str:
        assert self._established is not None
        return self._established.calculate_mac(what, info)


def _whole(content: Json) -> bytes:
    """Canonical JSON of all of it: nothing is left out of what a commitment is made of."""
    return canonical({"whole": content})[len('{"whole":') : -1]


def _strings(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
