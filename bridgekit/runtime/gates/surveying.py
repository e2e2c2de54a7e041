"""After a start every room is compared anew: some at a time, so that the first are done soon, and those that somebody
waits for before the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridgekit.contract.ids import ChatId

AT_ONCE = 10
"""Rooms that are compared at a time; one that somebody waits for goes all the same."""


class Surveying:
    """Whose turn it is. A room has one turn at a time."""

    def __init__(self) -> None:
        self._under_way: set[ChatId] = set()
        self._waiting: dict[ChatId, asyncio.Future[None]] = {}  # in the order in which they came
        self._hurried: set[ChatId] = set()

    def hurry(self, room: ChatId) -> None:
        """Somebody waits for it: its turn begins now, or, where it has it already, the one after that at once."""
        if room in self._waiting:
            self._begin(room)
        else:
            self._hurried.add(room)

    @asynccontextmanager
    async def turn(self, room: ChatId) -> AsyncIterator[None]:
        """Wait for a room's turn, and have it for as long as the block lasts."""
        turn: asyncio.Future[None] | None = None
        if room in self._hurried or len(self._under_way) < AT_ONCE:
            self._under_way.add(room)
        else:
            turn = self._waiting[room] = asyncio.get_running_loop().create_future()
        try:
            if turn is not None:
                await turn
            self._hurried.discard(room)
            yield
        finally:
            self._waiting.pop(room, None)
            self._under_way.discard(room)
            while self._waiting and len(self._under_way) < AT_ONCE:
                self._begin(next(iter(self._waiting)))

    def _begin(self, room: ChatId) -> None:
        self._under_way.add(room)
        turn = self._waiting.pop(room)
        if not turn.done():  # whoever waited for it was cancelled in this moment
            turn.set_result(None)
