"""What is held back: facts that wait in the inbox, since when and why; let go in order, or ended with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec
import structlog

from bridgekit.contract.facts import Message
from bridgekit.contract.ids import MessageId, NetworkId, PersonId, PortalKey
from bridgekit.core.gate import Cause, Held, Ledger
from bridgekit.runtime.cases import Case
from bridgekit.runtime.clock import now
from bridgekit.store import Store
from bridgekit.store.rows import InboxRow
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

AT_ONCE = 500
"""Facts that are read back from disk together."""

WHOLE = (Cause.GATE, Cause.PAUSE)


class Holding:
    """All that is held in all rooms. The facts stay in the inbox; nothing ends by age.

    `revive` makes a case of an inbox row again (None where nothing follows from it any more); `resume` hands cases
    to the worker of their link's room, before all that waits there; `ended` is told of a case that will never be
    passed on, with the reason.
    """

    def __init__(
        self,
        store: Store,
        *,
        revive: Callable[[PortalKey, InboxRow], Case | None],
        resume: Callable[[PortalKey, list[Case]], None],
        ended: Callable[[PortalKey, Case, str], None],
        changed: Callable[[PortalKey], None],
        spawn: Spawn,
    ) -> None:
        self.ledger = Ledger()
        self._store = store
        self._revive = revive
        self._resume = resume
        self._ended = ended
        self._changed = changed
        self._spawn = spawn
        self._before: dict[int, Held] = {}  # held by the last run, or let go just now: they come by again
        self._releasing: set[PortalKey] = set()
        self._amending: dict[tuple[PortalKey, MessageId], list[int]] = {}  # by the message that they change

    async def load(self) -> None:
        """Read what the last run held back: what is held again keeps its age."""
        self._before = {row.number: row for row in await self._store.held.all()}

    def hold(self, case: Case, person: PersonId, cause: Cause, why: str) -> None:
        """Keep a case back; its row stays in the inbox. What is no row there is worth nothing later, and dropped."""
        if not case.durable:
            return
        old = self._before.pop(case.number, None)
        row = Held(
            number=case.number,
            link=case.origin,
            person=person,
            cause=cause,
            why=why,
            since=old.since if old is not None else now(),
        )
        if case.amends is not None:
            self._amending.setdefault((case.origin, case.amends), []).append(case.number)
        first = not self.ledger.count(case.origin)
        self.ledger.hold(row)
        self._store.commit(self._store.held.put(row))
        if first:
            log.info("held_back", network=case.origin.network, cause=cause.value)
            self._changed(case.origin)

    def explain(self, side: PortalKey, cause: Cause, why: str) -> None:
        """What holds up the whole link is this now."""
        rows = [
            row for row in self.ledger.of(side) if row.cause in WHOLE and (row.cause, row.why) != (cause, why)
        ]
        for row in rows:
            self.ledger.hold(msgspec.structs.replace(row, cause=cause, why=why))
        self._store.commit(
            *(self._store.held.put(msgspec.structs.replace(r, cause=cause, why=why)) for r in rows)
        )

    def passed(self, number: int) -> None:
        """A case goes on."""
        if self._before.pop(number, None) is not None:
            self._store.commit(self._store.held.remove(number))

    def is_behind(self, side: PortalKey, person: PersonId) -> bool:
        """Whether something waits that a new fact of this person must not overtake."""
        return self.ledger.is_behind(side, person)

    def ahead(self, side: PortalKey, person: PersonId) -> Cause | None:
        """Why that waits behind which a new fact of this person has to wait."""
        return self.ledger.ahead(side, person)

    def count(self, side: PortalKey, person: PersonId | None = None) -> int:
        """How much of a link, or of one person there, waits."""
        return self.ledger.count(side, person)

    def counts(self) -> dict[tuple[NetworkId, str], int]:
        """How much waits, by network and cause."""
        found: Counter[tuple[NetworkId, str]] = Counter()
        for side in self.ledger.links():
            for row in self.ledger.of(side):
                found[side.network, row.cause.value] += 1
        return dict(found)

    def release(
        self,
        side: PortalKey,
        wanted: Callable[[Held], bool] = lambda row: row.cause in WHOLE,
        *,
        still: Callable[[], bool] = lambda: True,
    ) -> None:
        """Let go what is `wanted`, in order, as long as it may `still` go. What comes in meanwhile stays behind."""
        if side not in self._releasing and any(wanted(row) for row in self.ledger.of(side)):
            self._releasing.add(side)
            self._spawn(self._release(side, wanted, still))

    async def _release(
        self, side: PortalKey, wanted: Callable[[Held], bool], still: Callable[[], bool]
    ) -> None:
        try:
            while (rows := self._oldest(side, wanted)) and still():
                cases = await self._read(side, rows)
                while later := self._amendments(side, cases, rows, wanted):
                    found = await self._store.inbox.numbered(row.number for row in later)
                    cases += [case for row in found if (case := self._revive(side, row)) is not None]
                    rows += later
                if not still():
                    return
                self._let_go(rows, cases)
                self.ledger.release(rows)
                self._before |= {row.number: row for row in rows}  # on record as held until they really pass
                self._resume(side, cases)
        finally:
            self._releasing.discard(side)
            self._changed(side)

    async def hide(self, case: Case, why: str) -> bool:
        """Let a case go on that takes back what was said already, whatever waits; what waits and edits that ends, with
        the reason. False where the case is not held (any more)."""
        rows = [row for row in self.ledger.of(case.origin) if row.number == case.number]
        if case.amends is None and any(self._is_after(row, case.origin) for row in rows):
            return False  # perhaps it is that reaction which it takes away
        if not self.ledger.release(rows):
            return False
        edits: list[int] = []
        if case.amends is not None:
            edits = self._amending.pop((case.origin, case.amends), [])
        self._store.commit(self._store.held.remove(case.number))
        await self.fail(case.origin, why, lambda row: row.number in edits)
        return True

    def _is_after(self, row: Held, side: PortalKey) -> bool:
        """Whether something waits that the same person did before."""
        return any(other.number < row.number for other in self.ledger.of(side, person=row.person))

    async def fail(self, side: PortalKey, why: str, wanted: Callable[[Held], bool] = lambda row: True) -> int:
        """End what is `wanted` undelivered; says how many messages that were."""
        count = 0
        while rows := self._oldest(side, wanted):
            self.ledger.fail(rows)  # first: nobody lets go meanwhile what has ended
            cases = await self._read(side, rows)
            self._store.commit(*(self._store.held.remove(row.number) for row in rows))
            for case in cases:
                self._ended(side, case, why)
            count += sum(isinstance(case.fact, Message) for case in cases)
        self._changed(side)
        return count

    def _oldest(self, side: PortalKey, wanted: Callable[[Held], bool]) -> list[Held]:
        """By number: what was let go and is held again came before the others."""
        rows = sorted((row for row in self.ledger.of(side) if wanted(row)), key=lambda row: row.number)
        return rows[:AT_ONCE]

    def _amendments(
        self, side: PortalKey, cases: list[Case], rows: list[Held], wanted: Callable[[Held], bool]
    ) -> list[Held]:
        """What waits further back and changes what is let go: it goes with it, so that this is said once or not at
        all."""
        going = {row.number for row in rows}
        changes = {number for case in cases for number in self._changing(side, case.called)} - going
        return (
            [row for row in self.ledger.of(side) if row.number in changes and wanted(row)] if changes else []
        )

    def _changing(self, side: PortalKey, message: MessageId | None) -> list[int]:
        return self._amending.get((side, message), []) if message is not None else []

    def _let_go(self, rows: list[Held], cases: list[Case]) -> None:
        gone = {row.number for row in rows}
        for place in {(case.origin, case.amends) for case in cases if case.amends is not None}:
            left = [number for number in self._amending.pop(place, []) if number not in gone]
            if left:
                self._amending[place] = left

    async def _read(self, side: PortalKey, rows: list[Held]) -> list[Case]:
        """The cases of these rows, from disk."""
        await self._store.commit()  # what was accepted this moment is on its way there
        wanted = {row.number for row in rows}
        found: list[Case] = []
        after, last = rows[0].number - 1, rows[-1].number
        while after < last and (page := await self._store.inbox.of(side, after=after, limit=AT_ONCE)):
            after = page[-1].id
            revived = (self._revive(side, row) for row in page if row.id in wanted)
            found += [case for case in revived if case is not None]
        return found
