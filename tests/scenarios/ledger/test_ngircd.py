"""The same on a real server that keeps no history: whoever listens loses only what died in the bridge's hands.

On a plain IRC server nobody can fetch what was said while the bridge was not there, so here people fall silent as
soon as they see it go. What remains are lines that the server had handed to the process that was killed and that
were not on its disk: in the socket's buffers, or read a moment ago. They are a class of their own: all said within
half a second before the kill, or before anybody could see the bridge leave; nothing that was said before them by
the same person is missing; and they are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from pathlib import Path

import msgspec
import pytest

from bridgekit.testing.homeserver import RemoteFakeHomeserver
from bridgekit.testing.ledger import find_marker, marker
from connectors.irc.testing.lines import LineClient, line_client
from connectors.irc.testing.ngircd import Ngircd
from tests.bridge_process import BridgeProcess
from tests.runtime.running import SERVER
from tests.scenarios.ledger.stage import (
    CHANNEL,
    IRC_PEOPLE,
    MATRIX_PEOPLE,
    NETWORK,
    Heard,
    make_room,
    network,
)
from tests.scenarios.ledger.trouble import SEED

EACH = 200
RATE = 100.0
KILLS = 4
IN_HAND = 0.5
"""Seconds before a kill within which a line may have been read and not yet be on disk."""


class Kill(msgspec.Struct):
    """When the bridge was killed, and when people saw it leave (monotonic seconds)."""

    at: float
    seen: float = float("inf")

    def covers(self, said: float) -> bool:
        return self.at - IN_HAND <= said <= self.seen


class Channel:
    """The channel as the people in it see it."""

    def __init__(self, people: list[LineClient]) -> None:
        self.people = people
        self.present = asyncio.Event()
        self.said: dict[str, tuple[str, int, float]] = {}  # marker -> by whom, which, when
        self.kills: list[Kill] = []
        self.heard: list[tuple[str, str]] = []  # (marker, text) of what the bridge said
        self._read = 0

    async def listen(self) -> None:
        """Follow what the first of them reads; the others read as well, or the server would drop them."""
        async with asyncio.TaskGroup() as group:
            for one in self.people:
                group.create_task(_read_for_ever(one))
            while True:
                lines = self.people[0].seen
                for line in lines[self._read :]:
                    self._take(line)
                self._read = len(lines)
                await asyncio.sleep(0.005)

    def _take(self, line: str) -> None:
        source, _, rest = line.removeprefix(":").partition(" ")
        if not source.startswith("bridge"):
            return
        command, _, words = rest.partition(" ")
        match command:
            case "JOIN":
                self.present.set()
            case "QUIT" | "PART":
                self.present.clear()
                for kill in self.kills:
                    kill.seen = min(kill.seen, time.monotonic())
            case "PRIVMSG" if found := find_marker(words):
                self.heard.append((found.id, words.partition(":")[2]))
            case _:
                pass

    async def talk(self, heard: Heard, each: int, rate: float) -> None:
        """Everybody says `each` messages, and nothing while the bridge is not there."""
        for seq in range(each):
            for number, nick in enumerate(IRC_PEOPLE):
                await asyncio.sleep(1 / rate)
                await self.present.wait()
                id = marker(number, seq)
                heard.to_matrix.sent(id, f"@_bk_{NETWORK}_{nick}:{SERVER}", seq)
                self.said[id] = (nick, seq, time.monotonic())
                await self.people[number].send(f"PRIVMSG {CHANNEL} :{id} hello")

    def died_in_hand(self, lost: set[str]) -> set[str]:
        """Those of the lost that a kill explains, with everything that the person said after it before the QUIT."""
        explained: set[str] = set()
        for kill in self.kills:
            for nick in IRC_PEOPLE:
                mine = [id for id, (who, _, said) in self.said.items() if who == nick and kill.covers(said)]
                while (
                    mine and mine[-1] in lost
                ):  # a socket is read from its front: what died is what came last
                    explained.add(mine.pop())
        return explained


async def _read_for_ever(client: LineClient) -> None:
    with contextlib.suppress(TimeoutError):
        await client.expect(r"(?!)", seconds=3600)


async def test_without_history_only_what_died_in_the_bridges_hands_is_missing(
    ngircd: Ngircd, on_disk: Path, capsys: pytest.CaptureFixture[str]
):
    bridge = BridgeProcess(on_disk)
    dice = random.Random(SEED)
    with capsys.disabled():
        sys.stdout.write(f"\nBRIDGEKIT_LEDGER_SEED={SEED}\n")
    async with contextlib.AsyncExitStack() as stack:
        homeserver = await stack.enter_async_context(RemoteFakeHomeserver.spawn(bridge.registration))
        stack.callback(bridge.kill)
        people = [await stack.enter_async_context(line_client(ngircd.port)) for _ in IRC_PEOPLE]
        for one, nick in zip(people, IRC_PEOPLE, strict=True):
            await one.register(nick)
            await one.send(f"JOIN {CHANNEL}")
            await one.expect(r" 366 ")
        room = await make_room(homeserver)
        bridge.configure(homeserver.url, network(ngircd.port, room))
        heard, channel = Heard(homeserver, room), Channel(people)
        listening = asyncio.create_task(channel.listen())
        try:
            await bridge.start()
            await homeserver.wait_for(lambda e: e.type == "m.bridge", 30)
            async with asyncio.TaskGroup() as group:
                talking = group.create_task(channel.talk(heard, EACH, RATE))
                group.create_task(_matrix_talks(homeserver, room, heard))
                for _ in range(KILLS):
                    await asyncio.sleep(dice.uniform(0.5, 3.0))
                    await channel.present.wait()
                    await asyncio.sleep(dice.uniform(0.0, 0.5))
                    channel.kills.append(Kill(time.monotonic()))
                    bridge.kill()
                    bridge.launch()
                assert not talking.done()
            await _settle(heard, channel)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        to_irc = heard.to_irc.report()
        lost = set(heard.to_matrix.missing())
        in_hand = channel.died_in_hand(lost)
        for id in in_hand:
            heard.to_matrix.uncertain(id)  # nobody can be told: there is nobody left who knows of it
        to_matrix = heard.to_matrix.report()
        with capsys.disabled():
            sys.stdout.write(
                f"\nngircd, {KILLS} kills: died in the bridge's hands {len(in_hand)}, "
                f"unexplained {len(lost - in_hand)}\nIRC to Matrix: {to_matrix}\nMatrix to IRC: {to_irc}\n"
                f"uncertain {len(heard.told('FAIL_RETRIABLE'))}, told nothing {len(heard.untold())}\n"
            )
        assert lost == in_hand
        assert len(in_hand) <= sum(IN_HAND + kill.seen - kill.at for kill in channel.kills) * RATE
        assert to_matrix.clean
        assert to_matrix.doubled == 0
        assert to_irc.clean
        assert to_irc.doubled == 0
        assert heard.untold() == []
        assert heard.told("FAIL_PERMANENT") == []
        assert await bridge.stop() == 0


async def _matrix_talks(homeserver: RemoteFakeHomeserver, room: str, heard: Heard) -> None:
    for first in range(0, EACH, 25):
        for said in await homeserver.chatter(room, MATRIX_PEOPLE, 25, rate=RATE, first=first):
            heard.to_irc.sent(said.id, said.sender[1:].partition(":")[0], said.seq)


async def _settle(heard: Heard, channel: Channel) -> None:
    """Wait until nothing moves any more."""
    before, moved, told = None, time.monotonic(), 0
    while time.monotonic() < moved + 5:
        await heard.look()
        for place, (id, text) in enumerate(channel.heard[told:], told):
            seq = int(id.partition("-")[2])
            heard.to_irc.received(id, text.partition(">")[0].removeprefix("<"), seq, float(place))
        told = len(channel.heard)
        now = (len(heard.to_matrix.missing()), len(heard.to_irc.missing()), len(heard.untold()))
        if now != before:
            before, moved = now, time.monotonic()
        await asyncio.sleep(0.25)
