"""The laboratory: one bridge between Synapse, Prosody (component and account), ejabberd and a plain IRC server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridgekit.testing.person import Event
from bridgekit.testing.person import Person as MatrixPerson
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import Synapse
from bridgekit.testing.servers.synapse import synapse as run_synapse
from connectors.irc.testing.ngircd import Ngircd
from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.person import Person, person
from connectors.xmpp.testing.prosody import COMPONENT, ROOMS, SECRET, Prosody

STATUS = "com.beeper.message_send_status"
XMPP, IRC, ACCOUNT, EJABBERD = "xmpp", "irc", "account", "ejabberd"
"""A component of Prosody, an IRC network, the same Prosody by an ordinary account, and a component of ejabberd."""

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Servers and bridge. Names that come out of here are used once."""

    synapse: Synapse
    prosody: Prosody
    others: Mapping[str, Ejabberd]  # the servers behind networks that are not Prosody's
    bridge: BridgeProcess

    @property
    def bot(self) -> str:
        return self.bridge.bot

    def new(self, stem: str) -> str:
        """A name that nobody has yet."""
        return f"{stem}{next(_numbers)}"

    @asynccontextmanager
    async def matrix(self, stem: str = "alice") -> AsyncIterator[MatrixPerson]:
        """Somebody new on Matrix, an ordinary user of the bridge."""
        account = await self.synapse.register(self.new(stem))
        async with MatrixPerson(self.synapse.base_url, account) as one:
            yield one

    def server(self, network: str) -> Prosody | Ejabberd:
        """The XMPP server behind a network."""
        return self.others.get(network, self.prosody)

    async def account(self, stem: str = "bob", network: str = XMPP) -> tuple[str, str]:
        """A new account on the XMPP server."""
        return await self.server(network).register(self.new(stem))

    def online(self, account: tuple[str, str], network: str = XMPP) -> AbstractAsyncContextManager[Person]:
        """Its owner, online."""
        server = self.server(network)
        return person(*account, port=server.port, certificate=server.certificate)

    @asynccontextmanager
    async def xmpp(self, stem: str = "bob", *rooms: str, network: str = XMPP) -> AsyncIterator[Person]:
        """Somebody new on XMPP, in these rooms."""
        async with self.online(await self.account(stem, network), network) as one:
            for room in rooms:
                await one.join(room)
            yield one

    def room_name(self, stem: str = "room") -> str:
        """The address of a room that nobody has made yet."""
        return f"{self.new(stem)}@{ROOMS}"

    def address(self, who: MatrixPerson) -> str:
        """Under which address a Matrix user is on XMPP."""
        return f"{who.id[1:].replace(':', chr(92) + '3a')}@{COMPONENT}"

    async def room(self, owner: MatrixPerson, **options: Any) -> str:
        """A public room of theirs with the bot in it, which may do there what it needs to."""
        levels = {"users": {self.bot: 100}}
        made = {
            "preset": "public_chat",
            "invite": [self.bot],
            "power_level_content_override": levels,
            **options,
        }
        room = await owner.create_room(**made)
        await self.answer(owner, room)
        return room

    async def linked(self, owner: MatrixPerson, chat: str, network: str = XMPP) -> str:
        """A room that is linked to the chat."""
        room = await self.room(owner)
        await self.link(owner, room, chat, network)
        return room

    async def link(self, owner: MatrixPerson, room: str, chat: str, network: str = XMPP) -> None:
        answer = await self.command(owner, room, f"link {network} {chat}")
        assert "is now linked" in answer, answer

    async def command(self, who: MatrixPerson, room: str, words: str) -> str:
        """Give a command in a room; the bot's answer."""
        await who.say(room, f"!bridge {words}")
        return (await self.answer(who, room)).body

    async def answer(self, who: MatrixPerson, room: str) -> Event:
        """The next thing that the bot says in the room, besides how the room is protected."""
        return await who.sees(
            room,
            lambda e: (
                e.sender == self.bot
                and e.kind == "m.notice"
                and not e.body.startswith("Messages in this room are ")
            ),
            what="the bot",
        )

    async def fate(self, who: MatrixPerson, room: str, event: str) -> dict[str, Any]:
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


async def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what other processes do. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def laboratory(prosody: Prosody, ejabberd: Ejabberd, ngircd: Ngircd) -> AsyncIterator[Lab]:
    """The bridge on all of them, and a Synapse of its own, while the block lasts."""
    networks = {
        XMPP: _component(prosody),
        EJABBERD: _component(ejabberd),
        ACCOUNT: await _account(prosody),
        IRC: {
            "connector": "irc",
            "consent": "off",
            "name": "IRC",
            "nick": "xbridge",
            "servers": [{"host": "127.0.0.1", "port": ngircd.port, "tls": False}],
            "flood": {"refill": 0, "lead_max": 0},
        },
    }
    async with _bridged(networks, prosody, {EJABBERD: ejabberd}) as lab:
        yield lab


@asynccontextmanager
async def loopback_laboratory(prosody: Prosody) -> AsyncIterator[Lab]:
    """A bridge with an account alone, which fetches files of this machine too, if they lie on that Prosody."""
    networks = {ACCOUNT: await _account(prosody)}
    async with _bridged(networks, prosody, {}, loopback_certificate=prosody.certificate) as lab:
        yield lab


@asynccontextmanager
async def _bridged(
    networks: dict[str, Any], prosody: Prosody, others: dict[str, Ejabberd], **options: Any
) -> AsyncIterator[Lab]:
    async with run_synapse() as synapse:
        with private_directory("scenarios-xmpp") as folder:
            bridge = BridgeProcess(
                folder,
                homeserver_url=synapse.base_url,
                server_name=synapse.server_name,
                networks=networks,
                permissions={f"@xmppadmin:{synapse.server_name}": "admin", synapse.server_name: "user"},
                **options,
            )
            await synapse.add_appservice(Path(bridge.registration))
            await bridge.start()
            try:
                yield Lab(synapse=synapse, prosody=prosody, others=others, bridge=bridge)
            finally:
                await bridge.stop()


def _component(server: Prosody | Ejabberd) -> dict[str, Any]:
    return {
        "connector": "xmpp",
        "consent": "off",
        "direct": "anyone",
        "name": "XMPP",
        "mode": "component",
        "jid": COMPONENT,
        "secret": SECRET,
        "port": server.component_port,
    }


async def _account(server: Prosody) -> dict[str, Any]:
    jid, password = await server.register("thebridge")
    return {
        "connector": "xmpp",
        "consent": "off",
        "direct": "anyone",
        "name": "Account",
        "mode": "client",
        "jid": jid,
        "password": password,
        "host": "127.0.0.1",
        "port": server.port,
        "tls_ca_file": str(server.certificate),
        "nick": "thebridge",
    }
