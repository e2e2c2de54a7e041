"""Rooms: facts come in from both sides, go to disk, and then to the worker of their room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import structlog

from bridgekit.contract import facts
from bridgekit.contract.errors import BridgeError, HomeserverUnavailable, MatrixRateLimited, PeerMisbehaved
from bridgekit.contract.facts import FLEETING, Fact
from bridgekit.contract.ids import MATRIX, ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.matrix import translate
from bridgekit.runtime import clock
from bridgekit.runtime.cases import Case, amended
from bridgekit.runtime.people.names import Names
from bridgekit.runtime.registry import Registry
from bridgekit.runtime.traffic.amendments import Amendments
from bridgekit.runtime.traffic.around import Surroundings
from bridgekit.runtime.traffic.lobby import FIRST_WAIT, LONGEST_WAIT, Lobby, Unlinked
from bridgekit.runtime.traffic.worker import Worker
from bridgekit.store import Store
from bridgekit.store.ids import new_id
from bridgekit.store.rows import InboxRow
from bridgekit.store.statements import Write
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

CHUNK = 500
"""Rows that are read from disk at a time."""
STALLED = 2.0
"""Seconds without a single fate after which a stopping bridge waits no longer."""
REMEMBERED = 10_000
"""Chats of which it is known how much was handed over, from which on those with nothing left are forgotten."""
SETTLE = 10.0
"""Seconds that a room which was replaced is waited for; what is still under way then comes back to the new one."""
GRACE = 1.5
"""Seconds that a verb under way has to end when the bridge stops."""

Invited = Callable[[NetworkId, LoginId | None, facts.Invitation], Coroutine[Any, Any, None]]
"""Tells who is concerned that an account was asked into a chat."""


class Rooms:
    """All workers, and the way in to them."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        around: Surroundings,
        *,
        names: Names,
        unlinked: Unlinked,
        invitation: Invited,
        overhear: Callable[[PortalKey, Fact], None],
        hear: Callable[[PortalKey, Fact], bool],
        kept: Callable[[NetworkId, Fact], Fact],
        passes: Callable[[PortalKey, Fact], bool],
        verification: Callable[[bytes], object],
        spawn: Spawn,
    ) -> None:
        """`verification` is given the Matrix events from which no fact follows: some are about a verification."""
        self._verification = verification
        self._overhear = overhear
        self._hear = hear
        self._kept = kept
        self._passes = passes
        self._invitation = invitation
        self._invitations: WeakValueDictionary[PortalKey, asyncio.Lock] = WeakValueDictionary()
        self._store = store
        self._registry = registry
        self._around = around
        self._names = names
        self._spawn = spawn
        self._workers: dict[ChatId, Worker] = {}
        self._tasks: dict[ChatId, asyncio.Task[None]] = {}
        self._spilled: dict[PortalKey, int] = {}  # how often something was left on disk
        self._newest: dict[PortalKey, int] = {}  # the last row that was handed over
        self._most = REMEMBERED
        self._writing: dict[PortalKey, int] = {}  # how many are on their way to the disk, and not handed over
        self._amendments = Amendments(store)
        self._early: dict[PortalKey, set[int]] = {}  # rows that were handed over before their turn on disk
        self._recovering_until = 0
        self._lobby = Lobby(
            unlinked=unlinked, deliver=self._deliver, forget=self._forget, park=self._park, spawn=spawn
        )
        self._stopping = False

    # In ------------------------------------------------------------------------------------------------------

    def remote(self, network: NetworkId, login: LoginId | None, fact: Fact) -> None:
        """A session's fact: kept on disk, then planned. Synchronous, bounded, raises nothing."""
        invitation = isinstance(fact, facts.Invitation)  # it is for one account, whatever the chat
        side = PortalKey(network, fact.chat, login if fact.private or invitation else None)
        if not fact.private and not invitation:
            link = self._registry.links.get(side)
            if link is not None and link.reader != login:
                return  # two accounts read one chat: its reader tells what happens there
        if isinstance(fact, FLEETING):
            if self._passes(side, fact):
                self.fleeting(side, fact)
            return
        if not invitation:
            if self._hear(side, fact):
                return  # it was meant for the bridge alone, or for nobody
            if side not in self._registry.links:
                self._overhear(side, fact)
            fact = self._kept(network, fact)
        try:
            body = facts.encode(fact)
        except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, TypeError) as error:
            log.error("fact_unwritable", network=network, fact=type(fact).__name__, kind=type(error).__name__)
            self._around.parked(side)
            return
        now = clock.now()
        number = new_id()
        row = InboxRow(
            id=number, side=side.network, chat=side.chat, receiver=side.receiver, body=body, at=now
        )
        case = Case(number, side, fact, durable=True, accepted=now, started=time.monotonic())
        written = self._store.commit(self._store.inbox.add(row), *self._noted(number, amended(fact)))
        if isinstance(fact, facts.Message) and self._is_quiet(side):
            self._store.hurry()
            case.written = written  # it is planned while the disk works, and performed when that is done
            self._hand(side, case)
            return
        self._writing[side] = self._writing.get(side, 0) + 1
        written.add_done_callback(lambda _: self._written(side, case))

    def _is_quiet(self, side: PortalKey) -> bool:
        """Whether nothing waits anywhere that a fact of this side could overtake."""
        if side in self._spilled or side in self._writing or side in self._lobby:
            return False
        room = self.room_of(side)
        worker = self._workers.get(room) if room is not None else None
        return worker is not None and not worker.waiting and not worker.under_way

    def _written(self, side: PortalKey, case: Case) -> None:
        left = self._writing[side] - 1
        if left:
            self._writing[side] = left
        else:
            del self._writing[side]
        self._hand(side, case)

    def fleeting(self, side: PortalKey, fact: Fact) -> None:
        """Something that is worth nothing a minute later, and goes to no disk."""
        room = self.room_of(side)
        if room is None or self._stopping or not self._registry.links_of(room):
            return
        worker = self.worker(room)
        if not worker.is_behind and side not in self._spilled:
            worker.offer(Case(new_id(), side, fact, durable=False, started=time.monotonic()))

    def matrix_rows(self, events: list[tuple[ChatId, bytes]]) -> tuple[list[Write], list[InboxRow]]:
        """The writes that keep a transaction's events, and the rows to give to `matrix` when they are on disk."""
        now = clock.now()
        rows = [
            InboxRow(id=new_id(), side=MATRIX, chat=room, receiver=None, body=raw, at=now)
            for room, raw in events
        ]
        writes: list[Write] = []
        for row in rows:
            writes += [self._store.inbox.add(row), *self._noted(row.id, translate.amended(row.body))]
        return writes, rows

    def _noted(self, number: int, target: MessageId | None) -> list[Write]:
        return [self._store.amendments.add(number, target)] if target is not None else []

    def matrix(self, rows: list[InboxRow]) -> None:
        """Events that are on disk."""
        for row in rows:
            side = PortalKey(MATRIX, row.chat)
            if side in self._spilled:
                if _may_be_urgent(row.body) and (case := self._case(side, row)) is not None:
                    self._leave(side, case)
                else:
                    self._spilled[side] += 1
            elif (case := self._case(side, row)) is not None:
                self._hand(side, case)

    # To the workers ------------------------------------------------------------------------------------------

    def _hand(self, side: PortalKey, case: Case) -> None:
        if self._stopping:
            return  # it is on disk, and the next start begins with it
        if case.durable and case.number <= self._newest.get(side, 0):
            return  # it was brought back from disk before the news that it is there came to us
        room = self.room_of(side)
        if side in self._spilled and case.durable:
            self._leave(side, case)
            return
        if isinstance(case.fact, facts.Invitation):
            self._handed(side, case.number)
            self._spawn(self._follow(case, case.fact))
            return
        if room is None or side in self._lobby:
            if self._lobby.is_full(side) and case.durable:
                self._spill(side)
                self._leave(side, case)
            else:
                if case.durable:
                    self._handed(side, case.number)
                self._lobby.wait(side, case)
            return
        worker = self.worker(room)
        if worker.full and case.durable and not worker.awaits(case):
            self._spill(side)
            self._leave(side, case)
            return
        self._offer(worker, side, case)

    def _leave(self, side: PortalKey, case: Case) -> None:
        """Leave it on disk, behind what waits there; but what changes a message that its worker has goes there now."""
        self._spilled[side] += 1
        room = self.room_of(side)
        worker = self._workers.get(room) if room is not None else None
        if worker is not None and worker.awaits(case):
            self._early.setdefault(side, set()).add(case.number)
            worker.offer(case)
        elif (target := case.amends) is not None:
            self._amendments.add(side, target, case.number)
        elif worker is not None and isinstance(case.fact, translate.Encrypted):
            worker.glances.at(case, lambda urgent: self._fetch(side, urgent))

    def _fetch(self, side: PortalKey, case: Case) -> None:
        """It was left on disk, and must not wait for its turn there."""
        room = None if self._stopping else self.room_of(side)
        if room is not None and side in self._spilled and case.number > self._newest.get(side, 0):
            self._early.setdefault(side, set()).add(case.number)
            self.worker(room).offer(case)

    def _offer(self, worker: Worker, side: PortalKey, case: Case) -> None:
        if case.durable:
            self._handed(side, case.number)
        worker.offer(case)

    def _handed(self, side: PortalKey, number: int) -> None:
        self._newest[side] = max(number, self._newest.get(side, 0))
        if len(self._newest) >= self._most and not self._stopping:
            self._most *= 2  # so that one look at a time is under way
            self._spawn(self._forget_idle())

    async def _forget_idle(self) -> None:
        """Of what has nothing left on disk, nor on its way there, nobody need know how much was handed over: whoever
        writes to the bridge once is not remembered for years."""
        before = dict(self._newest)
        # Behind all that was written until now: it is on disk then, and handed over unless it is done.
        await self._store.commit(self._store.inbox.done(0))
        waiting = set(await self._store.inbox.sides())
        for side, number in before.items():
            busy = side in waiting or side in self._spilled or side in self._writing
            if not busy and self._newest.get(side) == number:
                del self._newest[side]
        self._most = max(REMEMBERED, 2 * len(self._newest))

    def room_of(self, side: PortalKey) -> ChatId | None:
        """The Matrix room that a side belongs to."""
        if side.network == MATRIX:
            return side.chat
        link = self._registry.links.get(side)
        return link.room if link is not None else None

    def worker(self, room: ChatId) -> Worker:
        """The room's worker, started if need be; not to be asked for once the stop has begun."""
        worker = self._workers.get(room)
        if worker is None:
            worker = self._workers[room] = Worker(room, self._around)
            self._run(room, worker)
        return worker

    async def settled(self, room: ChatId) -> None:
        """Return when nothing that chats have said is on its way into the room, or after `SETTLE` seconds."""
        deadline = time.monotonic() + SETTLE
        while (worker := self._workers.get(room)) is not None and worker.owes_room:
            if time.monotonic() > deadline:
                log.info("room_not_settled")
                return
            await asyncio.sleep(0.02)

    def silence(self, room: ChatId, sender: PersonId) -> int:
        """Drop what a Matrix user said in the room and no network has yet; how many messages that were."""
        worker = self._workers.get(room)
        return worker.stop(sender) if worker is not None else 0

    def forget(self, room: ChatId, number: int) -> None:
        """Know a message of the room no more."""
        if (worker := self._workers.get(room)) is not None:
            worker.forget(number)

    def _run(self, room: ChatId, worker: Worker) -> None:
        task = self._tasks[room] = asyncio.create_task(worker.run(), name=f"room {room}")
        task.add_done_callback(lambda ended: self._rest(room, worker, ended))

    def _rest(self, room: ChatId, worker: Worker, ended: asyncio.Task[None]) -> None:
        """A worker that had nothing to do has ended; what came in that very moment starts it again."""
        if ended.cancelled() or self._stopping:
            return
        if error := ended.exception():
            log.error("worker_fault", kind=type(error).__name__, exc_info=error)
        if worker.waiting:
            self._run(room, worker)
        else:
            del self._workers[room], self._tasks[room]

    def resume(self, side: PortalKey, cases: list[Case]) -> None:
        """Held facts go on, before all that came later."""
        room = self.room_of(side)
        if room is None or self._stopping:
            return  # they are on disk
        self.worker(room).resume(cases)

    def revive(self, side: PortalKey, row: InboxRow) -> Case | None:
        """The case of a row that was held."""
        case = self._case(side, row)
        if case is not None:
            case.released = True
        return case

    def _deliver(self, room: ChatId, side: PortalKey, case: Case) -> None:
        if not self._stopping:
            self.worker(room).offer(case)

    def _forget(self, case: Case) -> None:
        if case.durable:
            self._store.commit(self._store.inbox.done(case.number))

    def _park(self, case: Case, why: str) -> None:
        self._around.parked(case.origin)
        if case.durable:
            self._store.commit(self._store.inbox.park(case.number, why))

    async def _follow(self, case: Case, fact: facts.Invitation) -> None:
        """Tell whom an invitation concerns; it is on disk until they know, and told twice rather than never."""
        # One after the other: what is taken back was asked first.
        async with self._invitations.setdefault(case.origin, asyncio.Lock()):
            await self._follow_in_turn(case, fact)

    async def _follow_in_turn(self, case: Case, fact: facts.Invitation) -> None:
        side, wait = case.origin, FIRST_WAIT
        while True:
            try:
                await self._invitation(side.network, side.receiver, fact)
            except (HomeserverUnavailable, MatrixRateLimited) as error:
                await asyncio.sleep(max(wait, error.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT)
                continue
            except BridgeError as error:
                self._park(case, error.notice)
            except Exception as error:
                log.exception("invitation_fault", network=side.network, kind=type(error).__name__)
                self._park(case, f"{type(error).__name__} while it was told")
            else:
                self._forget(case)
            return

    # More than memory should hold is on disk anyway, and comes back in order -----------------------------------

    def _spill(self, side: PortalKey) -> None:
        log.info("room_behind", network=side.network)
        self._spilled[side] = 0
        self._spawn(self._bring_back(side))

    async def recover(self) -> int:
        """Take up what the last run left in the inbox, oldest first; says how many facts that are.

        Called once, before anything new comes in. What comes in later for a chat that has old facts waits
        behind them, on disk.
        """
        self._recovering_until = new_id()
        await self._amendments.load()
        for side in await self._store.inbox.sides():
            self._spilled[side] = 1
            self._spawn(self._bring_back(side))
        return await self._store.inbox.count()

    async def _bring_back(self, side: PortalKey) -> None:
        """Feed a side's rows from disk, as the worker takes them, until none are left."""
        expecting: set[Worker] = set()
        try:
            while True:
                held = self._spilled[side]
                rows = await self._store.inbox.of(side, after=self._newest.get(side, 0), limit=CHUNK)
                for row in rows:
                    await self._until_slack(side)
                    if self._stopping:
                        return
                    self._newest[side] = row.id
                    if row.id in self._early.get(side, ()):
                        self._early[side].discard(row.id)
                    elif (case := self._case(side, row)) is not None:
                        for one in (case, *await self._amended(side, case)):
                            self._take_up(side, one, expecting)
                if len(rows) < CHUNK:
                    _complete(expecting, side)
                if not rows and held == self._spilled[side]:
                    del self._spilled[side]  # nothing was held back since the look: all is handed over
                    self._early.pop(side, None)
                    return
        finally:
            _complete(expecting, side)

    async def _amended(self, side: PortalKey, case: Case) -> list[Case]:
        """What changes the message of a case, from further back on disk: it is handed over together with it."""
        if (target := case.amends) is not None:
            self._amendments.drop(side, target, case.number)
        found: list[Case] = []
        while numbers := self._amendments.take(side, case.called):  # more may come while we read
            self._early.setdefault(side, set()).update(numbers)
            rows = await self._store.inbox.numbered(numbers)
            found += [one for row in rows if (one := self._case(side, row)) is not None]
        return found

    def _take_up(self, side: PortalKey, case: Case, expecting: set[Worker]) -> None:
        """Hand over what was on disk; `expecting` are the workers that were told that there may be more of it."""
        if self._stopping:
            return  # it is left on disk
        if isinstance(case.fact, facts.Invitation):
            self._spawn(self._follow(case, case.fact))
            return
        room = self.room_of(side)
        if room is None or side in self._lobby:
            self._lobby.wait(side, case)
            return
        worker = self.worker(room)
        if case.recovering and worker not in expecting:
            expecting.add(worker)
            worker.expect(side)
        worker.offer(case)

    async def _until_slack(self, side: PortalKey) -> None:
        while not self._stopping:
            room = self.room_of(side)
            behind = self._lobby.is_full(side) if room is None else self.worker(room).full
            if not behind:
                return
            await asyncio.sleep(0.01)

    def _case(self, side: PortalKey, row: InboxRow) -> Case | None:
        """What a row says; None where nothing follows from it, and then it is gone."""
        event: MessageId | None = None
        fact: Fact | translate.StateChanged | translate.Encrypted | translate.Unreadable | None
        try:
            if side.network == MATRIX:
                fact = translate.fact(row.body, self._names.of)
                # At once: what somebody says right behind their new name is named in the same breath.
                if isinstance(fact, facts.Profile | facts.Membership):
                    self._names.notice(side.chat, fact)
                event = translate.event_id(row.body) if fact is not None else None
            else:
                fact = facts.decode(row.body)
        except (PeerMisbehaved, msgspec.MsgspecError) as error:
            log.warning("row_parked", network=side.network, kind=type(error).__name__)
            self._around.parked(side)
            self._store.commit(self._store.inbox.park(row.id, f"{type(error).__name__}: it cannot be read"))
            return None
        if fact is None:
            if side.network == MATRIX:
                self._verification(row.body)
            self._store.commit(self._store.inbox.done(row.id))
            return None
        return Case(
            row.id,
            side,
            fact,
            durable=True,
            recovering=row.id <= self._recovering_until,
            event=event,
            accepted=row.at,
            started=time.monotonic() - max(0.0, time.time() - row.at / 1000),
        )

    # Out -----------------------------------------------------------------------------------------------------

    def depth(self) -> tuple[int, float]:
        """Facts that wait or are under way, and the age of the oldest that waits, in seconds."""
        waiting = sum(w.waiting + w.under_way for w in self._workers.values()) + self._lobby.waiting
        oldest = min((w.oldest for w in self._workers.values() if w.oldest), default=0.0)
        return waiting, time.monotonic() - oldest if oldest else 0.0

    async def drain(self, seconds: float) -> bool:
        """Take no new facts, let what is under way end; False where something is left (it is on disk).

        It takes `seconds` at most and `GRACE` more, and less where nothing gets on.
        """
        self._stopping = True
        deadline = time.monotonic() + seconds
        left, moved = -1, time.monotonic()
        while time.monotonic() < min(deadline, moved + STALLED):
            if (now := sum(w.waiting + w.under_way for w in self._workers.values())) != left:
                left, moved = now, time.monotonic()
            if not left:
                return True
            await asyncio.sleep(0.02)
        # What is cut off in the middle is in doubt: begin nothing more, and let what has begun end.
        for worker in self._workers.values():
            worker.halt()
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(w.running for w in self._workers.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return False

    async def stop(self) -> None:
        """End every worker."""
        self._stopping = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def _may_be_urgent(raw: bytes) -> bool:
    """Whether an event may be about what waits, so that it has to be looked at before its turn."""
    return translate.amended(raw) is not None or b"!bridge stop" in raw.lower() or b"m.room.encrypted" in raw


def _complete(expecting: set[Worker], side: PortalKey) -> None:
    for worker in expecting:
        worker.complete(side)
    expecting.clear()
