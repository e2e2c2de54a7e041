"""The laboratory: two providers, which are two bridges, each on a Synapse of its own."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bridgekit.testing.person import Event, Person
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import free_port, private_directory
from bridgekit.testing.servers.synapse import Synapse
from bridgekit.testing.servers.synapse import synapse as run_synapse
from connectors.mimi.certificates import Authority

STATUS = "com.beeper.message_send_status"
NETWORK = "mimi"
_numbers = itertools.count(1)


@dataclass(kw_only=True)
class Provider:
    """One of the two."""

    domain: str
    synapse: Synapse
    bridge: BridgeProcess

    @property
    def bot(self) -> str:
        return self.bridge.bot

    @asynccontextmanager
    async def somebody(self, stem: str) -> AsyncIterator[Person]:
        """Somebody new with an account on this Synapse."""
        account = await self.synapse.register(f"{stem}{next(_numbers)}")
        async with Person(self.synapse.base_url, account) as one:
            yield one

    def ghost(self, who: Person) -> str:
        """The ghost here of somebody who is with the other provider."""
        return self.bridge.ghost(NETWORK, uri(who))

    async def room(self, owner: Person, *others: Person) -> str:
        """A room of theirs with the bot in it, which may do there what it needs to."""
        room = await owner.create_room(
            preset="private_chat",
            invite=[self.bot, *(other.id for other in others)],
            power_level_content_override={"users": {self.bot: 100}},
        )
        for other in others:
            await other.join(room)
        await self.answer(owner, room, "I am a bridge")
        return room

    async def linked(self, owner: Person, chat: str, *others: Person) -> str:
        """A room that is linked, and whose people agreed to show there, unencrypted, what is said over MLS."""
        room = await self.room(owner, *others)
        await self.command(owner, room, f"link {NETWORK} {chat}", "is now linked")
        await self.command(owner, room, f"agree {NETWORK} {chat}", "has agreed")
        return room

    async def alone(self, who: Person) -> str:
        """Somebody's room with the bot, where every word is a command."""
        room = await who.create_room(preset="trusted_private_chat", is_direct=True, invite=[self.bot])
        await self.answer(who, room, "Every word here is a command")
        return room

    async def command(self, who: Person, room: str, words: str, answer: str) -> Event:
        await who.say(room, f"!bridge {words}")
        return await self.answer(who, room, answer)

    async def answer(self, who: Person, room: str, words: str) -> Event:
        """What the bot says with these words in it."""
        return await who.sees(
            room, lambda e: e.sender == self.bot and words in e.body, seconds=60, what=f"the bot: {words}"
        )

    async def fate(self, who: Person, room: str, event: str, seconds: float = 60) -> dict[str, Any]:
        """What became of a message, as its sender's client is told."""
        found = await who.sees(
            room,
            lambda e: (
                e.type == STATUS and e.relates.get("event_id") == event and e.content["status"] != "PENDING"
            ),
            seconds=seconds,
            what=f"the fate of {event}",
        )
        return found.content


@dataclass(frozen=True, kw_only=True)
class Lab:
    """`a` is the hub of the rooms that are named without a domain there; `b` follows."""

    a: Provider
    b: Provider

    def closed_chat(self) -> str:
        """A room of the other's that nobody has made yet, into which nobody comes uninvited."""
        return f"mimi://{self.b.domain}/r/closed{next(_numbers)}"

    def chat(self, stem: str = "room") -> str:
        """A room of the hub's that nobody has made yet."""
        return f"mimi://{self.a.domain}/r/{stem}{next(_numbers)}"


def section(domain: str, port: int, addresses: dict[str, str], authority: Authority) -> dict[str, Any]:
    """That part of a bridge's config: a provider on this machine. Anybody may join the rooms of a.example."""
    credentials = authority.issue(domain)
    return {
        NETWORK: {
            "connector": "mimi",
            "consent": "off",  # all rooms here are our own
            "name": "MIMI",
            "domain": domain,
            "certificate": str(credentials.certificate),
            "key": str(credentials.key),
            "authorities": str(authority.path),
            "listen": "127.0.0.1",
            "port": port,
            "public_url": f"https://{domain}:{port}",
            "open_rooms": domain == "a.example",
            "peers": addresses,
        }
    }


@asynccontextmanager
async def provider(
    folder: Path, domain: str, port: int, addresses: dict[str, str], authority: Authority
) -> AsyncIterator[Provider]:
    """One bridge on its Synapse, while the block lasts."""
    folder.mkdir()
    async with run_synapse(server_name=f"hs.{domain}") as synapse:
        bridge = BridgeProcess(
            folder,
            homeserver_url=synapse.base_url,
            server_name=synapse.server_name,
            networks=section(domain, port, addresses, authority),
            permissions={synapse.server_name: "admin"},
        )
        await synapse.add_appservice(bridge.registration)
        await bridge.start()
        try:
            yield Provider(domain=domain, synapse=synapse, bridge=bridge)
        finally:
            await bridge.stop()


@asynccontextmanager
async def laboratory() -> AsyncIterator[Lab]:
    """Both, while the block lasts."""
    with private_directory("scenarios-mimi") as folder:
        authority = Authority(folder / "certificates", now=datetime.datetime.now(datetime.UTC))
        ports = {"a.example": free_port(), "b.example": free_port()}
        addresses = {domain: f"https://127.0.0.1:{port}" for domain, port in ports.items()}
        async with AsyncExitStack() as stack:
            made = [
                await stack.enter_async_context(provider(folder / domain, domain, port, addresses, authority))
                for domain, port in ports.items()
            ]
            yield Lab(a=made[0], b=made[1])


def uri(who: Person) -> str:
    """What somebody is called on MIMI."""
    return uri_of(who.id)


def uri_of(mxid: str) -> str:
    """What a Matrix user is called on MIMI."""
    domain = mxid.partition(":")[2].removeprefix("hs.")
    return f"mimi://{domain}/u/{quote(mxid[1:], safe=':')}"


async def everybody(*waits: Any) -> list[Any]:
    """All of these at once."""
    return list(await asyncio.gather(*waits))
