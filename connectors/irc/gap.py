"""The gap: while what was missed in a channel is being fetched, what is said there meanwhile waits behind it (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridgekit.contract.facts import Edit, Fact, Message, Reaction, Retraction, Unreaction
from bridgekit.contract.ids import ChatId, MessageId

MOST = 20_000
"""So much may be said meanwhile; beyond that the order of the words gives way to memory."""

_SPOKEN = (Message, Edit, Reaction, Unreaction, Retraction)


@dataclass(slots=True)
class _Gap:
    waiting: list[Fact] = field(default_factory=list)
    told: set[MessageId] = field(default_factory=set)


class Gaps:
    """The channels of one connection whose past is being fetched now."""

    def __init__(self) -> None:
        self._open: dict[ChatId, _Gap] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, chat: ChatId) -> None:
        """From now on what is said in `chat` waits."""
        self._open.setdefault(chat, _Gap())

    def is_open(self, chat: ChatId) -> bool:
        """Whether what is said in `chat` waits."""
        return chat in self._open

    def holds(self, fact: Fact, *, past: bool) -> bool:
        """Whether the fact waits now. What comes from the past (`past`) never does; it is remembered by its id."""
        gap = self._open.get(fact.chat)
        if gap is None or not isinstance(fact, _SPOKEN):
            return False
        if past:
            if isinstance(fact, Message):
                gap.told.add(fact.id)
            return False
        gap.waiting.append(fact)
        return True

    def full(self, chat: ChatId) -> bool:
        """Whether more waits than should."""
        gap = self._open.get(chat)
        return gap is not None and len(gap.waiting) > MOST

    def end(self, chat: ChatId) -> list[Fact]:
        """Nothing waits any more: what waited, in order, without the messages that the past has told already."""
        gap = self._open.pop(chat, _Gap())
        return [fact for fact in gap.waiting if not (isinstance(fact, Message) and fact.id in gap.told)]
