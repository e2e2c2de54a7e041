"""A provider dies and comes back: what was said meanwhile arrives, once, in order, both ways."""

from __future__ import annotations

import asyncio

import pytest

from bridgekit.testing.person import Person
from tests.scenarios.mimi.lab import Lab, Provider


async def bodies(at: Provider, reader: Person, room: str, of: Person) -> list[str]:
    """What somebody of the other provider said, as the reader has it, in order."""
    ghost = at.ghost(of)
    return [
        e.body for e in reader.seen.all if e.room == room and e.sender == ghost and e.type == "m.room.message"
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("dies", "seconds"), [("the hub", 60.0), ("the follower", 15.0)])
async def test_one_is_dead_for_a_while_and_catches_up(lab: Lab, dies: str, seconds: float):
    chat = lab.chat()
    async with lab.a.somebody("alice") as alice, lab.b.somebody("bob") as bob:
        at_a = await lab.a.linked(alice, chat)
        at_b = await lab.b.linked(bob, chat)
        await alice.say(at_a, "alice before")
        await bob.reads(at_b, "alice before", seconds=60)
        await bob.say(at_b, "bob before")
        await alice.reads(at_a, "bob before", seconds=60)
        dead = (lab.a if dies == "the hub" else lab.b).bridge
        dead.kill()
        for number in range(6):
            await alice.say(at_a, f"alice {number}")
            await bob.say(at_b, f"bob {number}")
            await asyncio.sleep(seconds / 6)
        await dead.start()
        await alice.say(at_a, "alice after")
        await bob.say(at_b, "bob after")
        await bob.reads(at_b, "alice after", seconds=150)
        await alice.reads(at_a, "bob after", seconds=150)
        for at, reader, room, of in ((lab.b, bob, at_b, alice), (lab.a, alice, at_a, bob)):
            name = of.name.rstrip("0123456789")
            said = ["before", *map(str, range(6)), "after"]
            assert await bodies(at, reader, room, of) == [f"{name} {words}" for words in said]


@pytest.mark.timeout(600)
async def test_both_are_killed_while_people_come_in_and_talk(lab: Lab):
    """New people speak, which makes commits, and both processes die in the middle of them."""
    chat = lab.chat()
    async with lab.a.somebody("alice") as alice, lab.b.somebody("bob") as bob:
        at_a = await lab.a.linked(alice, chat)
        at_b = await lab.b.linked(bob, chat)
        await alice.say(at_a, "alice 0")
        await bob.reads(at_b, "alice 0", seconds=60)
        for number in range(1, 4):
            async with lab.a.somebody("anna") as anna, lab.b.somebody("ben") as ben:
                for owner, room, newcomer in ((alice, at_a, anna), (bob, at_b, ben)):
                    await owner.invite(room, newcomer.id)
                    await newcomer.join(room)
                    await newcomer.say(room, f"{newcomer.name} is new")
                await alice.say(at_a, f"alice {number}")
                await bob.say(at_b, f"bob {number}")
                await asyncio.sleep(0.3)
                for one in (lab.a, lab.b):
                    one.bridge.kill()
                await asyncio.gather(lab.a.bridge.start(), lab.b.bridge.start())
                for words in (f"{anna.name} is new", f"alice {number}"):
                    await bob.reads(at_b, words, seconds=120)
                for words in (f"{ben.name} is new", f"bob {number}"):
                    await alice.reads(at_a, words, seconds=120)
        assert await bodies(lab.b, bob, at_b, alice) == [f"alice {number}" for number in range(4)]
        assert await bodies(lab.a, alice, at_a, bob) == [f"bob {number}" for number in range(1, 4)]
