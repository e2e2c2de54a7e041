"""Lanes: the verbs of one side of one room, in order for each acting identity, side by side where that helps."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from bridgekit.core import order
from bridgekit.tasks import Spawn


class Errand(Protocol):
    """What travels in a lane: one action of one fact. The lane sets `turn` when it starts."""

    actor: str
    turn: Turn | None


E = TypeVar("E", bound=Errand)


class _Place(Enum):
    COMING = 0
    GONE = 1  # its effect takes place before that of whoever comes next
    ENDED = 2  # without having gone


class _Actor(Generic[E]):
    """One acting identity in one lane."""

    __slots__ = ("broken", "last", "running", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[int, E]] = []  # a heap by serial
        self.running = 0
        self.broken = False  # one must be done again: nobody goes before all that is under way has ended
        self.last: Turn | None = None  # of the errand that was started last


class Turn:
    """An errand's place among those of its actor that are under way.

    They prepare themselves side by side, which may take each of them a different time; whoever is ready comes to
    its turn, and its effect begins when that of everybody before has begun.
    """

    __slots__ = ("_actor", "_before", "_place", "_waiter")

    def __init__(self, actor: _Actor[Any]) -> None:
        self._actor = actor
        self._before = actor.last
        self._place = _Place.COMING
        self._waiter: asyncio.Future[None] | None = None

    async def come(self) -> bool:
        """Return when it is this errand's turn: True. False: somebody before must go again, and so must this one."""
        while self._before is not None and not self._actor.broken:
            before = self._before
            if before._place is _Place.COMING:
                before._waiter = asyncio.get_running_loop().create_future()
                await before._waiter
            else:
                self._before = before._before
        if self._actor.broken:
            return False
        self._leave(_Place.GONE)
        return True

    def end(self) -> None:
        """The errand is over."""
        if self._place is _Place.COMING:
            self._leave(_Place.ENDED)

    def _leave(self, place: _Place) -> None:
        self._place = place
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Lane(Generic[E]):
    """One side of one room.

    Errands of one actor start in the order in which they were put in, at most `pipeline` of them at a time. One
    that must be done again is done again before all that came after it: nothing else of its actor starts until
    what is under way has ended.
    `adaptive` lanes also bound how many are under way over all actors (core.order decides); the others let
    each actor go at its own pace.
    """

    def __init__(
        self,
        run: Callable[[E], Coroutine[Any, Any, bool]],
        spawn: Spawn,
        *,
        adaptive: bool,
        pipeline: int = 1,
    ) -> None:
        self._run = run
        self._spawn = spawn
        self._adaptive = adaptive
        self.pipeline = pipeline
        self._serial = 0
        self._actors: dict[str, _Actor[E]] = {}
        self._ready: list[tuple[int, str]] = []  # heads of actors that may start, a heap by serial
        self.waiting = 0
        self.started: set[E] = set()
        """What is under way."""
        self._width = order.STRICT
        self._halted = False

    @property
    def running(self) -> int:
        return len(self.started)

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.started

    def halt(self) -> None:
        """Start nothing more."""
        self._halted = True

    def put(self, errand: E) -> None:
        """Add an errand behind all others of its actor."""
        self._serial += 1
        self._add(self._serial, errand)
        self._start()

    def take_back(self, unwanted: Callable[[E], bool]) -> list[E]:
        """Take out, in their order, the errands that are unwanted and have not started."""
        taken: list[tuple[int, E]] = []
        for name, actor in list(self._actors.items()):
            left = [one for one in actor.waiting if not unwanted(one[1])]
            if len(left) == len(actor.waiting):
                continue
            taken += [one for one in actor.waiting if unwanted(one[1])]
            self.waiting -= len(actor.waiting) - len(left)
            heapq.heapify(left)
            actor.waiting = left
            if actor.waiting:
                heapq.heappush(self._ready, (actor.waiting[0][0], name))
            elif not actor.running:
                del self._actors[name]
        return [errand for _, errand in sorted(taken, key=lambda one: one[0])]

    def last(self, wanted: Callable[[E], bool]) -> E | None:
        """The last of the wanted errands that have not started; None where there is none."""
        found = [one for actor in self._actors.values() for one in actor.waiting if wanted(one[1])]
        return max(found, key=lambda one: one[0])[1] if found else None

    def _add(self, serial: int, errand: E) -> None:
        actor = self._actors.get(errand.actor)
        if actor is None:
            actor = self._actors[errand.actor] = _Actor()
        heapq.heappush(actor.waiting, (serial, errand))
        self.waiting += 1
        if actor.waiting[0][0] == serial:
            heapq.heappush(self._ready, (serial, errand.actor))

    def _start(self) -> None:
        """Begin all that may begin now, each in a task of its own."""
        while (started := self._next()) is not None:
            self._spawn(self._carry(*started))

    def _next(self) -> tuple[int, E, _Actor[E]] | None:
        """The errand that begins now, with its serial and its actor; None where none may."""
        if self._adaptive:
            self._width = order.width(self._width, self.waiting, self.running)
        while self._ready and not self._halted and (not self._adaptive or self.running < self._width):
            serial, name = heapq.heappop(self._ready)
            actor = self._actors.get(name)
            if actor is None or not actor.waiting or actor.waiting[0][0] != serial:
                continue  # a head that was overtaken or is gone
            if actor.running >= self.pipeline or actor.broken:
                continue  # it comes back when one of the actor's errands ends
            _, errand = heapq.heappop(actor.waiting)
            self.waiting -= 1
            if actor.waiting:
                heapq.heappush(self._ready, (actor.waiting[0][0], name))
            errand.turn = actor.last = Turn(actor)
            actor.running += 1
            self.started.add(errand)
            return serial, errand, actor
        return None

    async def _carry(self, serial: int, errand: E, actor: _Actor[E]) -> None:
        """Run an errand, and go on with the next that may begin: a busy lane needs no task for each."""
        while True:
            done = False
            try:
                done = await self._run(errand)
            except asyncio.CancelledError:
                self._end(serial, errand, actor, done=True)
                raise  # the bridge stops: whatever waits is on disk, and must not start now
            except BaseException:
                self._end(serial, errand, actor, done=True)
                self._start()
                raise
            self._end(serial, errand, actor, done=done)
            started = self._next() if done else None  # what failed at once gives the others a turn
            self._start()
            if started is None:
                return
            serial, errand, actor = started

    def _end(self, serial: int, errand: E, actor: _Actor[E], *, done: bool) -> None:
        """An errand is over, or (where it is not `done`) has to begin again."""
        self.started.discard(errand)
        actor.running -= 1
        actor.broken = actor.broken or not done
        if errand.turn is not None:
            errand.turn.end()
        if not done:
            self._add(serial, errand)
        if not actor.running:
            actor.broken = False
            actor.last = None
        if actor.waiting:
            heapq.heappush(self._ready, (actor.waiting[0][0], errand.actor))
        elif not actor.running:
            del self._actors[errand.actor]
