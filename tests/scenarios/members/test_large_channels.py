"""A channel of 5,000 members on a real Synapse: its first words are no later than a small one's, and while its ghosts
come in the homeserver answers everybody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bridgekit.testing.person import Person
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import Synapse
from connectors.irc.testing.ircd import FULL, Ircd

MANY, FEW = 5_000, 5
PAIRS = 10
MODES = ("active", "gradual", "none")


class Place:
    """A bridge that knows the scripted server three times, once with each way of showing members."""

    def __init__(self, ircd: Ircd, bridge: BridgeProcess, alice: Person) -> None:
        self.ircd = ircd
        self.bridge = bridge
        self.alice = alice

    async def linked(self, mode: str, channel: str, members: int) -> str:
        """A room linked to a new channel of so many, whose list the bridge has read."""
        self.ircd.crowd(members, channel, prefix=f"{mode[0]}{members}x")
        levels = {"users": {self.bridge.bot: 100}}
        room = await self.alice.create_room(
            preset="public_chat", invite=[self.bridge.bot], power_level_content_override=levels
        )
        await self.alice.sees(
            room, lambda e: e.sender == self.bridge.bot and e.kind == "m.notice", seconds=60
        )
        await self.alice.say(room, f"!bridge link {mode} {channel}")
        await self.alice.sees(room, lambda e: "is now linked" in e.body, seconds=60)
        await self.ircd.heard(f"^WHO {channel}", seconds=60)
        await self.ircd.drained()
        return room

    async def first_word(self, mode: str, room: str, channel: str, members: int, number: int) -> float:
        """Seconds until Alice reads the first words of somebody who was never heard before."""
        words = f"{channel} {number} says hello"
        began = time.monotonic()
        self.ircd.find(f"{mode[0]}{members}x{members - 1 - number}").say(channel, words)
        await self.alice.sees(room, lambda e: e.body == words, seconds=60)
        return time.monotonic() - began

    async def ghosts(self, room: str) -> int:
        """How many are in the room."""
        return len([m for m in await self.alice.members(room) if m.startswith("@_bk_")])

    async def settled(self, count: int, *rooms: str) -> None:
        """Wait until so many ghosts are in each of the rooms."""
        async with asyncio.timeout(120):
            for room in rooms:
                while await self.ghosts(room) < count:  # noqa: ASYNC110 - another process lets them in
                    await asyncio.sleep(0.2)


@asynccontextmanager
async def large_place(synapse: Synapse) -> AsyncIterator[Place]:
    async with Ircd(caps=FULL).serving() as ircd:
        with private_directory("members") as folder:
            networks: dict[str, Any] = {
                mode: {
                    "connector": "irc",
                    "consent": "off",
                    "nick": f"{mode}bridge",
                    "servers": [{"host": "127.0.0.1", "port": ircd.port, "tls": False}],
                    "flood": {"refill": 0, "lead_max": 0},
                    "members": mode,
                }
                for mode in MODES
            }
            bridge = BridgeProcess(
                folder,
                homeserver_url=synapse.base_url,
                server_name=synapse.server_name,
                networks=networks,
                permissions={synapse.server_name: "user", f"@nobody:{synapse.server_name}": "admin"},
            )
            await synapse.add_appservice(Path(bridge.registration))
            await bridge.start()
            try:
                account = await synapse.register("alice-of-the-large")
                async with Person(synapse.base_url, account) as alice:
                    yield Place(ircd, bridge, alice)
            finally:
                await bridge.stop()


async def answers(who: Person, room: str, count: int) -> list[float]:
    """How long the homeserver takes for somebody who talks in a room that is not bridged, in seconds."""
    found = []
    for number in range(count):
        began = time.monotonic()
        await who.say(room, f"{number} for myself")
        found.append(time.monotonic() - began)
        await asyncio.sleep(0.2)
    return found


async def test_the_first_words_of_five_thousand_are_no_later_than_those_of_five_and_nobody_else_waits(
    synapse: Synapse, record_property: Callable[[str, object], None]
) -> None:
    async with large_place(synapse) as place:
        alone = await place.alice.create_room()
        await answers(place.alice, alone, 10)
        for mode in MODES:
            small = await place.linked(mode, f"#small-{mode}", FEW)
            other = await place.linked(mode, f"#other-{mode}", FEW)
            # The homeserver's usual pace, when those ten are in.
            if mode == "gradual":
                await place.settled(FEW, small, other)
            before = await answers(place.alice, alone, 30)
            large = await place.linked(mode, f"#large-{mode}", MANY)
            if mode == "gradual":
                await place.settled(3, large)
            few, many = [], []
            for number in range(PAIRS):
                room, channel = (small, f"#small-{mode}") if number < FEW else (other, f"#other-{mode}")
                few.append(await place.first_word(mode, room, channel, FEW, number % FEW))
                many.append(await place.first_word(mode, large, f"#large-{mode}", MANY, number))
            there = await place.ghosts(large)
            during = await answers(place.alice, alone, 60)
            came = await place.ghosts(large) - there
            ratio, slower = median(many) / median(few), median(during) / median(before)
            record_property(
                f"{mode}: first words of 5,000 / of 5",
                f"{median(many):.3f} / {median(few):.3f} s = {ratio:.2f}; "
                f"homeserver {median(during) * 1000:.0f} / {median(before) * 1000:.0f} ms = {slower:.2f}, "
                f"{came} ghosts came in meanwhile",
            )
            assert ratio <= 1.5, (mode, few, many)
            assert slower <= 2.0, (mode, before, during)
            assert (came > 10) is (mode == "gradual")
