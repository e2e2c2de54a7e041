"""Rooms that are encrypted on Matrix and on XMPP: keys outlive a crash, labels fall with their cause."""

from __future__ import annotations

import asyncio
from pathlib import Path

from connectors.xmpp.testing.omemo_person import omemo_person
from tests.scenarios.xmpp.lab import XMPP, Lab
from tests.scenarios.xmpp.sealed import sealed


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
