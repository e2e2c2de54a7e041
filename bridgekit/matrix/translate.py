"""Matrix events in, facts out (pure); the way back, verbs to event contents, is in contents.py.

Whatever an event holds, nothing but PeerMisbehaved is raised here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content
from bridgekit.contract.text import Text
from bridgekit.matrix.contents import content, contents
from bridgekit.matrix.events import (
    AvatarContent,
    Event,
    NameContent,
    Names,
    PollAnswer,
    Redaction,
    Related,
    RelatesTo,
    Said,
    TopicContent,
    person_of,
    plain_object,
    present,
    read,
    unsigned_of,
)
from bridgekit.matrix.fleeting import ephemeral, receipts, typing
from bridgekit.matrix.membership import membership
from bridgekit.matrix.uncarried import refusal
from bridgekit.matrix.words import clean, picture
from bridgekit.matrix.words import content as words_of

__all__ = [
    "Encrypted",
    "Names",
    "StateChanged",
    "Unreadable",
    "amended",
    "content",
    "contents",
    "ephemeral",
    "event_id",
    "fact",
    "is_redacted",
    "receipts",
    "typing",
]

LONGEST_KEY = 100
"""Code points in a reaction; a longer one is no reaction but an attempt to speak."""
BLANK = "There is nothing in it but blanks, and nothing was sent."


class _Blank(PeerMisbehaved):
    """Words that nobody would see."""


class StateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A state event that is no fact of the common vocabulary: a tombstone, power levels, encryption, join rules ...

    `at` is in milliseconds; `previous` is the content that it replaced, where the homeserver told it.
    """

    chat: ChatId
    at: int
    type: str
    key: str
    content: dict[str, Any]
    sender: PersonId
    previous: dict[str, Any] | None = None


class Encrypted(msgspec.Struct, frozen=True, kw_only=True):
    """Something was said that has to be decrypted; `at` is in milliseconds, `raw` the whole event as JSON.

    `edits` is the event that it says to replace: relations stay in clear (Client-Server API 11.12.3), and are not to
    be trusted for more than its place in a queue.
    """

    chat: ChatId
    at: int
    sender: PersonId
    raw: bytes
    edits: MessageId | None = None


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wanted to say something that nobody can make sense of, or no network can have; `why` is a sentence for
    them. `at` is in milliseconds.

    `again`: it is of a kind that comes in numbers (votes, places), and the room reads the sentence once.
    """

    chat: ChatId
    at: int
    sender: PersonId
    why: str
    again: bool = False


class _EventId(msgspec.Struct, frozen=True):
    event_id: str = ""


def event_id(raw: bytes) -> MessageId | None:
    """The event's own id, None where it has none."""
    try:
        return MessageId(read(_EventId, raw).event_id) or None
    except PeerMisbehaved:
        return None


_REDACTION = "m.room.redaction"
_REPLACE = "m.replace"
_AMENDING = (_REPLACE.encode(), _REDACTION.encode())


def amended(raw: bytes) -> MessageId | None:
    """The event that an event replaces or redacts, None where it does neither; cheap for all that do not."""
    if not any(word in raw for word in _AMENDING):
        return None
    try:
        event = read(Event, raw)
        if event.state_key is not None:
            return None
        if event.type == _REDACTION:
            return MessageId(event.redacts or read(Redaction, event.content).redacts) or None
        return _replaced(event)
    except PeerMisbehaved:
        return None


def _replaced(event: Event) -> MessageId | None:
    try:
        relation = read(Related, event.content).relates_to
    except PeerMisbehaved:
        return None
    return MessageId(relation.event_id) if relation.rel_type == _REPLACE and relation.event_id else None


def fact(raw: bytes | Event, names: Names) -> Fact | StateChanged | Encrypted | Unreadable | None:
    """What an event of a transaction (or of /messages, or decrypted) says; None where nothing follows from it.

    A person's name is what `names` says, or for a member event what the event says. Raise
    PeerMisbehaved where the event is not what its type promises.
    """
    event = raw if isinstance(raw, Event) else read(Event, raw)
    if event.room_id[:1] != "!" or event.sender[:1] != "@" or not event.event_id:
        raise PeerMisbehaved("an event without a proper room, sender or id")
    if event.origin_server_ts < 0:  # any server may say any time
        event = msgspec.structs.replace(event, origin_server_ts=0)
    translate = (_MESSAGES if event.state_key is None else _STATES).get(event.type)
    if translate is not None:
        if event.state_key is None and _is_redacted(event):
            return None
        try:
            return translate(event, names)
        except PeerMisbehaved as error:
            if event.state_key is not None or event.type == _REDACTION:
                raise  # nobody waits for it
            why = (
                BLANK
                if isinstance(error, _Blank)
                else f"The bridge cannot read what your client sent: {error.notice}."
            )
            return Unreadable(chat=event.room_id, at=event.origin_server_ts, sender=event.sender, why=why)
    if event.state_key is None and event.type == "m.room.encrypted":
        if _is_redacted(event):
            return None
        raw = raw if isinstance(raw, bytes) else msgspec.json.encode(raw)
        return Encrypted(
            chat=event.room_id,
            at=event.origin_server_ts,
            sender=event.sender,
            raw=raw,
            edits=_replaced(event),
        )
    if event.state_key is None:
        return _uncarried(event)
    return _state_changed(event)


def _uncarried(event: Event) -> Unreadable | None:
    if _is_redacted(event) or (why := refusal(event)) is None:
        return None
    return Unreadable(chat=event.room_id, at=event.origin_server_ts, sender=event.sender, why=why, again=True)


def is_redacted(raw: bytes) -> bool:
    """Whether an event was taken back, as its room shows it now."""
    try:
        event = read(Event, raw)
        return event.state_key is None and _is_redacted(event)
    except PeerMisbehaved:
        return False


def _is_redacted(event: Event) -> bool:
    if event.type == _REDACTION:
        return present(unsigned_of(event).redacted_because)
    return bytes(event.content).strip() == b"{}" or present(unsigned_of(event).redacted_because)


def _message(event: Event, names: Names) -> Fact | None:
    said = read(Said, event.content)
    if said.msgtype == "m.key.verification.request":
        return None
    relation = said.relates_to
    if relation.rel_type == _REPLACE and relation.event_id:
        replacement = read(Said, said.new_content) if present(said.new_content) else said
        return facts.Edit(
            chat=event.room_id,
            at=event.origin_server_ts,
            sender=person_of(event, names),
            target=MessageId(relation.event_id),
            content=_content(event, replacement, names),
            id=event.event_id,
        )
    return _said(event, names, relation, _content(event, said, names))


def _sticker(event: Event, names: Names) -> Fact | None:
    said = read(Said, event.content)
    return _said(event, names, said.relates_to, _content(event, said, names, sticker=True))


def _poll(event: Event, names: Names) -> Fact | None:
    """A poll as its question and answers in words (MSC3381)."""
    poll = read(PollAnswer, event.content)
    body = poll.text or next((text.body for text in poll.stable if text.mimetype == "text/plain"), "")
    if not body:
        raise PeerMisbehaved("a poll without a question")
    relation = read(Related, event.content).relates_to
    return _said(event, names, relation, Content(text=Text(clean(body))))


def _said(event: Event, names: Names, relation: RelatesTo, content: Content) -> Fact:
    answers = _answers(relation)
    return facts.Message(
        chat=event.room_id,
        at=event.origin_server_ts,
        sender=person_of(event, names),
        id=event.event_id,
        content=content,
        reply_to=MessageId(answers) if answers else None,
        thread=MessageId(relation.event_id)
        if relation.rel_type == "m.thread" and relation.event_id
        else None,
    )


def _answers(relation: RelatesTo) -> str | None:
    """The event that is really answered: in a thread, the fallback reply is none (Client-Server API 11.23.3)."""
    if relation.rel_type == "m.thread" and relation.is_falling_back:
        return None
    return relation.in_reply_to.event_id or None


def _content(event: Event, said: Said, names: Names, *, sticker: bool = False) -> Content:
    found = words_of(
        said,
        # Also where the reply is only a thread's fallback: some clients quote all the same.
        answering=said.relates_to.in_reply_to.event_id != "",
        named=lambda user: names(event.room_id, user),
        sticker=sticker,
    )
    if found.file is None and not found.text.body.strip():
        raise _Blank(BLANK)
    return found


def _reaction(event: Event, names: Names) -> Fact | None:
    relation = read(Related, event.content).relates_to
    key = clean(relation.key).strip()
    if relation.rel_type != "m.annotation" or not relation.event_id or not key:
        raise PeerMisbehaved("a reaction that says nothing, or not to what")
    if len(key) > LONGEST_KEY:
        raise PeerMisbehaved(f"a reaction of more than {LONGEST_KEY} characters")
    return facts.Reaction(
        chat=event.room_id,
        at=event.origin_server_ts,
        sender=person_of(event, names),
        target=MessageId(relation.event_id),
        key=key,
        id=event.event_id,
    )


def _redaction(event: Event, names: Names) -> Fact | None:
    redaction = read(Redaction, event.content)
    target = event.redacts or redaction.redacts
    if not target:
        return None
    return facts.Retraction(
        chat=event.room_id,
        at=event.origin_server_ts,
        sender=person_of(event, names),
        target=MessageId(target),
        reason=clean(redaction.reason),
    )


def _topic(event: Event, names: Names) -> Fact:
    found = read(TopicContent, event.content)
    plain = next((text.body for text in found.rich.text if text.mimetype == "text/plain"), "")
    return facts.Topic(
        chat=event.room_id,
        at=event.origin_server_ts,
        topic=clean(plain or found.topic),
        actor=person_of(event, names),
    )


def _name(event: Event, names: Names) -> Fact:
    return facts.ChatName(
        chat=event.room_id,
        at=event.origin_server_ts,
        name=clean(read(NameContent, event.content).name),
        actor=person_of(event, names),
    )


def _avatar(event: Event, names: Names) -> Fact:
    return facts.ChatAvatar(
        chat=event.room_id,
        at=event.origin_server_ts,
        avatar=picture(read(AvatarContent, event.content)),
        actor=person_of(event, names),
    )


def _state_changed(event: Event) -> StateChanged | None:
    found = plain_object(event.content)
    if found is None:
        raise PeerMisbehaved(f"a {event.type[:50]} whose content is no object")
    return StateChanged(
        chat=event.room_id,
        at=event.origin_server_ts,
        type=event.type,
        key=event.state_key or "",
        content=found,
        sender=event.sender,
        previous=plain_object(unsigned_of(event).prev_content),
    )


_MESSAGES: dict[str, Callable[[Event, Names], Fact | None]] = {
    "m.room.message": _message,
    "m.sticker": _sticker,
    "m.reaction": _reaction,
    _REDACTION: _redaction,
    "m.poll.start": _poll,
    "org.matrix.msc3381.poll.start": _poll,
}
_STATES: dict[str, Callable[[Event, Names], Fact | None]] = {
    "m.room.member": membership,
    "m.room.topic": _topic,
    "m.room.name": _name,
    "m.room.avatar": _avatar,
}
