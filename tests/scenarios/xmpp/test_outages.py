"""Servers and the bridge die and come back: nothing is lost, nothing comes twice, order is kept."""

from __future__ import annotations

import asyncio

from tests.scenarios.xmpp.lab import Lab
from tests.scenarios.xmpp.scene import scenery


async def test_what_was_said_while_the_bridge_was_dead_comes_from_the_archive(lab: Lab):
    """XEP-0313: from the last stanza-id that was handed on, in order, once."""
    async with scenery(lab) as scene:
        alice, bob = scene.alice, scene.bob
        bob.say(scene.muc, "before the crash")
        await alice.reads(scene.room, "before the crash")
        await alice.say(scene.room, "alice before")
        await bob.reads("alice before")
        await asyncio.sleep(6)  # the place is written down every few seconds
        lab.bridge.kill()
        for i in range(150):
            bob.say(scene.muc, f"meanwhile {i}")
        await bob.reads("meanwhile 149")
        await lab.bridge.start()
        await alice.reads(scene.room, "meanwhile 149", seconds=60)
        bob.say(scene.muc, "and now")
        await alice.reads(scene.room, "and now")
        said = [e.body for e in alice.seen.all if e.room == scene.room and e.body.startswith("meanwhile")]
        assert said == [f"meanwhile {i}" for i in range(150)]
        assert sum(e.body == "before the crash" for e in alice.seen.all) == 1
        assert sum("alice before" in e.body for e in alice.seen.all) == 1


async def test_prosody_is_killed_while_both_sides_talk(lab: Lab):
    """Words wait for the next connection and are sent once; rooms and occupants come back by themselves.

    What is said in the very moment of the crash is uncertain, and told so; here the loss has been noticed.
    """
    account = await lab.account("bob")
    muc = lab.room_name("outage")
    async with lab.matrix("alice") as alice:
        async with lab.online(account) as bob:
            await bob.join(muc)
            room = await lab.linked(alice, muc)
            await alice.say(room, "before")
            await bob.reads("before")
            await asyncio.sleep(1)
            lab.prosody.kill()
        await asyncio.sleep(3)
        await alice.say(room, "while it was away")
        await asyncio.sleep(2)
        await lab.prosody.start()
        async with lab.online(account) as bob:
            await bob.join(muc, history=20)
            await bob.reads("while it was away", nick=alice.name, seconds=60)
            await alice.say(room, "after")
            await bob.reads("after", nick=alice.name, seconds=60)
            bob.say(muc, "welcome back")
            await alice.reads(room, "welcome back")
            assert bob.said("while it was away") == 1
