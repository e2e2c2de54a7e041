"""Who is in the encrypted rooms, as far as keys go: asked once, and again when somebody comes or goes."""

from __future__ import annotations

import asyncio

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto.calls import KeyCalls


class Members:
    """Who may read each room."""

    def __init__(self, calls: KeyCalls) -> None:
        self._calls = calls
        self._known: dict[ChatId, frozenset[PersonId]] = {}
        self._last: dict[ChatId, frozenset[PersonId]] = {}  # the same, also where somebody came or went since
        self._versions: dict[ChatId, int] = {}
        self._locks: dict[ChatId, asyncio.Lock] = {}

    def version(self, room: ChatId) -> int:
        """Counts up whenever somebody came or went."""
        return self._versions.get(room, 0)

    def are_known(self, room: ChatId) -> bool:
        """Whether it is known who is in the room just now."""
        return room in self._known

    def changed(self, room: ChatId) -> None:
        """Somebody came or went."""
        self._versions[room] = self.version(room) + 1
        self._known.pop(room, None)

    def rooms_of(self, user: PersonId) -> list[ChatId]:
        """The rooms in which somebody was when that was last known."""
        return [room for room, members in self._last.items() if user in members]

    async def of(self, room: ChatId, reader: PersonId) -> frozenset[PersonId]:
        """Who is in the room or invited, as `reader` (who is in it) may see. Raises MatrixError."""
        async with self._locks.setdefault(room, asyncio.Lock()):
            found = self._known.get(room)
            if found is None:
                version = self.version(room)
                self._last[room] = found = await self._calls.present(room, reader)
                if version == self.version(room):
                    self._known[room] = found
            return found
