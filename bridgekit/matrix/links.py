"""Signed links that expire: how a remote network reads a Matrix file or a long message (pure).

A token is `base64url(claim + mac)`. The claim is one letter (its kind), the second at which it ends, and what it
names; event ids of today's rooms are packed, because a link must fit into a line of chat. What was said in an
encrypted room is named by its event and never by its keys. Of somebody who was erased before, the letter and the
number of that erasure stand before the event's kind. The mac is the first 16
bytes of HMAC-SHA256 over the claim and the name in the link's path, so neither can be changed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from bridgekit.contract.ids import ChatId, MessageId

MEDIA_PATH = "/_bridgekit/media"
TEXT_PATH = "/_bridgekit/text"
MAC_BYTES = 16
LONGEST_SEGMENT = 80
"""Characters of a file's name at the end of its link: the whole is to fit a line where lines are short."""
HOUR = 3600
EARLIEST = 1_000_000_000
"""Seconds since the epoch; a number below that is the hour at which a link of an earlier version ends."""
_MXC = re.compile(r"mxc://([A-Za-z0-9.:\[\]-]{1,255})/([A-Za-z0-9_-]{1,255})", re.ASCII)
_PACKED_EVENT = re.compile(r"\$[A-Za-z0-9_-]{43}", re.ASCII)
_HEAD = struct.Struct(">cI")
_AGREEMENT = struct.Struct(">q")
_SINCE = struct.Struct(">q")


class Mxc(NamedTuple):
    """The parts of an mxc:// address; both are safe in a path."""

    server: str
    id: str


class MediaClaim(NamedTuple):
    """What a link to a file of no event names."""

    mxc: str


class FileClaim(NamedTuple):
    """What a link to the file of an event names. `since` is the number of the erasure that the event's sender had
    behind them when the link was made; 0: none."""

    room: ChatId
    event_id: MessageId
    since: int = 0


class TextClaim(NamedTuple):
    """What a text link names; `since` as of a file."""

    room: ChatId
    event_id: MessageId
    since: int = 0


class SealedClaim(NamedTuple):
    """What a link to something in an encrypted room names: its event, which holds the key to a file, and the agreement
    by which it was made; `since` as of a file."""

    room: ChatId
    event_id: MessageId
    agreement: int
    since: int = 0


Claim = MediaClaim | FileClaim | TextClaim | SealedClaim


class Forged(Exception):
    """The token was not made here, or was changed."""


class Expired(Exception):
    """The token was good once."""


def parse_mxc(mxc: str) -> Mxc | None:
    """The parts of an mxc:// address, None where it is none (Client-Server API, "mxc:// URIs")."""
    match = _MXC.fullmatch(mxc)
    return Mxc(match[1], match[2]) if match else None


class Links:
    """Links below `base_url` (None or empty: there are none), signed with `key`, good for `lifetime` seconds.

    `now` is seconds since the epoch. The same file has the same link for a while, so that readers can cache it: the
    end is rounded up by a 24th of the lifetime at most, and never by more than an hour.
    """

    def __init__(self, base_url: str | None, key: bytes, lifetime: int, *, now: Callable[[], float]) -> None:
        if len(key) < 16:
            raise ValueError("the key of the links is too short")
        self._base = (base_url or "").rstrip("/")
        self._key = key
        self._lifetime = lifetime
        self._step = max(1, min(HOUR, lifetime // 24))
        self._now = now

    @property
    def lasting(self) -> int:
        """Seconds that a link works at most."""
        return self._lifetime + self._step

    @property
    def are_public(self) -> bool:
        """Whether there are links at all."""
        return bool(self._base)

    def media(self, mxc: str, name: str) -> str | None:
        """A link to a file; None where no public address is configured or `mxc` is no mxc address."""
        if not self._base or parse_mxc(mxc) is None:
            return None
        name = _segment(name)
        token = self._sign(b"m", mxc.removeprefix("mxc://").encode(), name)
        return f"{self._base}{MEDIA_PATH}/{token}/{quote(name, safe='')}"

    def file(self, room: ChatId, event_id: MessageId, name: str, *, since: int = 0) -> str | None:
        """A link to the file of one event, good while that stands; None where no public address is configured.
        `since` as in `FileClaim`."""
        if not self._base:
            return None
        name = _segment(name)
        packed, place = _placed(room, event_id)
        token = self._sign(b"F" if packed else b"f", place, name, since=since)
        return f"{self._base}{MEDIA_PATH}/{token}/{quote(name, safe='')}"

    def text(self, room: ChatId, event_id: MessageId, *, since: int = 0) -> str | None:
        """A link to the words of one event; None where no public address is configured."""
        if not self._base:
            return None
        packed, place = _placed(room, event_id)
        return f"{self._base}{TEXT_PATH}/{self._sign(b'T' if packed else b't', place, '', since=since)}"

    def sealed_text(self, room: ChatId, event_id: MessageId, agreement: int, *, since: int = 0) -> str | None:
        """A link to the words of an encrypted event, good while the agreement holds; None as for `text`."""
        if not self._base:
            return None
        return f"{self._base}{TEXT_PATH}/{self._sign_sealed(room, event_id, agreement, '', since)}"

    def sealed_media(
        self, room: ChatId, event_id: MessageId, agreement: int, name: str, *, since: int = 0
    ) -> str | None:
        """A link to the file of an encrypted event, good while the agreement holds; None as for `text`."""
        if not self._base:
            return None
        name = _segment(name)
        token = self._sign_sealed(room, event_id, agreement, name, since)
        return f"{self._base}{MEDIA_PATH}/{token}/{quote(name, safe='')}"

    def _sign_sealed(self, room: ChatId, event_id: MessageId, agreement: int, name: str, since: int) -> str:
        packed, place = _placed(room, event_id)
        return self._sign(b"S" if packed else b"s", _AGREEMENT.pack(agreement) + place, name, since=since)

    def open(self, token: str, name: str = "") -> Claim:
        """What a token names, with the name of its path. Raises Forged, Expired."""
        try:
            data = _unbase(token)
            kind, end = _HEAD.unpack_from(data)
        except (ValueError, struct.error):
            raise Forged from None
        claim, mac = data[:-MAC_BYTES], data[-MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(claim, name)) or _base(data) != token:
            raise Forged
        if self._now() >= (end if end >= EARLIEST else end * HOUR):
            raise Expired
        what = claim[_HEAD.size :]
        if kind == b"m":
            return MediaClaim(f"mxc://{what.decode()}")
        since = 0
        if kind == b"E":
            (since,) = _SINCE.unpack_from(what)
            kind, what = what[_SINCE.size : _SINCE.size + 1], what[_SINCE.size + 1 :]
        if kind in b"Ff":
            return FileClaim(*_place(what, packed=kind == b"F"), since)
        if kind in b"Tt":
            return TextClaim(*_place(what, packed=kind == b"T"), since)
        if kind in b"Ss":
            (agreement,) = _AGREEMENT.unpack_from(what)
            room, event_id = _place(what[_AGREEMENT.size :], packed=kind == b"S")
            return SealedClaim(room, event_id, agreement, since)
        raise Forged

    def _sign(self, kind: bytes, what: bytes, name: str, *, since: int = 0) -> str:
        end = -int(-(self._now() + self._lifetime) // self._step) * self._step
        if since:
            kind, what = b"E", _SINCE.pack(since) + kind + what
        claim = _HEAD.pack(kind, end) + what
        return _base(claim + self._mac(claim, name))

    def _mac(self, claim: bytes, name: str) -> bytes:
        # The claim's length first: no byte can move between claim and name.
        text = struct.pack(">I", len(claim)) + claim + name.encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, text, hashlib.sha256)[:MAC_BYTES]


def _placed(room: ChatId, event_id: MessageId) -> tuple[bool, bytes]:
    """An event's room and id, packed (True) where its id is a hash."""
    if _PACKED_EVENT.fullmatch(event_id) and _base(_unbase(event_id[1:])) == event_id[1:]:
        return True, _unbase(event_id[1:]) + room.encode()
    return False, f"{room}\n{event_id}".encode()


def _place(what: bytes, *, packed: bool) -> tuple[ChatId, MessageId]:
    if packed:
        return ChatId(what[32:].decode()), MessageId("$" + _base(what[:32]))
    room, _, event_id = what.decode().partition("\n")
    return ChatId(room), MessageId(event_id)


def _segment(name: str) -> str:
    """The name that ends a link, shortened before its ending where, quoted, it is longer than LONGEST_SEGMENT."""
    name = file_name(name)
    stem, dot, ending = name.rpartition(".")
    if not dot or len(quote(ending, safe="")) > 10:
        stem = name
    ending = name[len(stem) :]
    while len(quote(stem + ending, safe="")) > LONGEST_SEGMENT:
        stem = stem[:-1]
    return stem + ending


def file_name(name: str) -> str:
    """A name that is one harmless segment of a path, at most 100 characters; never empty."""
    name = re.sub(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069/\\]", "_", name).strip(". ")
    if len(name) > 100:
        stem, dot, ending = name.rpartition(".")
        name = f"{stem[: 99 - len(ending)]}.{ending}" if dot and len(ending) <= 10 else name[:100]
    return name.encode("utf-8", "replace").decode() or "file"


def _base(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unbase(text: str) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text, re.ASCII):
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
