"""Events as values: their JSON, their size limit, and what a redaction leaves of them."""

from typing import Any

import msgspec

from bridgekit.testing.homeserver.refusals import Json, Refused, too_large

# Client-Server API, "Size limits": the complete event, as a PDU, may not exceed 65,536 bytes. A PDU carries
# hashes, a signature, auth and previous events, which no client event shows: about this much.
MAX_PDU_BYTES = 65_536
PDU_OVERHEAD_BYTES = 700
MAX_FIELD_BYTES = 255

_KEPT_CONTENT: dict[str, frozenset[str]] = {
    "m.room.member": frozenset({"membership", "join_authorised_via_users_server"}),
    "m.room.join_rules": frozenset({"join_rule", "allow"}),
    "m.room.power_levels": frozenset(
        {
            "ban",
            "events",
            "events_default",
            "invite",
            "kick",
            "redact",
            "state_default",
            "users",
            "users_default",
        }
    ),
    "m.room.history_visibility": frozenset({"history_visibility"}),
    "m.room.redaction": frozenset({"redacts"}),
}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event as a client or an appservice sees it; `state_key` is None for a message-like event."""

    event_id: str
    type: str
    room_id: str
    sender: str
    content: dict[str, Any]
    origin_server_ts: int
    state_key: str | None = None
    redacts: str | None = None
    unsigned: dict[str, Any] = {}

    @property
    def body(self) -> str:
        """The text of a message, "" where there is none."""
        body = self.content.get("body")
        return body if isinstance(body, str) else ""

    @property
    def relates_to(self) -> Json:
        """`m.relates_to`, {} where there is none or it is not an object."""
        relation = self.content.get("m.relates_to")
        return relation if isinstance(relation, dict) else {}


_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """Return the event's JSON, after checking the size limits; raise `Refused` 413 beyond them."""
    encoded = _encoder.encode(event)
    if len(encoded) + PDU_OVERHEAD_BYTES > MAX_PDU_BYTES:
        raise too_large("event too large")
    if len(event.type) > MAX_FIELD_BYTES // 4 and len(event.type.encode()) > MAX_FIELD_BYTES:
        raise too_large("'type' too large")
    if event.state_key is not None and len(event.state_key.encode()) > MAX_FIELD_BYTES:
        raise too_large("'state_key' too large")
    return encoded


def redacted(event: Event, because: Event) -> Event:
    """Return what a redaction leaves of `event` (as in room version 11; `m.room.create` is kept whole)."""
    kept = _KEPT_CONTENT.get(event.type, frozenset())
    content = event.content
    if event.type != "m.room.create":
        content = {key: value for key, value in content.items() if key in kept}
    unsigned = {**event.unsigned, "redacted_because": msgspec.to_builtins(because)}
    return msgspec.structs.replace(event, content=content, unsigned=unsigned)


def strings(value: object) -> list[str]:
    """Return the strings of a list; [] for anything else (clients may put anything into a content)."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def objects(value: object) -> list[Json]:
    """Return the objects of a list; [] for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def decode_object(body: bytes) -> Json:
    """Parse a request body that must be a JSON object; an empty body is {}.

    Raise `Refused` 400 M_NOT_JSON for what is not JSON and M_BAD_JSON for JSON of another kind.
    """
    if not body:
        return {}
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, "M_NOT_JSON", "Content not JSON.") from error
    if not isinstance(parsed, dict):
        raise Refused(400, "M_BAD_JSON", "Content must be a JSON object.")
    return parsed
