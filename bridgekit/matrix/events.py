"""Matrix events as typed values, read from JSON that anybody on the federation may have written (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Person

Names = Callable[[ChatId, PersonId], str]
"""What a user is called in a room; "" while that is not known."""

Millis = Annotated[int, msgspec.Meta(ge=-(2**53) + 1, le=2**53 - 1)]
"""What a server says the time is: federated events may claim any."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]

SPOILER = "page.codeberg.everypizza.msc4193.spoiler"
"""In a file's content: it is shown on request only (MSC4193, under this name until it is in the spec)."""

_NOTHING = msgspec.Raw(b"{}")
_ABSENT = msgspec.Raw()


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every room event has; `content` and `unsigned` are read when the type is known."""

    type: str
    room_id: ChatId
    sender: PersonId
    event_id: MessageId
    origin_server_ts: Millis
    content: msgspec.Raw
    state_key: str | None = None
    redacts: str = ""
    unsigned: msgspec.Raw = _NOTHING


class Unsigned(msgspec.Struct, frozen=True):
    """What the homeserver adds; `prev_content` is what a state event replaced."""

    prev_content: msgspec.Raw = _ABSENT
    redacted_because: msgspec.Raw = _ABSENT


class Info(msgspec.Struct, frozen=True):
    """`info` of a file: bytes, pixels, milliseconds; 0 is unknown."""

    mimetype: str = ""
    size: Count = 0
    w: Count = 0
    h: Count = 0
    duration: Count = 0


class InReplyTo(msgspec.Struct, frozen=True):
    """The event that is answered."""

    event_id: str = ""


class RelatesTo(msgspec.Struct, frozen=True):
    """`m.relates_to`: a reply, a thread, an edit or a reaction."""

    rel_type: str = ""
    event_id: str = ""
    key: str = ""
    is_falling_back: bool = False
    in_reply_to: InReplyTo = msgspec.field(default=InReplyTo(), name="m.in_reply_to")


class Mentions(msgspec.Struct, frozen=True):
    """`m.mentions` (intentional mentions)."""

    user_ids: list[str] = []


class Representation(msgspec.Struct, frozen=True):
    """One way to show a text (extensible events)."""

    body: str = ""
    mimetype: str = "text/plain"


class Said(msgspec.Struct, frozen=True):
    """The content of m.room.message and m.sticker."""

    msgtype: str = "m.text"
    body: str | None = None
    format: str = ""
    formatted_body: str = ""
    filename: str = ""
    url: str = ""
    file: msgspec.Raw = _ABSENT
    info: Info = Info()
    geo_uri: str = ""
    spoiler: bool = msgspec.field(default=False, name="m.spoiler")
    spoiler_reason: str = msgspec.field(default="", name="m.spoiler.reason")
    spoiler_4193: bool = msgspec.field(default=False, name=SPOILER)
    spoiler_reason_4193: str = msgspec.field(default="", name=f"{SPOILER}.reason")
    relates_to: RelatesTo = msgspec.field(default=RelatesTo(), name="m.relates_to")
    mentions: Mentions = msgspec.field(default=Mentions(), name="m.mentions")
    new_content: msgspec.Raw = msgspec.field(default=_ABSENT, name="m.new_content")


class EncryptedFile(msgspec.Struct, frozen=True):
    """`file` of an encrypted attachment; what else is in it is kept as it came."""

    url: str


class Member(msgspec.Struct, frozen=True):
    """The content of m.room.member."""

    membership: str = ""
    displayname: str = ""
    avatar_url: str = ""
    reason: str = ""
    is_direct: bool = False


class TopicText(msgspec.Struct, frozen=True):
    """`m.topic` (MSC3765)."""

    text: list[Representation] = msgspec.field(default_factory=list, name="m.text")


class TopicContent(msgspec.Struct, frozen=True):
    """The content of m.room.topic."""

    topic: str = ""
    rich: TopicText = msgspec.field(default=TopicText(), name="m.topic")


class NameContent(msgspec.Struct, frozen=True):
    """The content of m.room.name."""

    name: str = ""


class AvatarContent(msgspec.Struct, frozen=True):
    """The content of m.room.avatar, which is in clear in encrypted rooms, too: there is no other form of it."""

    url: str = ""
    info: Info = Info()


class Redaction(msgspec.Struct, frozen=True):
    """The content of m.room.redaction; `redacts` stands here since room version 11."""

    redacts: str = ""
    reason: str = ""


class Related(msgspec.Struct, frozen=True):
    """The content of an event that is nothing but a relation (m.reaction)."""

    relates_to: RelatesTo = msgspec.field(default=RelatesTo(), name="m.relates_to")


class PollAnswer(msgspec.Struct, frozen=True):
    """The fallback text of a poll (MSC3381)."""

    text: str = msgspec.field(default="", name="org.matrix.msc1767.text")
    stable: list[Representation] = msgspec.field(default_factory=list, name="m.text")


class Ephemeral(msgspec.Struct, frozen=True):
    """Typing or receipts."""

    type: str = ""
    room_id: str = ""
    content: msgspec.Raw = _NOTHING


class TypingContent(msgspec.Struct, frozen=True):
    """The content of m.typing: everybody who types now."""

    user_ids: list[str] = []


T = TypeVar("T", bound=msgspec.Struct)

_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(cls: type[T], raw: bytes | msgspec.Raw) -> T:
    """`raw` as a `cls`. An optional field of a wrong type counts as absent.

    Raise PeerMisbehaved if it is no JSON object or a required field is missing or of a wrong type.
    """
    decoder = _decoders.get(cls)
    if decoder is None:
        decoder = _decoders[cls] = msgspec.json.Decoder(cls)
    try:
        found: T = decoder.decode(raw)
        return found
    except msgspec.ValidationError:
        return _salvaged(cls, raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerMisbehaved("something that is no JSON") from error


def _salvaged(cls: type[T], raw: bytes | msgspec.Raw) -> T:
    try:
        found = _fields.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerMisbehaved("something that is no JSON object") from error
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        if field.encode_name not in found:
            value = None
        else:
            value = _one(field.type, found[field.encode_name])
        if value is not None:
            kept[field.name] = value
        elif field.required:
            raise PeerMisbehaved(f"a {cls.__name__} without a usable {field.encode_name!r}")
    return cls(**kept)


def _one(type_: Any, raw: msgspec.Raw) -> Any:
    """One field's value, None where it is of another type."""
    if type_ is msgspec.Raw:
        return raw
    try:
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            return read(type_, raw)
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, PeerMisbehaved):
        return None


def present(raw: msgspec.Raw) -> bool:
    """Whether the field is there and not null."""
    return bool(raw) and bytes(raw) != b"null"


def plain_object(raw: msgspec.Raw) -> dict[str, Any] | None:
    """`raw` as a plain dict, None if it is absent or no object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def person_of(event: Event, names: Names) -> Person:
    """The sender, called what `names` says."""
    return Person(id=event.sender, name=names(event.room_id, event.sender))


def unsigned_of(event: Event) -> Unsigned:
    """What the homeserver added; nothing where it is not as it should be."""
    try:
        return read(Unsigned, event.unsigned)
    except PeerMisbehaved:
        return Unsigned()
