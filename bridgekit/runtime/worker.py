"""The worker of one room: takes its facts one after the other, plans each, and puts the verbs into lanes."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections import deque
from collections.abc import Container, Coroutine, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import (
    BridgeError,
    Disconnected,
    EncryptionError,
    PeerMisbehaved,
    RateLimited,
)
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, ChatId, MessageId, PersonId, PortalKey
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import excerpt
from bridgekit.contract.verbs import Sent
from bridgekit.core.commands import command_in
from bridgekit.core.model import Action, Context, Plan
from bridgekit.core.protection import given
from bridgekit.matrix.crypto.incoming import KeyMissing
from bridgekit.matrix.translate import Encrypted, StateChanged, Unreadable
from bridgekit.runtime.cases import TOLD, Case, Elsewhere, Fate, GoesBack, Outcome, Step, Tracked
from bridgekit.runtime.lanes import Lane
from bridgekit.runtime.recall import Ids, Recall, names_messages
from bridgekit.store import Store, StoreError
from bridgekit.store.statements import Write

log = structlog.get_logger(__name__)

IN_MEMORY = 4000
"""Facts that wait in memory; more wait on disk, where they are anyway."""
UNDER_WAY = 500
"""Cases of one room whose verbs have no fate yet; planning waits beyond that."""
BEHIND = 32
"""Facts waiting or under way from which on nobody is shown who types, or who has read what."""
REFUSED = 1000
"""Sentences that are not said twice while their room is busy."""
IDLE = 300.0
"""Seconds after which a worker without work ends; its room's next fact starts another."""

KEY_SECONDS = 10.0
"""How long a key may be on its way before the sender is told that it is missing."""
KEY_LATEST = 24 * 3600.0
"""Seconds after which a key that has not come is waited for no longer."""
HELD = 200
"""Messages of one room that wait for keys."""
LATER = " It is passed on as soon as the key comes."
STOPPED = "You stopped it before it was sent."
TAKEN_BACK = "It was taken back before it was sent."
UNREADABLE = "The bridge could not make sense of what your client encrypted."


class Surroundings(Protocol):
    """What a worker asks of the rest of the runtime."""

    store: Store

    @property
    def passing(self) -> Container[PortalKey]: ...

    def stop(self, case: Case) -> bool: ...
    def is_elsewhere(self, room: ChatId, side: PortalKey) -> bool: ...
    def hold_back(self, case: Case) -> None: ...
    def decide(self, context: Context, fact: Fact) -> Plan: ...
    def context(self, room: ChatId, case: Case, known: dict[MessageId, Tracked]) -> Context: ...
    async def perform(self, room: ChatId, step: Step, ids: Ids) -> Sent | None:
        """Do a step. What goes into the room is got ready while its case may still be on its way to the disk, and
        goes when that is `kept`; for other sides the worker has waited already."""
        ...

    def pipeline(self, side: PortalKey) -> int: ...
    def sides(self, room: ChatId) -> list[PortalKey]: ...
    def in_clear(self, room: ChatId) -> str: ...
    def heeds(self, room: ChatId) -> bool: ...
    async def open(self, said: Encrypted) -> Fact | StateChanged | Encrypted | Unreadable | None: ...
    async def key(self, missing: KeyMissing, seconds: float) -> bool: ...
    def parked(self, side: PortalKey) -> None: ...
    def observe(self, room: ChatId, case: Case) -> Coroutine[Any, Any, None] | None: ...
    def command(self, room: ChatId, case: Case, words: str) -> Coroutine[Any, Any, None]: ...
    def settled(self, room: ChatId, case: Case) -> Coroutine[Any, Any, None] | None: ...
    def muster(self, room: ChatId, origin: PortalKey, decided: Plan) -> None: ...
    async def introduce(self, room: ChatId, case: Case) -> None: ...
    async def words(self, room: ChatId, event: MessageId) -> tuple[str, str]: ...
    def held_up(self, room: ChatId, case: Case, side: PortalKey, actor: str) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...


class Worker:
    """One room, both directions."""

    def __init__(self, room: ChatId, around: Surroundings) -> None:
        self.room = room
        self._around = around
        self._queue: deque[Case] = deque()
        self._wake = asyncio.Event()
        self._recall = Recall(room, around.store, sides=around.sides, words=around.words)
        self._refused: set[tuple[PersonId, str]] = set()  # who has read here what is not passed on, and why
        self._lanes: dict[PortalKey, Lane[Step]] = {}
        self._under_way = 0
        self._started: dict[int, float] = {}  # by number, the oldest first: the cases that are under way
        self._keyless: dict[MessageId | None, Case] = {}  # by event: what waits for a key
        self._halted = False
        self._taking = False  # the first in the queue is being planned
        self._slack = asyncio.Event()
        self._slack.set()
        self._missing: set[PortalKey] = set()  # sides of which not all that an earlier run left is here yet
        self._surveyed = asyncio.Event()
        self._surveyed.set()

    @property
    def waiting(self) -> int:
        """Facts in memory that have not been planned."""
        return len(self._queue)

    @property
    def under_way(self) -> int:
        """Cases that were planned and whose verbs have no fate yet."""
        return self._under_way

    @property
    def oldest(self) -> float:
        """When the fact was read that has been longest without its fate (monotonic seconds); 0 where all have it."""
        if self._started:
            return next(iter(self._started.values()))
        return self._queue[0].started if self._queue else 0.0

    @property
    def owes_room(self) -> bool:
        """Whether something of what chats have said is on its way into the room."""
        heard = any(case.origin.network != MATRIX for case in self._queue)
        return heard or any(not lane.idle for side, lane in self._lanes.items() if side.network == MATRIX)

    def halt(self) -> None:
        """Begin nothing more; what is under way may end."""
        self._halted = True
        for lane in self._lanes.values():
            lane.halt()

    @property
    def running(self) -> int:
        """Verbs that are being performed."""
        return sum(lane.running for lane in self._lanes.values())

    @property
    def is_behind(self) -> bool:
        """Whether what is said now is heard late."""
        return len(self._queue) + self._under_way >= BEHIND

    @property
    def full(self) -> bool:
        return len(self._queue) >= IN_MEMORY

    def offer(self, case: Case) -> None:
        """Queue a case behind the others of this room."""
        self._queue.append(case)
        self._wake.set()

    def expect(self, side: PortalKey) -> None:
        """An earlier run left facts of this side: nothing of them is said before all are planned, because a later one
        may edit or take back an earlier one."""
        self._missing.add(side)
        self._surveyed.clear()

    def complete(self, side: PortalKey) -> None:
        """All that an earlier run left of this side was offered."""
        self._missing.discard(side)
        self._wake.set()

    def resume(self, cases: list[Case]) -> None:
        """Queue cases that were held back before all that waits, because everything else came later."""
        place = 1 if self._taking else 0
        while place < len(self._queue) and self._queue[place].released:
            place += 1
        for offset, case in enumerate(cases):
            self._queue.insert(place + offset, case)
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled, or until there has been nothing to do for a while."""
        while True:
            while self._queue:
                if self._under_way >= UNDER_WAY:
                    self._surveyed.set()  # more cannot be seen of it
                    self._slack.clear()
                    await self._slack.wait()
                if self._halted:
                    return
                case = self._queue[0]  # it waits until it is planned
                self._taking = True
                try:
                    await self._take(case)
                except Exception as error:  # a bug: it may cost this one fact, never its neighbours
                    self._park(case, error)
                self._taking = False
                self._queue.popleft()
            if not self._missing:
                self._surveyed.set()
            self._wake.clear()
            try:
                async with asyncio.timeout(IDLE):
                    await self._wake.wait()
            except TimeoutError:
                if not self._queue and not self._under_way and not self._keyless:
                    return

    # One fact ------------------------------------------------------------------------------------------------

    async def _take(self, case: Case) -> None:
        # First, and without a pause: what is let go meanwhile must not end up behind this.
        if self._around.is_elsewhere(self.room, case.origin):
            self._around.hold_back(case)
            return
        if self._may_be_held(case) and self._around.stop(case):
            return
        if case.recovering or case.released:
            case.performed = await self._around.store.outbox.of(case.number)
            case.told = TOLD in case.performed
        if isinstance(case.fact, Encrypted) and not await self._open(case, case.fact):
            return
        if self._came_in_clear(case) and (why := self._around.in_clear(self.room)):
            self._refuse_clear(case, why)
            return
        if isinstance(case.fact, facts.Message) and await self._recall.is_known(case, case.fact):
            self._finish(case)
            return
        if (work := self._around.observe(self.room, case)) is not None:
            await work
        if case.origin.network == MATRIX and _is_nameless(case.fact):
            await self._around.introduce(self.room, case)
        fact = case.fact
        if isinstance(fact, StateChanged | Encrypted):
            self._finish(case)
            return
        if isinstance(fact, Unreadable):
            self._unreadable(case, fact.why, told=fact.again and self._has_read(fact.sender, fact.why))
            return
        if (
            isinstance(fact, facts.Retraction)
            and (unread := self._keyless.pop(fact.target, None)) is not None
        ):
            self._finish(unread)
        known = await self._recall.named(case.origin, fact) if names_messages(fact) else {}
        context = self._around.context(self.room, case, known)
        case.protection = given(context.sides, case.origin)
        decided = self._around.decide(context, fact)
        if decided.command is not None:
            self._around.spawn(self._obey(case, decided.command))
            return
        if decided.refused:
            case.outcomes.append(Outcome(case.origin, Fate.FAILED, decided.refused))
        if decided.arrivals or decided.roles:
            self._around.muster(self.room, case.origin, decided)
        actions = decided.actions
        if isinstance(fact, facts.Typing):
            actions = tuple(action for action in actions if self._is_shown_at_once(action.side))
        if not actions:
            self._finish(case)
            return
        lanes = [self._lane(action.side) for action in actions]  # may ask a connector, which may fail
        self._recall.track(case, _unsaid(fact) if decided.unsaid else fact, known)
        case.open = len(actions)
        self._under_way += 1
        self._started[case.number] = case.started
        for at, (lane, action) in enumerate(zip(lanes, actions, strict=True)):
            if isinstance(fact, facts.Retraction | facts.Unreaction):
                self._take_back(lane, action)
            step = Step(case, action, _nth(actions, at))
            if case.tracked is not None:
                case.tracked.expect(action.side)
            if isinstance(fact, facts.Edit) and (revised := known.get(fact.target)) is not None:
                if self._reworded(lane, step, revised):
                    self._around.held_up(self.room, case, action.side, action.actor)
                    continue
                step.revises = revised, revised.revise(action.side)
            lane.put(step)
            self._around.held_up(self.room, case, action.side, action.actor)

    def _is_shown_at_once(self, side: PortalKey) -> bool:
        """Whether nothing is on its way to a side: who types while their words wait is not typing when those arrive."""
        lane = self._lanes.get(side)
        return side.network == MATRIX or lane is None or lane.idle

    def _may_be_held(self, case: Case) -> bool:
        """Whether it takes more than one look to see that a fact may go on."""
        if case.origin.network == MATRIX:
            return False
        if isinstance(case.fact, facts.Message) and case.fact.replayed:
            return True  # it may be from before anybody agreed
        return case.origin not in self._around.passing or case.released or case.recovering

    # Keys ----------------------------------------------------------------------------------------------------

    async def _open(self, case: Case, said: Encrypted) -> bool:
        """Put what was said in the place of what came; False where the case is over, or waits for its key."""
        try:
            opened = await self._around.open(said)
        except KeyMissing as missing:
            if self._around.heeds(self.room) and len(self._keyless) < HELD:
                if self._keyless.setdefault(case.event, case) is case:
                    self._around.spawn(self._await_key(case, missing))
                else:
                    self._finish(case)  # it came twice
                return False
            self._unreadable(case, missing.notice)
        except EncryptionError as error:
            self._unreadable(case, error.notice)
        except PeerMisbehaved as error:
            log.info("not_decrypted", why=error.notice)
            self._unreadable(case, UNREADABLE)
        else:
            if opened is not None:
                case.fact, case.opened = opened, True
                return True
            self._finish(case)
        return False

    def _has_read(self, sender: PersonId, why: str) -> bool:
        """Whether somebody was told this here a while ago; from now on they were."""
        if (sender, why) in self._refused:
            return True
        if len(self._refused) >= REFUSED:
            self._refused.clear()
        self._refused.add((sender, why))
        return False

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
        self._finish(case)

    def _unreadable(self, case: Case, why: str, *, told: bool = False) -> None:
        """It ends here, and why; `told`: the room has read that already, and only the client is to show it."""
        if self._around.heeds(self.room):
            case.outcomes.append(Outcome(case.origin, Fate.FAILED, why, told=told))
        self._finish(case)

    async def _await_key(self, case: Case, missing: KeyMissing) -> None:
        """Wait for a key without keeping the room waiting; the row stays in the inbox meanwhile."""
        try:
            came = await self._around.key(missing, KEY_SECONDS)
            if not came:
                await self._tell_of_key(case, missing.notice + LATER)
            while not came and (left := case.accepted / 1000 + KEY_LATEST - time.time()) > 0:
                told = missing.withheld
                came = await self._around.key(missing, left)
                if missing.withheld and not told:  # only now their client says why
                    await self._tell_of_key(case, missing.notice + LATER, again=True)
        finally:
            wanted = self._keyless.pop(case.event, None) is case
        if not wanted:
            return  # it was taken back meanwhile
        if came:
            self.offer(case)
        else:
            self._finish(case)

    async def _tell_of_key(self, case: Case, why: str, *, again: bool = False) -> None:
        if case.told and not again:
            return
        case.outcomes.append(Outcome(case.origin, Fate.FAILED, why))
        if (work := self._around.settled(self.room, case)) is not None:
            await _quietly(work)
        case.outcomes.clear()
        case.told = True
        store = self._around.store
        store.commit(store.outbox.performed(case.number, TOLD, "told"))

    # One verb ------------------------------------------------------------------------------------------------

    def _lane(self, side: PortalKey) -> Lane[Step]:
        lane = self._lanes.get(side)
        if lane is None:
            matrix = side.network == MATRIX
            lane = Lane(self._carry, self._around.spawn, adaptive=matrix)
            self._lanes[side] = lane
        if side.network != MATRIX:
            lane.pipeline = self._around.pipeline(side)
        return lane

    async def _carry(self, step: Step) -> bool:
        """Perform one step; False where it must be tried again before what came after it."""
        case, side = step.case, step.action.side
        if case.written is not None and side.network != MATRIX:
            await case.kept()  # what goes into the room waits for that when it is ready to go
        if _has_ended(step):
            await self._recall.restore(case, side)
            self._settle(step, _ended_before(side, case.performed[step.index]), None)
            return True
        if side.network != MATRIX:
            if case.recovering:
                await self._surveyed.wait()
            if step.stopped:
                self._settle(step, _unwanted(side, step.stopped), None)
                return True
            step.task = asyncio.current_task()
        try:
            try:
                sent = await self._around.perform(self.room, step, await self._recall.resolved(step))
            except RateLimited as error:
                self._unmark(step)
                await asyncio.sleep(error.retry_after or 1.0)
                return False
        except asyncio.CancelledError:
            if not step.stopped or step.task is None:
                raise
            step.task.uncancel()  # the errand was meant, and the task goes on with others
            self._settle(step, _unwanted(side, step.stopped), None)
        except Disconnected as error:
            if step.stopped:
                self._settle(step, _unwanted(side, step.stopped), None)
                return True
            log.info("send_waits", network=side.network, reason=error.notice)
            self._around.held_up(self.room, case, side, step.actor)
            self._unmark(step)
            return False  # `perform` waits for the next session, so this is no busy loop
        except (Elsewhere, GoesBack):
            case.returns = True
            self._settle(step, None, None)
        except BridgeError as error:
            fate = Fate.FAILED if error.certain else Fate.UNCERTAIN
            self._settle(step, Outcome(side, fate, error.notice), None)
        except Exception as error:
            log.error("verb_failed", verb=type(step.action.verb).__name__, trace=_trace(error))
            notice = "The bridge has a fault and could not pass this on; its log says more."
            self._settle(step, Outcome(side, Fate.FAILED, notice), None)
        else:
            self._settle(step, Outcome(side, Fate.DELIVERED, sent.note if sent else ""), sent)
        finally:
            step.task = None
        return True

    def stop(self, sender: PersonId) -> int:
        """Say nothing more of what a Matrix user said here and no network has yet; how many messages that were.

        Each of them gets its fate: what was on its way already may be uncertain.
        """

        def is_theirs(step: Step) -> bool:
            fact = step.case.fact
            said = isinstance(fact, facts.Message | facts.Edit) and fact.sender.id == sender
            return said and step.case.origin.network == MATRIX

        stopped: set[int] = set()
        for side, lane in self._lanes.items():
            if side.network != MATRIX:
                for step in lane.take_back(is_theirs):
                    stopped.add(step.case.number)
                    self._settle(step, _unwanted(side, STOPPED), None)
                for step in lane.started:
                    if is_theirs(step) and _break_off(step, STOPPED):
                        stopped.add(step.case.number)
        return len(stopped)

    def _take_back(self, lane: Lane[Step], action: Action) -> None:
        """What is taken back while it waits, with its edits, is not said at all."""

        def is_it(step: Step) -> bool:
            revised = step.revises[0].number if step.revises is not None else 0
            return action.target in (step.case.number, revised)

        for step in lane.take_back(is_it):
            self._settle(step, _unwanted(action.side, TAKEN_BACK), None)
        for step in lane.started if action.side.network != MATRIX else ():
            if not step.begun and is_it(step):
                _break_off(step, TAKEN_BACK)

    def _reworded(self, lane: Lane[Step], edit: Step, revised: Tracked) -> bool:
        """What still waits for a network is said as it was edited, once; the edit shares its fate. False where there is
        nothing (any more) that could be said so."""
        side, verb = edit.action.side, edit.action.verb
        if side.network == MATRIX or not isinstance(verb, verbs.EditMessage) or _has_ended(edit):
            return False

        def is_it(step: Step) -> bool:
            number = step.case.number if step.revises is None else step.revises[0].number
            said = step.action.verb
            return (
                number == revised.number
                and isinstance(said, verbs.PostMessage | verbs.EditMessage)
                and (said.content.file is None) == (verb.content.file is None)
                and not (step.worded or step.stopped or _has_ended(step))
                # What may go to the network is asked of the message, so the edit must be of the same kind.
                and (step.case.origin, step.case.protection) == (edit.case.origin, edit.case.protection)
            )

        step = lane.last(is_it) or next((one for one in lane.started if is_it(one)), None)
        if step is None:
            return False
        said = msgspec.structs.replace(step.action.verb, content=verb.content)
        step.action = msgspec.structs.replace(step.action, verb=said)
        step.edits += (edit,)
        if step.revises is None:
            revised.reword(side, excerpt(verb.content.text, 200))
        return True

    def _unmark(self, step: Step) -> None:
        """It was certainly not sent: a restart before the next try need not doubt it."""
        step.worded = step.begun = False
        if step.marked:
            step.marked = False
            outbox = self._around.store.outbox
            self._around.store.commit(
                *(outbox.performed(one.case.number, one.index, _UNSENT) for one in (step, *step.edits))
            )

    def _settle(self, step: Step, outcome: Outcome | None, sent: Sent | None) -> None:
        """Write down what became of a step and of the edits that it was said with; with its last step a case leaves the
        inbox. None: nothing became of it, and the case will be planned again."""
        self._settle_one(step, outcome, sent)
        for edit in step.edits:  # after it: what a crash in between leaves behind is said again nowhere
            shown = msgspec.structs.replace(outcome, told=True) if outcome is not None else None
            self._settle_one(edit, shown, None)

    def _settle_one(self, step: Step, outcome: Outcome | None, sent: Sent | None) -> None:
        case, side = step.case, step.action.side
        if outcome is not None:
            case.outcomes.append(outcome)
        case.open -= 1
        tracked = case.tracked
        writes: list[Write] = []
        if tracked is not None:
            if not case.linked and outcome is not None:
                case.linked = True
                writes += self._recall.copies(
                    tracked, case.origin, tracked.ids.get(case.origin, ()), origin=True
                )
            if sent is not None and sent.id:
                ids = (sent.id, *sent.more)
                self._recall.name(tracked, side, ids)
                writes += self._recall.copies(tracked, side, ids)
            if outcome is not None and outcome.fate is Fate.FAILED:
                tracked.unsaid |= {side}
            tracked.settle(side)
        if step.revises is not None:
            revised, fate = step.revises
            if step.said_anew and sent is not None and sent.id:
                writes += self._recall.revised(revised, side, (sent.id, *sent.more))
            if not fate.done():
                fate.set_result(None)
        store = self._around.store
        if case.open:
            self._write(tracked, writes + self._marked(step, outcome))
            return
        self._under_way -= 1
        self._started.pop(case.number, None)
        if self._under_way < UNDER_WAY:
            self._slack.set()
        if case.returns:
            self._write(tracked, writes + self._marked(step, outcome))
            self._around.hold_back(case)
            return
        if (work := self._around.settled(self.room, case)) is None:
            if case.durable:
                writes.append(store.inbox.done(case.number))
            self._write(tracked, writes)
            return
        # The sender reads the fate before the row goes, so that a crash in between tells them twice and not never.
        written = self._write(tracked, writes + self._marked(step, outcome))
        self._around.spawn(self._tell(case, work, written))

    def _marked(self, step: Step, outcome: Outcome | None) -> list[Write]:
        """What keeps that a step has been done, while its case stays in the inbox."""
        if not step.case.durable or outcome is None:
            return []
        return [self._around.store.outbox.performed(step.case.number, step.index, _in_a_word(outcome))]

    def _write(self, tracked: Tracked | None, writes: list[Write]) -> asyncio.Future[None] | None:
        if not writes:
            return None
        written = self._around.store.commit(*writes)
        if tracked is not None:
            tracked.written = written
        return written

    async def _tell(
        self, case: Case, work: Coroutine[Any, Any, None], written: asyncio.Future[None] | None = None
    ) -> None:
        """Tell the sender, once the fate is on disk: what they were told must not be doubted after a crash."""
        try:
            if written is not None:
                with contextlib.suppress(StoreError):  # it is logged
                    await written
            await work
        except Exception as error:
            log.error("status_failed", trace=_trace(error))
        finally:
            work.close()
        if case.durable:
            self._around.store.commit(self._around.store.inbox.done(case.number))

    def _finish(self, case: Case) -> None:
        """A case from which nothing follows, or nothing but words to its sender."""
        work = self._around.settled(self.room, case) if case.outcomes else None
        if work is not None:
            self._around.spawn(self._tell(case, work))
        elif case.durable:
            self._around.store.commit(self._around.store.inbox.done(case.number))

    async def _obey(self, case: Case, words: str) -> None:
        try:
            await self._around.command(self.room, case, words)
        except Exception as error:
            self._park(case, error)
        else:
            self._finish(case)

    def _park(self, case: Case, error: Exception) -> None:
        log.error(
            "fact_parked", network=case.origin.network, fact=type(case.fact).__name__, trace=_trace(error)
        )
        self._around.parked(case.origin)
        if case.durable:
            self._around.store.commit(self._around.store.inbox.park(case.number, _trace(error)))
        if not isinstance(case.fact, facts.Message | facts.Edit | facts.Reaction | facts.Retraction):
            return  # nobody waits for it
        case.outcomes.append(
            Outcome(case.origin, Fate.FAILED, "The bridge has a fault and could not pass this on.")
        )
        if (work := self._around.settled(self.room, case)) is not None:
            self._around.spawn(_quietly(work))


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:
        log.error("status_failed", trace=_trace(error))


def _unsaid(fact: Fact) -> Fact:
    """A message of which only its place is kept."""
    if not isinstance(fact, facts.Message):
        return fact
    nobody = Person(id=fact.sender.id, name="")
    return msgspec.structs.replace(fact, sender=nobody, content=Content())


def _is_nameless(fact: Fact | StateChanged | Encrypted | Unreadable) -> bool:
    sender = getattr(fact, "sender", None)
    return isinstance(sender, Person) and not sender.name


def _nth(actions: Sequence[Action], at: int) -> int:
    """Which of the actions for its side with a verb of its kind stands there, counted from 1."""
    action = actions[at]
    return 1 + sum(a.side == action.side and type(a.verb) is type(action.verb) for a in actions[:at])


def _has_ended(step: Step) -> bool:
    """Whether an earlier run of the bridge has written down what became of it."""
    performed = step.case.performed
    return bool(performed) and performed.get(step.index, _UNSENT) != _UNSENT


def _break_off(step: Step, why: str) -> bool:
    """End a step that is under way; whether that was for this to do."""
    if step.stopped:
        return False
    step.stopped = why
    if step.task is not None:
        step.task.cancel()
    return True


def _unwanted(side: PortalKey, why: str) -> Outcome:
    return Outcome(side, Fate.FAILED, why, told=True)


_UNSENT = "unsent"
"""The outbox's word for what was begun, and certainly was not sent."""
_SILENT = "silent"
"""The outbox's word for what failed without anybody being told."""


def _in_a_word(outcome: Outcome) -> str:
    """An outcome as the outbox keeps it: no sentences, they may quote what people said."""
    return _SILENT if outcome.fate is Fate.FAILED and not outcome.notice else outcome.fate.value


def _ended_before(side: PortalKey, state: str) -> Outcome:
    """What an earlier run of the bridge has written down of a step."""
    match state:
        case "sending":
            notice = "The bridge was stopped while this was being sent: it may or may not have arrived."
            return Outcome(side, Fate.UNCERTAIN, notice)
        case Fate.UNCERTAIN.value:
            return Outcome(side, Fate.UNCERTAIN, "It may or may not have arrived.")
        case Fate.FAILED.value:
            return Outcome(side, Fate.FAILED, "It was refused just before the bridge was stopped.")
        case _ if state == _SILENT:
            return Outcome(side, Fate.FAILED)
        case _:
            return Outcome(side, Fate.DELIVERED)


def _trace(error: BaseException) -> str:
    """Where it went wrong; the message of the exception may quote what people said and is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"
