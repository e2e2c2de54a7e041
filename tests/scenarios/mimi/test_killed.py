"""Both providers are killed again and again in the middle of commits: no fork, nothing lost, nothing twice.

The bridges are whole processes with databases of their own; only their homeservers are the fast fake one, because
fifty restarts of two bridges on two Synapses would measure Synapse. With Synapse they are killed in `test_outages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bridgekit.testing.homeserver import FakeHomeserver
from bridgekit.testing.ledger import Ledger, find_marker, marker
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import free_port
from connectors.mimi.certificates import Authority
from tests.scenarios.mimi.lab import NETWORK, section

KILLS = 6
PEOPLE = 25
"""On each side: in the first rounds everybody who speaks is new, and their first words bring commits."""
CHAT = "mimi://a.example/r/lobby"


class Place:
    """One bridge on its homeserver, and what its people said."""

    def __init__(self, domain: str, homeserver: FakeHomeserver, bridge: BridgeProcess) -> None:
        self.domain = domain
        self.homeserver = homeserver
        self.bridge = bridge
        self.room = ""
        self.ledger = Ledger()
        self._said = [0] * PEOPLE

    async def link(self) -> None:
        owner = self.homeserver.user("owner")
        bot = self.bridge.bot
        self.room = await owner.create_room(preset="public_chat", invite=[bot])
        await self._answered("I am a bridge")
        await owner.set_power(self.room, bot, 100)
        await owner.send(self.room, f"!bridge link {NETWORK} {CHAT}")
        await self._answered("is now linked")
        await owner.send(self.room, f"!bridge agree {NETWORK} {CHAT}")
        await self._answered("has agreed")
        for number in range(PEOPLE):
            await self.homeserver.user(f"p{number}").join(self.room)

    async def _answered(self, words: str) -> None:
        await self.homeserver.wait_for(lambda e: e.sender == self.bridge.bot and words in e.body, 30)

    async def say(self, person: int, there: Place) -> None:
        """The person's next words, which `there` ought to see from their ghost."""
        seq = self._said[person] = self._said[person] + 1
        id = marker(person, seq)
        uri = f"mimi://{self.domain}/u/p{person}:{self.homeserver.server_name}"
        self.ledger.sent(id, there.bridge.ghost(NETWORK, uri), seq)
        await self.homeserver.user(f"p{person}").send(self.room, id)

    def arrivals(self, ledger: Ledger) -> None:
        """Tell the other's ledger what came here."""
        for at, event in enumerate(self.homeserver.messages(self.room)):
            found = find_marker(event.body)
            if found is not None and event.sender.startswith("@_bk_"):
                ledger.received(found.id, event.sender, found.seq, float(at))

    def unanswered(self) -> bool:
        """Whether the dead process left a commit of which it had no answer."""
        with contextlib.closing(sqlite3.connect(self.bridge.folder / "bridge.db")) as database:
            (found,) = database.execute("SELECT count(*) FROM kv WHERE key LIKE 'asked/%'").fetchone()
        return bool(found)


@asynccontextmanager
async def places(folder: Path) -> AsyncIterator[tuple[Place, Place]]:
    authority = Authority(folder / "certificates", now=datetime.datetime.now(datetime.UTC))
    ports = {"a.example": free_port(), "b.example": free_port()}
    addresses = {domain: f"https://127.0.0.1:{port}" for domain, port in ports.items()}
    made = []
    async with AsyncExitStack() as stack:
        for domain, port in ports.items():
            (own := folder / domain).mkdir()
            at = free_port()
            bridge = BridgeProcess(
                own,
                homeserver_url=f"http://127.0.0.1:{at}",
                server_name=f"hs.{domain}",
                networks=section(domain, port, addresses, authority),
                permissions={f"@owner:hs.{domain}": "admin", f"hs.{domain}": "user"},
            )
            homeserver = FakeHomeserver(bridge.registration, server_name=f"hs.{domain}", port=at)
            await stack.enter_async_context(homeserver)
            await bridge.start()
            stack.push_async_callback(bridge.stop)
            made.append(Place(domain, homeserver, bridge))
        yield made[0], made[1]


def _missing(a: Place, b: Place) -> list[str]:
    for ledger, at in ((a.ledger, b), (b.ledger, a)):
        seen = {found.id for e in at.homeserver.messages(at.room) if (found := find_marker(e.body))}
        if missing := [id for id in ledger.missing() if id not in seen]:
            return missing
    return []


@pytest.mark.timeout(1200)
async def test_fifty_times_killed_in_the_middle_of_commits(tmp_path: Path):
    dice = random.Random(6)
    async with places(tmp_path) as (a, b):
        await a.link()
        await b.link()
        caught = 0
        for kill in range(KILLS):
            one = kill % PEOPLE
            await a.say(one, b)
            await b.say(one, a)
            await a.homeserver.user("owner").set_topic(a.room, f"topic {kill}")
            await a.say((kill * 7) % PEOPLE, b)
            await b.say((kill * 11) % PEOPLE, a)
            await asyncio.sleep(dice.uniform(0, 0.5))
            a.bridge.kill()
            b.bridge.kill()
            caught += a.unanswered() + b.unanswered()
            await asyncio.gather(a.bridge.start(), b.bridge.start())
        # No fork: whoever spoke is heard on the other side still.
        for person in range(PEOPLE):
            await a.say(person, b)
            await b.say(person, a)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while _missing(a, b):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        a.arrivals(b.ledger)
        b.arrivals(a.ledger)
    for ledger in (a.ledger, b.ledger):
        report = ledger.report()
        flaws = (report.lost, report.doubled, report.misattributed, report.late_within_sender)
        assert flaws == (0, 0, 0, 0), str(report)
        assert report.arrived >= 2 * KILLS
    assert caught > 0, "no kill found a commit that was under way"
