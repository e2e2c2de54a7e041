"""Lanes: the verbs of one side of one room, in order for each acting identity, side by side where that helps."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from bridgekit.core import order


class Errand(Protocol):
    """What travels in a lane: one action of one fact."""

    actor: str


E = TypeVar("E", bound=Errand)
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Lane(Generic[E]):
    """One side of one room.

    Errands of one actor start in the order in which they were put in, at most `pipeline` of them at a time.
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
        self._waiting: dict[str, list[tuple[int, E]]] = {}  # per actor, a heap by serial
        self._ready: list[tuple[int, str]] = []  # heads of actors that may start, a heap by serial
        self._running: dict[str, int] = {}
        self.waiting = 0
        self.running = 0
        self._width = order.STRICT

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def put(self, errand: E) -> None:
        """Add an errand behind all others of its actor."""
        self._serial += 1
        self._add(self._serial, errand)
        self._start()

    def _add(self, serial: int, errand: E) -> None:
        queue = self._waiting.setdefault(errand.actor, [])
        heapq.heappush(queue, (serial, errand))
        self.waiting += 1
        if queue[0][0] == serial:
            heapq.heappush(self._ready, (serial, errand.actor))

    def _start(self) -> None:
        if self._adaptive:
            self._width = order.width(self._width, self.waiting, self.running)
        while self._ready and (not self._adaptive or self.running < self._width):
            serial, actor = heapq.heappop(self._ready)
            queue = self._waiting.get(actor)
            if not queue or queue[0][0] != serial:
                continue  # a head that was overtaken or is gone
            if self._running.get(actor, 0) >= self.pipeline:
                continue  # it comes back when one of the actor's errands ends
            _, errand = heapq.heappop(queue)
            self.waiting -= 1
            if queue:
                heapq.heappush(self._ready, (queue[0][0], actor))
            else:
                del self._waiting[actor]
            self._running[actor] = self._running.get(actor, 0) + 1
            self.running += 1
            self._spawn(self._carry(serial, errand))

    async def _carry(self, serial: int, errand: E) -> None:
        done = going_on = True
        try:
            done = await self._run(errand)
        except asyncio.CancelledError:
            going_on = False  # the bridge stops: whatever waits is on disk, and must not start now
            raise
        finally:
            self.running -= 1
            left = self._running[errand.actor] - 1
            if left:
                self._running[errand.actor] = left
            else:
                del self._running[errand.actor]
            if not done:
                self._add(serial, errand)
            elif queue := self._waiting.get(errand.actor):
                heapq.heappush(self._ready, (queue[0][0], errand.actor))
            if going_on:
                self._start()
