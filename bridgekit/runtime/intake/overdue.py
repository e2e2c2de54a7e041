"""Overdue events: what stands in the rooms and no transaction brought is looked for after each outage, and taken in.

A homeserver may leave one behind: Synapse (1.163, appservice/scheduler.py) asks whether we are up before it writes a
transaction down, and where its recovery ends in between, that one waits for the next outage, days perhaps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from bridgekit.contract.errors import BridgeError, MatrixError
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.rereading import MARGIN_MS, read_since
from bridgekit.matrix.transactions import RawEvent
from bridgekit.runtime.clock import now, steady
from bridgekit.runtime.intake.arrivals import Arrivals, overdue
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.store.traffic import COMPARED

log = structlog.get_logger(__name__)

LONGEST_WAIT = 30.0
AFTER = 1.0
"""Seconds that what was said while it sent the last of it has to come."""
IN_FLIGHT_MS = 10_000
"""What is younger may still come by itself, unless something later came."""
AGAIN = 60.0
TICK = 300.0
DAY_MS = 86_400_000
"""How far the clock of another homeserver may be ahead."""
LONGEST_MS = 6 * DAY_MS
"""The store knows for a week which events came."""
AT_ONCE = 4
"""Rooms that are read at the same time."""


class Overdue:
    """Compares the rooms with what came, after each start and each outage."""

    def __init__(
        self,
        arrivals: Arrivals,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        ghosts: Ghosts,
        *,
        bot: PersonId,
        is_own: Callable[[RawEvent], bool],
        take_in: Callable[[list[RawEvent], list[MessageId]], Awaitable[None]],
        counted: Callable[[int], None],
    ) -> None:
        self._arrivals = arrivals
        self._client = client
        self._store = store
        self._registry = registry
        self._ghosts = ghosts
        self._bot = bot
        self._is_own = is_own
        self._take_in = take_in
        self._counted = counted
        self._since = 0
        client.homeserver.on_back = arrivals.suspect

    async def load(self) -> None:
        """What the last run left; called before anything comes in."""
        self._arrivals.overdue |= await self._store.overdue.all()
        kept = await self._store.kv.get(*COMPARED)
        if kept is None:
            # A restored backup does not know what came since, nor did an earlier version.
            await self._reach(now())
        else:
            self._since = int(kept)
            self._arrivals.suspect()

    async def run(self) -> None:
        """Compare whenever that is owed, until cancelled."""
        owed = self._arrivals.owed
        while True:
            try:
                async with asyncio.timeout(TICK):
                    await owed.wait()
            except TimeoutError:
                await self._reach(now() - MARGIN_MS)
                continue
            owed.clear()
            await self._settled()
            try:
                began = now()
                await self.compare(self._since)
                # A homeserver that was still sending may leave the last one behind only now.
                await asyncio.sleep(AGAIN)
                again = now()
                await self.compare(max(self._since, began - MARGIN_MS))
            except BridgeError as error:
                log.warning("rooms_not_compared", reason=error.notice)
                await asyncio.sleep(AGAIN)
                owed.set()
            else:
                if not owed.is_set():
                    await self._reach(again - MARGIN_MS)

    async def _reach(self, since: int) -> None:
        """All that bears an earlier time than `since` (ms) has come."""
        self._since = max(self._since, since)
        await self._store.commit(self._store.kv.put(*COMPARED, str(self._since).encode()))

    async def _settled(self) -> None:
        """Return when the homeserver has sent what it kept. What would still come keeps its place if it is taken in
        before, but is no loss and should not be told as one."""
        until = steady() + LONGEST_WAIT
        while not (self._arrivals.caught_up and self._client.available) and steady() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(AFTER)

    async def compare(self, since: int) -> int:
        """Take in what bears a time of `since` (ms) or later and did not come; how many events that were."""
        began = now()
        since = max(since, began - LONGEST_MS)
        read = await self._read(since)
        others = {e.event_id for events in read.values() for e in events if not self._is_own(e)}
        missing = await self._store.transactions.without(others, since - DAY_MS) - self._arrivals.overdue
        if not missing:
            return 0
        taken = 0
        async with self._arrivals.turn:
            # What came while we looked.
            missing = await self._store.transactions.without(missing, began - MARGIN_MS)
            for room, events in read.items():
                wanted, late = overdue(events, missing, now() - IN_FLIGHT_MS, is_own=self._is_own)
                gone = [e.event_id for e in wanted if e.event_id in self._arrivals.withdrawn]
                wanted, late = [e for e in wanted if e.event_id not in gone], [*late, *gone]
                if wanted or late:
                    await self._take_in(wanted, late)
                    self._counted(len(wanted))
                    log.warning("events_overdue", room=room, taken_in=len(wanted), too_late=len(late))
                    taken += len(wanted)
        return taken

    async def _read(self, since: int) -> Mapping[ChatId, list[RawEvent]]:
        read: dict[ChatId, list[RawEvent]] = {}
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(room: ChatId, reader: PersonId) -> None:
            async with turns:
                try:
                    events = await read_since(self._client.patient, room, since, reader)
                except MatrixError as error:  # the reader was put out, or the room is gone
                    log.info("room_not_compared", room=room, reason=error.notice)
                    return
            # Our own state counts: what it replaced is not to be done any more.
            kept = [e for e in events if e.state_key is not None or not self._is_own(e)]
            if kept:
                read[room] = kept

        readers = await self._readers()  # before the group, which would wrap what this raises
        async with asyncio.TaskGroup() as group:
            for room, reader in readers.items():
                group.create_task(one(room, reader))
        return read

    async def _readers(self) -> dict[ChatId, PersonId]:
        """Who can read each room: the bot, or in direct chats a ghost."""
        readers = dict.fromkeys(await self._client.patient.joined_rooms(), self._bot)
        for room in self._registry.portals:
            if room not in readers and (ghost := next(iter(self._ghosts.present(room)), None)) is not None:
                readers[room] = ghost
        return readers
