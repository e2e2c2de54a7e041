"""A MIMI message to octets and from octets, and its id (draft-ietf-mimi-content-08, sections 3, 4 and 6)."""

from __future__ import annotations

import hashlib
from typing import Any

import cbor2

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.messages import cbor
from connectors.mimi.messages.parts import (
    SHA256,
    Expiry,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    Semantics,
    SinglePart,
)

MAX_OCTETS = (
    1024 * 1024
)  # "too large (according to local policy)": what is larger belongs in an external part
MAX_TOPIC = 4096
MAX_PARTS = 1024
MAX_DEPTH = 4
MAX_EXTENSION_DEPTH = 4
SALT = 16
ID = 32


def message_id(octets: bytes, *, salt: bytes, sender_uri: str, room_uri: str) -> bytes:
    """The id of a message (3.3): over the octets as they were received, never as they would be encoded anew."""
    sender, room = sender_uri.encode(), room_uri.encode()
    digest = hashlib.sha256(
        len(sender).to_bytes(2) + sender + len(room).to_bytes(2) + room + octets + salt
    ).digest()
    return bytes((SHA256,)) + digest[: ID - 1]


# Out --------------------------------------------------------------------------------------------------------


def encode(content: MimiContent) -> bytes:
    """The octets of a message. Raises ValueError for one that no receiver may accept."""
    expires = content.expires
    extensions = sorted((cbor2.dumps(key), value) for key, value in content.extensions.items())
    fields: list[object] = [
        content.salt,
        content.replaces,
        content.topic,
        None if expires is None else [expires.relative, expires.seconds],
        content.in_reply_to,
    ]
    octets = b"".join(
        (
            cbor.head(cbor.Major.ARRAY, 7),
            *map(cbor2.dumps, fields),
            cbor.head(cbor.Major.MAP, len(extensions)),
            *(key + value for key, value in extensions),
            cbor2.dumps(_out(content.part)),
        )
    )
    try:
        decode(octets)
    except PeerMisbehaved as problem:
        raise ValueError(problem.notice) from None
    return octets


def _out(part: Part) -> list[object]:
    head: list[object] = [part.disposition, part.language]
    match part:
        case NullPart():
            return [*head, 0]
        case SinglePart():
            return [*head, 1, part.content_type, part.content]
        case ExternalPart():
            return [
                *head, 2, part.content_type, part.url, part.expires, part.size, part.encryption, part.key,
                part.nonce, part.aad, part.hash_algorithm, part.content_hash, part.description, part.filename,
            ]  # fmt: skip
        case MultiPart():
            return [*head, 3, int(part.semantics), [_out(inner) for inner in part.parts]]


# In ---------------------------------------------------------------------------------------------------------


def decode(octets: bytes) -> MimiContent:
    """Read a message. Raises PeerMisbehaved, and nothing else, for what the draft says must not be sent."""
    if len(octets) > MAX_OCTETS:
        raise PeerMisbehaved("The other side sent a message that is too large.")
    if octets[:1] != cbor.head(cbor.Major.ARRAY, 7):
        raise PeerMisbehaved("The other side sent something that is not MIMI content.")
    at = 1
    for _ in range(5):
        at = cbor.check(octets, at, nesting=1)
    known, end = cbor.entries(octets, at, nesting=MAX_EXTENSION_DEPTH, tags=True)
    # Each level of parts is two arrays; what is deeper is refused in `_part` with a better sentence.
    if cbor.check(octets, end, nesting=2 * MAX_DEPTH + 2) != len(octets):
        raise PeerMisbehaved("The other side sent a message with something behind its end.")
    # Nothing but numbers, strings, arrays and maps is left, and all of it was measured.
    salt, replaces, topic, expires, in_reply_to, _, part = cbor2.loads(octets[:at] + b"\xa0" + octets[end:])
    if len(_octets(topic)) > MAX_TOPIC:
        raise PeerMisbehaved("The other side sent a message whose topic id is too long.")
    if len(_octets(salt)) != SALT:
        raise PeerMisbehaved("The other side sent a message whose salt has a wrong size.")
    content = MimiContent(
        salt=salt,
        replaces=_id_or_none(replaces),
        topic=topic,
        expires=_expiry(expires),
        in_reply_to=_id_or_none(in_reply_to),
        extensions=_extensions(known),
        part=_part(part, 1, _Count()),
    )
    _ = content.sender_uri, content.room_uri  # they are text, or nothing
    return content


def read_id(octets: object) -> bytes:
    """A message id. Raises PeerMisbehaved where it is none, or made with a hash that nobody here knows."""
    value = _octets(octets)
    if len(value) != ID:
        raise PeerMisbehaved("The other side sent a message id of a wrong size.")
    if value[0] != SHA256:
        raise PeerMisbehaved("The other side sent a message id that was made with an unknown hash.")
    return value


class _Count:
    """How many parts were read."""

    parts = 0


def _part(raw: Any, depth: int, count: _Count) -> Part:
    if depth > MAX_DEPTH:
        raise PeerMisbehaved("The other side sent a message whose parts are nested too deeply.")
    count.parts += 1
    if count.parts > MAX_PARTS:
        raise PeerMisbehaved("The other side sent a message of too many parts.")
    if type(raw) is not list or len(raw) < 3:
        raise PeerMisbehaved("The other side sent a message with a part that is none.")
    disposition, language = _number(raw[0], 1), _text(raw[1])
    match _number(raw[2], 8), raw[3:]:
        case 0, []:
            return NullPart(disposition=disposition, language=language)
        case 1, [content_type, content]:
            return SinglePart(
                disposition=disposition,
                language=language,
                content_type=_text(content_type),
                content=_octets(content),
            )
        case 2, [
            kind,
            url,
            expires,
            size,
            encryption,
            key,
            nonce,
            aad,
            algorithm,
            digest,
            description,
            filename,
        ]:
            return ExternalPart(
                disposition=disposition,
                language=language,
                content_type=_text(kind),
                url=_text(url),
                expires=_number(expires, 4),
                size=_number(size, 8),
                encryption=_number(encryption, 2),
                key=_octets(key),
                nonce=_octets(nonce),
                aad=_octets(aad),
                hash_algorithm=_number(algorithm, 1),
                content_hash=_octets(digest),
                description=_text(description),
                filename=_text(filename),
            )
        case 3, [semantics, [_, _, *_] as parts]:
            return MultiPart(
                disposition=disposition,
                language=language,
                semantics=_semantics(semantics),
                parts=tuple(_part(inner, depth + 1, count) for inner in parts),
            )
        case _:
            raise PeerMisbehaved("The other side sent a message with a part of an unknown form.")


def _semantics(value: object) -> Semantics:
    try:
        return Semantics(_number(value, 8))
    except ValueError:
        raise PeerMisbehaved(
            "The other side sent a message whose parts belong together in an unknown way."
        ) from None


def _extensions(known: list[tuple[bytes, bytes]]) -> dict[int | str, bytes]:
    found: dict[int | str, bytes] = {}
    for raw, value in known:
        key = cbor2.loads(raw)
        match key:
            case str() if 1 <= len(key.encode()) <= cbor.MAX_TEXT_KEY:
                found[key] = value
            case int() if key:
                found[key] = value
            case _:  # 8.2.1: 0 is reserved
                raise PeerMisbehaved(
                    "The other side sent a message with an extension key that none may have."
                )
    return found


def _expiry(raw: Any) -> Expiry | None:
    match raw:
        case None:
            return None
        case [bool() as relative, seconds]:
            return Expiry(relative, _number(seconds, 4))
        case _:
            raise PeerMisbehaved("The other side sent a message that expires in an unknown way.")


def _id_or_none(value: object) -> bytes | None:
    return None if value is None else read_id(value)


def _number(value: object, size: int) -> int:
    if type(value) is not int or not 0 <= value < 1 << 8 * size:
        raise PeerMisbehaved("The other side sent a message with something else where a number belongs.")
    return value


def _octets(value: object) -> bytes:
    if type(value) is not bytes:
        raise PeerMisbehaved("The other side sent a message with something else where octets belong.")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise PeerMisbehaved("The other side sent a message with something else where text belongs.")
    return value
