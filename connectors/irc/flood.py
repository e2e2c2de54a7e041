"""How fast we may talk: the penalty timer of RFC 1459 8.10 with a token bucket, and the queue that waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum

import msgspec

PENALTY = 2.0
"""RFC 1459 8.10: each message puts the timer two seconds forward."""


class Priority(IntEnum):
    """Who goes first. URGENT never waits, but it is paid for like everything else."""

    URGENT = 0  # PONG, PING, QUIT
    MODERATION = 1  # KICK, MODE
    TALK = 2
    BACKGROUND = 3  # joins, WHO, history


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """`burst` lines at once, then one every `refill` seconds; at most `lead_max` seconds ahead of RFC 1459's timer.

    `refill=0` is no limit at all, `lead_max=0` leaves the timer out.
    """

    burst: int = 5
    refill: float = 2.0
    lead_max: float = 10.0

    @property
    def unlimited(self) -> bool:
        """Nothing ever waits."""
        return self.refill <= 0


class Allowance:
    """The arithmetic, and nothing else: every method is told what time it is."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tokens = float(limits.burst)
        self._counted = 0.0  # when the tokens were last brought up to date
        self._timer = 0.0  # RFC 1459's message timer

    def wait(self, now: float) -> float:
        """Seconds until one more line may go; 0.0 is now."""
        limits = self._limits
        if limits.unlimited:
            return 0.0
        self._count(now)
        missing = max(0.0, (1.0 - self._tokens) * limits.refill)
        if limits.lead_max > 0:
            lead = max(0.0, self._timer - now)
            missing = max(missing, lead + PENALTY - max(limits.lead_max, PENALTY))
        return missing if missing > 1e-9 else 0.0

    def spend(self, now: float, lines: int = 1) -> None:
        """So many lines went; what is urgent, or several lines in one, may run into debt."""
        self._count(now)
        self._tokens -= lines
        self._timer = max(self._timer, now) + PENALTY * lines

    def _count(self, now: float) -> None:
        if now > self._counted and not self._limits.unlimited:
            refilled = (now - self._counted) / self._limits.refill
            self._tokens = min(float(self._limits.burst), self._tokens + refilled)
        self._counted = max(self._counted, now)


class Ticket:
    """What waits for its turn: one line, or `lines` of them that must not be parted."""

    __slots__ = ("_write", "done", "lines")

    def __init__(self, write: Callable[[], None] | None, lines: int = 1) -> None:
        self._write = write
        self.lines = lines
        self.done = False

    def cancel(self) -> bool:
        """Take it out of the queue; False if it went already."""
        if self.done:
            return False
        self._write = None
        return True

    @property
    def cancelled(self) -> bool:
        """True if it will never go."""
        return self._write is None and not self.done

    def go(self) -> None:
        """Write it."""
        self.done = True
        if self._write is not None:
            write, self._write = self._write, None
            write()


class Flood:
    """The queue of one connection. `submit` writes at once if it may, else later, in order, from the event loop.

    Talk is served one target after the other, so a wall of text in one channel does not hold up another;
    within a target the order of calls is the order on the wire.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float] | None = None) -> None:
        self._limits = limits
        self._allowance = Allowance(limits)
        self._clock = clock or asyncio.get_running_loop().time
        self._moderation: deque[Ticket] = deque()
        self._talk: dict[str, deque[Ticket]] = {}
        self._background: deque[Ticket] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def unlimited(self) -> bool:
        """Nothing ever waits."""
        return self._limits.unlimited

    @property
    def waiting(self) -> int:
        """Lines that wait for their turn."""
        queues = (self._moderation, *self._talk.values(), self._background)
        return sum(1 for queue in queues for ticket in queue if not ticket.cancelled)

    def submit(
        self, write: Callable[[], None], priority: Priority = Priority.TALK, target: str = "", lines: int = 1
    ) -> Ticket:
        """Have `write` called when its turn has come: before this returns, if nothing stands in the way."""
        ticket = Ticket(write, lines)
        if self._closed:
            ticket.cancel()
            return ticket
        if self._limits.unlimited:
            ticket.go()
            return ticket
        now = self._clock()
        if priority is Priority.URGENT or (self._timer is None and self._allowance.wait(now) == 0.0):
            self._allowance.spend(now, lines)
            ticket.go()
            return ticket
        match priority:
            case Priority.MODERATION:
                self._moderation.append(ticket)
            case Priority.TALK:
                self._talk.setdefault(target, deque()).append(ticket)
            case _:
                self._background.append(ticket)
        self._arm(now)
        return ticket

    async def slot(self, priority: Priority = Priority.TALK, target: str = "") -> None:
        """Wait for one turn. Cancelled, it gives the turn back if it has not come yet."""
        turn = asyncio.Event()
        ticket = self.submit(turn.set, priority, target)
        try:
            await turn.wait()
        finally:
            ticket.cancel()

    def close(self) -> None:
        """Nothing goes any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for queue in (self._moderation, *self._talk.values(), self._background):
            for ticket in queue:
                ticket.cancel()
            queue.clear()
        self._talk.clear()

    def _next(self) -> Ticket | None:
        while self._moderation:
            if not (ticket := self._moderation.popleft()).cancelled:
                return ticket
        while self._talk:
            target, queue = next(iter(self._talk.items()))
            del self._talk[target]
            while queue:
                ticket = queue.popleft()
                if not ticket.cancelled:
                    if queue:
                        self._talk[target] = queue  # to the end of the round
                    return ticket
        while self._background:
            if not (ticket := self._background.popleft()).cancelled:
                return ticket
        return None

    def _arm(self, now: float) -> None:
        if self._timer is None:
            delay = self._allowance.wait(now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock()
        while self._allowance.wait(now) == 0.0:
            ticket = self._next()
            if ticket is None:
                return
            self._allowance.spend(now, ticket.lines)
            ticket.go()
            if self._closed:
                return
        if self._moderation or self._talk or self._background:
            self._arm(now)
