"""Words that have set out for a room and are not there yet: whoever looks at the room waits for them."""

from __future__ import annotations

import asyncio
import contextlib

from bridgekit.contract.ids import ChatId


class UnderWay:
    """How many there are for each room. Each `set_out` is followed by one `ended`, in whatever way it ended."""

    def __init__(self) -> None:
        self._count: dict[ChatId, int] = {}
        self._over: dict[ChatId, asyncio.Event] = {}

    def set_out(self, room: ChatId) -> None:
        self._count[room] = self._count.get(room, 0) + 1

    def ended(self, room: ChatId) -> None:
        left = self._count[room] - 1
        if left:
            self._count[room] = left
            return
        del self._count[room]
        if (over := self._over.pop(room, None)) is not None:
            over.set()

    async def over(self, room: ChatId, seconds: float) -> None:
        """Return when nothing is on its way to the room, or after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while room in self._count:
                    await self._over.setdefault(room, asyncio.Event()).wait()
