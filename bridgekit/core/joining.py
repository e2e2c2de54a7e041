"""The queue of ghosts that wait to be let in, and the pace that the homeserver bears."""

from __future__ import annotations

import heapq
from collections import deque

import msgspec

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.membership import Urgency


class Pace:
    """How many joins a second, from how long the homeserver takes over them and over everything else.

    A join is followed by a rest of `REST` times as long, so that joins are under way a third of the time: a homeserver
    that shares itself out equally then has two thirds for everybody else, and answers in at most one and a half times
    as long as without. This holds whatever the machine, and however much else it has to do.

    Besides, for homeservers to which a join is dearer than it looks, there are additive increase and halving, as in
    TCP (AIMD; RFC 5681). The samples are answers to requests that are no joins. What the homeserver takes while no join
    is under way is the usual; while joins are under way it may take `tolerance` times that, or `floor` seconds,
    whichever is more. Below that the rate grows every second, twofold until it was too much for the first time and by a
    step from then on; above that it is halved, once in a second. Seconds and monotonic time throughout.
    """

    LEAST, MOST, STEP = 0.5, 200.0, 1.0
    REST, LONGEST_REST = 2.0, 30.0

    def __init__(self, *, rate: float = 10.0, tolerance: float = 1.5, floor: float = 0.005) -> None:
        self.rate = rate
        self._tolerance = tolerance
        self._floor = floor
        self._usual: float | None = None
        self._recent: deque[float] = deque(maxlen=7)
        self._cut = float("-inf")
        self._grown = float("-inf")
        self._next = float("-inf")

    @property
    def usual(self) -> float | None:
        """What the homeserver takes while nobody is let in (seconds); None before the first sample."""
        return self._usual

    @property
    def bearable(self) -> float:
        """What it may take while ghosts are let in (seconds)."""
        return max(self._floor, self._tolerance * (self._usual if self._usual is not None else self._floor))

    def answered(self, seconds: float, now: float, *, joining: bool) -> None:
        """The homeserver answered a request that is no join; `joining`: while joins are under way or just were."""
        if not joining:
            self._recent.clear()
            # Slowly, so that a busy minute does not become the usual.
            self._usual = seconds if self._usual is None else self._usual + 0.1 * (seconds - self._usual)
            return
        self._recent.append(seconds)
        if self._median() <= self.bearable:
            if seconds <= self.bearable and now - self._cut > 1.0 and now - self._grown > 1.0:
                self._grown = now
                more = self.STEP if self._cut > float("-inf") else self.rate
                self.rate = min(self.MOST, self.rate + more)
        elif len(self._recent) >= 3:
            self._halve(now)

    def pushed_back(self, now: float, retry_after: float = 0.0) -> None:
        """The homeserver refused for its load (429, 5xx, no answer): half the pace, and nothing for a while."""
        self._halve(now)
        self._next = max(self._next, now + retry_after)

    def _halve(self, now: float) -> None:
        if now - self._cut > 1.0:
            self._cut = now
            self.rate = max(self.LEAST, self.rate / 2)
            self._recent.clear()

    def _median(self) -> float:
        return sorted(self._recent)[len(self._recent) // 2]

    def wait(self, now: float) -> float:
        """Seconds until the next join may start."""
        return max(0.0, self._next - now)

    def started(self, now: float) -> None:
        """A join starts."""
        self._next = max(now, self._next) + 1.0 / self.rate

    def ended(self, now: float, took: float) -> None:
        """A join that took so many seconds went through: nobody is let in for `REST` times as long."""
        self._next = max(self._next, now + min(self.REST * took, self.LONGEST_REST))


class Wanted(msgspec.Struct, frozen=True, order=True):
    """One ghost that should be in one room. `order` keeps those of one urgency in the order in which they came."""

    urgency: Urgency
    order: int
    room: ChatId
    ghost: PersonId
    tries: int = 0


class JoinQueue:
    """Ghosts that wait: one lane for each room, the most urgent first, rooms in turn; nothing is ever given up.

    A room of five thousand delays no other by more than its own share, and no speaker at all: a speaker is let in
    by who sends the message, and taken out of here with `forget`.
    """

    LONGEST = 600.0
    """Seconds between two tries of one join, at most."""

    def __init__(self, pace: Pace, *, at_once: int = 4) -> None:
        self.pace = pace
        self._at_once = at_once
        self._count = 0
        self._lanes: dict[ChatId, list[Wanted]] = {}
        self._turns: deque[ChatId] = deque()
        self._entries: dict[tuple[ChatId, PersonId], Wanted] = {}
        self._running: dict[ChatId, Wanted] = {}
        self._later: list[tuple[float, Wanted]] = []
        self._shut: dict[ChatId, tuple[float, int]] = {}  # rooms that refuse: until when, how often in a row

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def joining(self) -> bool:
        """Whether joins are under way."""
        return bool(self._running)

    def want(self, room: ChatId, ghost: PersonId, urgency: Urgency, *, tries: int = 0, at: float = 0) -> None:
        """Let the ghost in when it is its turn, not before `at`. What is wanted already may only become more urgent."""
        known = self._entries.get((room, ghost))
        if known is not None and known.urgency <= urgency:
            return
        self._count += 1
        entry = Wanted(urgency, self._count, room, ghost, tries if known is None else known.tries)
        if at:
            self._entries[room, ghost] = entry
            heapq.heappush(self._later, (at, entry))
        else:
            self._put(entry)

    def _put(self, entry: Wanted) -> None:
        self._entries[entry.room, entry.ghost] = entry
        lane = self._lanes.get(entry.room)
        if lane is None:
            lane = self._lanes[entry.room] = []
            self._turns.append(entry.room)
        heapq.heappush(lane, entry)

    def forget(self, room: ChatId, ghost: PersonId | None = None) -> None:
        """The ghost is in, or is not wanted any more; None: nobody is in that room."""
        if ghost is not None:
            self._entries.pop((room, ghost), None)
            return
        for entry in [e for e in self._entries.values() if e.room == room]:
            del self._entries[entry.room, entry.ghost]
        self._shut.pop(room, None)

    def next(self, now: float) -> Wanted | None:
        """The join that may start now; None where none may. Ask again at `due`."""
        while self._later and self._later[0][0] <= now:
            _, entry = heapq.heappop(self._later)
            if self._entries.get((entry.room, entry.ghost)) is entry:
                self._put(entry)
        if len(self._running) >= self._at_once or self.pace.wait(now) > 0:
            return None
        for _ in range(len(self._turns)):
            room = self._turns.popleft()
            first = self._first(room) if self._opens(room) <= now and room not in self._running else None
            if first is not None:
                heapq.heappop(self._lanes[room])
                self._running[room] = first
                self.pace.started(now)
            if self._lanes[room]:
                self._turns.append(room)
            else:
                del self._lanes[room]
            if first is not None:
                return first
        return None

    def _first(self, room: ChatId) -> Wanted | None:
        """The most urgent entry of a room that still counts."""
        lane = self._lanes[room]
        while lane:
            entry = lane[0]
            if self._entries.get((entry.room, entry.ghost)) is entry:
                return entry
            heapq.heappop(lane)  # forgotten, or more urgent elsewhere in the lane
        return None

    def due(self, now: float) -> float | None:
        """Seconds until `next` may have something; None until something is wanted or done."""
        if len(self._running) >= self._at_once:
            return None
        opens = [self._opens(room) for room in self._lanes if room not in self._running]
        waits = [max(self.pace.wait(now), min(opens) - now)] if opens else []
        if self._later:
            waits.append(max(0.0, self._later[0][0] - now))
        return min(waits, default=None)

    def _opens(self, room: ChatId) -> float:
        """When the room, which refused, may be asked again."""
        return self._shut.get(room, (float("-inf"), 0))[0]

    def done(self, entry: Wanted) -> None:
        """The join went through."""
        self._end(entry)
        self._entries.pop((entry.room, entry.ghost), None)
        self._shut.pop(entry.room, None)

    def failed(
        self,
        entry: Wanted,
        now: float,
        *,
        retry_after: float = 0.0,
        load: bool = False,
        refused: bool = False,
    ) -> None:
        """The join did not go through: it is tried again later, however old it is. `load`: the homeserver labours.
        `refused`: perhaps the room lets nobody in; after two in a row it is asked less and less often."""
        self._end(entry)
        if load:
            self.pace.pushed_back(now, retry_after)
        if refused:
            count = self._shut.get(entry.room, (0.0, 0))[1] + 1
            wait = min(self.LONGEST, 2.0 ** min(count - 2, 10)) if count > 1 else 0.0
            self._shut[entry.room] = (now + wait, count)
        if self._entries.get((entry.room, entry.ghost)) is not entry:
            return
        again = msgspec.structs.replace(entry, tries=entry.tries + 1)
        self._entries[entry.room, entry.ghost] = again
        delay = max(retry_after, min(self.LONGEST, 2.0 ** min(entry.tries, 10)))
        heapq.heappush(self._later, (now + delay, again))

    def _end(self, entry: Wanted) -> None:
        if self._running.get(entry.room) is entry:
            del self._running[entry.room]
