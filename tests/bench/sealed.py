"""What is measured of encrypted rooms: beside the same room in clear, and a new ghost's first word on a real Synapse.

A message counts only if a client of the room decrypts it with a key that came from a device which its sender's identity
has signed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bridgekit.contract.ids import PersonId
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import ServerUnavailable
from bridgekit.testing.servers.synapse import synapse
from tests.bench import figures
from tests.bench.contestants import Ours
from tests.bench.figures import Results
from tests.bench.measures import SLOW, latency, note
from tests.bench.reader import ENCRYPTION, Reader, reading
from tests.bench.stage import CHANNEL, SPEAKERS, Heard, Stage, stage
from tests.ircd_process import RemoteIrcd
from tests.runtime.running import BOT, SERVER

SEALED, CLEAR = "encrypted room", "clear room"
SPEAKING = 200
"""Ghosts whose memory is measured."""
WAITING = 50
"""Ghosts that have come and want a device when another one speaks."""
QUIET_SECONDS = 2.0
"""After which a process that was just busy shows what it keeps."""
NETWORK = "net"


class SealedStage(Stage):
    """The room is encrypted: what is said in it is read by one of its members' devices."""

    reader: Reader

    async def prepared(self) -> None:
        bot = PersonId(BOT)
        await self.reader.meet(bot)
        await self.reader.say(self.room, f"!bridge agree {NETWORK} {CHANNEL}", bot)
        async with asyncio.timeout(60):
            while not any("has agreed" in said.words for said in await self.heard()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def heard(self, since: int = 0) -> list[Heard]:
        await self.reader.catch_up()
        return [
            Heard(event.sender, await self.reader.words(event.sender, event.content), at)
            for event, at in await self.hs.arrivals(self.room, since, "m.room.encrypted")
            if event.sender.startswith("@_bk_") or event.sender == BOT
        ]

    async def count(self, since: int) -> int:
        arrivals = await self.hs.arrivals(self.room, since, "m.room.encrypted")
        return sum(event.sender.startswith("@_bk_") for event, _ in arrivals)


@asynccontextmanager
async def sealed_stage() -> AsyncIterator[SealedStage]:
    """The stage with an encrypted room; each of those who are in it has a device, and Alice reads."""
    async with stage(Ours, initial_state=[ENCRYPTION]) as plain, AsyncExitStack() as stack:
        place = SealedStage(plain.hs, plain.ircd, plain.who, plain.room)
        place.reader = await stack.enter_async_context(reading(plain.hs.url, f"@alice:{SERVER}"))
        for number in range(SPEAKERS):
            await stack.enter_async_context(reading(plain.hs.url, f"@m{number}:{SERVER}"))
        yield place


@asynccontextmanager
async def clear_stage() -> AsyncIterator[Stage]:
    """The same room in clear."""
    async with stage(Ours) as place:
        yield place


async def rates(count: int, seconds: int, results: Results) -> None:
    """Flat out and at a slow rate: in the clear room, and in the encrypted one right after it."""
    for who, scene in ((CLEAR, clear_stage), (SEALED, sealed_stage)):
        async with scene() as place:
            await place.start()
            await place.to_matrix(10 * SPEAKERS)  # everybody has spoken
            load = note(results, who, figures.RATE_IN, await place.to_matrix(count))
            results.add(who, figures.RATE_IN, load.rate)
            results.add(who, figures.CPU_IN, load.cpu_per_1000)
            load = note(results, who, figures.P50_IN, await place.to_matrix(SLOW * seconds, rate=SLOW))
            latency(results, who, load, figures.P50_IN, figures.P99_IN)


async def memory(results: Results) -> None:
    """What the bridge keeps of each of many ghosts that are in the room and have spoken once."""
    for who, scene in ((CLEAR, clear_stage), (SEALED, sealed_stage)):
        async with scene() as place:
            await place.start(members=SPEAKING)
            await place.everybody(SPEAKING)
            await asyncio.sleep(QUIET_SECONDS)
            before = place.memory
            note(results, who, figures.RSS_GHOST, await place.to_matrix(SPEAKING, speakers=SPEAKING))
            await asyncio.sleep(QUIET_SECONDS)
            results.add(who, figures.RSS_GHOST, (place.memory - before) * 1000 / SPEAKING)


async def first_word(results: Results) -> None:
    """On Synapse: many come into the channel at once, and the one who came last speaks first."""
    try:
        async with synapse(server_name=SERVER) as homeserver, RemoteIrcd.spawn() as ircd:
            with TemporaryDirectory(prefix="bridgekit-bench-") as folder:
                bridge = _bridge(Path(folder), homeserver.base_url, ircd.port)
                await homeserver.add_appservice(bridge.registration)
                await bridge.start()
                try:
                    account = await homeserver.register("alice")
                    login = reading(homeserver.base_url, account.user_id, account.password)
                    async with login as alice:
                        took = await _first_word(alice, PersonId(bridge.bot), ircd, bridge)
                finally:
                    await bridge.stop()
    except ServerUnavailable as why:
        print(f"not measured: {figures.FIRST_SEALED}: {why}", file=sys.stderr)
        return
    results.add(SEALED, figures.FIRST_SEALED, took)


async def _first_word(alice: Reader, bot: PersonId, ircd: RemoteIrcd, bridge: BridgeProcess) -> float:
    """Seconds from the word in the channel to its decryption by Alice's device."""
    options = {
        "preset": "private_chat",
        "invite": [bot],
        "initial_state": [ENCRYPTION],
        "power_level_content_override": {"users": {bot: 100}},  # its maker stands above (room version 12)
    }
    room = str((await alice.call("POST", "/createRoom", options))["room_id"])
    await alice.meet(bot)
    await _told(alice, room, bot, "I am a bridge")
    for command, answer in (
        (f"link {NETWORK} {CHANNEL}", "now linked"),
        (f"agree {NETWORK} {CHANNEL}", "has agreed"),
    ):
        await alice.say(room, f"!bridge {command}", bot)
        await _told(alice, room, bot, answer)
    await ircd.order("crowd", channel=CHANNEL, count=WAITING)
    await ircd.order("join", nick="newcomer", channel=CHANNEL)
    began = time.monotonic()
    await ircd.order("say", nick="newcomer", target=CHANNEL, text="the first word")
    await _told(alice, room, PersonId(bridge.ghost(NETWORK, "newcomer")), "the first word")
    return time.monotonic() - began


async def _told(alice: Reader, room: str, who: PersonId, words: str, seconds: float = 60) -> None:
    """Return when Alice's device has decrypted these words of somebody. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            for event in await alice.sync(5):
                sealed = event["type"] == "m.room.encrypted" and event["sender"] == who
                if sealed and words in await alice.words(who, event["content"]):
                    return


def _bridge(folder: Path, homeserver: str, irc: int) -> BridgeProcess:
    network: dict[str, Any] = {
        "connector": "irc",
        "consent": "off",  # all channels here are our own
        "servers": [{"host": "127.0.0.1", "port": irc, "tls": False}],
        "nick": "bridge",
        "flood": {"burst": 1000, "refill": 0, "lead_max": 0},
    }
    return BridgeProcess(
        folder,
        homeserver_url=homeserver,
        server_name=SERVER,
        networks={NETWORK: network},
        permissions={SERVER: "admin"},
    )
