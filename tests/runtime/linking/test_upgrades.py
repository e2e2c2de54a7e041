"""Rooms that are replaced: nothing that is said between the two is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract.facts import ChatVisibility
from bridgekit.contract.ids import ChatId, NetworkId, PortalKey
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import PostMessage
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import Human
from tests.runtime.encryption.test_protecting import label_of
from tests.runtime.fake_network import TALK, Town, TownConfig, TownConnector, now, says
from tests.runtime.running import BOT, World, by, emptied, ghost, linked, said, town_world, until
from tests.runtime.secret_rooms import scene

TOWN = NetworkId("town")
SIDE = PortalKey(TOWN, TALK)
SECRET = Visibility(known=True, exposure=Exposure.JOINED, entry=Entry.OPEN, listed=False, detail="+s")
WORDS = ["one", "two", "three"]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for moments."""
    monkeypatch.setattr("bridgekit.runtime.gates.visibilities.TOLD_SECONDS", 0.2)
    monkeypatch.setattr("bridgekit.runtime.linking.upgrades.TRIES", (0.1, 0.2))


async def closed(place: World, town: Town) -> tuple[Human, str]:
    """A linked room that nobody enters without an invitation, in which Bob has spoken."""
    alice, room = await linked(place)
    town.emit(says("Bob", "hello"))
    await said(place, by(ghost("bob"), "hello"))
    await alice.set_state(room, "m.room.join_rules", {"join_rule": "invite"})
    return alice, room


async def let_in(place: World, alice: Human, new: str) -> None:
    """The bridge may enter the new room, and do there what it did in the old."""
    await alice.set_power(new, BOT, 100)
    await alice.invite(new, BOT)


def words_of(place: World, room: str, who: str = "bob") -> list[str]:
    """What a ghost has said in a room, in order."""
    return [e.body for e in place.homeserver.messages(room) if e.sender == ghost(who)]


async def held(bridge: Bridge, count: int) -> None:
    await until(lambda: bridge.parts.holding.count(SIDE) == count)


async def test_what_is_said_before_the_bridge_is_let_into_the_new_room_waits_for_that(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await closed(place, town)
        new = await alice.upgrade(room, "11")
        await said(place, by(BOT, "invite it there"))
        for word in WORDS:
            town.emit(says("Bob", word))
        await held(bridge, 3)
        assert await bridge.store.inbox.count() == 3  # on disk, until it is delivered
        await let_in(place, alice, new)
        town.emit(says("Bob", "four"))
        await said(place, by(ghost("bob"), "four"))
        assert words_of(place, new) == [*WORDS, "four"]
        assert words_of(place, room) == ["hello"]
        await until(lambda: bridge.registry.links[SIDE].state == "open")
        assert not any("could not be shown" in e.body for e in place.homeserver.messages(room))


async def test_everybody_concerned_is_told_that_the_bridge_waits_for_an_invitation(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await closed(place, town)
        new = await alice.upgrade(room, "11")
        asked = await said(place, lambda e: by(BOT, "invite it there")(e) and e.room_id != room)
        assert new in asked.body  # who made the link, in a room of their own
        await said(place, lambda e: by(BOT, "invite it there")(e) and e.room_id == room)
        notices = [p.content.text.body for p in town.done(PostMessage) if p.chat == TALK]
        assert any("What is said here waits" in words for words in notices)
        town.emit(says("Bob", "one"))
        await held(bridge, 1)
        await alice.send(room, "!bridge status")
        await said(place, by(BOT, f"#talk on Town: on its way: The Matrix room was replaced by {new}"))


async def test_a_restart_forgets_neither_the_words_nor_that_they_wait(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await closed(place, town)
            new = await alice.upgrade(room, "11")
            await said(place, by(BOT, "invite it there"))
            town.emit(says("Bob", "one"))
            await held(bridge, 1)
        async with place.bridge() as bridge:
            await until(lambda: None in town.sessions)
            town.emit(says("Bob", "two"))
            await held(bridge, 2)
            await let_in(place, alice, new)
            await said(place, by(ghost("bob"), "two"))
        assert words_of(place, new) == ["one", "two"]
        assert words_of(place, room) == ["hello"]


async def test_an_upgrade_in_the_middle_of_a_conversation_loses_nothing(tmp_path: Path) -> None:
    """In a public room the bridge follows at once: what is on its way that moment is refused by the old room."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        talking = True

        async def talk() -> int:
            count = 0
            while talking:
                town.emit(says("Bob", f"{count:04d}"))
                count += 1
                await asyncio.sleep(0.005)
            return count

        task = asyncio.create_task(talk())
        await said(place, by(ghost("bob"), "0020"))
        new = await alice.upgrade(room, "11")
        await said(place, lambda e: e.room_id == new and e.sender == ghost("bob") and bool(e.body))
        talking = False
        count = await task
        await said(place, by(ghost("bob"), f"{count - 1:04d}"))
        assert words_of(place, room) + words_of(place, new) == [f"{n:04d}" for n in range(count)]


async def test_an_encrypted_room_is_followed_with_what_was_agreed_and_nothing_is_said_in_clear(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as now:
        await now.bob_says("in the old room")
        homeserver = now.place.homeserver
        new = await now.alice.human.upgrade(now.room, "11")
        await until(lambda: now.bridge.registry.links[SIDE].room == new)
        await until(lambda: label_of(now.place, new).get("matrix") == "bridge")
        assert label_of(now.place, new)["links"] == [
            {"network": TOWN, "chat": TALK, "protection": "clear", "agreed": True}
        ]
        now.town.emit(says("Bob", "in the new room"))
        await until(lambda: now.alice.words(new, ghost("bob")) == ["in the new room"])
        await now.alice.say(new, "I am here, too")
        await now.town.until(lambda: now.town.said())
        assert now.town.said() == ["<alice> I am here, too"]
        assert homeserver.messages(now.room) == homeserver.messages(new) == []


async def test_what_another_network_has_read_already_is_not_said_there_again(tmp_path: Path) -> None:
    """Of two copies of a message, one arrived and the other was refused by a room that was just replaced."""
    town, village = Town(), Town()
    async with town_world(tmp_path, town) as place:
        place.networks["village"] = {"connector": "village", "config": TownConfig(), "name": "Village"}
        place.connectors["village"] = TownConnector(village)
        async with place.bridge() as bridge:
            alice, room = await closed(place, town)
            await alice.send(room, "!bridge link village #talk")
            await until(lambda: len(bridge.parts.passage.passing) == 2)
            place.homeserver.withhold()  # the old room refuses before its event is here
            new = await alice.upgrade(room, "11")
            town.emit(says("Bob", "one"))
            await village.until(lambda: village.said() == ["<Bob/Town> one"])
            await held(bridge, 1)
            await let_in(place, alice, new)
            await said(place, lambda e: e.room_id == new and by(ghost("bob"), "one")(e))
            assert village.said() == ["<Bob/Town> one"]


async def test_a_room_that_only_refuses_is_not_taken_for_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.traffic.matrix_side.NEW_MS", 0)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await closed(place, town)
        await alice.set_state(
            room,
            "m.room.power_levels",
            {**(place.homeserver.state(room, "m.room.power_levels") or {}), "events_default": 60},
        )
        town.emit(says("Bob", "one"))
        await said(place, by(BOT, "could not be shown"))
        assert bridge.parts.holding.count(SIDE) == 0


async def test_what_the_people_of_a_room_want_more_secret_stays_so_in_the_room_that_replaces_it(
    tmp_path: Path,
) -> None:
    """A room that the bridge made wants to be as open as its chats allow, until its people choose less."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        portal = bridge.registry.portals[ChatId(room)]
        await bridge.registry.put_portal(msgspec.structs.replace(portal, made=True))
        await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
        await place.homeserver.settled()
        await emptied(bridge)
        new = await alice.upgrade(room, "11")
        await alice.set_state(new, "m.room.history_visibility", {"history_visibility": "joined"})
        await let_in(place, alice, new)
        await until(lambda: bridge.registry.links[SIDE].room == new)
        town.emit(says("Bob", "hello"))
        await until(lambda: words_of(place, new) == ["hello"])
        state = place.homeserver.state(new, "m.room.history_visibility") or {}
        assert state["history_visibility"] == "joined"


async def test_a_room_that_is_replaced_by_one_that_is_too_open_says_nothing_until_it_is_closed(
    tmp_path: Path,
) -> None:
    town = Town()
    town.visibility = Visibility(known=True, exposure=Exposure.JOINED, entry=Entry.INVITE, listed=False)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await closed(place, town)
        new = await alice.upgrade(room, "11")
        await alice.set_state(new, "m.room.history_visibility", {"history_visibility": "world_readable"})
        await alice.set_state(new, "m.room.guest_access", {"guest_access": "can_join"})
        await alice.set_state(new, "m.room.join_rules", {"join_rule": "public"})
        await let_in(place, alice, new)
        town.emit(says("Bob", "two"))
        await until(lambda: words_of(place, new) == ["two"])
        timeline = place.homeserver.timeline(new)
        spoken = next(n for n, e in enumerate(timeline) if e.body == "two")
        settings = {e.type: list(e.content.values()) for e in timeline[:spoken] if e.state_key == ""}
        assert settings["m.room.history_visibility"] == ["joined"]
        assert settings["m.room.guest_access"] == ["forbidden"]
        assert settings["m.room.join_rules"] == ["invite"]


async def test_a_link_that_pauses_goes_along_with_what_it_holds_and_the_new_room_hears_why(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place, power=50)
        town.emit(
            ChatVisibility(chat=TALK, at=now(), visibility=SECRET), *(says("Bob", word) for word in WORDS)
        )
        paused = await said(place, by(BOT, "are held back"))
        await held(bridge, 3)
        new = await alice.upgrade(room, "11")
        await alice.invite(new, BOT)
        told = await said(place, lambda e: e.room_id == new and by(BOT, "are held back")(e))
        assert told.body == paused.body
        assert words_of(place, new) == []
        await alice.set_power(new, BOT, 100)
        await until(lambda: words_of(place, new) == WORDS)
        assert (place.homeserver.state(new, "m.room.history_visibility") or {})[
            "history_visibility"
        ] == "joined"
        assert words_of(place, room) == []
        await emptied(bridge)
        notices = [p.content.text.body for p in town.done(PostMessage) if p.chat == TALK]
        assert sum("are held back" in words for words in notices) == 1
