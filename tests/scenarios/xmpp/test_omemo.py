"""A room that is encrypted on Matrix and on XMPP: what is said crosses, and no server reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridgekit.testing.nio_client import NioClient, nio_client
from connectors.xmpp.testing.omemo_person import OmemoPerson, omemo_person
from tests.scenarios.xmpp.lab import ACCOUNT, XMPP, Lab

LABEL = "org.bridgekit.protection"


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """alice in an encrypted room with nio, bob in an encrypted room with slixmpp-omemo, and who relays."""

    lab: Lab
    alice: NioClient
    bob: OmemoPerson
    muc: str
    relay: str
    room: str

    async def answered(self, words: str, seconds: float = 60) -> str:
        """What the bot says with these words in it, the newest."""
        await self.alice.until(lambda: self._answers(words), seconds)
        return self._answers(words)[-1]

    def _answers(self, words: str) -> list[str]:
        return [body for body in self.alice.said_by(self.room, self.lab.bot) if words in body]

    async def bob_says(self, words: str) -> None:
        await self.bob.say(self.muc, words, self.relay)

    async def alice_reads(self, words: str) -> None:
        """From somebody's ghost."""
        await self.alice.until(
            lambda: any(
                body == words and who not in (self.alice.id, self.lab.bot)
                for room, who, body in self.alice.read
                if room == self.room
            ),
            60,
        )

    async def label(self) -> dict[str, object]:
        """How the room is protected, as its state says."""
        found: dict[str, object] = await self.alice.call("GET", f"/rooms/{self.room}/state/{LABEL}/")
        return found


@asynccontextmanager
async def sealed(lab: Lab, folder: Path) -> AsyncIterator[Sealed]:
    """Both rooms, linked by the relay's account."""
    relay, _ = await lab.prosody.register("thebridge")
    jid, password = await lab.account("bob")
    account = await lab.synapse.register(lab.new("alice"))
    muc = lab.room_name("sealed")
    server = lab.prosody
    async with (
        omemo_person(jid, password, port=server.port, certificate=server.certificate) as bob,
        nio_client(lab.synapse, account, folder) as alice,
    ):
        await bob.join(muc)
        await bob.configure(muc, membersonly="1", whois="anyone")
        await bob.let_in(muc, relay)
        room = await alice.encrypted_room(lab.bot)
        here = Sealed(lab=lab, alice=alice, bob=bob, muc=muc, relay=relay, room=room)
        await here.answered("I am a bridge")
        levels = {"users": {lab.bot: 100}}
        await alice.call("PUT", f"/rooms/{room}/state/m.room.power_levels/", levels)
        await alice.say(room, f"!bridge link {ACCOUNT} {muc}")
        await here.answered("is now linked")
        yield here


def where(lab: Lab, *words: str) -> list[str]:
    """The files of the three servers that hold any of these in clear."""
    folders = (lab.prosody.config.parent, lab.synapse.folder, lab.bridge.folder)
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path) for path in files if any(word.encode() in path.read_bytes() for word in words)]


async def test_what_two_people_say_encrypted_stands_nowhere_on_a_disk(lab: Lab, tmp_path: Path):
    """XEP-0384 on one side and Megolm on the other: not in Prosody's archive, Synapse's database or the bridge's."""
    there, back = "xylographers quarrel in the archive", "zeppelins over quicksand"
    async with sealed(lab, tmp_path) as here:
        label = await here.label()
        assert label["protection"] == "bridge"
        assert label["links"] == [{"network": ACCOUNT, "chat": here.muc, "protection": "bridge"}]
        await here.alice.say(here.room, there)
        name = here.alice.id[1:].partition(":")[0]
        assert (await here.bob.reads(f"<{name}> {there}")).sealed
        await here.bob_says(back)
        await here.alice_reads(back)
        here.bob.say_in_clear(here.muc, "a control in clear", room=True)
        await here.alice_reads("(not encrypted) a control in clear")
        await asyncio.sleep(1)  # what is written behind is written
        assert where(lab, there, back) == []
        assert any(str(lab.prosody.config.parent) in path for path in where(lab, "a control in clear"))
        assert here.alice.unread == []


async def test_the_keys_outlive_a_crash_and_what_was_said_meanwhile_is_read(lab: Lab, tmp_path: Path):
    """SIGKILL: the ratchets are as far as what was told; the archive's messages are opened with them, once."""
    async with sealed(lab, tmp_path) as here:
        await here.bob_says("before")
        await here.alice_reads("before")
        lab.bridge.kill()
        for i in range(5):
            await here.bob_says(f"meanwhile {i}")
        await lab.bridge.start()
        await here.alice_reads("meanwhile 4")
        await here.bob_says("and now")
        await here.alice_reads("and now")
        said = [body for room, _, body in here.alice.read if room == here.room and "meanwhile" in body]
        assert said == [f"meanwhile {i}" for i in range(5)]
        await here.alice.say(here.room, "I read all that")
        name = here.alice.id[1:].partition(":")[0]
        assert (await here.bob.reads(f"<{name}> I read all that", seconds=60)).sealed


async def test_a_room_that_is_opened_is_no_longer_called_encrypted(lab: Lab, tmp_path: Path):
    """The label falls with its cause, and nothing of the encrypted room crosses before somebody agrees."""
    async with sealed(lab, tmp_path) as here:
        await here.bob.configure(here.muc, membersonly="0", whois="moderators")
        told = await here.answered("nothing crosses until")
        assert here.muc in told
        assert (await here.label())["protection"] == "transport"
        await here.alice.say(here.room, "not for everybody")
        await here.alice.say(here.room, "!bridge status")
        await here.answered("Account")
        assert here.bob.seen.all == [one for one in here.bob.seen.all if "not for everybody" not in one.body]


async def test_the_keys_are_shown_to_whoever_asks_in_the_room(lab: Lab, tmp_path: Path):
    async with sealed(lab, tmp_path) as here:
        await here.alice.say(here.room, "!bridge devices")
        told = await here.answered("is encrypted for")
        assert await here.bob.fingerprint() in told
        assert f"{here.relay}, " in told
        await here.alice.say(here.room, f"!bridge trust {await here.bob.fingerprint()}")
        assert "only an admin" in await here.answered("Everybody's words")


async def test_a_gateway_does_not_enter_a_room_that_speaks_nothing_else(lab: Lab, tmp_path: Path):
    """A component could not read it; people learn that when they ask for the link."""
    relay, _ = await lab.prosody.register("thebridge")
    jid, password = await lab.account("bob")
    muc = lab.room_name("sealed")
    server = lab.prosody
    async with (
        omemo_person(jid, password, port=server.port, certificate=server.certificate) as bob,
        lab.matrix("alice") as alice,
    ):
        await bob.join(muc)
        for i in range(4):
            await bob.say(muc, f"only for us {i}", relay)
        await asyncio.sleep(0.5)
        room = await lab.room(alice)
        answer = await lab.command(alice, room, f"link {XMPP} {muc}")
        assert "encrypted with OMEMO" in answer, answer
