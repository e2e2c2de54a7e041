"""`!bridge stop`: a long paste ends where its sender says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridgekit.contract.connector import OwnAccounts
from bridgekit.contract.ids import LoginId
from bridgekit.contract.verbs import PostMessage, Verb
from tests.runtime.fake_network import Town, says
from tests.runtime.running import BOT, by, ghost, has_fate, linked, said, town_world, until


class Slow(Town):
    """A town that takes one message, and then no other before `gate` opens."""

    def __init__(self) -> None:
        super().__init__(OwnAccounts.OFF)
        self.gate = asyncio.Event()
        self.tried: list[str] = []
        self.behave = self.hesitate

    async def hesitate(self, login: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage) and "is linked to" not in verb.content.text.body:
            self.tried.append(verb.content.text.body)
            await self.gate.wait()


async def test_what_waits_is_not_said_and_each_message_has_its_fate(tmp_path: Path) -> None:
    town = Slow()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        zoe = place.homeserver.user("zoe")
        await zoe.join(room)
        pasted = [await alice.send(room, f"line {number}") for number in range(20)]
        await zoe.send(room, "may I?")
        await until(lambda: town.tried == ["line 0"])
        await until(lambda: bridge.rooms.depth()[0] == 21)
        await alice.send(room, "!bridge stop")
        await said(place, by(BOT, "Stopped 20 messages of yours"))
        for event in pasted:
            fate = await said(place, has_fate(event))
            assert fate.content["status"] == "FAIL_PERMANENT"
            assert fate.content["message"] == "You stopped it before it was sent."
        town.gate.set()
        await town.until(lambda: town.said() == ["<zoe> may I?"])
        # One answer is enough: the room is not filled with twenty notices.
        assert not [e for e in place.homeserver.messages(room) if "Not delivered" in e.body]
        await until(lambda: bridge.rooms.depth()[0] == 0)
        async with asyncio.timeout(60):
            while await bridge.store.inbox.count():  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.02)
        town.emit(says("Bob", "peace at last"))
        await said(place, by(ghost("bob"), "peace at last"))
        assert len(town.logins) == 1  # the connection was not lost over it


async def test_who_has_nothing_to_stop_is_told_so(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "hello")
        await town.until(lambda: town.said() == ["<alice> hello"])
        await alice.send(room, "!bridge stop")
        await said(place, by(BOT, "Nothing of what you said here waits to be sent."))


async def test_what_a_sender_says_after_the_stop_is_said(tmp_path: Path) -> None:
    town = Slow()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        for number in range(5):
            await alice.send(room, f"line {number}")
        await until(lambda: town.tried)
        await alice.send(room, "!bridge stop")
        await said(place, by(BOT, "still waiting, or on the way"))
        town.gate.set()
        await alice.send(room, "sorry")
        await town.until(lambda: town.said() == ["<alice> sorry"])
