"""Servers and the bridge die and come back: nothing is lost, nothing comes twice, order is kept."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from slixmpp.xmlstream.xmlstream import NotConnectedError

from bridgekit.testing.person import Person as MatrixPerson
from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.person import Person
from tests.scenarios.xmpp.lab import EJABBERD, XMPP, Lab, until
from tests.scenarios.xmpp.scene import scenery

PACE = 0.4
"""Seconds between two messages of one person."""


@dataclass(kw_only=True)
class Talk:
    """Two people who talk all the time, and what each of them has said."""

    alice: MatrixPerson
    room: str
    muc: str
    bob: Person | None = None
    events: list[str] = field(default_factory=list)
    said_by_bob: int = 0

    async def alice_talks(self) -> None:
        while True:
            self.events.append(await self.alice.say(self.room, f"alice {len(self.events)}"))
            await asyncio.sleep(PACE)

    async def bob_talks(self) -> None:
        while True:
            await asyncio.sleep(PACE)
            if self.bob is not None:
                with contextlib.suppress(NotConnectedError):
                    self.bob.say(self.muc, f"bob {self.said_by_bob}")
                    self.said_by_bob += 1


@contextlib.asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[None]:
    """Both talk while the block lasts."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(talk.alice_talks()), group.create_task(talk.bob_talks())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def out_of_place(numbers: list[int]) -> int:
    """How many have to be taken away so that the others stand in their order."""
    ends: list[int] = []  # of the growing sequences so far, by their length
    for number in numbers:
        at = bisect_left(ends, number)
        ends[at : at + 1] = [number]
    return len(numbers) - len(ends)


async def check(lab: Lab, talk: Talk, bob: Person) -> None:
    """The room's own archive is the truth: all of alice's words are in it, and hers has all of his.

    What the homeserver left behind is brought a minute later, behind its neighbours (decision 0013): so many of hers,
    as the bridge says in its log, may be out of their place.
    """
    bob.say(talk.muc, "bob is done")
    await talk.alice.reads(talk.room, "bob is done", seconds=60)
    last = await talk.alice.say(talk.room, "alice is done")
    await bob.reads("alice is done", seconds=60)
    # One more may have been sent as she was stopped, before she learnt its id.
    said = {f"alice {i}": i for i in range(len(talk.events))}
    async with asyncio.timeout(150):
        while True:
            archive = [one for one in await bob.archive(talk.muc) if one.body]
            mine = [said[one.body] for one in archive if one.body in said]
            if len(set(mine)) == len(said):
                break
            await asyncio.sleep(2)
    assert len(mine) == len(said), "something was said twice"
    late = [(place, number) for place, number in enumerate(mine) if place != number]
    assert out_of_place(mine) <= lab.bridge.left_behind, f"not in their order: {late[:5]}"
    assert {one.nick for one in archive if one.body.startswith("alice ")} == {talk.alice.name}
    his = [one.body for one in archive if one.body.startswith("bob ")]
    read = [e.body for e in talk.alice.seen.all if e.room == talk.room and e.body.startswith("bob ")]
    assert read == his
    assert len(his) > 10
    for event in (*talk.events, last):
        assert (await lab.fate(talk.alice, talk.room, event))["status"] == "SUCCESS"


@pytest.mark.parametrize("network", [XMPP, EJABBERD])
async def test_what_was_said_while_the_bridge_was_dead_comes_from_the_archive(lab: Lab, network: str):
    """XEP-0313: from the last stanza-id that was handed on, in order, once."""
    async with scenery(lab, network) as scene:
        alice, bob = scene.alice, scene.bob
        bob.say(scene.muc, "before the crash")
        await alice.reads(scene.room, "before the crash")
        await alice.say(scene.room, "alice before")
        await bob.reads("alice before")
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


async def test_the_bridge_is_killed_while_both_sides_talk(lab: Lab):
    """SIGKILL in the middle, twice: what was under way is looked up in the archive, and not said again."""
    async with scenery(lab) as scene:
        talk = Talk(alice=scene.alice, room=scene.room, muc=scene.muc, bob=scene.bob)
        async with talking(talk):
            for _ in range(2):
                count = len(talk.events)
                await until(lambda count=count: len(talk.events) > count + 15, 60)  # type: ignore[misc]
                lab.bridge.kill()
                await asyncio.sleep(2)
                await lab.bridge.start()
            await scene.bob.reads(f"alice {len(talk.events) - 1}", seconds=60)
        await check(lab, talk, scene.bob)


@pytest.mark.parametrize(
    ("network", "bridge_too"),
    [(XMPP, False), (XMPP, True), (EJABBERD, False)],
    ids=["prosody", "prosody-and-bridge", "ejabberd"],
)
async def test_the_server_is_away_for_half_a_minute_while_both_sides_talk(
    lab: Lab, network: str, bridge_too: bool
):
    """What alice says waits; what was in the air when the server died is found in its archive, or said again. That the
    bridge is killed in the middle of it changes nothing. ejabberd ends in good order: it writes its archive later."""
    account = await lab.account("bob", network)
    server, muc = lab.server(network), lab.room_name("outage")
    async with lab.matrix("alice") as alice, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        bob = await first.enter_async_context(lab.online(account, network))
        await bob.join(muc)
        await bob.configure(muc, persistentroom="1")  # a killed Prosody forgets other rooms
        talk = Talk(alice=alice, room=await lab.linked(alice, muc, network), muc=muc, bob=bob)
        async with talking(talk):
            await until(lambda: len(talk.events) > 20, 60)
            if isinstance(server, Ejabberd):
                await server.stop()
            else:
                server.kill()
            talk.bob = None
            await first.aclose()
            await asyncio.sleep(15)
            if bridge_too:
                lab.bridge.kill()
            await asyncio.sleep(15)
            await server.start()
            if bridge_too:
                await lab.bridge.start()
            bob = await stack.enter_async_context(lab.online(account, network))
            await bob.join(muc)
            talk.bob = bob
            await bob.reads(f"alice {len(talk.events) - 1}", seconds=90)
            count = len(talk.events)
            await until(lambda: len(talk.events) > count + 10, 60)
        await check(lab, talk, bob)
