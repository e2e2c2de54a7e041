"""Carrying: the verbs of one room in their lanes, until each has its fate; what waits there may be said otherwise, or
not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import BridgeError, Disconnected, RateLimited
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, ChatId, MessageId, PersonId, PortalKey
from bridgekit.contract.text import excerpt
from bridgekit.contract.verbs import Sent
from bridgekit.core.model import Action
from bridgekit.runtime.cases import Case, Fate, Outcome, Tracked
from bridgekit.runtime.traffic.around import Surroundings
from bridgekit.runtime.traffic.endings import Endings, trace
from bridgekit.runtime.traffic.lanes import Lane
from bridgekit.runtime.traffic.recall import Recall
from bridgekit.runtime.traffic.steps import Elsewhere, GoesBack, Step
from bridgekit.store.statements import Write

log = structlog.get_logger(__name__)

STOPPED = "You stopped it before it was sent."
TAKEN_BACK = "It was taken back before it was sent."


class Carrying:
    """One room's lanes. `ended` hears of every case that has all its fates."""

    def __init__(
        self,
        room: ChatId,
        around: Surroundings,
        recall: Recall,
        endings: Endings,
        *,
        ended: Callable[[], None],
    ) -> None:
        self.room = room
        self.under_way = 0
        """Cases whose verbs have no fate yet."""
        self.surveyed = asyncio.Event()
        """Set unless an earlier run left more than is here yet: nothing of that is said before all of it is planned,
        because a later one may edit or take back an earlier one."""
        self.surveyed.set()
        self.settled = asyncio.Event()
        """Clear while what amends the case that was planned last is still to be planned: nothing begins meanwhile."""
        self.settled.set()
        self._around = around
        self._recall = recall
        self._endings = endings
        self._ended = ended
        self._lanes: dict[PortalKey, Lane[Step]] = {}
        self._started: dict[int, float] = {}  # by number, the oldest first: the cases that are under way
        self._halted = False
        self._left_since = 0  # ms: when the oldest came that an earlier run left of what was said in the room

    @property
    def oldest(self) -> float:
        """When the fact was read that has been longest without its fate (monotonic seconds); 0 where all have it."""
        return next(iter(self._started.values()), 0.0)

    @property
    def into_matrix(self) -> bool:
        """Whether something is on its way into the room."""
        return any(not lane.idle for side, lane in self._lanes.items() if side.network == MATRIX)

    @property
    def running(self) -> int:
        """Verbs that are being performed."""
        return sum(lane.running for lane in self._lanes.values())

    def halt(self) -> None:
        """Begin nothing more; what is under way may end."""
        self._halted = True
        for lane in self._lanes.values():
            lane.halt()

    def put(
        self, case: Case, said: Fact, actions: tuple[Action, ...], known: dict[MessageId, Tracked]
    ) -> None:
        """Begin what was planned for a case. `said` is what later facts may be about; `known` what this one is."""
        fact = case.fact
        lanes = [self._lane(action.side) for action in actions]  # may ask a connector, which may fail
        self._recall.track(case, said, known)
        if writes := self._recall.edited(case, said, known):
            self._around.store.commit(*writes)
        case.open = len(actions)
        self.under_way += 1
        self._started[case.number] = case.started
        if case.recovering and case.origin.network == MATRIX:
            self._left_since = min(self._left_since or case.accepted, case.accepted)
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

    def is_shown_at_once(self, side: PortalKey) -> bool:
        """Whether nothing is on its way to a side: who types while their words wait is not typing when those arrive."""
        lane = self._lanes.get(side)
        return side.network == MATRIX or lane is None or lane.idle

    def _lane(self, side: PortalKey) -> Lane[Step]:
        lane = self._lanes.get(side)
        if lane is None:
            matrix = side.network == MATRIX
            lane = Lane(self._carry, self._around.spawn, adaptive=matrix)
            self._lanes[side] = lane
            if self._halted:
                lane.halt()
        if side.network != MATRIX:
            lane.pipeline = self._around.pipeline(side)
        return lane

    async def _carry(self, step: Step) -> bool:
        """Perform one step; False where it must be tried again before what came after it."""
        case, side = step.case, step.action.side
        sent: Sent | None = None
        try:
            outcome = await self._foregone(step)
            try:
                if outcome is None:
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
            log.error("verb_failed", verb=type(step.action.verb).__name__, trace=trace(error))
            notice = "The bridge has a fault and could not pass this on; its log says more."
            self._settle(step, Outcome(side, Fate.FAILED, notice), None)
        else:
            self._settle(step, outcome or Outcome(side, Fate.DELIVERED, sent.note if sent else ""), sent)
        finally:
            step.task = None
        return True

    async def _foregone(self, step: Step) -> Outcome | None:
        """Wait until a step may begin; its outcome, where it need not or must not be performed."""
        case, side = step.case, step.action.side
        if case.written is not None and side.network != MATRIX:
            await case.kept()  # what goes into the room waits for that when it is ready to go
        if not self.settled.is_set():
            step.waits = True
            await self.settled.wait()
            step.waits = False
            if step.stopped:
                return _unwanted(side, step.stopped)
        if _has_ended(step):
            await self._recall.restore(case, side)
            return _ended_before(side, case.performed[step.index])
        if side.network == MATRIX:
            return None
        if case.recovering:
            await self.surveyed.wait()
            if case.origin.network == MATRIX and await self._is_withdrawn(step):
                step.stopped = step.stopped or TAKEN_BACK
        if step.stopped:
            return _unwanted(side, step.stopped)
        step.task = asyncio.current_task()
        return None

    # What waits --------------------------------------------------------------------------------------------------

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

    async def _is_withdrawn(self, step: Step) -> bool:
        """Whether what an earlier run left was taken back in the room since, or what it is an edit of was."""
        gone = await self._around.withdrawn(self.room, self._left_since)
        edited = step.revises[0].ids.get(step.case.origin, ()) if step.revises is not None else ()
        return any(event in gone for event in (step.case.event, *edited))

    def _take_back(self, lane: Lane[Step], action: Action) -> None:
        """What is taken back while it waits, with its edits, is not said at all."""

        def is_it(step: Step) -> bool:
            revised = step.revises[0].number if step.revises is not None else 0
            # What an earlier run has said already is taken back as what was said is.
            return action.target in (step.case.number, revised) and not _has_ended(step)

        for step in lane.take_back(is_it):
            self._settle(step, _unwanted(action.side, TAKEN_BACK), None)
        for step in lane.started:
            begins = action.side.network == MATRIX or step.begun
            if is_it(step) and (step.waits or not begins):
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

    # Fates -------------------------------------------------------------------------------------------------------

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
        self.under_way -= 1
        self._started.pop(case.number, None)
        self._ended()
        if case.returns:
            self._write(tracked, writes + self._marked(step, outcome))
            self._around.hold_back(case)
            return
        if (work := self._around.settled(self.room, case)) is None:
            if case.durable:
                writes.append(store.inbox.done(case.number))
            self._write(tracked, writes)
            return
        # The sender reads the fate before the row goes: after a crash in between, it is looked whether they have.
        written = self._write(tracked, writes + self._marked(step, outcome))
        self._around.spawn(self._endings.tell(case, work, written))

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
