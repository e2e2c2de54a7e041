"""The world around a contestant: the fake homeserver and the scripted ircd, each a process, a channel and a room."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.core.ghosts import Namespace
from bridgekit.testing.homeserver import RemoteFakeHomeserver
from bridgekit.testing.ledger import Ledger, Report, find_marker
from tests.bench.contestants import Contestant, Machine, cpu, memory
from tests.ircd_process import OrderFailed, RemoteIrcd
from tests.runtime.running import BOT, SERVER, registration

CHANNEL = "#talk"
SPEAKERS = 10
PATIENCE = 120.0
"""Seconds without anything new after which a load is given up: what is missing is lost."""

_NUMBERED = re.compile(r"^(\d+) ([\d.]+)$")
_SPOKEN = re.compile(r"^PRIVMSG \S+ :<\W*(\w+)\W*> (.*)$")


class Mark(msgspec.Struct, frozen=True):
    """How much CPU was used up to a moment: by the contestant, by all of this bench, by the machine."""

    contestant: float
    bench: float
    machine: Machine


class Heard(NamedTuple):
    """One message as it stands in the room: `at` is the time.monotonic() of its arrival."""

    sender: str
    words: str
    at: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one load cost: messages, seconds from the first word to the last arrival, the process's CPU seconds.

    `steal` and `others` are the shares of the machine's CPU that its host and other programs took meanwhile.
    """

    count: int
    seconds: float
    cpu: float
    steal: float
    others: float
    report: Report

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.count / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds for a thousand messages."""
        return self.cpu / self.count * 1000

    @property
    def fault(self) -> str:
        """Why the figure does not count; empty if it does: all arrived once, in order, under the right name."""
        report = self.report
        right = not (report.lost or report.doubled or report.strangers or report.misattributed)
        return "" if right and not report.late_within_sender else str(report)


class Stage:
    """One contestant among the servers. Said on IRC: by `user0`, `user1` ...; said on Matrix: by `m0`, `m1` ..."""

    def __init__(self, hs: RemoteFakeHomeserver, ircd: RemoteIrcd, who: Contestant, room: str) -> None:
        self.hs = hs
        self.ircd = ircd
        self.who = who
        self.room = room
        self._said = 0
        self._turns = 0
        self._namespace = Namespace("_bk_", SERVER)

    def ghost(self, number: int) -> str:
        """The Matrix user that must speak for `user<number>`."""
        return self._namespace.mxid(NetworkId("net"), PersonId(f"user{number}"))

    @property
    def memory(self) -> float:
        """MB."""
        return memory(self.who.pid)

    async def start(self, *, members: int = SPEAKERS) -> tuple[float, float]:
        """Start the contestant; seconds to the first message from the start, and from its JOIN of the channel."""
        await self.ircd.order("crowd", channel=CHANNEL, count=members)
        began = time.monotonic()
        self.who.launch()
        try:
            joined = (await self.ircd.order("wait", pattern=f"^JOIN {CHANNEL}", seconds=30))["at"]
        except OrderFailed as error:
            raise RuntimeError(
                f"{self.who.name} does not join its channel: {error}\n{self.who.tail()}"
            ) from None
        await self.prepared()
        load = await self.to_matrix(1)
        if load.fault:
            raise RuntimeError(f"the first message of {self.who.name} went wrong: {load.fault}")
        arrived = (await self.heard())[-1].at
        return arrived - began, arrived - joined

    async def prepared(self) -> None:
        """Do what it takes between the JOIN and the first message."""

    async def heard(self, since: int = 0) -> list[Heard]:
        """What was said in the room since a position."""
        return [Heard(event.sender, event.body, at) for event, at in await self.hs.arrivals(self.room, since)]

    async def count(self, since: int) -> int:
        """How many numbered messages of the load are there since a position."""
        return sum(_NUMBERED.match(said.words) is not None for said in await self.heard(since))

    async def to_matrix(self, count: int, *, rate: float = 0, speakers: int = SPEAKERS) -> Load:
        """`speakers` people take turns on IRC, `rate` a second or as fast as it goes."""
        since = await self.hs.position()
        before = self._mark()
        order = {"channel": CHANNEL, "count": count, "users": speakers, "rate": rate, "text": "{n} {t}"}
        answer = await self.ircd.order("burst", **order)
        await self._arrived(since, count)
        await self._settled()
        after = self._mark()
        ledger = Ledger()
        found = [(match, said) for said in await self.heard(since) if (match := _NUMBERED.match(said.words))]
        times = {int(match[1]): float(match[2]) for match, _ in found}
        for i in range(count):
            number = self._said + i + 1
            ledger.sent(str(number), self.ghost(i % speakers), number, at=times.get(number))
        for match, said in found:
            ledger.received(match[1], said.sender, int(match[1]), said.at)
        self._said += count
        last = max((said.at for _, said in found), default=time.monotonic())
        return self._load(count, last - answer["first"], before, after, ledger)

    async def to_irc(self, count: int, *, rate: float | None = None) -> Load:
        """`SPEAKERS` people take turns in the room."""
        line = (await self.ircd.order("received", after=1 << 60))["next"]
        before = self._mark()
        each = count // SPEAKERS
        people = [self.hs.user(f"m{i}").id for i in range(SPEAKERS)]
        said = await self.hs.chatter(self.room, people, each, rate=rate, first=self._turns)
        self._turns += each
        lines: list[tuple[float, str, str]] = []
        quiet = time.monotonic()
        while len(lines) < len(said) and time.monotonic() - quiet < PATIENCE:
            answer = await self.ircd.order("received", after=line)
            line = answer["next"]
            new = [(at, *m.groups()) for at, _, raw in answer["received"] if (m := _SPOKEN.match(raw))]
            if new:
                lines += new
                quiet = time.monotonic()
            await asyncio.sleep(0.05)
        await self._settled()
        after = self._mark()
        ledger = Ledger()
        for one in said:
            ledger.sent(one.id, one.sender, one.seq, at=one.at)
        for at, speaker, text in lines:
            if (found := find_marker(text)) is not None:
                ledger.received(found.id, f"@{speaker}:{SERVER}", found.seq, at)
        last = max((at for at, _, _ in lines), default=time.monotonic())
        return self._load(len(said), last - said[0].at, before, after, ledger)

    async def everybody(self, members: int, seconds: float = 60) -> float:
        """When (monotonic) the last of `members` ghosts joined the room. Raises TimeoutError."""
        ghosts = {self.ghost(i) for i in range(members)}
        async with asyncio.timeout(seconds):
            while True:
                position = await self.hs.position()
                if ghosts <= set(await self.hs.joined(self.room)):
                    return time.monotonic()
                await self.hs.wait_position(position, 1)

    async def _arrived(self, since: int, count: int) -> None:
        """Return when `count` messages are there, or nothing new has come for a long time."""
        while True:
            position = await self.hs.position()
            if position - since >= count:
                if await self.count(since) >= count:
                    return
                since_next = position
            else:
                since_next = max(position, since + count - 1)
            reached = await self.hs.wait_position(since_next, PATIENCE)
            if reached <= position:
                return

    async def _settled(self) -> None:
        """Return when the contestant has nothing left to do: only then is all of its CPU counted."""
        deadline = time.monotonic() + PATIENCE
        while await self.who.waiting() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

    def _mark(self) -> Mark:
        mine = cpu(self.who.pid)
        servers = [pid for pid in (self.hs.pid, self.ircd.pid) if pid is not None]
        return Mark(mine, mine + cpu(os.getpid()) + sum(map(cpu, servers)), Machine.now())

    def _load(self, count: int, seconds: float, before: Mark, after: Mark, ledger: Ledger) -> Load:
        total = max(after.machine.total - before.machine.total, 0.01)
        busy = after.machine.busy - before.machine.busy
        return Load(
            count=count,
            seconds=seconds,
            cpu=after.contestant - before.contestant,
            steal=(after.machine.stolen - before.machine.stolen) / total,
            others=max(busy - (after.bench - before.bench), 0.0) / total,
            report=ledger.report(),
        )


@asynccontextmanager
async def stage(make: Callable[[Path], Contestant], **options: Any) -> AsyncIterator[Stage]:
    """A fresh world; the contestant is configured and not started, and ends with the block.

    `options` are further fields of the room's POST /createRoom.
    """
    with TemporaryDirectory(prefix="bridgekit-bench-") as folder:
        who = make(Path(folder))
        async with RemoteFakeHomeserver.spawn(registration(who.port)) as hs, RemoteIrcd.spawn() as ircd:
            alice = hs.user("alice")
            room = await alice.create_room(preset="public_chat", invite=[BOT], **options)
            await alice.set_power(room, BOT, 100)
            for number in range(SPEAKERS):
                await hs.user(f"m{number}").join(room)
            who.configure(hs.url, ircd.port, CHANNEL, room)
            try:
                yield Stage(hs, ircd, who, room)
            finally:
                await who.stop()
