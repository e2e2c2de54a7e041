"""The events of encryption: what goes into them, and what is taken out of them (pure)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.crypto.devices import MEGOLM, OLM, Device
from bridgekit.matrix.sending import PUPPET, SOURCE

Json = dict[str, Any]

# What a homeserver or the bridge itself must be able to read of an encrypted message.
_OUTSIDE = ("m.relates_to", SOURCE, PUPPET)
# What the homeserver itself decides about: inside, nobody has looked whether its sender may do it.
_NEVER_INSIDE = ("m.room.encrypted", "m.room.redaction")
_encode = msgspec.json.Encoder().encode


class Sealed(NamedTuple):
    """What is sent in place of an event that must not be read on the way, and as which device."""

    type: str
    content: Json
    device: str


class ToDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A to-device event of a transaction (MSC4203)."""

    type: str
    sender: PersonId
    content: msgspec.Raw
    to: PersonId = msgspec.field(name="to_user_id")
    device: str = msgspec.field(name="to_device_id")


class OlmMessage(msgspec.Struct, frozen=True):
    """One device's part of m.room.encrypted with Olm; `type` 0 begins a session."""

    type: int
    body: str


class OlmContent(msgspec.Struct, frozen=True):
    """The content of a to-device m.room.encrypted."""

    algorithm: str
    sender_key: str
    ciphertext: dict[str, OlmMessage]


class _Keys(msgspec.Struct, frozen=True):
    ed25519: str


class Opened(msgspec.Struct, frozen=True):
    """What an Olm message holds (specification, "m.olm.v1.curve25519-aes-sha2")."""

    type: str
    sender: PersonId
    recipient: PersonId
    keys: _Keys
    recipient_keys: _Keys
    content: msgspec.Raw
    sender_device_keys: msgspec.Raw = msgspec.Raw(b"null")


class RoomKey(msgspec.Struct, frozen=True):
    """The content of m.room_key."""

    algorithm: str
    room_id: ChatId
    session_id: str
    session_key: str


class ForwardedKey(msgspec.Struct, frozen=True):
    """The content of m.forwarded_room_key."""

    algorithm: str
    room_id: ChatId
    session_key: str
    sender_key: str


class AskedSession(msgspec.Struct, frozen=True):
    """The session that a m.room_key_request is about."""

    algorithm: str
    room_id: ChatId
    session_id: str


class AskedKey(msgspec.Struct, frozen=True):
    """The content of m.room_key_request; a cancellation has no body."""

    action: str
    device: str = msgspec.field(name="requesting_device_id")
    body: AskedSession | None = None


class Withheld(msgspec.Struct, frozen=True):
    """The content of m.room_key.withheld."""

    code: str = ""
    room_id: ChatId = ChatId("")
    session_id: str = ""


class MegolmEvent(msgspec.Struct, frozen=True):
    """An encrypted event of a room."""

    room_id: ChatId
    sender: PersonId
    event_id: MessageId
    content: msgspec.Raw


class MegolmContent(msgspec.Struct, frozen=True):
    """The content of m.room.encrypted in a room. The deprecated sender key and device are not looked at."""

    algorithm: str
    ciphertext: str
    session_id: str
    relates_to: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="m.relates_to")


class _Inner(msgspec.Struct, frozen=True):
    type: str
    room_id: ChatId
    content: msgspec.Raw


to_device = msgspec.json.Decoder(ToDevice).decode
olm_content = msgspec.json.Decoder(OlmContent).decode
opened = msgspec.json.Decoder(Opened).decode
room_key = msgspec.json.Decoder(RoomKey).decode
forwarded_key = msgspec.json.Decoder(ForwardedKey).decode
asked_key = msgspec.json.Decoder(AskedKey).decode
withheld = msgspec.json.Decoder(Withheld).decode
megolm_event = msgspec.json.Decoder(MegolmEvent).decode
megolm_content = msgspec.json.Decoder(MegolmContent).decode
_inner = msgspec.json.Decoder(_Inner).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def room_key_content(room: ChatId, session: str, key: str) -> Json:
    """m.room_key."""
    return {"algorithm": MEGOLM, "room_id": room, "session_id": session, "session_key": key}


def forwarded_content(room: ChatId, session: str, key: str, *, sender_key: str, signing_key: str) -> Json:
    """m.forwarded_room_key, from the device that made the session."""
    return {
        **room_key_content(room, session, key),
        "sender_key": sender_key,
        "sender_claimed_ed25519_key": signing_key,
        "forwarding_curve25519_key_chain": [],
    }


def key_request(room: ChatId, session: str, device: str, sender_key: str) -> Json:
    """m.room_key_request of our `device`; a session is asked for once, so its id is the request's.

    `sender_key` is of the device that is asked: deprecated since v1.3, and matrix-rust-sdk (0.19) drops a request
    in which it is no key.
    """
    body = {"algorithm": MEGOLM, "room_id": room, "session_id": session, "sender_key": sender_key}
    return {"action": "request", "body": body, "request_id": session, "requesting_device_id": device}


def withheld_content(room: ChatId, session: str, sender_key: str, code: str, reason: str) -> Json:
    """m.room_key.withheld."""
    return {
        "algorithm": MEGOLM,
        "room_id": room,
        "session_id": session,
        "sender_key": sender_key,
        "code": code,
        "reason": reason,
    }


def olm_payload(
    type: str, content: Json, *, sender: PersonId, signing_key: str, device_keys: Json, to: Device
) -> bytes:
    """What goes into an Olm message to one device; our own keys come along (MSC4147), for who has not asked yet."""
    return _encode(
        {
            "type": type,
            "content": content,
            "sender": sender,
            "keys": {"ed25519": signing_key},
            "recipient": to.user,
            "recipient_keys": {"ed25519": to.ed25519},
            "sender_device_keys": device_keys,
        }
    )


def olm_message(sender_key: str, to: Device, type: int, body: str) -> Json:
    """A to-device m.room.encrypted."""
    return {
        "algorithm": OLM,
        "sender_key": sender_key,
        "ciphertext": {to.curve25519: {"type": type, "body": body}},
    }


def plaintext(room: ChatId, type: str, content: Json) -> bytes:
    """What is encrypted of a room's event."""
    return _encode({"type": type, "room_id": room, "content": content})


def encrypted(content: Json, *, ciphertext: str, session: str, sender_key: str, device: str) -> Json:
    """m.room.encrypted for a room; `content` is what is in it, whose relation must stand outside too."""
    made: Json = {
        "algorithm": MEGOLM,
        "ciphertext": ciphertext,
        "session_id": session,
        # Deprecated since v1.3, and still looked at by some clients.
        "sender_key": sender_key,
        "device_id": device,
    }
    return made | {key: content[key] for key in _OUTSIDE if key in content}


def decrypted(raw: bytes, inner: bytes) -> bytes:
    """The event as it would have come in clear: the outer one with the inner type and content.

    Raises PeerMisbehaved where the inner part is none, or was meant for another room.
    """
    try:
        event = _object(raw)
        found = _inner(inner)
        content = _object(found.content)
        outer = _object(event["content"])
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError):
        raise PeerMisbehaved("an encrypted event with nothing readable in it") from None
    if _encode(found.room_id) != bytes(event.get("room_id", b"")).strip():
        raise PeerMisbehaved("an encrypted event that was made for another room")
    if "state_key" in event or found.type in _NEVER_INSIDE:
        raise PeerMisbehaved("an encrypted event that holds what must not be encrypted")
    # The relation outside is what the homeserver has worked with (edits, threads): it counts.
    relation = outer.get("m.relates_to")
    if relation is not None:
        content["m.relates_to"] = relation
    return _encode({**event, "type": found.type, "content": content})
