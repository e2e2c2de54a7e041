"""A channel of five thousand on a real homeserver: its first words do not wait, and the homeserver goes on answering.

The IRC server is scripted, so that five thousand people need no sockets. The figures are printed.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from bridgekit.testing.person import Person
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import Synapse
from bridgekit.testing.servers.synapse import synapse as run_synapse
from tests.ircd_process import RemoteIrcd

SMALL, LARGE = 5, 5000
MODES = ("none", "active", "gradual")
LONGER, BUSIER = 1.5, 2
"""How many times as long a first word may take, and the homeserver."""
ROUNDS = 3
"""Links of each size in each mode, in turns; what counts is the median."""
ATTEMPTS = 3
"""What is too slow is measured again: on a machine that others work on, one measurement is no proof of it."""
PROBES = 60
"""How often the homeserver is asked how it is before somebody comes in, and at least so often while they do."""
ENTERED = 15
"""Ghosts that have to be let in meanwhile, or it was no load."""
_numbers = itertools.count(1)


@dataclass
class Hall:
    """What runs."""

    synapse: Synapse
    ircd: RemoteIrcd
    bridge: BridgeProcess

    @asynccontextmanager
    async def visitor(self) -> AsyncIterator[Visitor]:
        """Somebody new: the bot grants nobody more than ten links at once."""
        account = await self.synapse.register(f"alice{next(_numbers)}")
        async with Person(self.synapse.base_url, account) as person:
            yield Visitor(self, person)


@dataclass
class Visitor:
    """A Matrix user who links channels and listens."""

    hall: Hall
    person: Person

    async def first_word(self, mode: str, members: int) -> tuple[str, str, float]:
        """Link a new channel of so many people, one of whom speaks as soon as the bridge is in it: the room, the
        channel, and the seconds until the visitor reads it."""
        alice, bot, ircd = self.person, self.hall.bridge.bot, self.hall.ircd
        channel = f"#{mode}{next(_numbers)}"
        await ircd.order("crowd", channel=channel, count=members, prefix=f"u{channel[1:]}x")
        room = await alice.create_room(
            preset="public_chat", invite=[bot], power_level_content_override={"users": {bot: 100}}
        )
        await alice.sees(room, lambda e: e.sender == bot and e.kind == "m.notice", what="the bot")
        await alice.say(room, f"!bridge link {mode} {channel}")
        await ircd.order("wait", pattern=f"^JOIN (.*,)?{channel}(,|$)", seconds=120)
        joined = time.monotonic()
        await ircd.order("say", nick=f"u{channel[1:]}x3", target=channel, text=f"hello from {channel}")
        await alice.reads(room, f"hello from {channel}")
        took = time.monotonic() - joined
        await alice.sees(room, lambda e: "is now linked" in e.body, what="the link")
        return room, channel, took

    async def unlink(self, room: str, mode: str, channel: str) -> None:
        """Take the link apart: nobody else of the channel comes into the room."""
        await self.person.say(room, f"!bridge unlink {mode} {channel}")
        await self.person.sees(room, lambda e: "no longer linked" in e.body, what="the end of the link")

    async def first_words(self, mode: str, rounds: int) -> dict[int, list[float]]:
        """The seconds to the first word of a small channel and of a large one, in turns."""
        times: dict[int, list[float]] = {SMALL: [], LARGE: []}
        for _, members in itertools.product(range(rounds), times):
            room, channel, took = await self.first_word(mode, members)
            times[members].append(took)
            if mode == "gradual":  # or the next one would be measured while the rest of this one comes in
                await self.unlink(room, mode, channel)
        return times

    async def pulse(self, room: str) -> float:
        """Seconds that the homeserver takes for what a client does all the time: say something, and read."""
        began = time.monotonic()
        await self.person.say(room, "how are you?")
        await self.person.call("GET", f"/rooms/{room}/messages?dir=b&limit=20")
        return time.monotonic() - began

    async def load(self) -> tuple[float, float, int]:
        """The homeserver's median while nothing happens, its median while five thousand are on their way in, and how
        many came in meanwhile."""
        elsewhere = await self.person.create_room()
        before = [await self.pulse(elsewhere) for _ in range(PROBES)]
        room, channel, _ = await self.first_word("gradual", LARGE)
        start, entered = len(await self.person.members(room)), 0
        during: list[float] = []
        async with asyncio.timeout(240):
            while len(during) < PROBES or entered < ENTERED:
                during.append(await self.pulse(elsewhere))
                if len(during) % 20 == 0:
                    entered = len(await self.person.members(room)) - start
        await self.unlink(room, "gradual", channel)
        return statistics.median(before), statistics.median(during), entered


@asynccontextmanager
async def hall() -> AsyncIterator[Hall]:
    """Synapse, the scripted IRC server, and a bridge to it in each of the modes."""
    async with AsyncExitStack() as stack:
        synapse = await stack.enter_async_context(run_synapse())
        ircd = await stack.enter_async_context(RemoteIrcd.spawn(full=True))
        bridge = BridgeProcess(
            stack.enter_context(private_directory("crowd")),
            homeserver_url=synapse.base_url,
            server_name=synapse.server_name,
            networks={
                mode: {
                    "connector": "irc",
                    "consent": "off",
                    "members": mode,
                    "nick": f"bridge{mode}",
                    "servers": [{"host": "127.0.0.1", "port": ircd.port, "tls": False}],
                    "flood": {"refill": 0, "lead_max": 0},
                }
                for mode in MODES
            },
            permissions={"@admin:hs.test": "admin", synapse.server_name: "user"},
        )
        await synapse.add_appservice(bridge.registration)
        await bridge.start()
        stack.push_async_callback(bridge.stop)
        yield Hall(synapse, ircd, bridge)


@pytest.mark.timeout(900)
async def test_five_thousand_members_delay_no_word_and_the_homeserver_bears_their_coming(
    capsys: pytest.CaptureFixture[str],
):
    async with hall() as here:
        slow = dict[str, float]()
        for mode in MODES:
            for _ in range(ATTEMPTS):
                async with here.visitor() as visitor:
                    times = await visitor.first_words(mode, ROUNDS)
                few, many = statistics.median(times[SMALL]), statistics.median(times[LARGE])
                slow[mode] = many / few
                show(
                    capsys, f"{mode}: {few:.3f} s of {SMALL}, {many:.3f} s of {LARGE}: {slow[mode]:.2f} times"
                )
                if slow[mode] <= LONGER:
                    break
        for _ in range(ATTEMPTS):
            async with here.visitor() as visitor:
                calm, busy, entered = await visitor.load()
            show(
                capsys,
                f"homeserver: {calm:.4f} s, {busy:.4f} s while {entered} came: {busy / calm:.2f} times",
            )
            if busy <= BUSIER * calm:
                break
        assert {mode: times for mode, times in slow.items() if times > LONGER} == {}
        assert busy <= BUSIER * calm


def show(capsys: pytest.CaptureFixture[str], words: str) -> None:
    """Print a figure, whether the test fails or not."""
    with capsys.disabled():
        sys.stdout.write(f"\n{words}")
