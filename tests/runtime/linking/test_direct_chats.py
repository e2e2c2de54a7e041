"""Rooms of direct chats: made by the first words, left and begun anew, and nobody else is heard in them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridgekit.contract.connector import OwnAccounts
from bridgekit.contract.facts import Profile
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PortalKey
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import PostMessage
from bridgekit.core.protection import STATE_TYPE
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import Delay, Fail, Human
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import (
    BOT,
    SERVER,
    World,
    by,
    emptied,
    ghost,
    has_fate,
    linked,
    membership,
    said,
    town_world,
    until,
)

TOWN = NetworkId("town")
ALICE = LoginId(f"town/@alice:{SERVER}")
DIRECT = PortalKey(TOWN, ChatId("dm:bob"), ALICE)
OPEN = Visibility(known=True, exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, detail="+n")
ALIAS = f"#_bk_town_#talk:{SERVER}"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for moments."""
    monkeypatch.setattr("bridgekit.runtime.traffic.lobby.FIRST_WAIT", 0.1)
    monkeypatch.setattr("bridgekit.runtime.gates.visibilities.TOLD_SECONDS", 0.2)


async def said_parked(bridge: Bridge) -> None:
    """Return once something was put aside."""
    async with asyncio.timeout(60):
        while not await bridge.store.inbox.parked():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)


async def test_a_direct_message_makes_a_room_and_what_comes_meanwhile_follows_in_order(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        await bridge.accounts.open(TOWN, alice.id)  # type: ignore[arg-type]
        await until(lambda: ALICE in town.sessions)
        place.homeserver.fault("POST */createRoom", Delay(seconds=0.1))
        place.homeserver.fault("PUT */state/*", Delay(seconds=0.05))
        town.emit(Profile(chat=DIRECT.chat, at=now(), private=True, person=person("Bob")), login=ALICE)
        for n in range(20):
            town.emit(says("Bob", f"line {n}", chat=DIRECT.chat, private=True), login=ALICE)
            await asyncio.sleep(0.015)
        await said(place, by(ghost("bob"), "line 19"))
        [room] = place.homeserver.invitations(alice.id)
        heard = [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")]
        assert heard == [f"line {n}" for n in range(20)]
        await alice.join(room)
        await alice.send(room, "hi Bob")
        await town.until(lambda: town.done(PostMessage, ALICE))
        assert [(p.chat, p.content.text.body) for p in town.done(PostMessage, ALICE)] == [
            ("dm:bob", "hi Bob")
        ]


async def test_what_protects_a_new_room_is_said_before_the_first_message_in_it(tmp_path: Path) -> None:
    town = Town()
    town.visible[TALK] = OPEN
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        await bridge.accounts.open(TOWN, alice.id)  # type: ignore[arg-type]
        await until(lambda: ALICE in town.sessions)
        place.homeserver.fault(f"PUT */state/{STATE_TYPE}*", Delay(seconds=0.3))
        town.emit(says("Bob", "psst", chat=DIRECT.chat, private=True), login=ALICE)
        await said(place, by(ghost("bob"), "psst"))
        [room] = place.homeserver.invitations(alice.id)
        assert [e.sender for e in place.homeserver.messages(room)] == [BOT, ghost("bob")]
        assert "not end-to-end encrypted" in place.homeserver.messages(room)[0].body
        portal = await alice.join(ALIAS)
        town.emit(says("Bob", "hello all"))
        await said(place, by(ghost("bob"), "hello all"))
        assert [e.sender for e in place.homeserver.messages(portal)] == [BOT, ghost("bob")]
        assert "not end-to-end encrypted" in place.homeserver.messages(portal)[0].body


async def test_what_protects_a_direct_chat_is_said_before_its_owner_is_heard(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge():
        alice = place.homeserver.user("alice")
        place.homeserver.fault(f"PUT */state/{STATE_TYPE}*", Delay(seconds=0.3))
        room = await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
        await said(place, membership(ghost("bob"), "join"))
        await alice.send(room, "psst")
        await town.until(lambda: town.done(PostMessage, ALICE))
        assert any("not end-to-end encrypted" in e.body for e in place.homeserver.messages(room))


async def test_a_direct_chat_whose_owner_left_begins_anew_with_the_next_message(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place:
        alice = place.homeserver.user("alice")
        async with place.bridge() as bridge:
            await bridge.accounts.open(TOWN, alice.id)  # type: ignore[arg-type]
            await until(lambda: ALICE in town.sessions)
            town.emit(says("Bob", "one", chat=DIRECT.chat, private=True), login=ALICE)
            await said(place, by(ghost("bob"), "one"))
            [declined] = place.homeserver.invitations(alice.id)
            await alice.leave(declined)
            town.emit(says("Bob", "two", chat=DIRECT.chat, private=True), login=ALICE)
            await said(place, by(ghost("bob"), "two"))
            assert (
                place.homeserver.invitations(alice.id) == []
            )  # who declined is not asked with every message
            await bridge.portals.unlink(DIRECT)
            town.emit(says("Bob", "three", chat=DIRECT.chat, private=True), login=ALICE)
            [first] = await invitations(place, alice)
            await alice.join(first)
            await said(place, by(ghost("bob"), "three"))
            await emptied(bridge)
        async with place.bridge() as bridge:
            await until(lambda: ALICE in town.sessions)
            await alice.leave(first)
            await until(lambda: not bridge.registry.links)
            town.emit(says("Bob", "four", chat=DIRECT.chat, private=True), login=ALICE)
            [second] = await invitations(place, alice)
            await said(place, by(ghost("bob"), "four"))
            assert second != first


async def invitations(place: World, one: Human) -> list[str]:
    """The rooms that somebody is invited to, as soon as there are some."""
    await until(lambda: place.homeserver.invitations(one.id))
    return place.homeserver.invitations(one.id)


async def test_the_room_of_a_direct_chat_that_cannot_be_made_now_is_made_later(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        await bridge.accounts.open(TOWN, alice.id)  # type: ignore[arg-type]
        await until(lambda: ALICE in town.sessions)
        place.homeserver.fault("POST */createRoom", Fail(status=502), times=2)
        town.emit(says("Bob", "hello", chat=DIRECT.chat, private=True), login=ALICE)
        await said(place, by(ghost("bob"), "hello"), 10)


async def never(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("joins", [False, True])
async def test_a_room_whose_making_was_interrupted_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joins: bool
) -> None:
    """The owner was asked in, and nothing on disk says of which chat the room is."""
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place:
        async with place.bridge() as bridge:
            alice = place.homeserver.user("alice")
            await bridge.accounts.open(TOWN, alice.id)  # type: ignore[arg-type]
            await until(lambda: ALICE in town.sessions)
            monkeypatch.setattr(bridge.portals, "made", never)
            town.emit(says("Bob", "hello", chat=DIRECT.chat, private=True), login=ALICE)
            [room] = await invitations(place, alice)
            if joins:
                await alice.join(room)
        async with place.bridge() as bridge:
            hello = await said(place, by(ghost("bob"), "hello"))
            assert hello.room_id == room
            assert place.homeserver.invitations(alice.id) == ([] if joins else [room])
            assert await bridge.store.kv.items("bridge.making") == {}
            assert bool(await bridge.store.kv.items("bridge.talked")) is joins


async def test_a_room_that_the_homeserver_refuses_parks_the_words_instead_of_losing_them(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        await bridge.accounts.open(TOWN, alice.id)  # type: ignore[arg-type]
        await until(lambda: ALICE in town.sessions)
        place.homeserver.fault("POST */createRoom", Fail(status=403))
        town.emit(says("Bob", "hello", chat=DIRECT.chat, private=True), login=ALICE)
        await said_parked(bridge)
        assert await bridge.store.inbox.count() == 0


async def test_nobody_but_its_owner_is_heard_in_a_direct_chat(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice, carol = place.homeserver.user("alice"), place.homeserver.user("carol")
        room = await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
        await until(lambda: bridge.registry.links_of(ChatId(room)))
        await alice.invite(room, carol.id)
        await carol.join(room)
        event = await carol.send(room, "let me in")
        fate = await said(place, has_fate(event))
        assert f"belongs to {alice.id}" in fate.content["message"]
        await alice.send(room, "just me")
        await town.until(lambda: town.done(PostMessage, ALICE))
        assert [p.content.text.body for p in town.done(PostMessage, ALICE)] == ["just me"]


async def test_a_ghost_does_not_turn_a_room_of_several_people_into_one_persons_chat(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice, carol = place.homeserver.user("alice"), place.homeserver.user("carol")
        room = await alice.create_room(preset="public_chat")
        await carol.join(room)
        await alice.invite(room, ghost("bob"))
        left = await said(place, membership(ghost("bob"), "leave"))
        assert "with nobody else" in left.content["reason"]
        assert bridge.registry.links == {}


async def test_what_somebody_types_renames_no_ghost(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        direct = await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
        await until(lambda: bridge.registry.links_of(ChatId(direct)))
        await alice.send(room, "!bridge chat town BOB")
        await said(place, by(BOT, "There is a room with BOB already"))
        assert place.homeserver.world.profiles[ghost("bob")]["displayname"] == "Bob (Town)"


async def test_without_accounts_a_ghost_declines_and_says_why(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice = place.homeserver.user("alice")
        await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
        left = await said(place, membership(ghost("bob"), "leave"))
        assert "Only your own account can speak to people on Town" in left.content["reason"]


async def test_who_leaves_before_the_ghost_comes_has_begun_no_conversation(tmp_path: Path) -> None:
    """Homeservers do not tell of that: the bridge has nobody in the room yet."""
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        slow = place.homeserver.fault("POST */join/*", Delay(seconds=0.3), user=ghost("bob"))
        room = await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
        await alice.leave(room)
        await said(place, membership(ghost("bob"), "leave"))
        assert bridge.registry.links == {}
        place.homeserver.heal(slow)
        town.emit(says("Bob", "where are you?", chat=DIRECT.chat, private=True), login=ALICE)
        [new] = await invitations(place, alice)
        await said(place, by(ghost("bob"), "where are you?"))
        assert new != room


async def test_a_ghost_that_was_put_out_of_its_chat_comes_back_when_it_is_asked(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
        await until(lambda: bridge.registry.links_of(ChatId(room)))
        await alice.kick(room, ghost("bob"))
        await alice.invite(room, ghost("bob"))
        await until(lambda: place.homeserver.members(room)[ghost("bob")] != "invite")
        assert place.homeserver.members(room)[ghost("bob")] == "join"
        await alice.send(room, "psst")
        await town.until(lambda: "psst" in town.said("dm:bob"))


async def test_a_ghost_whose_invitation_is_read_again_after_a_restart_stays(tmp_path: Path) -> None:
    """The chat was linked, and the invitation still stood in the inbox when the bridge stopped."""
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place:
        alice = place.homeserver.user("alice")
        async with place.bridge() as bridge:
            place.homeserver.fault("PUT */state/*", Delay(seconds=60))
            room = await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
            await until(lambda: bridge.registry.links_of(ChatId(room)))
            assert await bridge.store.inbox.count() == 1
        place.homeserver.heal()
        async with place.bridge() as bridge:
            await emptied(bridge)
            assert place.homeserver.members(room)[ghost("bob")] == "join"
            await alice.send(room, "psst")
            await town.until(lambda: "psst" in town.said("dm:bob"))
