"""Typing and receipts: ephemeral Matrix events in, facts out (pure)."""

from __future__ import annotations

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Person
from bridgekit.matrix import permalinks
from bridgekit.matrix.events import Ephemeral, Names, TypingContent, plain_object, read


def _nameless(_room: ChatId, _user: PersonId) -> str:
    return ""


def ephemeral(
    raw: bytes, typists: dict[ChatId, frozenset[PersonId]], names: Names = _nameless, *, at: int = 0
) -> list[Fact]:
    """Typing and receipts of one ephemeral event; nothing where it is neither, or not as it should be.

    `typists` holds who typed in each room until now and is brought up to date.
    """
    try:
        event = read(Ephemeral, raw)
        room = ChatId(event.room_id)
        if event.room_id[:1] != "!":
            return []
        if event.type == "m.receipt":
            return list(receipts(room, event.content, names))
        if event.type != "m.typing":
            return []
        users = read(TypingContent, event.content).user_ids
    except PeerMisbehaved:
        return []
    now = frozenset(PersonId(user) for user in users if permalinks.is_user_id(user))
    previous = typists.get(room, frozenset())
    if now:
        typists[room] = now
    else:
        typists.pop(room, None)
    return list(typing(room, previous, now, names, at=at))


def typing(
    room: ChatId,
    previous: frozenset[PersonId],
    now: frozenset[PersonId],
    names: Names = _nameless,
    *,
    at: int = 0,
) -> list[facts.Typing]:
    """Who stopped and who started typing, in the order of their ids."""
    return [
        facts.Typing(chat=room, at=at, sender=Person(id=user, name=names(room, user)), active=active)
        for users, active in ((previous - now, False), (now - previous, True))
        for user in sorted(users)
    ]


def receipts(room: ChatId, content: msgspec.Raw, names: Names = _nameless) -> list[facts.Receipt]:
    """Public read receipts; private ones are nobody else's business."""
    found: list[facts.Receipt] = []
    for event, kinds in (plain_object(content) or {}).items():
        readers = kinds.get("m.read") if isinstance(kinds, dict) else None
        if not isinstance(readers, dict) or not event:
            continue
        for user, details in readers.items():
            if not permalinks.is_user_id(user):
                continue
            at = details.get("ts") if isinstance(details, dict) else None
            found.append(
                facts.Receipt(
                    chat=room,
                    at=at if type(at) is int and 0 <= at < 2**53 else 0,
                    sender=Person(id=PersonId(user), name=names(room, PersonId(user))),
                    target=MessageId(event),
                )
            )
    return found
