"""Amendments: edits and takings-back that wait on disk, by the message that they change."""

from __future__ import annotations

from bridgekit.contract.ids import MessageId, PortalKey
from bridgekit.store import Store

MOST = 100_000
"""Of which is known what they change; what comes beyond that is planned in its turn."""


class Amendments:
    """Rows of the inbox that no worker has yet. What they change is said with them, or is not said at all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[tuple[PortalKey, MessageId], list[int]] = {}
        self._count = 0

    async def load(self) -> None:
        """What the last run left."""
        for side, target, number in await self._store.amendments.pending():
            self.add(side, target, number)

    def add(self, side: PortalKey, target: MessageId, number: int) -> None:
        """The row `number` changes what its side calls `target`."""
        if self._count < MOST:
            self._count += 1
            self._waiting.setdefault((side, target), []).append(number)

    def take(self, side: PortalKey, id: MessageId | None) -> list[int]:
        """The rows that change the message, which is about to be planned; they are its own from now on."""
        numbers = self._waiting.pop((side, id), []) if id is not None else []
        self._count -= len(numbers)
        return numbers

    def drop(self, side: PortalKey, target: MessageId, number: int) -> None:
        """The row's own turn has come."""
        numbers = self._waiting.get((side, target), [])
        if number in numbers:
            numbers.remove(number)
            self._count -= 1
            if not numbers:
                del self._waiting[side, target]
