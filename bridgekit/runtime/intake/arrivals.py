"""Arrivals: what the door remembers of what came through it, and which of a room's events it should have seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from bridgekit.contract.ids import MessageId
from bridgekit.matrix.transactions import RawEvent
from bridgekit.matrix.translate import amended
from bridgekit.runtime.clock import now, steady

QUIET = 3.0
"""Seconds without a transaction: the homeserver has sent what it kept for us."""
REMEMBERED = 10_000
"""Redactions that may be of what the homeserver left behind."""
FRESH_MS = 5_000
"""So young is what a homeserver sends that keeps nothing for us."""


class Arrivals:
    """What the door knows of what came through it. Whoever holds `turn` can be sure that nothing comes in."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.overdue: set[MessageId] = set()
        """Events that were taken in without a transaction: one that brings them brings nothing new."""
        self.withdrawn: dict[MessageId, None] = {}
        """Events that were redacted, the last ones; one that is found in its room only now is not to be said."""
        self.owed = asyncio.Event()
        """Set when rooms have to be compared."""
        self._failing = False
        self._last = 0.0
        self._fresh = True

    def came(self, events: list[RawEvent]) -> None:
        """A transaction was accepted."""
        self._last = steady()
        if events:
            self._fresh = events[-1].origin_server_ts > now() - FRESH_MS
        for event in events:
            if event.type == "m.room.redaction" and (target := amended(event.raw)) is not None:
                self.withdrawn[target] = None
        while len(self.withdrawn) > REMEMBERED:
            del self.withdrawn[next(iter(self.withdrawn))]
        if self._failing:
            self.suspect()

    def failed(self) -> None:
        """A transaction was not accepted; once the next one is, rooms have to be compared."""
        self._failing = True

    def suspect(self) -> None:
        """There was an outage, and it is over."""
        self._failing = False
        self._fresh = False
        self._last = steady()
        self.owed.set()

    @property
    def caught_up(self) -> bool:
        """Whether the homeserver seems to have sent all that it kept for us."""
        return not self._failing and (self._fresh or steady() - self._last >= QUIET)


def overdue(
    events: list[RawEvent],
    missing: Container[MessageId],
    before: int,
    *,
    is_own: Callable[[RawEvent], bool],
) -> tuple[list[RawEvent], list[MessageId]]:
    """Which of a room's events, oldest first, are to be taken in, and which have come too late to count.

    `missing` are those that no transaction brought. Each of them is overdue if something later came (a homeserver
    sends in order), or if it bears an earlier time than `before` (ms); the others may be on their way. State that was
    replaced since is too late: it would undo what replaced it. Our own events never come, and prove nothing.
    """
    wanted: list[RawEvent] = []
    late: list[MessageId] = []
    passed = False
    replaced: set[tuple[str, str]] = set()
    for event in reversed(events):
        state = None if event.state_key is None else (event.type, event.state_key)
        if event.event_id in missing:
            if passed or event.origin_server_ts < before:
                if state in replaced:
                    late.append(event.event_id)
                else:
                    wanted.append(event)
        elif not is_own(event):
            passed = True
        if state is not None:
            replaced.add(state)
    wanted.reverse()
    return wanted, late
