"""People who talk encrypted on both sides: nio on Matrix, a stock slixmpp-omemo client on XMPP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridgekit.testing.nio_client import NioClient, nio_client
from connectors.xmpp.testing.omemo_person import OmemoPerson, omemo_person
from tests.scenarios.xmpp.lab import ACCOUNT, Lab

LABEL = "org.bridgekit.protection"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """alice with nio and bob with slixmpp-omemo, who have a device each."""

    lab: Lab
    alice: NioClient
    bob: OmemoPerson

    async def answered(self, room: str, words: str, seconds: float = 60) -> str:
        """What the bot says with these words in it, the newest."""
        await self.alice.until(lambda: self._answers(room, words), seconds)
        return self._answers(room, words)[-1]

    def _answers(self, room: str, words: str) -> list[str]:
        return [body for body in self.alice.said_by(room, self.lab.bot) if words in body]

    async def alice_reads(self, room: str, words: str) -> Any:
        """From somebody's ghost; the event."""
        await self.alice.until(lambda: self._said(room, words), 60)
        return self._said(room, words)[-1]

    def _said(self, room: str, words: str) -> list[Any]:
        others = (self.alice.id, self.lab.bot)
        return [
            event
            for (where, who, body), event in zip(self.alice.read, self.alice.events, strict=True)
            if where == room and body == words and who not in others
        ]

    async def label(self, room: str) -> dict[str, object]:
        """How a room is protected, as its state says."""
        found: dict[str, object] = await self.alice.call("GET", f"/rooms/{room}/state/{LABEL}/")
        return found


@asynccontextmanager
async def pair(lab: Lab, folder: Path) -> AsyncIterator[Pair]:
    """Somebody new on either side."""
    jid, password = await lab.account("bob")
    account = await lab.synapse.register(lab.new("alice"))
    server = lab.prosody
    async with (
        omemo_person(jid, password, port=server.port, certificate=server.certificate) as bob,
        nio_client(lab.synapse, account, folder) as alice,
    ):
        yield Pair(lab=lab, alice=alice, bob=bob)


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """The two in a room that is encrypted on both sides, and who relays."""

    pair: Pair
    muc: str
    relay: str
    room: str

    @property
    def lab(self) -> Lab:
        return self.pair.lab

    @property
    def alice(self) -> NioClient:
        return self.pair.alice

    @property
    def bob(self) -> OmemoPerson:
        return self.pair.bob

    @property
    def prefix(self) -> str:
        """How the relay says who speaks."""
        return f"<{self.alice.id[1:].partition(':')[0]}> "

    async def answered(self, words: str, seconds: float = 60) -> str:
        return await self.pair.answered(self.room, words, seconds)

    async def bob_says(self, words: str) -> None:
        await self.bob.say(self.muc, words, self.relay)

    async def alice_reads(self, words: str) -> Any:
        return await self.pair.alice_reads(self.room, words)

    async def label(self) -> dict[str, object]:
        return await self.pair.label(self.room)


@asynccontextmanager
async def sealed(lab: Lab, folder: Path) -> AsyncIterator[Sealed]:
    """Both rooms, linked by the relay's account."""
    relay, _ = await lab.prosody.register("thebridge")
    muc = lab.room_name("sealed")
    async with pair(lab, folder) as two:
        alice, bob = two.alice, two.bob
        await bob.join(muc)
        await bob.configure(muc, membersonly="1", whois="anyone")
        await bob.let_in(muc, relay)
        room = await alice.encrypted_room(lab.bot)
        here = Sealed(pair=two, muc=muc, relay=relay, room=room)
        await here.answered("I am a bridge")
        levels = {"users": {lab.bot: 100}}
        await alice.call("PUT", f"/rooms/{room}/state/m.room.power_levels/", levels)
        await alice.say(room, f"!bridge link {ACCOUNT} {muc}")
        await here.answered("is now linked")
        yield here
