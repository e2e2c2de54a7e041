"""Two bridges as processes of their own, each on the fast fake homeserver."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bridgekit.testing.homeserver import FakeHomeserver
from bridgekit.testing.ledger import Ledger, find_marker, marker
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import free_port
from connectors.mimi.certificates import Authority
from tests.runtime.running import has_fate
from tests.scenarios.mimi.lab import NETWORK, section

PEOPLE = 25
"""On each side."""
CHAT = "mimi://a.example/r/lobby"


class Place:
    """One bridge on its homeserver, and what its people said."""

    def __init__(self, domain: str, homeserver: FakeHomeserver, bridge: BridgeProcess) -> None:
        self.domain = domain
        self.homeserver = homeserver
        self.bridge = bridge
        self.room = ""
        self.ledger = Ledger()
        self.events: dict[str, str] = {}
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
        self.events[id] = await self.homeserver.user(f"p{person}").send(self.room, id)

    def arrivals(self, ledger: Ledger) -> None:
        """Tell the other's ledger what came here."""
        for at, event in enumerate(self.homeserver.messages(self.room)):
            found = find_marker(event.body)
            if found is not None and event.sender.startswith("@_bk_"):
                ledger.received(found.id, event.sender, found.seq, float(at))

    def fate(self, id: str) -> str:
        """What the bridge told of somebody's words, "" where it told nothing."""
        told = [e for e in self.homeserver.room(self.room).timeline if has_fate(self.events[id])(e)]
        return f"{told[-1].content['status']} {told[-1].content.get('message', '')}".strip() if told else ""


@asynccontextmanager
async def places(folder: Path, *, prelude: str = "") -> AsyncIterator[tuple[Place, Place]]:
    """Both, while the block lasts; `prelude` is Python that runs ahead of each bridge."""
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
                prelude=prelude,
            )
            homeserver = FakeHomeserver(bridge.registration, server_name=f"hs.{domain}", port=at)
            await stack.enter_async_context(homeserver)
            await bridge.start()
            stack.push_async_callback(bridge.stop)
            made.append(Place(domain, homeserver, bridge))
        yield made[0], made[1]
