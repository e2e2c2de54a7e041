"""The worker of one room: takes its facts one after the other, plans each, and has the verbs carried."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec
import structlog

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, ChatId, PersonId, PortalKey
from bridgekit.contract.people import Content, Person
from bridgekit.core.commands import command_in
from bridgekit.core.protection import given
from bridgekit.matrix.translate import Encrypted, StateChanged, Unreadable
from bridgekit.runtime.cases import Case, Fate, Outcome
from bridgekit.runtime.traffic.around import Surroundings
from bridgekit.runtime.traffic.carrying import STOPPED, TAKEN_BACK, Carrying
from bridgekit.runtime.traffic.endings import Endings
from bridgekit.runtime.traffic.glances import Glances, stops
from bridgekit.runtime.traffic.keyless import Keyless
from bridgekit.runtime.traffic.recall import Recall, names_messages
from bridgekit.runtime.traffic.steps import TOLD
from bridgekit.store.ids import new_id

log = structlog.get_logger(__name__)

IN_MEMORY = 4000
"""Facts that wait in memory; more wait on disk, where they are anyway."""
UNDER_WAY = 500
"""Cases of one room whose verbs have no fate yet; planning waits beyond that."""
MOST = 2 * IN_MEMORY
"""Facts waiting and under way beyond which an edit or a taking-back, too, waits for its turn."""
BEHIND = 32
"""Facts waiting or under way from which on nobody is shown who types, or who has read what."""
IDLE = 300.0
"""Seconds after which a worker without work ends; its room's next fact starts another."""


class Worker:
    """One room, both directions."""

    def __init__(self, room: ChatId, around: Surroundings) -> None:
        self.room = room
        self._around = around
        self._queue: deque[Case] = deque()
        self._wake = asyncio.Event()
        self._slack = asyncio.Event()
        self._recall = Recall(
            room, around.store, sides=around.sides, words=around.words, retells=around.retells
        )
        self._endings = Endings(room, around)
        self._carrying = Carrying(room, around, self._recall, self._endings, ended=self._slack.set)
        self._keyless = Keyless(room, around, self._endings, again=self.offer)
        self.glances = Glances(around)
        self._stopped: dict[PersonId, int] = {}  # who said so, and the number before which all is meant
        self._halted = False
        self._taking = False  # the first in the queue is being planned
        self._missing: set[PortalKey] = set()  # sides of which not all that an earlier run left is here yet

    @property
    def waiting(self) -> int:
        """Facts in memory that have not been planned."""
        return len(self._queue)

    @property
    def under_way(self) -> int:
        """Cases that were planned and whose verbs have no fate yet."""
        return self._carrying.under_way

    @property
    def oldest(self) -> float:
        """When the fact was read that has been longest without its fate (monotonic seconds); 0 where all have it."""
        return self._carrying.oldest or (self._queue[0].started if self._queue else 0.0)

    @property
    def owes_room(self) -> bool:
        """Whether something of what chats have said is on its way into the room."""
        return self._carrying.into_matrix or any(case.origin.network != MATRIX for case in self._queue)

    def halt(self) -> None:
        """Begin nothing more; what is under way may end."""
        self._halted = True
        self._carrying.halt()

    @property
    def running(self) -> int:
        """Verbs that are being performed."""
        return self._carrying.running

    @property
    def is_behind(self) -> bool:
        """Whether what is said now is heard late."""
        return len(self._queue) + self.under_way >= BEHIND

    @property
    def full(self) -> bool:
        return len(self._queue) >= IN_MEMORY

    def offer(self, case: Case) -> None:
        """Queue a case behind the others of this room; but what edits or takes back something that waits here is
        planned right behind that, so that it is said once, or not at all."""
        if (place := self._place(case)) is None:
            self._queue.append(case)
        else:
            case.ahead = True
            self._queue.insert(place, case)
            self._slack.set()
        self._wake.set()
        if isinstance(case.fact, Encrypted) and (len(self._queue) > 1 or self.under_way >= UNDER_WAY):
            self.glances.at(case, self._advance)

    def _advance(self, case: Case) -> None:
        """It was queued, and must not wait."""
        if case in self._queue and not (self._taking and case is self._queue[0]):
            self._queue.remove(case)
            self.offer(case)

    def awaits(self, case: Case) -> bool:
        """Whether a case is about something that waits here, and need not wait itself."""
        return self._place(case) is not None

    def _place(self, case: Case) -> int | None:
        """Where in the queue a case belongs that amends what waits here, or stops it; None for all others."""
        if len(self._queue) + self.under_way > MOST:
            return None
        if stops(case):
            return self._front()
        if (target := case.amends) is None:
            return None
        for place in range(len(self._queue), 0, -1):
            one = self._queue[place - 1]
            if one.origin == case.origin and target in (one.called, one.amends):
                # What came first and waits for its turn (there was too much of it) is not overtaken.
                return place if one.ahead or one.called == target else None
        if target not in self._keyless and not self._recall.is_on_its_way(case.origin, target):
            return None
        return self._front()

    def _front(self) -> int:
        place = 1 if self._taking else 0
        while place < len(self._queue) and self._queue[place].ahead:
            place += 1
        return place

    def expect(self, side: PortalKey) -> None:
        """An earlier run left facts of this side: nothing of them is said before all are planned, because a later one
        may edit or take back an earlier one."""
        self._missing.add(side)
        self._carrying.surveyed.clear()

    def complete(self, side: PortalKey) -> None:
        """All that an earlier run left of this side was offered."""
        self._missing.discard(side)
        self._wake.set()

    def resume(self, cases: list[Case]) -> None:
        """Queue cases that were held back before all that waits, because everything else came later."""
        place = 1 if self._taking else 0
        while place < len(self._queue) and self._queue[place].released:
            place += 1
        for case in cases:
            found = self._place(case)
            case.ahead = found is not None
            self._queue.insert(place if found is None else found, case)
            place += 1
        self._wake.set()

    def stop(self, sender: PersonId) -> int:
        """Say nothing more of what a Matrix user said here and no network has yet; how many messages that were."""
        waiting = sum(_said_by(case) == sender for case in self._queue)
        self._stopped[sender] = new_id()  # what came before waits on disk, too
        return self._carrying.stop(sender) + waiting

    def forget(self, number: int) -> None:
        """A message is to be known no more: nobody quotes it."""
        self._recall.forget(number)

    async def run(self) -> None:
        """Work until cancelled, or until there has been nothing to do for a while."""
        while True:
            while self._queue:
                if self.under_way >= UNDER_WAY and not self._queue[0].ahead:
                    self._carrying.surveyed.set()  # more cannot be seen of it
                    self._slack.clear()
                    await self._slack.wait()
                    continue  # what comes first may be another now
                if self._halted:
                    return
                case = self._queue[0]  # it waits until it is planned
                self._taking = True
                if len(self._queue) > 1 and self._queue[1].ahead:
                    self._carrying.settled.clear()
                try:
                    await self._take(case)
                except Exception as error:  # a bug: it may cost this one fact, never its neighbours
                    self._endings.park(case, error)
                self._taking = False
                self._queue.popleft()
                if not self._queue or not self._queue[0].ahead:
                    self._carrying.settled.set()
            if not self._missing:
                self._carrying.surveyed.set()
            self._wake.clear()
            try:
                async with asyncio.timeout(IDLE):
                    await self._wake.wait()
            except TimeoutError:
                if not self._queue and not self.under_way and not self._keyless:
                    return

    # One fact ------------------------------------------------------------------------------------------------

    async def _take(self, case: Case) -> None:
        # First, and without a pause: what is let go meanwhile must not end up behind this.
        if self._around.is_elsewhere(self.room, case.origin):
            self._around.hold_back(case)
            return
        if not case.hides and self._may_be_held(case) and self._around.stop(case):
            if isinstance(case.fact, facts.Retraction | facts.Unreaction) and case.durable:
                self._around.spawn(self._hide(case, case.fact))
            return
        if case.recovering or case.released:
            case.performed = await self._around.store.outbox.of(case.number)
            case.told = TOLD in case.performed
        if isinstance(case.fact, Encrypted) and not await self._keyless.open(case, case.fact):
            return
        if self._came_in_clear(case) and (why := self._around.in_clear(self.room)):
            self._refuse_clear(case, why)
            return
        if isinstance(case.fact, facts.Message | facts.Edit) and await self._recall.is_known(case, case.fact):
            self._endings.finish(case)
            return
        if (work := self._around.observe(self.room, case)) is not None:
            await work
        if case.origin.network == MATRIX and _is_nameless(case.fact):
            await self._around.introduce(self.room, case)
        fact = case.fact
        if isinstance(fact, StateChanged | Encrypted):
            self._endings.finish(case)
            return
        if isinstance(fact, Unreadable):
            told = fact.again and self._keyless.has_read(fact.sender, fact.why)
            self._keyless.unreadable(case, fact.why, told=told)
            return
        if isinstance(fact, facts.Retraction):
            self._keyless.take_back(fact.target)
        known = await self._recall.named(case.origin, fact) if names_messages(fact) else {}
        if self._was_stopped(case):  # from here on without a pause: who stops it later finds it in its lanes
            case.outcomes.append(Outcome(case.origin, Fate.FAILED, STOPPED, told=True))
            self._endings.finish(case)
            return
        context = self._around.context(self.room, case, known)
        case.protection = given(context.sides, case.origin)
        decided = self._around.decide(context, fact)
        if decided.command is not None:
            self._around.spawn(self._obey(case, decided.command))
            return
        if isinstance(fact, facts.Retraction) and not decided.refused and fact.target in known:
            self._recall.unsay(known[fact.target])
        if decided.refused:
            case.outcomes.append(Outcome(case.origin, Fate.FAILED, decided.refused))
        if decided.arrivals or decided.roles:
            self._around.muster(self.room, case.origin, decided)
        actions = decided.actions
        if isinstance(fact, facts.Typing):
            actions = tuple(action for action in actions if self._carrying.is_shown_at_once(action.side))
        if not actions:
            self._endings.finish(case)
            return
        said = _unsaid(fact) if decided.unsaid else fact
        self._carrying.put(case, said, actions, known)

    async def _hide(self, case: Case, fact: facts.Retraction | facts.Unreaction) -> None:
        """What the room has already is taken back at once, whatever is in the way of words."""
        if await self._recall.is_shown(case.origin, fact) and await self._around.hide(case, TAKEN_BACK):
            case.hides = True
            self.offer(case)

    def _was_stopped(self, case: Case) -> bool:
        """Whether its sender has said, later, that nothing more of it shall be said."""
        if (sender := _said_by(case)) is None:
            return False
        return case.number < self._stopped.get(sender, 0) or self._around.was_erased(sender, case.number)

    def _may_be_held(self, case: Case) -> bool:
        """Whether it takes more than one look to see that a fact may go on."""
        if case.origin.network == MATRIX:
            return False
        if isinstance(case.fact, facts.Message) and case.fact.replayed:
            return True  # it may be from before anybody agreed
        return case.origin not in self._around.passing or case.released or case.recovering

    @staticmethod
    def _came_in_clear(case: Case) -> bool:
        """Whether it is words that a client would have encrypted; reactions and redactions no client does."""
        spoken = isinstance(case.fact, facts.Message | facts.Edit)
        return spoken and case.origin.network == MATRIX and not case.opened

    def _refuse_clear(self, case: Case, why: str) -> None:
        """Nothing follows from what was said in clear in an encrypted room; who waits for something reads why."""
        is_command = isinstance(case.fact, facts.Message) and command_in(case.fact.content) is not None
        if is_command or self._around.heeds(self.room):
            case.outcomes.append(Outcome(case.origin, Fate.FAILED, why))
        self._endings.finish(case)

    async def _obey(self, case: Case, words: str) -> None:
        try:
            await self._around.command(self.room, case, words)
        except Exception as error:
            self._endings.park(case, error)
        else:
            self._endings.finish(case)


def _unsaid(fact: Fact) -> Fact:
    """A message of which only its place is kept."""
    if not isinstance(fact, facts.Message):
        return fact
    nobody = Person(id=fact.sender.id, name="")
    return msgspec.structs.replace(fact, sender=nobody, content=Content())


def _said_by(case: Case) -> PersonId | None:
    """The Matrix user whose words a case is; None for what is nobody's, and for commands."""
    fact = case.fact
    if case.origin.network != MATRIX or not isinstance(fact, facts.Message | facts.Edit):
        return None
    is_command = isinstance(fact, facts.Message) and command_in(fact.content) is not None
    return None if is_command else fact.sender.id


def _is_nameless(fact: Fact | StateChanged | Encrypted | Unreadable) -> bool:
    sender = getattr(fact, "sender", None)
    return isinstance(sender, Person) and not sender.name
