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
ROUNDS = 5
"""Links of each size in each mode; what counts is the median."""
ENTERING = 30.0
"""Seconds of the gradual join in which the homeserver is asked how it is."""
ENTERED = 60
"""Ghosts that have to be let in meanwhile, or it was no load."""
_numbers = itertools.count(1)


@dataclass
class Hall:
    """What runs, and a Matrix user who links channels and listens."""

    synapse: Synapse
    ircd: RemoteIrcd
    bridge: BridgeProcess
    alice: Person

    async def first_word(self, mode: str, members: int) -> tuple[str, str, float]:
        """Link a new channel of so many people, one of whom speaks as soon as the bridge is in it: the room, the
        channel, and the seconds until Alice reads it."""
        alice, bot = self.alice, self.bridge.bot
        channel = f"#{mode}{next(_numbers)}"
        await self.ircd.order("crowd", channel=channel, count=members, prefix=f"u{channel[1:]}x")
        room = await alice.create_room(
            preset="public_chat", invite=[bot], power_level_content_override={"users": {bot: 100}}
        )
        await alice.sees(room, lambda e: e.sender == bot and e.kind == "m.notice", what="the bot")
        await alice.say(room, f"!bridge link {mode} {channel}")
        joined = (await self.ircd.order("wait", pattern=f"^JOIN {channel}"))["at"]
        await self.ircd.order("say", nick=f"u{channel[1:]}x3", target=channel, text=f"hello from {channel}")
        await alice.reads(room, f"hello from {channel}")
        took = time.monotonic() - joined
        await alice.sees(room, lambda e: "is now linked" in e.body, what="the link")
        return room, channel, took

    async def unlink(self, room: str, mode: str, channel: str) -> None:
        """Take the link apart: nobody else of the channel comes into the room."""
        await self.alice.say(room, f"!bridge unlink {mode} {channel}")
        await self.alice.sees(room, lambda e: "no longer linked" in e.body, what="the end of the link")

    async def pulse(self, room: str) -> float:
        """Seconds that the homeserver takes for what a client does all the time: say something, and read."""
        began = time.monotonic()
        await self.alice.say(room, "how are you?")
        await self.alice.call("GET", f"/rooms/{room}/messages?dir=b&limit=20")
        return time.monotonic() - began


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
        account = await synapse.register("alice")
        alice = await stack.enter_async_context(Person(synapse.base_url, account))
        yield Hall(synapse, ircd, bridge, alice)


@pytest.mark.timeout(600)
async def test_five_thousand_members_delay_no_word_and_the_homeserver_bears_their_coming(
    capsys: pytest.CaptureFixture[str],
):
    async with hall() as here:
        figures: dict[tuple[str, int], list[float]] = {}
        for mode, _ in itertools.product(MODES, range(ROUNDS)):
            for members in (SMALL, LARGE):
                room, channel, took = await here.first_word(mode, members)
                figures.setdefault((mode, members), []).append(took)
                await here.unlink(room, mode, channel)
        medians = {key: statistics.median(times) for key, times in figures.items()}
        ratios = {mode: medians[mode, LARGE] / medians[mode, SMALL] for mode in MODES}

        elsewhere = await here.alice.create_room()
        before = [await here.pulse(elsewhere) for _ in range(100)]
        room, _, _ = await here.first_word("gradual", LARGE)
        began, during = time.monotonic(), []
        while time.monotonic() - began < ENTERING:
            during.append(await here.pulse(elsewhere))
            await asyncio.sleep(0.02)
        entered = len(await here.alice.members(room)) - 2
        calm, busy = statistics.median(before), statistics.median(during)
        with capsys.disabled():
            for mode in MODES:
                few, many = medians[mode, SMALL], medians[mode, LARGE]
                sys.stdout.write(
                    f"\n{mode}: first word {few:.3f} s of {SMALL}, {many:.3f} s of {LARGE}: {ratios[mode]:.2f} times"
                )
            sys.stdout.write(
                f"\nhomeserver: {calm * 1000:.1f} ms before, {busy * 1000:.1f} ms while {entered} came in "
                f"within {ENTERING:g} s: {busy / calm:.2f} times\n"
            )
        assert {mode for mode in MODES if ratios[mode] > 1.5} == set()
        assert entered >= ENTERED
        assert busy <= 2 * calm
