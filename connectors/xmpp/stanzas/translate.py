"""Messages to facts: in rooms, in private, and from archives. Pure: stanzas come in as `Heard`."""

from __future__ import annotations

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import Span, Style, Text, join
from connectors.xmpp.stanzas.heard import EXPOSED, Heard, notice
from connectors.xmpp.stanzas.index import Index
from connectors.xmpp.stanzas.rooms import Room

CORRECTS = "* "
"""Stands before the words that correct something which is not known here."""


def groupchat(
    heard: Heard, room: Room, index: Index, at: int, *, archived: str = "", replayed: bool = False
) -> list[Fact]:
    """What a message from a room means. Ours are not asked for here: their echoes are the deliveries' business."""
    chat = room.chat
    if not heard.nick:  # the room itself speaks
        if heard.retracts and heard.moderated is not None:
            return _moderated(heard, room, index, at)
        return _subject(heard, room, None, at) if heard.subject is not None else []
    sender = room.person(heard)
    if heard.subject is not None and heard.text is None:
        return _subject(heard, room, sender, at)
    at = heard.stamp or at
    id = index.name(heard, sender.id, at, archived=archived)
    if heard.moderated is not None:
        return []  # only the room may say so (XEP-0425, 5)
    found = _about_another(heard, chat, index, sender, id, at)
    if found is not None:
        return found
    return _message(heard, chat, index, sender, id, at, replayed=replayed or bool(heard.stamp))


def private(
    heard: Heard,
    chat: ChatId,
    index: Index,
    sender: Person,
    at: int,
    *,
    own: LoginId | None = None,
    replayed: bool = False,
) -> list[Fact]:
    """What a message from one person means. `own` is the login whose account spoke from elsewhere."""
    at = heard.stamp or at
    id = index.name(heard, sender.id, at)
    found = _about_another(heard, chat, index, sender, id, at, private=True)
    if found is not None:
        return found
    return _message(heard, chat, index, sender, id, at, replayed=replayed, private=True, own=own)


def replaced(
    heard: Heard, chat: ChatId, index: Index, sender: Person, at: int, *, private: bool = False
) -> list[Fact]:
    """What was told of a message when it could not be opened gives way to what it says, or to why it never will."""
    target = index.reopened(heard, sender.id)
    if target is None or index.get(target) is None:
        return []
    return reopened(heard, chat, target, sender, at, private=private)


def reopened(
    heard: Heard, chat: ChatId, target: MessageId, sender: Person, at: int, *, private: bool
) -> list[Fact]:
    """The same where it is known what was told of it."""
    if heard.encrypted:
        heard = notice(heard)
    if heard.text is None and not heard.files:
        return []
    return [
        facts.Edit(chat=chat, at=at, private=private, sender=sender, target=target, content=_content(heard))
    ]


def _about_another(
    heard: Heard, chat: ChatId, index: Index, sender: Person, id: MessageId, at: int, *, private: bool = False
) -> list[Fact] | None:
    """Facts about an earlier message; None where it is a message of its own."""
    if heard.retracts:
        target = index.referred(heard.retracts)
        known = index.get(target)
        if known is not None and known.sender != sender.id:
            return []  # XEP-0424, 5: nobody takes back what somebody else said
        # What was said too long ago to be remembered here is known to the bridge, and by whom.
        target = index.own(sender.id, heard.retracts) if known is None else target
        return [
            facts.Retraction(
                chat=chat, at=at, private=private, sender=sender, target=target, own=known is None
            )
        ]
    if heard.reacts_to:
        return _reactions(heard, chat, index, sender, at, private=private)
    if heard.displayed and heard.text is None:
        target = index.referred(heard.displayed)
        return [facts.Receipt(chat=chat, at=at, private=private, sender=sender, target=target)]
    if heard.replaces and (heard.text is not None or heard.encrypted):
        # XEP-0308, 3: only the same occupant corrects, and by the id that the message had on the wire.
        corrected = index.by_wire(sender.id, heard.replaces)
        said = notice(heard) if heard.encrypted else heard
        if corrected is not None:
            if heard.id:  # the next correction may name this one
                index.alias(sender.id, heard.id, corrected)
            content = _content(said)
            return [
                facts.Edit(
                    chat=chat, at=at, private=private, sender=sender, target=corrected, content=content, id=id
                )
            ]
        return None
    if heard.text is None and not heard.files and not heard.encrypted:
        if heard.state and not heard.stamp:
            active = heard.state == "composing"
            return [facts.Typing(chat=chat, at=at, private=private, sender=sender, active=active)]
        return []
    return None


def _message(
    heard: Heard,
    chat: ChatId,
    index: Index,
    sender: Person,
    id: MessageId,
    at: int,
    *,
    replayed: bool,
    private: bool = False,
    own: LoginId | None = None,
) -> list[Fact]:
    if heard.encrypted:
        heard = notice(heard)
    if heard.text is None and not heard.files:
        return []
    named = index.keep(id, heard, sender.id, at)
    content = _content(heard)
    if (
        heard.replaces and not heard.encrypted
    ):  # what it corrects is not known here, and the next one may correct it
        index.alias(sender.id, heard.replaces, id)
        content = msgspec.structs.replace(content, text=join(Text(CORRECTS), content.text))
    reply = index.referred(heard.answers) if heard.answers else None
    return [
        facts.Message(
            chat=chat,
            at=named.at,
            private=private,
            sender=sender,
            id=id,
            content=content,
            reply_to=reply,
            replayed=replayed,
            own=own,
        )
    ]


def _content(heard: Heard) -> Content:
    text = heard.text or Text("")
    if not heard.files:
        if heard.spoiler is not None and text:
            text = Text(
                text.body, (*text.spans, Span(0, len(text.body), Style.SPOILER, heard.spoiler or None))
            )
        text = _marked(heard, text)
        return Content(text=text, kind=heard.kind)
    first = heard.files[0]
    if first.about and not text and first.about != first.file.name:
        text = Text(first.about)
    for more in heard.files[1:]:
        text = join(text, "\n" if text else "", more.file.uri)
    file = msgspec.structs.replace(first.file, spoiler=heard.spoiler)
    return Content(text=_marked(heard, text), kind=heard.kind, file=file)


def _marked(heard: Heard, text: Text) -> Text:
    if not heard.in_clear:
        return text
    return join(Text(EXPOSED), text) if text else Text(EXPOSED.rstrip())


def _reactions(
    heard: Heard, chat: ChatId, index: Index, sender: Person, at: int, *, private: bool
) -> list[Fact]:
    """XEP-0444, 3: each message replaces the whole set of its sender."""
    target = index.referred(heard.reacts_to)
    came, went = index.react(target, sender.id, frozenset(heard.reactions))
    gone: list[Fact] = [
        facts.Unreaction(chat=chat, at=at, private=private, sender=sender, target=target, key=key)
        for key in went
    ]
    return gone + [
        facts.Reaction(chat=chat, at=at, private=private, sender=sender, target=target, key=key)
        for key in came
    ]


def _moderated(heard: Heard, room: Room, index: Index, at: int) -> list[Fact]:
    assert heard.moderated is not None
    nick = heard.moderated.by.partition("/")[2]
    there = room.occupants.get(nick)
    by = Person(
        id=there.person if there else PersonId(f"{room.jid}/{nick or '-'}"), name=nick or "a moderator"
    )
    return [
        facts.Retraction(
            chat=room.chat,
            at=heard.stamp or at,
            sender=by,
            target=index.referred(heard.retracts),
            reason=heard.moderated.reason,
        )
    ]


def _subject(heard: Heard, room: Room, actor: Person | None, at: int) -> list[Fact]:
    """The first subject is only read (XEP-0045, 7.2.15); later ones were set by somebody."""
    subject = heard.subject or ""
    first, changed = room.topic is None, room.topic != subject
    room.topic = subject
    if not changed or (first and not subject):
        return []
    who = None if first or heard.stamp else actor
    return [facts.Topic(chat=room.chat, at=heard.stamp or at, topic=subject, actor=who)]
