"""The scenarios' laboratory: one bridge process between one Synapse and two IRC networks, and people on all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridgekit.testing.person import Event, Person
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import Account, Synapse
from bridgekit.testing.servers.synapse import synapse as run_synapse
from connectors.irc.testing.ergo import Ergo
from connectors.irc.testing.inspircd import Inspircd
from connectors.irc.testing.ngircd import Ngircd
from tests.scenarios.irc.peer import Peer, peer

STATUS = "com.beeper.message_send_status"
PLAIN, MODERN, CAREFUL, ERGO = "plain", "modern", "careful", "ergo"
LABEL = {PLAIN: "Plain", MODERN: "Modern", CAREFUL: "Careful", ERGO: "Ergo"}
RELAY = {PLAIN: "plainbridge", MODERN: "modernbridge", CAREFUL: "carefulbridge", ERGO: "ergobridge"}
"""The relay's nick on each network."""

BANS = "#bans:hs.test"
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Servers and bridge. Names that come out of here are used once."""

    synapse: Synapse
    ngircd: Ngircd
    inspircd: Inspircd
    ergo: Ergo | None = None
    bridge: BridgeProcess
    keeper: Account
    """Whose policy list holds on the bridge: the room BANS."""
    admin: list[Person] = field(default_factory=list)

    @property
    def bot(self) -> str:
        return self.bridge.bot

    def new(self, stem: str) -> str:
        """A name that nobody has yet."""
        return f"{stem}{next(_numbers)}"

    @asynccontextmanager
    async def person(self, stem: str = "alice") -> AsyncIterator[Person]:
        """Somebody new on Matrix, an ordinary user of the bridge."""
        account = await self.synapse.register(self.new(stem))
        async with Person(self.synapse.base_url, account) as one:
            yield one

    def port(self, network: str) -> int:
        servers = {MODERN: self.inspircd, ERGO: self.ergo}
        return (servers.get(network) or self.ngircd).port

    def peer(
        self, network: str, stem: str = "bob", *channels: str, **more: Any
    ) -> AbstractAsyncContextManager[Peer]:
        """Somebody new on an IRC network; on the modern one with a client that reads tags."""
        return peer(self.port(network), self.new(stem), *channels, tags=network in (MODERN, ERGO), **more)

    async def room(self, owner: Person, **options: Any) -> str:
        """A public room of theirs with the bot in it, which may do there what it needs to."""
        levels = {"users": {self.bot: 100}}
        room = await owner.create_room(
            **{
                "preset": "public_chat",
                "invite": [self.bot],
                "power_level_content_override": levels,
                **options,
            }
        )
        await self.answer(owner, room)
        return room

    async def linked(self, owner: Person, network: str, channel: str) -> str:
        """A room that is linked to the channel."""
        room = await self.room(owner)
        await self.link(owner, room, network, channel)
        return room

    async def link(self, owner: Person, room: str, network: str, channel: str) -> None:
        answer = await self.command(owner, room, f"link {network} {channel}")
        assert "is now linked" in answer, answer

    async def command(self, who: Person, room: str, words: str) -> str:
        """Give a command in a room; the bot's answer."""
        await who.say(room, f"!bridge {words}")
        return (await self.answer(who, room)).body

    async def answer(self, who: Person, room: str) -> Event:
        """The next thing that the bot says in the room, besides how the room is protected and when it was away."""
        return await who.sees(
            room,
            lambda e: (
                e.sender == self.bot
                and e.kind == "m.notice"
                and not e.body.startswith(("Messages in this room are ", "The bridge was away "))
            ),
            what="the bot",
        )

    async def fate(self, who: Person, room: str, event: str) -> dict[str, Any]:
        """What became of a message, as its sender's client is told."""
        found = await who.sees(
            room,
            lambda e: (
                e.type == STATUS
                and e.relates.get("event_id") == event
                and e.content["status"] != "PENDING"  # no fate yet
            ),
            what=f"the fate of {event}",
        )
        return found.content

    def ghost(self, network: str, nick: str) -> str:
        """The user id of somebody on a network."""
        return self.bridge.ghost(network, nick.lower())


async def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what other processes do. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def laboratory(ngircd: Ngircd, inspircd: Inspircd, ergo: Ergo | None = None) -> AsyncIterator[Lab]:
    """The bridge on both of them, or on Ergo alone, and a Synapse of its own, while the block lasts."""
    networks = {PLAIN: _plain(ngircd), MODERN: _with_tls(MODERN, inspircd), CAREFUL: _careful(ngircd)}
    if ergo is not None:
        networks = {ERGO: _with_tls(ERGO, ergo)}
    async with run_synapse() as synapse:
        with private_directory("scenarios") as folder:
            bridge = BridgeProcess(
                folder,
                homeserver_url=synapse.base_url,
                server_name=synapse.server_name,
                networks=networks,
                permissions={f"@bridgeadmin:{synapse.server_name}": "admin", synapse.server_name: "user"},
                moderation={"policy_lists": [BANS], "write_bans_to": BANS},
            )
            keeper = await _list(synapse, bridge.bot)
            await synapse.add_appservice(Path(bridge.registration))
            await bridge.start()
            try:
                yield Lab(
                    synapse=synapse, ngircd=ngircd, inspircd=inspircd, ergo=ergo, bridge=bridge, keeper=keeper
                )
            finally:
                await bridge.stop()


async def _list(synapse: Synapse, bot: str) -> Account:
    """A room of somebody's own for policies, in which the bridge may write; whose it is."""
    keeper = await synapse.register("keeper", admin=True)
    made = {
        "preset": "public_chat",
        "room_alias_name": BANS[1:].partition(":")[0],
        "power_level_content_override": {"users": {bot: 50}},
    }
    await synapse.request("POST", "/_matrix/client/v3/createRoom", made, token=keeper.access_token)
    return keeper


def _plain(server: Ngircd) -> dict[str, Any]:
    return {
        "name": LABEL[PLAIN],
        "nick": RELAY[PLAIN],
        "servers": [{"host": "127.0.0.1", "port": server.port, "tls": False}],
        **_COMMON,
    }


def _careful(server: Ngircd) -> dict[str, Any]:
    """The plain network once more, with private conversations as they are where nothing is said of them."""
    careful = _plain(server) | {"name": LABEL[CAREFUL], "nick": RELAY[CAREFUL]}
    del careful["direct"]
    return careful


def _with_tls(network: str, server: Inspircd | Ergo) -> dict[str, Any]:
    return {
        "name": LABEL[network],
        "nick": RELAY[network],
        "servers": [{"host": "127.0.0.1", "port": server.tls_port, "tls_ca_file": str(server.certificate)}],
        **_COMMON,
    }


_COMMON: dict[str, Any] = {
    "connector": "irc",
    "consent": "off",  # all channels here are our own
    "direct": "anyone",
    "max_lines": 12,
    "flood": {"refill": 0, "lead_max": 0},  # servers of our own
    "puppets": {"connects_per_second": 50},
}
