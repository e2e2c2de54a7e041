"""One after the other in each room, and again where the room was in another epoch than was thought."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from bridgekit.contract.errors import SendRejected

T = TypeVar("T")
TRIES = 40
SOON, LATER = 0.1, 2.0
"""Seconds until a refused epoch is tried again, first and at most: what the hub said meanwhile must be heard first."""


class Stale(Exception):
    """The room is in another epoch than was thought; what the hub said meanwhile must be heard first."""


class Turns:
    """A lock for each room."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, room: str) -> asyncio.Lock:
        """Held by whoever changes a seat there."""
        return self._locks.setdefault(room, asyncio.Lock())

    async def take(self, room: str, deed: Callable[[], Awaitable[T]], refusal: str) -> T:
        """Do it with the room locked, anew while it raises Stale. Raises SendRejected (`refusal`) after many tries."""
        soon = SOON
        for _ in range(TRIES):
            async with self.lock(room):
                try:
                    return await deed()
                except Stale:
                    pass
            await asyncio.sleep(soon)
            soon = min(soon * 1.5, LATER)
        raise SendRejected(refusal)
