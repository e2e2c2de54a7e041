"""The recent messages of a room, by number, by id and by reaction."""

from __future__ import annotations

from collections import OrderedDict

from bridgekit.contract.ids import MessageId, PersonId, PortalKey
from bridgekit.runtime.cases import Tracked


class Recent:
    """The messages of one room that are worth keeping in memory, the oldest of which fall out first."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._numbers: OrderedDict[int, Tracked] = OrderedDict()
        self._ids: dict[tuple[PortalKey, MessageId], Tracked] = {}

    def add(self, tracked: Tracked) -> None:
        self._numbers[tracked.number] = tracked
        while len(self._numbers) > self._limit:
            oldest = next(iter(self._numbers.values()))
            if oldest.pending is not None or not (oldest.written is None or oldest.written.done()):
                break  # still on its way, to a side or to the disk: somebody may ask for it
            self.remove(oldest)

    def remove(self, tracked: Tracked) -> None:
        """It is worth keeping no more."""
        del self._numbers[tracked.number]
        for side, ids in tracked.ids.items():
            for one in ids:
                self._ids.pop((side, one), None)

    def name(self, tracked: Tracked, side: PortalKey, ids: tuple[MessageId, ...]) -> None:
        """The message is called `ids` on `side`."""
        tracked.ids[side] = ids
        if tracked.number in self._numbers:
            for one in ids:
                self._ids[(side, one)] = tracked

    def find(self, side: PortalKey, id: MessageId) -> Tracked | None:
        return self._ids.get((side, id))

    def numbered(self, number: int) -> Tracked | None:
        return self._numbers.get(number)

    def reaction(self, parent: int, sender: PersonId, key: str) -> Tracked | None:
        """The newest reaction `key` of `sender` to the message `parent`."""
        for tracked in reversed(self._numbers.values()):
            if tracked.parent == parent and tracked.key == key and tracked.sender == sender:
                return tracked
        return None
