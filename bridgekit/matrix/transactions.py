"""What a transaction of the application service API holds: its parts, told apart and otherwise untouched (pure).

Only a few fields of each event are looked at, so one event that is none spoils nothing for its neighbours, and the
JSON of each can go to disk as it came.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from bridgekit.contract.ids import ChatId, MessageId, PersonId

DEEPEST = 200
"""Events nested deeper than this are malformed, even where the decoder would follow them."""

T = TypeVar("T")


class RawEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a transaction: its JSON as it came, and the few fields that were looked at."""

    raw: bytes
    room_id: ChatId
    type: str
    sender: PersonId
    event_id: MessageId
    origin_server_ts: int
    state_key: str | None = None


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction says to our devices (MSC2409, MSC3202).

    `to_device` are whole events as JSON; the rest is per user (and device): who changed devices, who left, how
    many one-time keys the homeserver still has, and which fallback keys are unused.
    """

    to_device: tuple[bytes, ...] = ()
    changed: tuple[PersonId, ...] = ()
    left: tuple[PersonId, ...] = ()
    one_time_keys: dict[PersonId, dict[str, dict[str, int]]] = {}
    fallback_keys: dict[PersonId, dict[str, list[str]]] = {}

    @property
    def lasts(self) -> bool:
        """Whether any of it must not be lost: who changed devices is asked anew in each run, and how many keys are
        left is said again and again."""
        return bool(self.to_device)


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction; `malformed` are (the JSON, why it is no event), `ephemeral` whole events as JSON."""

    events: list[RawEvent]
    malformed: list[tuple[bytes, str]]
    ephemeral: list[bytes]
    encryption: Encryption

    @property
    def is_bare(self) -> bool:
        """Whether it holds nothing but events: one that is sent again may lack all else that it held."""
        return not self.ephemeral and self.encryption is _nothing

    def key(self, txn_id: str) -> str:
        """What is remembered of it: the same for each delivery of this transaction, and for no other.

        The id alone is not enough: Synapse on SQLite counts from one again when it restarts with nothing unsent.
        What is sent again has the same events, but may lack what was for devices.
        """
        what: Sequence[str] | Sequence[bytes] = [
            event.event_id for event in self.events
        ] or self.encryption.to_device
        if not what:
            return txn_id
        digest = hashlib.blake2b(digest_size=9)
        for part in what:
            data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(data))
            digest.update(data)
        return f"{txn_id}.{base64.urlsafe_b64encode(digest.digest()).decode()}"


class NotATransaction(Exception):
    """The body is not JSON (`errcode` M_NOT_JSON) or has another shape (M_BAD_JSON)."""

    def __init__(self, errcode: str, why: str) -> None:
        super().__init__(why)
        self.errcode = errcode


_MISSING = msgspec.Raw()


class _Body(msgspec.Struct):
    events: list[msgspec.Raw] = []
    ephemeral: msgspec.Raw = _MISSING
    ephemeral_2409: msgspec.Raw = msgspec.field(default=_MISSING, name="de.sorunome.msc2409.ephemeral")
    to_device: msgspec.Raw = _MISSING
    to_device_2409: msgspec.Raw = msgspec.field(default=_MISSING, name="de.sorunome.msc2409.to_device")
    lists: msgspec.Raw = msgspec.field(default=_MISSING, name="device_lists")
    lists_3202: msgspec.Raw = msgspec.field(default=_MISSING, name="org.matrix.msc3202.device_lists")
    keys: msgspec.Raw = msgspec.field(default=_MISSING, name="device_one_time_keys_count")
    keys_3202: msgspec.Raw = msgspec.field(
        default=_MISSING, name="org.matrix.msc3202.device_one_time_keys_count"
    )
    # Synapse has always sent this spelling too.
    keys_3202_too: msgspec.Raw = msgspec.field(
        default=_MISSING, name="org.matrix.msc3202.device_one_time_key_counts"
    )
    fallback: msgspec.Raw = msgspec.field(default=_MISSING, name="device_unused_fallback_key_types")
    fallback_3202: msgspec.Raw = msgspec.field(
        default=_MISSING, name="org.matrix.msc3202.device_unused_fallback_key_types"
    )


class _Peek(msgspec.Struct):
    room_id: ChatId
    type: str
    sender: PersonId
    event_id: MessageId
    origin_server_ts: Annotated[int, msgspec.Meta(ge=-(2**53) + 1, le=2**53 - 1)]  # as in canonical JSON
    state_key: str | None = None


class _Lists(msgspec.Struct):
    changed: tuple[PersonId, ...] = ()
    left: tuple[PersonId, ...] = ()


_body = msgspec.json.Decoder(_Body).decode
_peek = msgspec.json.Decoder(_Peek).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_lists = msgspec.json.Decoder(_Lists)
_counts = msgspec.json.Decoder(dict[PersonId, dict[str, dict[str, int]]])
_fallbacks = msgspec.json.Decoder(dict[PersonId, dict[str, list[str]]])
_nothing = Encryption()


def parse(body: bytes) -> Transaction:
    """Take a transaction's body apart. Raises NotATransaction."""
    malformed: list[tuple[bytes, str]] = []
    body = _utf8(body)
    try:
        parts = _whole(body)
    except NotATransaction as error:
        if error.errcode != "M_NOT_JSON":
            raise
        # A homeserver repeats what it gets no 200 for: one event that is no JSON must not stop all that come after it.
        parts = _whole(_sound(body, malformed))
    events: list[RawEvent] = []
    for raw in parts.events:
        try:
            seen = _peek(raw)
        except (msgspec.MsgspecError, RecursionError) as error:
            malformed.append((bytes(raw), str(error)))
            continue
        events.append(
            RawEvent(
                raw=bytes(raw),
                room_id=seen.room_id,
                type=seen.type,
                sender=seen.sender,
                event_id=seen.event_id,
                origin_server_ts=seen.origin_server_ts,
                state_key=seen.state_key,
            )
        )
    return Transaction(
        events=events,
        malformed=malformed,
        ephemeral=[bytes(raw) for raw in _first(_raws, [], malformed, parts.ephemeral, parts.ephemeral_2409)],
        encryption=_encryption(parts, malformed),
    )


def _encryption(parts: _Body, malformed: list[tuple[bytes, str]]) -> Encryption:
    to_device = _first(_raws, [], malformed, parts.to_device, parts.to_device_2409)
    lists = _first(_lists, _Lists(), malformed, parts.lists, parts.lists_3202)
    keys = _first(_counts, {}, malformed, parts.keys, parts.keys_3202, parts.keys_3202_too)
    fallback = _first(_fallbacks, {}, malformed, parts.fallback, parts.fallback_3202)
    if not (to_device or lists.changed or lists.left or keys or fallback):
        return _nothing
    return Encryption(
        to_device=tuple(bytes(raw) for raw in to_device),
        changed=lists.changed,
        left=lists.left,
        one_time_keys=keys,
        fallback_keys=fallback,
    )


def _first(
    decoder: msgspec.json.Decoder[T], default: T, malformed: list[tuple[bytes, str]], *names: msgspec.Raw
) -> T:
    """What the first of several names of one thing holds: stable before unstable, never both."""
    for raw in names:
        if raw and bytes(raw) != b"null":
            try:
                return decoder.decode(raw)
            except (msgspec.MsgspecError, RecursionError) as error:
                malformed.append((bytes(raw), str(error)))
    return default


def _whole(body: bytes) -> _Body:
    try:
        return _body(body)
    except msgspec.ValidationError as error:
        raise NotATransaction("M_BAD_JSON", str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotATransaction("M_NOT_JSON", str(error)) from None


def _utf8(body: bytes) -> bytes:
    """The body with U+FFFD for each byte that is not UTF-8, as JSON has to be (RFC 8259 8.1): the rest can be read."""
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").encode()
    return body


# Beside what is no JSON ------------------------------------------------------------------------------------------

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_NAME = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*', re.DOTALL)
_any = msgspec.json.Decoder(msgspec.Raw).decode


def _sound(body: bytes, malformed: list[tuple[bytes, str]]) -> bytes:
    """The transaction with each part mended that is no JSON, or else without it; slow, and without recursion.

    Raise NotATransaction where its parts cannot be told apart.
    """
    members: list[bytes] = []
    for member, _ in _parts(body):
        name = _NAME.match(member)
        if name is None:
            raise NotATransaction("M_NOT_JSON", "a member without a name")
        value = member[name.end() :]
        if value[:1] == b"[":
            kept = (_mended(part, depth, malformed) for part, depth in _parts(value))
            value = b"[" + b",".join(part for part in kept if part is not None) + b"]"
        else:
            value = _mended(value, 0, malformed) or b"null"
        members.append(name[1] + b":" + value)
    return b"{" + b",".join(members) + b"}"


def _parts(text: bytes) -> Iterator[tuple[bytes, int]]:
    """What stands between the commas of an array or an object, and how deep each part is nested."""
    depth = deepest = start = 0
    for token in _TOKEN.finditer(text):
        what = token[0]
        if what in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if depth == 1:
                start = token.end()
        elif what in b"]},":
            if depth == 1:
                if part := text[start : token.start()].strip():
                    yield part, deepest - 1
                start, deepest = token.end(), 1
            depth -= what != b","
            if depth < 1:
                break
    if depth or not start or text[start:].strip():
        raise NotATransaction("M_NOT_JSON", "it is cut off, or more follows behind its end")


def _mended(part: bytes, depth: int, malformed: list[tuple[bytes, str]]) -> bytes | None:
    """The part as JSON, if anything can be made of it.

    RFC 8259 leaves open what a lone surrogate is, and lenient writers know numbers (NaN) that it does not have: the
    first becomes U+FFFD, the second null, and nobody's words are lost for it.
    """
    if depth > DEEPEST:
        malformed.append((part, f"nested {depth} deep"))
        return None
    try:
        _any(part)
    except msgspec.DecodeError as error:
        why = str(error)
    else:
        return part
    try:
        return msgspec.json.encode(_storable(json.loads(part, strict=False)))
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        malformed.append((part, why))
        return None


def _storable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_storable(one) for one in value]
        case dict():
            return {_storable(key): _storable(one) for key, one in value.items()}
        case _:
            return value
