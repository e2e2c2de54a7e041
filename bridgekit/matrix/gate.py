"""Who may call the homeserver now: one probe while it is away, a slow start when it is back, holds when it asks.

While it is away, everybody waits behind one probe whose delays grow; the first waiter makes the probes, so there
is no task to own. When it answers again, one call is let in, then two more for each that succeeds.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from bridgekit.contract.errors import HomeserverUnavailable, MatrixRateLimited
from bridgekit.contract.ids import PersonId

log = structlog.get_logger(__name__)

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
DOUBTS = 3
"""So many failures in a row that might be one call's own (500, no answer in time) close the gate; those of one kind of
call that is answered count as one, or an endpoint that is broken would keep everybody out."""
WIDE_OPEN = 64
"""So many calls at once end the slow start."""
PROVEN = 8
"""So many answers in one slow start prove that it is there, however often it fails: delays begin anew."""

Epoch = int


class Gate:
    """The one place that knows whether the homeserver is there. Times are the event loop's, in seconds.

    `probe` tells whether it answers and never raises; `changed` is told when it is lost (False) and back (True).
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[bool]],
        *,
        changed: Callable[[bool], None] | None = None,
        first: float = FIRST_SECONDS,
        longest: float = LONGEST_SECONDS,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._probe = probe
        self._changed = changed or (lambda available: None)
        self._first, self._longest, self._dice = first, longest, dice
        self._allowed: int | None = None  # calls at once: None is no bound, 0 is closed
        self._inside = 0  # of this epoch
        self._epoch: Epoch = 0
        self._lost = 0  # answers that did not come in time, since the last good one
        self._broken: set[str] = set()  # kinds of calls that were answered with a failure since then
        self._failing: dict[str, int] = {}  # kinds of calls that fail, and how often in a row
        self._failures = 0  # probes and first calls in a row
        self._probing = False
        self._next_probe = 0.0
        self._away = False
        self._lost_at = 0.0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._held: dict[PersonId | None, float] = {}
        self._all_held = 0.0
        self.clear = True  # nothing at all stands in the way: the fast path

    @property
    def available(self) -> bool:
        """Whether the homeserver answers, as far as is known."""
        return self._allowed != 0

    async def enter(self, user: PersonId | None, *, patient: bool) -> Epoch:
        """Wait until `user` may call; each enter is followed by one `leave`.

        Impatient callers get HomeserverUnavailable (certain: nothing was sent) or MatrixRateLimited instead of a
        long wait; where a probe is due, they make it.
        """
        if not self.clear:
            await self._wait_for_holds(user, patient)
            while self._allowed is not None and self._inside >= self._allowed:
                if self._allowed:  # the slow start takes moments: everybody waits
                    await self._wait()
                elif not self._probing and (patient or self._now() >= self._next_probe):
                    await self._lead(patient)
                elif patient:
                    await self._wait()
                else:
                    raise _unavailable(max(self._next_probe - self._now(), 0.1))
        self._inside += 1
        return self._epoch

    def leave(
        self, epoch: Epoch, ok: bool | None, *, certain: bool = False, kind: str = "", why: str = ""
    ) -> None:
        """The call is over: it was answered (True), the homeserver failed it (False), or nobody knows (None).

        `certain`: the failure is the homeserver's and not perhaps this one call's. `kind`: what was called, where an
        answer came. `why`: what went wrong, for the log.
        """
        if kind:
            self._tell(kind, ok)
        if epoch == self._epoch:
            self._inside -= 1
            if ok:
                self._trust()
                if self._allowed:
                    self._widen()
            elif ok is False:
                if kind:
                    self._broken.add(kind)
                else:
                    self._lost += 1
                if certain or self._lost + len(self._broken) >= DOUBTS:
                    self._close(why)
        if self._waiters:
            self._wake()

    def hold(self, user: PersonId | None, seconds: float, *, everybody: bool = False) -> None:
        """Keep the calls of one user (None: the bot), or everybody's, back for so long."""
        until = self._now() + seconds
        if everybody:
            self._all_held = max(self._all_held, until)
        else:
            self._held[user] = max(self._held.get(user, 0.0), until)
        self.clear = False

    # within

    def _tell(self, kind: str, ok: bool | None) -> None:
        """Log once that a kind of call keeps failing, and once that it is well again."""
        if ok:
            if self._failing.pop(kind, 0) >= DOUBTS:
                log.info("call_answered_again", call=kind)
        elif ok is False:
            self._failing[kind] = times = self._failing.get(kind, 0) + 1
            if times == DOUBTS:
                log.warning("call_keeps_failing", call=kind)

    def _trust(self) -> None:
        self._lost = 0
        self._broken.clear()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _wait_for_holds(self, user: PersonId | None, patient: bool) -> None:
        while True:
            now = self._now()
            until = max(self._held.get(user, 0.0), self._all_held)
            if until <= now:
                break
            if not patient:
                raise MatrixRateLimited(
                    "The homeserver asks to slow down; try again in a moment.", retry_after=until - now
                )
            await asyncio.sleep(until - now)
        self._held = {who: until for who, until in self._held.items() if until > now}
        self._refresh()

    def _refresh(self) -> None:
        self.clear = self._allowed is None and not self._held and self._all_held <= self._now()

    async def _lead(self, patient: bool) -> None:
        self._probing = True
        try:
            while self._allowed == 0:
                await asyncio.sleep(max(self._next_probe - self._now(), 0.0))
                if await self._probe():
                    self._turn(1)
                    return
                self._back_off()
                if not patient:
                    raise _unavailable(self._next_probe - self._now())
        finally:
            self._probing = False
            self._wake()  # the next caller, or the next leader

    def _back_off(self) -> None:
        delay = min(self._longest, self._first * 2.0 ** min(self._failures, 16))
        self._failures += 1
        self._next_probe = self._now() + delay * (0.5 + self._dice() / 2)

    def _close(self, why: str) -> None:
        if not self._away:
            self._away = True
            self._lost_at = self._now()
            log.warning("homeserver_lost", reason=why)
            self._changed(False)
        self._turn(0)
        self.clear = False
        self._back_off()

    def _turn(self, allowed: int) -> None:
        """A new epoch: what was begun before it, and may hang for long, neither counts nor testifies."""
        self._allowed = allowed
        self._epoch += 1
        self._inside = 0
        self._trust()

    def _widen(self) -> None:
        assert self._allowed is not None
        self._allowed += 1
        if self._allowed > PROVEN:
            self._failures = 0
        if self._allowed < WIDE_OPEN and self._waiters:
            return
        # The real calls succeed too, and nobody is left waiting or there are enough of them: it is back.
        self._allowed = None
        self._failures = 0
        self._away = False
        self._refresh()
        log.info("homeserver_back", away=round(self._now() - self._lost_at, 3))
        self._changed(True)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # our turn goes to somebody else
            elif waiter in self._waiters:  # a wake in this very turn has passed over it
                self._waiters.remove(waiter)
            raise

    def _wake(self) -> None:
        """Wake as many as may enter now; while it is closed, one, to lead."""
        if self._allowed is None:
            room = len(self._waiters)
        elif self._allowed == 0:
            room = 0 if self._probing else 1
        else:
            room = self._allowed - self._inside
        while room > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1


def _unavailable(retry_after: float) -> HomeserverUnavailable:
    error = HomeserverUnavailable("The homeserver does not answer; try again later.", retry_after=retry_after)
    error.certain = True
    return error
