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

    def at_once(self, key: K) -> bool:
        """Take a turn if nobody need wait for it; whether that is so. Then one `give_back` follows."""
        taken = self._taken.get(key, 0)
        if taken >= self._limit:
            return False
        self._taken[key] = taken + 1  # and nobody waits: what is given back goes to them at once
        return True

    async def take(self, key: K) -> None:
        """Return when it is the caller's turn. Each `take` that returns is followed by one `give_back`."""
        if self.at_once(key):
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
