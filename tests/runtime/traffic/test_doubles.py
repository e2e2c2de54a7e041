"""No double bridging: another bridge, the same chat over two ways, and the bridge's own words that come back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridgekit.contract.ids import ChatId, NetworkId, PortalKey
from bridgekit.contract.verbs import Join, PostMessage
from bridgekit.core import wording
from tests.runtime.fake_network import Town, TownConfig, TownConnector, says
from tests.runtime.running import BOT, World, by, emptied, ghost, invited, linked, said, town_world, until

OTHER = "@otherbot:hs.test"
TALK = PortalKey(NetworkId("town"), ChatId("#talk"))


def two_ways(place: World, town: Town, suburb: Town) -> None:
    """The same town over two networks of the configuration."""
    place.networks["suburb"] = {"connector": "suburb", "config": TownConfig(), "name": "Suburb"}
    place.connectors["suburb"] = TownConnector(suburb)


async def test_a_room_that_another_bridge_has_linked_to_the_chat_is_refused_and_the_chat_not_entered(
    tmp_path: Path,
) -> None:
    """MSC2346: the other bridge says so in the room's state, as long as its bot is there."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        other = place.homeserver.user("otherbot")
        await other.join(room)
        await alice.set_power(room, OTHER, 50)
        content = {"bridgebot": OTHER, "channel": {"id": "#Talk"}, "protocol": {"id": "town"}}
        await other.set_state(room, "uk.half-shot.bridge", content, "town/#talk")
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, wording.bridged_already("#Talk", OTHER)))
        assert (town.done(Join), bridge.registry.links) == ([], {})
        await other.leave(room)
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "now linked"))


async def test_the_same_chat_over_another_way_is_refused_with_where_it_is_linked(tmp_path: Path) -> None:
    town, suburb = Town(), Town()
    town.address = suburb.address = "town:everywhere"
    async with town_world(tmp_path, town) as place:
        two_ways(place, town, suburb)
        async with place.bridge() as bridge:
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            await alice.send(room, "!bridge link town #talk")
            await said(place, by(BOT, "now linked"))
            await alice.send(room, "!bridge link suburb #talk")
            await said(place, by(BOT, wording.linked_already("#talk", room, "Town")))
            assert list(bridge.registry.links) == [TALK]
            await alice.send(room, "!bridge link suburb #elsewhere")
            await said(place, by(BOT, "now linked to #elsewhere"))


async def test_the_bridges_own_words_that_come_back_by_another_way_are_not_passed_on(tmp_path: Path) -> None:
    """Neither network says that they are one; the ids of the bridge's own messages do."""
    town, suburb = Town(), Town()
    async with town_world(tmp_path, town) as place:
        two_ways(place, town, suburb)
        async with place.bridge() as bridge:
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            await alice.send(room, "!bridge link town #talk")
            await until(lambda: len(bridge.parts.passage.passing) == 1)
            await alice.send(room, "hello")
            await town.until(lambda: town.said() == ["<alice> hello"])
            await until(lambda: bridge.parts.loops._said)
            [id] = [
                d.id
                for d in town.deeds
                if isinstance(d.verb, PostMessage) and d.verb.content.text.body == "hello"
            ]
            await alice.send(room, "!bridge link suburb #talk")
            await until(lambda: len(bridge.parts.passage.passing) == 2)
            suburb.emit(says("bridge", "<alice> hello", id=id))
            told = await said(place, by(BOT, "are the same chat"))
            assert "#talk on Suburb and #talk on Town" in told.body
            suburb.emit(says("bridge", "<alice> hello", id=id), says("Bob", "my own words"))
            await said(place, by(ghost("bob", "suburb"), "my own words"))
            await town.until(lambda: any("my own words" in words for words in town.said()))
            await asyncio.sleep(0.2)
            assert [words for words in town.said() if "hello" in words] == ["<alice> hello"]
            bodies = [e.body for e in place.homeserver.messages(room)]
            assert (bodies.count("hello"), sum("are the same chat" in body for body in bodies)) == (1, 1)
            assert await bridge.store.inbox.count_parked() == 0


async def test_words_that_come_back_without_an_id_are_told_by_the_name_before_them_and_go_no_further(
    tmp_path: Path,
) -> None:
    """A network that names no message, as IRC of 1993: who quotes the bridge once is heard, and once more is not."""
    town, suburb = Town(), Town()

    async def repeats(words: str) -> None:
        await town.until(lambda: f"<alice> {words}" in town.said())
        suburb.emit(says("bridge", f"<alice> {words}"))

    async with town_world(tmp_path, town) as place:
        two_ways(place, town, suburb)
        async with place.bridge():
            alice = place.homeserver.user("alice")
            room = await invited(place, alice)
            for network in ("town", "suburb"):
                await alice.send(room, f"!bridge link {network} #talk")
                await said(place, by(BOT, f"now linked to #talk on {network.title()}"))
            for words in ("one", "two", "three"):
                await alice.send(room, words)
                await repeats(words)
            told = await said(place, by(BOT, "are the same chat"))
            assert "#talk on Suburb and #talk on Town" in told.body
            suburb.emit(says("Bob", "<alice> three"), says("Bob", "my own words"), says("bridge", "not hers"))
            await said(place, by(ghost("bridge", "suburb"), "not hers"))
            await town.until(lambda: any("not hers" in words for words in town.said()))
            heard = [e.body for e in place.homeserver.messages(room) if e.sender.startswith("@_bk_suburb_")]
            assert heard == ["<alice> one", "<alice> three", "my own words", "not hers"]


async def test_a_circle_over_relays_of_others_that_begins_in_the_room_is_broken(tmp_path: Path) -> None:
    """One carries what the bridge says in the chat away, another says it in the room, with the name before it."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        relay = place.homeserver.user("relay")
        await relay.join(room)
        await alice.send(room, "hello")
        for rounds in (1, 2):
            await town.until(lambda: len(town.said()) == rounds)  # noqa: B023
            last = await relay.send(room, f"<bridge> {town.said()[-1]}")
        told = await said(place, by(BOT, wording.repeated("relay")))
        assert told.content["m.relates_to"]["m.in_reply_to"]["event_id"] == last
        await alice.send(room, "and I am heard")
        await town.until(lambda: town.said()[-1] == "<alice> and I am heard")


async def test_a_circle_over_relays_of_others_that_begins_in_the_chat_is_broken(tmp_path: Path) -> None:
    """The same the other way round, as it is with a second bridge like this one in the room."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        words = "hello"
        town.emit(says("Bob", words))
        for name in ("bob", "relay"):
            await said(place, by(ghost(name), words))
            words = f"<{name}> {words}"
            town.emit(says("Relay", words))
        await said(place, by(BOT, wording.repeated("Relay")))
        await emptied(bridge)
        town.emit(says("Relay", "my own words"), says("Bob", "mine, too"))
        await said(place, by(ghost("bob"), "mine, too"))
        shown = [e.body for e in place.homeserver.messages(room) if e.sender.startswith("@_bk_")]
        assert shown == ["hello", "<bob> hello", "my own words", "mine, too"]
