"""The label of a room, and what an encrypted room's people agree to, in a running bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from bridgekit.contract.facts import ChatOpened
from bridgekit.contract.ids import ChatId, NetworkId, PortalKey
from bridgekit.contract.policy import Protection
from bridgekit.core.protection import STATE_TYPE
from bridgekit.runtime.encryption.protecting import PUT_BACK
from tests.runtime.fake_network import TALK, Town, says
from tests.runtime.running import (
    BOT,
    World,
    by,
    emptied,
    ghost,
    has_fate,
    membership,
    said,
    town_world,
    until,
)
from tests.runtime.running import linked as plainly_linked
from tests.runtime.secret_client import ENCRYPTION, SecretClient
from tests.runtime.secret_rooms import Scene, linked, running


def label_of(place: World, room: str) -> dict[str, Any]:
    """The room's label, as its state has it now."""
    found = place.homeserver.state(room, STATE_TYPE)
    return found if found is not None else {}


@asynccontextmanager
async def unagreed(folder: Path) -> AsyncIterator[Scene]:
    """Alice's encrypted room is linked to #talk, and nobody has agreed to anything."""
    town = Town()
    async with town_world(folder, town) as place, running(place) as bridge:
        alice, room = await linked(place, agree=False)
        yield Scene(place, town, bridge, alice, room)


async def test_nothing_leaves_an_encrypted_room_until_a_moderator_agrees(tmp_path: Path) -> None:
    async with unagreed(tmp_path) as now:
        refused = await now.alice.say(now.room, "too early")
        fate = await said(now.place, has_fate(refused))
        assert fate.content["status"] != "SUCCESS"
        await until(lambda: any("nothing crosses until" in w for w in now.alice.words(now.room, BOT)))
        assert now.town.said() == []
        mallory = SecretClient(now.place.homeserver, now.place.homeserver.user("mallory"))
        await now.place.homeserver.user("mallory").join(now.room)
        await mallory.say(now.room, "!bridge agree town #talk")
        await until(lambda: any("You need power level" in w for w in now.alice.words(now.room, BOT)))
        await now.alice.say(now.room, "!bridge agree town #talk")
        await until(lambda: any("has agreed" in w for w in now.alice.words(now.room, BOT)))
        await now.alice.say(now.room, "now it may")
        await now.town.until(lambda: now.town.said())
        assert now.town.said() == ["<alice> now it may"]
        (kept,) = await now.bridge.store.agreements.all()
        assert (kept.person, kept.room, kept.ended) == ("@alice:hs.test", now.room, 0)
        assert "may be passed on to #talk on Town" in kept.wording


async def test_an_agreement_outlives_a_restart_and_ends_when_it_is_taken_back(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            alice, room = await linked(place)
        async with running(place) as bridge:
            await alice.say(room, "still agreed")
            await town.until(lambda: town.said())
            await alice.say(room, "!bridge disagree town #talk")
            await until(lambda: any("Taken back." in w for w in alice.words(room, BOT)))
            fate = await said(place, has_fate(await alice.say(room, "no more")))
            assert fate.content["status"] != "SUCCESS"
            assert town.said() == ["<alice> still agreed"]
            (kept,) = await bridge.store.agreements.all()
            assert kept.ended_by == "@alice:hs.test"


def opened_with(town: Town, protection: Protection) -> None:
    """The chat gives another protection from now on, and its session says so."""
    town.can = msgspec.structs.replace(town.can, protection=protection)
    town.emit(ChatOpened(chat=TALK, at=1, name=TALK))


async def test_a_chat_that_becomes_encrypted_needs_no_agreement_while_it_is(tmp_path: Path) -> None:
    """The meet follows each link's own word, whatever its network: an encrypted chat of XMPP, say, or MIMI."""
    async with unagreed(tmp_path) as now:
        opened_with(now.town, Protection.BRIDGE)
        await until(lambda: label_of(now.place, now.room).get("protection") == "bridge")
        assert label_of(now.place, now.room)["links"] == [
            {"network": "town", "chat": "#talk", "protection": "bridge"}
        ]
        await now.alice.say(now.room, "sealed all the way")
        await now.town.until(lambda: now.town.said() == ["<alice> sealed all the way"])
        assert await now.bob_says("here, too") == ["here, too"]
        opened_with(now.town, Protection.TRANSPORT)
        await until(lambda: label_of(now.place, now.room).get("protection") == "transport")
        assert label_of(now.place, now.room)["links"][0]["agreed"] is False
        fate = await said(now.place, has_fate(await now.alice.say(now.room, "not any more")))
        assert fate.content["status"] != "SUCCESS"
        assert now.town.said() == ["<alice> sealed all the way"]


async def test_the_label_is_the_meet_of_two_links_of_one_room(tmp_path: Path) -> None:
    """One encrypted, one not: what is agreed to is the weaker one alone, and the sealed one's words wait for it."""
    async with unagreed(tmp_path) as now:
        opened_with(now.town, Protection.BRIDGE)
        await until(lambda: label_of(now.place, now.room).get("protection") == "bridge")
        now.town.can = msgspec.structs.replace(now.town.can, protection=Protection.CLEAR)
        await now.alice.say(now.room, "!bridge link town #market")
        await until(lambda: label_of(now.place, now.room).get("protection") == "clear")
        assert label_of(now.place, now.room)["links"] == [
            {"network": "town", "chat": "#talk", "protection": "bridge"},
            {"network": "town", "chat": "#market", "protection": "clear", "agreed": False},
        ]
        now.town.emit(says("Bob", "who reads this?"))
        await until(lambda: now.alice.words(now.room, ghost("bob")) == ["who reads this?"])
        assert now.town.said("#market") == []
        await now.alice.say(now.room, "!bridge agree town #market")
        await until(lambda: label_of(now.place, now.room)["links"][1]["agreed"] is True)
        now.town.emit(says("Bob", "and this?"))
        await now.town.until(lambda: now.town.said("#market"))
        assert now.town.said("#market") == ["<Bob/Town> and this?"]


async def test_the_label_is_published_and_changes_with_its_cause(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, running(place):
        human = place.homeserver.user("alice")
        alice = SecretClient(place.homeserver, human)
        room = await human.create_room(preset="public_chat", invite=[BOT])
        await said(place, membership(BOT, "join"))
        await human.set_power(room, BOT, 100)
        await human.send(room, "!bridge link town #talk")
        await until(lambda: label_of(place, room).get("protection") == "clear")
        assert label_of(place, room)["matrix"] == "transport"
        words = (
            "Messages in this room are not end-to-end encrypted. Town sends them in clear over the network."
        )
        answer = await said(place, by(BOT, "now linked"))
        assert answer.content["body"].endswith(words)
        await human.set_state(room, "m.room.encryption", ENCRYPTION)
        await until(lambda: label_of(place, room).get("matrix") == "bridge")
        assert label_of(place, room)["links"] == [
            {"network": "town", "chat": "#talk", "protection": "clear", "agreed": False}
        ]
        await until(lambda: any("nothing crosses until" in w for w in alice.words(room, BOT)))
        fate = await said(place, has_fate(await alice.say(room, "not any more")))
        assert fate.content["status"] != "SUCCESS"


async def test_a_label_that_the_room_did_not_let_the_bridge_put_up_is_put_up_when_it_does(
    tmp_path: Path,
) -> None:
    """It was taken for published: a room whose bot got its power later had no label, or the old one, for ever."""
    async with town_world(tmp_path, Town()) as place:
        async with place.bridge() as bridge:
            alice, room = await plainly_linked(place, power=0)
            await until(lambda: bridge.registry.links_of(ChatId(room)))
            assert label_of(place, room) == {}
        async with place.bridge():
            await alice.set_power(room, BOT, 100)
            await until(lambda: label_of(place, room))
            assert label_of(place, room)["protection"] == "clear"
        words = [e.body for e in place.homeserver.messages(room) if e.sender == BOT]
        assert sum("not end-to-end encrypted" in body for body in words) == 1


async def test_a_label_that_somebody_overwrites_is_put_back_and_not_said_again(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge():
        alice, room = await plainly_linked(place)
        await until(lambda: label_of(place, room).get("protection") == "clear")
        true = label_of(place, room)
        for false in ({"protection": "end_to_end"}, {}):
            await alice.set_state(room, STATE_TYPE, false)
            await until(lambda: label_of(place, room) == true)
        words = [e.body for e in place.homeserver.messages(room) if e.sender == BOT]
        assert sum("not end-to-end encrypted" in body for body in words) == 1


async def test_two_bridges_that_overwrite_each_others_label_do_not_fight(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge:
        alice, room = await plainly_linked(place)
        await until(lambda: label_of(place, room).get("protection") == "clear")
        true = label_of(place, room)
        for _ in range(PUT_BACK.count):
            await alice.set_state(room, STATE_TYPE, {"protection": "bridge"})
            await until(lambda: label_of(place, room) == true)
        await alice.set_state(room, STATE_TYPE, {"protection": "bridge"})
        await place.homeserver.settled()
        await emptied(bridge)
        assert label_of(place, room) == {"protection": "bridge"}


async def test_what_was_agreed_to_ends_with_the_link_also_where_the_bridge_is_killed_between(
    tmp_path: Path,
) -> None:
    """The link was gone from the disk, and what was agreed to about it held for whoever linked the chat next."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place) as bridge:
            alice, room = await linked(place)
            await until(lambda: label_of(place, room)["links"][0]["agreed"])
            await bridge.registry.remove_link(PortalKey(NetworkId("town"), TALK))
        async with running(place):
            await until(lambda: label_of(place, room) == {})
            await alice.say(room, "!bridge link town #talk")
            await until(lambda: label_of(place, room))
            assert label_of(place, room)["links"][0]["agreed"] is False
            fate = await said(place, has_fate(await alice.say(room, "not again")))
            assert fate.content["status"] != "SUCCESS"
        assert town.said() == []
