"""Getting into channels and staying there: at a bounded rate, again after a while where the door was closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bridgekit.contract.errors import Disconnected, SendRejected
from connectors.irc.flood import Flood, Priority
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import Line, build, clean
from connectors.irc.words.explain import cannot_join, explain

TOGETHER = 8
"""Channels in one JOIN; keyed ones go alone."""
SECONDS = 30.0
RETRY = (60.0, 120.0, 300.0, 600.0)
"""Seconds before each further try; the last one for ever."""
SELDOM = 12 * 3600.0
"""Seconds before each further try where a person has to act: they may have, and nobody tells us."""
_LOST = "The connection to IRC was lost before the channel was joined."


@dataclass(slots=True)
class _Door:
    name: str
    key: str = ""
    asked: bool = False
    tries: int = 0
    retry_at: float | None = None  # None: not by itself
    closed: str = ""  # why we are out, in words
    members_only: bool = False  # that is: because nobody knew who we are
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class Joining:
    """The channels that one connection should be in."""

    def __init__(self, state: State, flood: Flood, write: Callable[[bytes], None]) -> None:
        self._state = state
        self._flood = flood
        self._write = write
        self._doors: dict[str, _Door] = {}
        self._loop = asyncio.get_running_loop()
        self._begun = asyncio.Event()
        self._lost = False
        self._leaving: set[str] = set()  # what we are still in, and on our way out of
        self._forwards: set[str] = set()  # to where closed doors send us on

    @property
    def wanted(self) -> list[str]:
        """The channels that it is to be in."""
        return [door.name for door in self._doors.values()]

    def key(self, channel: str) -> str:
        """The key that let us in."""
        door = self._doors.get(self._state.fold(channel))
        return door.key if door else ""

    def want(self, channels: Iterable[tuple[str, str]]) -> None:
        """Get into all these (name, key), and stay there."""
        self._begun.set()
        doors = [self._door(name, key) for name, key in channels]
        self._ask([door for door in doors if not door.asked and self._state.channel(door.name) is None])

    async def join(self, channel: str, key: str = "") -> None:
        """Get in, and stay there. Raises SendRejected where it will not be."""
        door = self._door(channel, key)
        if self._state.channel(channel) is not None and self._state.fold(channel) not in self._leaving:
            return
        if not door.asked:
            self._ask([door])
        await self._wait(door)

    async def begun(self) -> None:
        """Wait for the first `want`: before it, we may not be who we shall be. Raises Disconnected."""
        await self._begun.wait()
        if self._lost:
            raise Disconnected(_LOST)

    async def ready(self, channel: str) -> None:
        """Wait while a join is under way. Raises SendRejected if we are not in it then."""
        await self.begun()
        door = self._doors.get(self._state.fold(channel))
        if self._state.channel(channel) is not None:
            return
        if door is not None and door.asked:
            await self._wait(door)
        elif door is not None and door.closed:
            raise SendRejected(door.closed)
        else:
            raise SendRejected(f"The bridge is not in {channel} on IRC: ask for it to be linked again.")

    def leave(self, channel: str) -> None:
        """It is not wanted any more; a PART is under way."""
        self._doors.pop(self._state.fold(channel), None)
        if self._state.channel(channel) is not None:
            self._leaving.add(self._state.fold(channel))

    def came(self, channel: str) -> bool:
        """We are in; False where only a forward led us there: nobody asked for it, and it is to be left."""
        key = self._state.fold(channel)
        if key in self._forwards:
            self._forwards.discard(key)
            if key not in self._doors:
                return False
        door = self._door(channel)
        door.name, door.asked, door.tries, door.retry_at, door.closed = channel, False, 0, None, ""
        door.members_only = False
        self._tell(door, None)
        return True

    def went(self, channel: str, reason: str, *, again: bool) -> None:
        """We are out; `again`: and shall try to come back (nobody put us out)."""
        self._leaving.discard(self._state.fold(channel))
        door = self._doors.get(self._state.fold(channel))
        if door is not None and not door.asked:  # if it is asked for already, we are on our way back in
            door.closed = reason
            door.retry_at = self._loop.time() + RETRY[0] if again else None

    def refused(self, line: Line) -> bool:
        """Take a numeric in; False if it says once more what we were told before."""
        final = cannot_join(line)
        if final is None:
            return True
        door = self._doors.get(self._state.fold(line.param(1)))
        if door is None or not door.asked:
            return True
        if line.command == "470":
            self._forwards.add(self._state.fold(line.param(2)))
        first = not door.closed
        door.asked = False
        door.closed = explain(line, door.name)
        door.members_only = line.command == "477"
        pause = SELDOM if final else RETRY[min(door.tries, len(RETRY) - 1)]
        door.retry_at = self._loop.time() + pause
        door.tries += 1
        self._tell(door, SendRejected(door.closed))
        return first

    def identified(self) -> None:
        """Knock again where only who is signed in comes in."""
        self._ask([door for door in self._doors.values() if not door.asked and door.members_only])

    def invited(self, channel: str) -> None:
        """Somebody opens a door that was closed to us; not to where we were put out, which everybody could."""
        door = self._doors.get(self._state.fold(channel))
        if door is not None and door.retry_at is not None and self._state.channel(channel) is None:
            self._ask([door])

    def tick(self) -> None:
        """Knock again where it is time."""
        now = self._loop.time()
        due = [
            d for d in self._doors.values() if not d.asked and d.retry_at is not None and d.retry_at <= now
        ]
        self._ask([door for door in due if self._state.channel(door.name) is None])

    def lost(self) -> None:
        """The connection is gone."""
        self._lost = True
        self._begun.set()
        for door in self._doors.values():
            self._tell(door, Disconnected(_LOST))

    def _door(self, name: str, key: str = "") -> _Door:
        door = self._doors.setdefault(self._state.fold(name), _Door(name))
        door.key = clean(key, middle=True) or door.key
        return door

    def _ask(self, doors: list[_Door]) -> None:
        for door in doors:
            door.asked, door.retry_at = True, None
        for door in doors:
            if door.key:
                self._submit(door.name, door.key)
        open_doors = [door.name for door in doors if not door.key]
        together = TOGETHER if "TARGMAX" not in self._state.support.tokens else max(1, self._targets())
        while open_doors:
            batch: list[str] = []
            while open_doors and len(batch) < together and sum(map(len, batch)) + len(open_doors[0]) < 380:
                batch.append(open_doors.pop(0))
            self._submit(",".join(batch or [open_doors.pop(0)]))

    def _targets(self) -> int:
        return min(TOGETHER, self._state.support.targets("JOIN"))

    def _submit(self, *params: str) -> None:
        try:
            data = build("JOIN", *params)
        except ValueError:
            return  # a name that no channel can have; nobody will answer, and the waiters give up in time
        self._flood.submit(lambda: self._write(data), Priority.BACKGROUND)

    async def _wait(self, door: _Door) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        door.waiters.append(waiter)
        try:
            async with asyncio.timeout(SECONDS):
                await waiter
        except TimeoutError:
            door.asked = False
            door.retry_at = self._loop.time() + RETRY[0]
            raise SendRejected(
                f"The IRC server did not let the bridge into {door.name} in time: try again."
            ) from None
        finally:
            if waiter in door.waiters:
                door.waiters.remove(waiter)

    def _tell(self, door: _Door, error: Exception | None) -> None:
        for waiter in door.waiters:
            if not waiter.done():
                waiter.set_exception(error) if error is not None else waiter.set_result(None)
        door.waiters.clear()
