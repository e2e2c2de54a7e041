"""What a MIMI message is made of (draft-ietf-mimi-content-08, sections 4 and 8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import cbor2
import msgspec

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.messages import cbor

MARKDOWN = "text/markdown;variant=GFM-MIMI"
PLAIN = "text/plain;charset=utf-8"
SHA256 = 1  # in the registry of named information hashes: the first octet of an id, and of a part's hash


class Disposition(IntEnum):
    """How a part is meant (the draft's registry); a number that is not here is treated like RENDER."""

    UNSPECIFIED = 0
    RENDER = 1
    REACTION = 2
    PROFILE = 3
    INLINE = 4
    ICON = 5
    ATTACHMENT = 6
    SESSION = 7
    PREVIEW = 8


class Semantics(IntEnum):
    """What to do with the parts of a part: pick one, all or none, as many as can be."""

    CHOOSE_ONE = 0
    SINGLE_UNIT = 1
    PROCESS_ALL = 2


class Extension(IntEnum):
    """Extension keys: 1 and 2 from the draft, the others from draft-mimi-content-more-extensions-00."""

    SENDER_URI = 1
    ROOM_URI = 2
    SENDER_TIMESTAMP = 3
    EXTERNAL_MESSAGE_ID = 4
    SUBJECT = 5
    LAST_SEEN = 256


class PartBase(msgspec.Struct, frozen=True, kw_only=True):
    """What every part has. `language` is empty or tags of RFC 5646 with commas between them."""

    disposition: int = Disposition.RENDER
    language: str = ""


class NullPart(PartBase, frozen=True, kw_only=True):
    """Nothing: what a deleted message and a reaction that was taken back say."""


class SinglePart(PartBase, frozen=True, kw_only=True):
    """Content that travels within the message."""

    content_type: str
    content: bytes


class ExternalPart(PartBase, frozen=True, kw_only=True):
    """Content that lies elsewhere. `expires` (s since the epoch) and `size` (octets) are 0 where they are not told.

    `content_hash` is of what lies at `url`, before it is decrypted.
    """

    content_type: str
    url: str
    expires: int = 0
    size: int = 0
    encryption: int = 0  # IANA's AEAD numbers: 1 is AES-128-GCM
    key: bytes = b""
    nonce: bytes = b""
    aad: bytes = b""
    hash_algorithm: int = 0
    content_hash: bytes = b""
    description: str = ""
    filename: str = ""

    def __repr__(self) -> str:  # the key opens the file
        return f"ExternalPart(content_type={self.content_type!r}, size={self.size})"


class MultiPart(PartBase, frozen=True, kw_only=True):
    """Two parts or more, and how they belong together."""

    semantics: Semantics
    parts: tuple[Part, ...]


Part = NullPart | SinglePart | ExternalPart | MultiPart


class Expiry(msgspec.Struct, frozen=True):
    """`seconds` after it was read, or since the epoch where it is not relative."""

    relative: bool
    seconds: int


class MimiContent(msgspec.Struct, frozen=True, kw_only=True):
    """A message. `extensions` maps a key to the octets of its value: what nobody here knows is not opened."""

    salt: bytes
    part: Part
    replaces: bytes | None = None
    topic: bytes = b""
    expires: Expiry | None = None
    in_reply_to: bytes | None = None
    extensions: Mapping[int | str, bytes] = {}

    @property
    def sender_uri(self) -> str | None:
        """Who wrote it, as the sender says; None where nothing is said."""
        return _text_extension(self.extensions, Extension.SENDER_URI)

    @property
    def room_uri(self) -> str | None:
        """For which room it was written, as the sender says; None where nothing is said."""
        return _text_extension(self.extensions, Extension.ROOM_URI)


def origin(sender_uri: str, room_uri: str) -> dict[int | str, bytes]:
    """The two extensions that bind a message to its sender and room (and without which no hub franks it)."""
    return {
        Extension.SENDER_URI.value: cbor2.dumps(sender_uri),
        Extension.ROOM_URI.value: cbor2.dumps(room_uri),
    }


def _text_extension(extensions: Mapping[int | str, bytes], key: int) -> str | None:
    raw = extensions.get(key)
    if raw is None:
        return None
    if raw[0] >> 5 != cbor.Major.TEXT:
        raise PeerMisbehaved("The other side sent a message with something else where text belongs.")
    return str(cbor2.loads(raw))
