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
    live: dict[MessageId, Message | None] = field(default_factory=dict)  # None: our own, which nobody is told
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

    def turn(self, fact: Fact, *, past: bool) -> Fact | None:
        """What is to be told now, None where the fact waits, or was told.

        What comes from the past (`past`) never waits: how far was read must not go beyond what is in memory alone. A
        message that was heard live as well is told in its place in the past, as it was heard.
        """
        gap = self._open.get(fact.chat)
        if gap is None or not isinstance(fact, _SPOKEN):
            return fact
        if not past:
            gap.waiting.append(fact)
            if isinstance(fact, Message):
                gap.live[fact.id] = fact
            return None
        if not isinstance(fact, Message):
            return fact
        if fact.id in gap.told:
            return None
        gap.told.add(fact.id)
        return gap.live.get(fact.id) or fact

    def note_own(self, chat: ChatId, id: MessageId) -> None:
        """We heard words of our own in `chat`."""
        if (gap := self._open.get(chat)) is not None:
            gap.live[id] = None

    def was_live(self, chat: ChatId, id: MessageId) -> bool:
        """Whether the message was heard live, so that all that came behind it was as well."""
        gap = self._open.get(chat)
        return gap is not None and id in gap.live

    def full(self, chat: ChatId) -> bool:
        """Whether more waits than should."""
        gap = self._open.get(chat)
        return gap is not None and len(gap.waiting) > MOST

    def end(self, chat: ChatId) -> list[Fact]:
        """Nothing waits any more: what waited, in order, without the messages that the past has told already."""
        gap = self._open.pop(chat, _Gap())
        return [fact for fact in gap.waiting if not (isinstance(fact, Message) and fact.id in gap.told)]
