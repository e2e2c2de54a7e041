"""Recall: which earlier message somebody means, and what its copies are called on each side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, ChatId, MessageId, NetworkId, PortalKey
from bridgekit.contract.text import excerpt
from bridgekit.contract.verbs import Retract
from bridgekit.core.model import matrix_side
from bridgekit.runtime.cases import Case, Tracked
from bridgekit.runtime.traffic.recent import Recent
from bridgekit.runtime.traffic.steps import Step
from bridgekit.store import Store
from bridgekit.store.rows import Copy
from bridgekit.store.statements import Write


class Ids:
    """What a step's message numbers are called on the side that performs it."""

    __slots__ = ("about", "parent", "replied", "reply", "target", "thread")

    def __init__(self) -> None:
        self.target: MessageId | None = None
        self.parent: MessageId | None = None  # of a reaction: the message under which it stands
        self.reply: MessageId | None = None
        self.thread: MessageId | None = None
        self.replied: Tracked | None = None
        self.about: Tracked | None = None


class Recall:
    """The messages of one room: the recent ones in memory, all of them by their copies in the store.

    `sides` are the room's links; `words` reads who said what from a Matrix event, for quotes; `retells` is of
    networks (`Network.retells`).
    """

    def __init__(
        self,
        room: ChatId,
        store: Store,
        *,
        sides: Callable[[ChatId], list[PortalKey]],
        words: Callable[[ChatId, MessageId], Awaitable[tuple[str, str]]],
        retells: Callable[[NetworkId], bool],
    ) -> None:
        self.room = room
        self._store = store
        self._sides = sides
        self._words = words
        self._retells = retells
        self._recent = Recent()

    def name(self, tracked: Tracked, side: PortalKey, ids: tuple[MessageId, ...]) -> None:
        """The message is called `ids` on `side`."""
        self._recent.name(tracked, side, ids)

    def is_on_its_way(self, side: PortalKey, id: MessageId) -> bool:
        """Whether what `side` calls `id` is to be said somewhere, and has not its fate there."""
        tracked = self._recent.find(side, id)
        return tracked is not None and tracked.pending is not None

    async def is_known(self, case: Case, fact: facts.Message | facts.Edit) -> bool:
        """Whether this very message, or edit, came before: read twice, told again, or replayed from a network's
        history."""
        if fact.id is None:
            return False
        if isinstance(fact, facts.Message):
            if (tracked := self._recent.find(case.origin, fact.id)) is not None:
                return tracked.number != case.number
            if not (fact.replayed or case.recovering or self._retells(case.origin.network)):
                return False
        elif not self._retells(case.origin.network):
            return False
        copies = await self._store.copies.of(case.origin.network, case.origin.chat, fact.id)
        return any(c.message != case.number and c.room == self.room for c in copies)

    async def named(self, origin: PortalKey, fact: Fact) -> dict[MessageId, Tracked]:
        """The earlier messages that a fact is about, by what the fact calls them; those the bridge knows."""
        known: dict[MessageId, Tracked] = {}
        if isinstance(fact, facts.Unreaction):
            tracked = await self._reaction_of(origin, fact)
            return {fact.target: tracked} if tracked is not None else {}
        for name in ("reply_to", "thread", "target"):
            id: MessageId | None = getattr(fact, name, None)
            if id and (tracked := await self.find(origin, id)) is not None:
                known[id] = tracked
        return known

    async def find(self, side: PortalKey, id: MessageId) -> Tracked | None:
        """The message that `side` calls `id`, if it ever crossed this room."""
        if (tracked := self._recent.find(side, id)) is not None:
            return tracked
        return await self._recalled(await self._store.copies.of(side.network, side.chat, id))

    async def is_shown(self, side: PortalKey, fact: facts.Retraction | facts.Unreaction) -> bool:
        """Whether the room has what is taken back, once that is known, and whoever does it may."""
        if isinstance(fact, facts.Unreaction):
            tracked = await self._reaction_of(side, fact)
        else:
            tracked = await self.find(side, fact.target)
            if tracked is not None and fact.own and tracked.sender != fact.sender.id:
                return False
        return tracked is not None and bool(await tracked.arrived(matrix_side(self.room)))

    async def _reaction_of(self, origin: PortalKey, fact: facts.Unreaction) -> Tracked | None:
        parent = await self.find(origin, fact.target)
        if parent is None:
            return None
        tracked = self._recent.reaction(parent.number, fact.sender.id, fact.key)
        if tracked is not None:
            return tracked
        copies = await self._store.copies.reaction(parent.number, fact.sender.id, fact.key)
        newest = max((c.message for c in copies), default=0)  # those before it were taken back
        return await self._recalled([c for c in copies if c.message == newest])

    async def _recalled(self, copies: list[Copy]) -> Tracked | None:
        """A message that fell out of memory, from its copies; its words are still in the Matrix room."""
        origin = next((c for c in copies if c.origin), None)
        if origin is None or origin.kind == "edit" or any(c.room != self.room for c in copies):
            return None
        sides: dict[PortalKey, list[MessageId]] = {}
        for copy in copies:
            sides.setdefault(self._side_of(copy), []).append(copy.id)
        tracked = Tracked(
            origin.message,
            self._side_of(origin),
            origin.sender,
            at=origin.at,
            key=origin.key,
            parent=origin.parent,
            protection=origin.protection,
        )
        for side, ids in sides.items():
            self._recent.name(tracked, side, tuple(ids))
        event = next((c.id for c in copies if c.side == MATRIX), None)
        if event is not None and not tracked.key:
            tracked.author, tracked.words = await self._words(self.room, event)
        return tracked

    def _side_of(self, copy: Copy) -> PortalKey:
        for side in self._sides(self.room):
            if side.network == copy.side and side.chat == copy.chat:
                return side
        return PortalKey(copy.side, copy.chat)

    def track(self, case: Case, fact: Fact, known: dict[MessageId, Tracked]) -> None:
        """Keep what a fact said where later facts will look for it."""
        match fact:
            case facts.Message():
                tracked = Tracked(
                    case.number,
                    case.origin,
                    fact.sender.id,
                    author=fact.sender.name,
                    words=excerpt(fact.content.text, 200) if fact.content.text.body else "",
                    at=fact.at,
                    protection=case.protection,
                )
                id: MessageId | None = fact.id
            case facts.Reaction():
                parent = known[fact.target].number
                tracked = Tracked(
                    case.number,
                    case.origin,
                    fact.sender.id,
                    at=fact.at,
                    key=fact.key,
                    parent=parent,
                    protection=case.protection,
                )
                id = fact.id
            case _:
                return
        case.tracked = tracked
        self._recent.add(tracked)
        if id:
            self._recent.name(tracked, case.origin, (id,))

    def edited(self, case: Case, fact: Fact, known: dict[MessageId, Tracked]) -> list[Write]:
        """The write by which an edit is known where it may be told again: it may become a message of its own."""
        if not isinstance(fact, facts.Edit) or fact.id is None or not self._retells(case.origin.network):
            return []
        return [
            self._store.copies.add(
                Copy(
                    message=case.number,
                    room=self.room,
                    side=case.origin.network,
                    chat=case.origin.chat,
                    id=fact.id,
                    sender=fact.sender.id,
                    at=fact.at,
                    origin=True,
                    kind="edit",
                    parent=known[fact.target].number if fact.target in known else 0,
                    protection=case.protection,
                )
            )
        ]

    def unsay(self, tracked: Tracked) -> None:
        """The message was taken back: no answer to it quotes its words any more."""
        tracked.words, tracked.reworded = "", None

    def forget(self, number: int) -> None:
        """Know the message no more, nor whose it was."""
        if (tracked := self._recent.numbered(number)) is not None:
            self.unsay(tracked)
            tracked.author = ""
            self._recent.remove(tracked)

    async def restore(self, case: Case, side: PortalKey) -> None:
        """What the copies on `side` are called, which an earlier run of the bridge has written down."""
        if case.tracked is not None:
            copies = await self._store.copies.by_message(case.number)
            ids = tuple(c.id for c in copies if self._side_of(c) == side)
            self._recent.name(case.tracked, side, ids)

    async def resolved(self, step: Step) -> Ids:
        """The ids on the performing side of the messages that the step names, once their fates are known."""
        ids, action = Ids(), step.action
        if action.target:
            about = await self._numbered(action.target)
            ids.about = about
            if about is not None:
                if isinstance(action.verb, Retract):  # all that became of its edits goes with it
                    await about.settled(action.side)
                ids.target = _first(await about.arrived(action.side))
                if about.parent and (parent := await self._numbered(about.parent)) is not None:
                    ids.parent = _first(await parent.arrived(action.side))
        if action.reply and (replied := await self._numbered(action.reply)) is not None:
            ids.replied = replied
            ids.reply = _first(await replied.arrived(action.side))
        if action.thread and (thread := await self._numbered(action.thread)) is not None:
            ids.thread = _first(await thread.arrived(action.side))
        return ids

    async def _numbered(self, number: int) -> Tracked | None:
        if (tracked := self._recent.numbered(number)) is not None:
            return tracked
        return await self._recalled(await self._store.copies.by_message(number))

    def revised(self, tracked: Tracked, side: PortalKey, ids: tuple[MessageId, ...]) -> list[Write]:
        """The writes that count what an edit became on one side as further parts of the message."""
        before = tracked.ids.get(side, ())
        self._recent.name(tracked, side, before + ids)
        return self.copies(tracked, side, ids, first=len(before))

    def copies(
        self,
        tracked: Tracked,
        side: PortalKey,
        ids: tuple[MessageId, ...],
        *,
        origin: bool = False,
        first: int = 0,
    ) -> list[Write]:
        """The writes that link a message's ids on one side to it, from its part `first` on."""
        return [
            self._store.copies.add(
                Copy(
                    message=tracked.number,
                    room=self.room,
                    side=side.network,
                    chat=side.chat,
                    id=id,
                    sender=tracked.sender,
                    at=tracked.at,
                    origin=origin,
                    part=part,
                    kind="reaction" if tracked.key else "message",
                    parent=tracked.parent,
                    key=tracked.key,
                    protection=tracked.protection,
                )
            )
            for part, id in enumerate(ids, first)
        ]


def names_messages(fact: Fact) -> bool:
    """Whether a fact is about earlier messages."""
    if isinstance(fact, facts.Message):
        return fact.reply_to is not None or fact.thread is not None
    return isinstance(fact, facts.Edit | facts.Reaction | facts.Unreaction | facts.Retraction | facts.Receipt)


def _first(ids: tuple[MessageId, ...]) -> MessageId | None:
    return ids[0] if ids else None
