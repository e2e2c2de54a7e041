"""Ghosts let into rooms in the background: behind everybody who speaks, at a rate that the homeserver bears."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from bridgekit.contract.errors import BridgeError, HomeserverUnavailable, MatrixRateLimited, MatrixRefused
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import Person
from bridgekit.core.joining import JoinQueue, Pace, Wanted
from bridgekit.core.membership import Urgency
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

LOOKS = 5
"""How often the homeserver's usual time to answer is measured before the first ghost is let in."""
LOOK_EVERY = 0.25
"""Seconds between two looks at it while ghosts are let in."""

GIVES_WAY = 1.0
"""Seconds that a join waits, at most, for those who come to speak."""


class Joins:
    """`bridgekit.core.joining.JoinQueue`, with a clock and a homeserver."""

    def __init__(
        self,
        client: MatrixClient,
        ghosts: Ghosts,
        *,
        speakers: Speakers,
        spawn: Spawn,
    ) -> None:
        self._client = client
        self._ghosts = ghosts
        self._speakers = speakers
        self._spawn = spawn
        self._queue = JoinQueue(Pace())
        self._who: dict[tuple[ChatId, PersonId], tuple[NetworkId, Person | None]] = {}
        self._untried: dict[ChatId, set[PersonId]] = {}
        self._tried = asyncio.Condition()
        self._wake = asyncio.Event()
        self._working = False
        self._began = 0.0  # when the last join began (monotonic seconds)
        self._stopping = False
        ghosts.moved = self._moved

    def __len__(self) -> int:
        """Joins that wait for their turn."""
        return len(self._queue)

    def want(
        self,
        room: ChatId,
        ghost: PersonId,
        network: NetworkId,
        person: Person | None,
        urgency: Urgency,
        *,
        later: int = 0,
    ) -> None:
        """Let the ghost in when there is time, in `later` ms at the soonest, called as its person is (None: as it
        is)."""
        if self._stopping or ghost in self._ghosts.present(room) or self._ghosts.is_kept_out(ghost, room):
            return
        if (room, ghost) not in self._who:
            self._untried.setdefault(room, set()).add(ghost)
        self._who[room, ghost] = network, person
        self._queue.want(room, ghost, urgency, at=time.monotonic() + later / 1000 if later else 0)
        self._wake.set()
        if not self._working:
            self._working = True
            self._spawn(self._work())

    def move(self, old: ChatId, new: ChatId) -> None:
        """Let the ghosts of one room into another, as they are."""
        for ghost in sorted(self._ghosts.present(old)):
            if (row := self._ghosts.row(ghost)) is not None:
                self.want(new, ghost, row.network, None, Urgency.RECENT)

    def forget(self, room: ChatId, network: NetworkId) -> None:
        """Nobody of the network is wanted in the room any more."""
        for place, ghost in [k for k, (of, _) in self._who.items() if k[0] == room and of == network]:
            self._moved(place, ghost)

    def _moved(self, room: ChatId, ghost: PersonId) -> None:
        if self._who.pop((room, ghost), None) is not None:
            self._queue.forget(room, ghost)
            self._mark_tried(room, ghost)

    def _mark_tried(self, room: ChatId, ghost: PersonId) -> None:
        if (untried := self._untried.get(room)) is not None:
            untried.discard(ghost)
            if not untried:
                del self._untried[room]
                self._spawn(self._tell())

    async def _tell(self) -> None:
        async with self._tried:
            self._tried.notify_all()

    async def complete(self, room: ChatId) -> None:
        """Return when everybody who is wanted in the room is in it, or was refused once."""
        if room in self._untried:
            async with self._tried:
                await self._tried.wait_for(lambda: room not in self._untried)

    def stop(self) -> None:
        """Nobody else is let in; who still waits is in the next roster."""
        self._stopping = True
        self._wake.set()

    # Working ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """One after the other, for as long as somebody waits."""
        for _ in range(LOOKS):
            await self._look(joining=False)
        watch = asyncio.create_task(self._watch(), name="homeserver's pulse")
        try:
            while self._who and not self._stopping:
                await self._speakers.give_way(GIVES_WAY)  # a homeserver lets one after the other into a room
                self._wake.clear()
                now = time.monotonic()
                if (entry := self._queue.next(now)) is not None:
                    self._spawn(self._join(entry))
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._queue.due(now)):
                        await self._wake.wait()
        finally:
            watch.cancel()
            self._working = False

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if time.monotonic() - self._began < 2 * LOOK_EVERY:
                await self._look(joining=True)

    async def _look(self, *, joining: bool) -> None:
        """How long the homeserver takes for something small that makes it read its database."""
        began = time.monotonic()
        try:
            await self._client.profile(self._client.bot)
        except MatrixRateLimited as error:
            self._queue.pace.pushed_back(time.monotonic(), error.retry_after or 0.0)
        except BridgeError:
            self._queue.pace.pushed_back(time.monotonic())
        else:
            ended = time.monotonic()
            self._queue.pace.answered(ended - began, ended, joining=joining)

    async def _join(self, entry: Wanted) -> None:
        room, ghost = entry.room, entry.ghost
        began = self._began = time.monotonic()
        wanted = self._who.get((room, ghost))
        if wanted is None:  # somebody else has let it in, or it is not wanted any more
            self._queue.done(entry)
            self._wake.set()
            return
        try:
            await self._ghosts.let_in(ghost, *wanted, room, self._client)
        except BridgeError as error:
            load = isinstance(error, HomeserverUnavailable | MatrixRateLimited)
            log.info("ghost_join_failed", reason=type(error).__name__, tries=entry.tries)
            self._queue.failed(
                entry,
                time.monotonic(),
                retry_after=error.retry_after or 0.0,
                load=load,
                refused=isinstance(error, MatrixRefused),
            )
            self._mark_tried(room, ghost)
        except Exception:  # a bug in letting in one ghost holds up no other
            self._queue.failed(entry, time.monotonic())
            self._mark_tried(room, ghost)
            raise
        else:
            self._queue.done(entry)
            self._queue.pace.ended(ended := time.monotonic(), ended - began)
        finally:
            self._wake.set()
