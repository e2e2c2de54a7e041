"""Turns: so many at once for each key, and the others in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Turns(Generic[K]):
    """A semaphore for each key, which costs a look-up where nobody waits: every message takes two."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[K, int] = {}
        self._waiting: dict[K, deque[asyncio.Future[None]]] = {}

    async def take(self, key: K) -> None:
        """Return when it is the caller's turn. Each `take` that returns is followed by one `give_back`."""
        taken = self._taken.get(key, 0)
        if taken < self._limit:  # then nobody waits: what is given back goes to them at once
            self._taken[key] = taken + 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, deque())
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give_back(key)  # it came in the same moment
            raise

    def give_back(self, key: K) -> None:
        """The turn is over; it goes to whoever has waited longest."""
        if (waiting := self._waiting.get(key)) is not None:
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
            del self._waiting[key]
        left = self._taken[key] - 1
        if left:
            self._taken[key] = left
        else:
            del self._taken[key]
