"""Ghosts: their names, their pictures, and when they enter and leave rooms."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from bridgekit.contract.facts import Change, Membership, Profile, Roster
from bridgekit.contract.people import File, Member
from bridgekit.runtime.people import pictures
from bridgekit.runtime.traffic import matrix_side
from bridgekit.testing.homeserver import Delay, Fail
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import BOT, by, ghost, linked, membership, said, town_world, until, web_server


def came(name: str, change: Change = Change.JOIN, **more: object) -> Membership:
    return Membership(chat=TALK, at=now(), person=person(name), change=change, **more)  # type: ignore[arg-type]


def roster(*names: str) -> Roster:
    return Roster(chat=TALK, at=now(), members=tuple(Member(person=person(name)) for name in names))


async def test_a_picture_that_is_a_matrix_file_is_set_as_it_is_and_only_once(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        bob = person("Bob", avatar=File(uri="mxc://hs.test/face", name="face"))
        town.emit(says("Bob", "one", sender=bob), says("Bob", "two", sender=bob))
        await said(place, by(ghost("bob"), "two"))
        await until(lambda: place.homeserver.world.profiles[ghost("bob")].get("avatar_url"))
        assert place.homeserver.world.profiles[ghost("bob")]["avatar_url"] == "mxc://hs.test/face"
        town.emit(says("Bob", "three", sender=bob))
        await said(place, by(ghost("bob"), "three"))
        changes = [e for e in place.homeserver.events() if e.content.get("avatar_url")]
        assert [e.state_key for e in changes] == [ghost("bob")]


async def test_a_picture_is_stored_once_for_all_who_look_like_it(tmp_path: Path) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, asked), town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        face = File(uri=f"{url}/face.png", name="face.png")
        for name in ("Bob", "Carl", "Dora"):
            town.emit(says(name, "hello", sender=person(name, avatar=face)))
        profiles = place.homeserver.world.profiles
        ghosts = [ghost(name) for name in ("bob", "carl", "dora")]
        await until(lambda: all(profiles.get(g, {}).get("avatar_url") for g in ghosts))
        assert len({profiles[g]["avatar_url"] for g in ghosts}) == 1
        assert asked == ["/face.png"]


@pytest.mark.parametrize("path", ["missing.png", "note.txt", "large.bin"])
async def test_a_picture_that_cannot_be_had_holds_up_no_message(tmp_path: Path, path: str) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, asked), town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        bob = person("Bob", avatar=File(uri=f"{url}/{path}", name="face"))
        town.emit(says("Bob", "one", sender=bob))
        await said(place, by(ghost("bob"), "one"))
        await until(lambda: asked)
        town.emit(says("Bob", "two", sender=bob))
        await said(place, by(ghost("bob"), "two"))
        await asyncio.sleep(0.1)
        assert "avatar_url" not in place.homeserver.world.profiles[ghost("bob")]
        assert asked == [f"/{path}"]  # it is not asked for with every message


async def test_a_new_name_is_a_rename_of_the_same_ghost(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        renamed = person("Bob").__class__(id=person("Bob").id, name="Robert")
        town.emit(Profile(chat=TALK, at=now(), person=renamed, previous="Bob"))
        await said(
            place, lambda e: e.state_key == ghost("bob") and e.content.get("displayname") == "Robert (Town)"
        )
        assert place.homeserver.joined(room).count(ghost("bob")) == 1


async def test_a_rename_makes_no_ghost(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        town.emit(Profile(chat=TALK, at=now(), person=person("Mute")), says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert ghost("mute") not in place.homeserver.world.profiles


@pytest.mark.parametrize(
    ("change", "actor", "reason", "shown"),
    [
        (Change.LEAVE, None, "Quit: bye", "Quit: bye"),
        (Change.KICK, "Eve", "enough", "kicked by Eve: enough"),
        (Change.BAN, "Eve", "", "banned by Eve"),
    ],
)
async def test_who_goes_on_the_network_goes_in_the_room_with_the_reason(
    tmp_path: Path, change: Change, actor: str | None, reason: str, shown: str
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        town.emit(came("Bob", change, actor=person(actor) if actor else None, reason=reason))
        left = await said(place, membership(ghost("bob"), "leave"))
        assert (left.sender, left.content.get("reason")) == (ghost("bob"), shown)


async def test_after_a_reconnect_only_what_changed_is_done(tmp_path: Path) -> None:
    """Who left leaves, who is new joins in the background, nobody joins again."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        town.emit(roster("Ada", "Bob", "Carl"))
        await until(lambda: {ghost("ada"), ghost("bob"), ghost("carl")} <= set(place.homeserver.joined(room)))
        before = place.homeserver.position
        town.emit(roster("Ada", "Carl", "Dora"))
        await until(lambda: ghost("dora") in place.homeserver.joined(room))
        await said(place, membership(ghost("bob"), "leave"))
        members = [
            (e.state_key, e.content["membership"])
            for e in place.homeserver.events(before)
            if e.type == "m.room.member"
        ]
        assert sorted(members) == [(ghost("bob"), "leave"), (ghost("dora"), "join")]


async def test_the_first_speaker_does_not_wait_for_five_hundred_silent_members(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        slow = place.homeserver.fault("POST */join/*", Delay(seconds=0.02))
        town.emit(roster(*(f"m{n}" for n in range(500))), says("m499", "first"))
        await said(place, by(ghost("m499"), "first"))
        place.homeserver.heal(slow)
        await until(lambda: len(place.homeserver.joined(room)) == 502, 120)
        timeline = place.homeserver.timeline(room)
        spoken = next(i for i, event in enumerate(timeline) if event.body == "first")
        assert sum(event.type == "m.room.member" for event in timeline[:spoken]) < 50


async def test_who_comes_to_speak_has_the_homeserver_to_themselves(tmp_path: Path) -> None:
    """It lets one after the other into a room: those who are silent wait until it was said."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        place.homeserver.fault("PUT */send/m.room.message/*", Delay(seconds=0.5))
        town.emit(says("m99", "first"), roster(*(f"m{n}" for n in range(100))))
        await said(place, by(ghost("m99"), "first"))
        await until(lambda: len(place.homeserver.joined(room)) == 102, 120)
        timeline = place.homeserver.timeline(room)
        spoken = next(i for i, event in enumerate(timeline) if event.body == "first")
        came = [e for e in timeline[:spoken] if e.content.get("membership") == "join"]
        assert {e.state_key for e in came} - {ghost("m99")} <= {BOT, "@alice:hs.test", ghost("m0")}


async def test_into_a_room_that_asks_for_an_invitation_a_ghost_is_invited_first(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        tries = place.homeserver.fault("POST */join/*", Delay(seconds=0.01))
        town.emit(says("Bob", "hello"), says("Ada", "hello"))
        await said(place, by(ghost("ada"), "hello"))
        assert tries.hits == 2, "nobody tries to enter without one"


async def test_a_homeserver_that_labours_is_not_flooded_with_joins(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        place.homeserver.fault("POST */join/*", Delay(seconds=0.6))
        town.emit(roster(*(f"m{n}" for n in range(100))))
        await asyncio.sleep(3)
        before = len(place.homeserver.joined(room))
        assert before < 40
        await asyncio.sleep(3)
        assert len(place.homeserver.joined(room)) - before <= 4
        town.emit(says("m99", "me first"))
        await said(place, by(ghost("m99"), "me first"))
        assert len(place.homeserver.joined(room)) < 50


async def test_a_join_that_fails_is_tried_again(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        place.homeserver.fault("POST */join/*", Fail(status=403), times=2)
        town.emit(came("Bob"))
        await until(lambda: ghost("bob") in place.homeserver.joined(room), 8)


async def test_a_newcomer_whom_the_homeserver_overlooks_is_heard_all_the_same(tmp_path: Path) -> None:
    """Synapse 1.163 answers 403 "not in room" to who has just come in, while more is said than it can put in order."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        refused = place.homeserver.fault(
            "PUT */send/*", Fail(status=403, errcode="M_FORBIDDEN"), times=3, user=ghost("bob")
        )
        town.emit(says("Bob", "hello"), says("Bob", "again"))
        await said(place, by(ghost("bob"), "again"))
        words = [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")]
        assert words == ["hello", "again"]
        assert refused.hits == 3
        joins = [e for e in place.homeserver.timeline(room) if membership(ghost("bob"), "join")(e)]
        assert len(joins) == 1


@pytest.mark.parametrize("levels", [{"events_default": 50}, {"events": {"m.room.message": 50}}])
async def test_a_newcomer_whom_the_room_does_not_let_speak_is_no_newcomer_overlooked(
    tmp_path: Path, levels: dict[str, Any]
) -> None:
    """Nobody waits for what the power levels say: the room reads at once that something was not shown."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        before = place.homeserver.state(room, "m.room.power_levels")
        await alice.set_state(room, "m.room.power_levels", {**(before or {}), **levels})
        with capture_logs() as logs:
            town.emit(says("Bob", "unheard"))
            await said(place, by(BOT, "could not be shown here"))
        assert ghost("bob") in place.homeserver.joined(room)
        assert not [one for one in logs if one["event"] == "ghost_overlooked"]


async def test_who_has_been_there_for_long_and_may_not_speak_is_not_tried_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix_side, "NEW_MS", 0)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        refused = place.homeserver.fault(
            "PUT */send/*", Fail(status=403, errcode="M_FORBIDDEN"), user=ghost("bob")
        )
        with capture_logs() as logs:
            town.emit(says("Bob", "unheard"))
            await until(lambda: any(one["event"] == "not_delivered" for one in logs))
        assert refused.hits == 2
        joins = [e for e in place.homeserver.timeline(room) if membership(ghost("bob"), "join")(e)]
        assert len(joins) == 1


async def test_a_matrix_user_who_is_renamed_is_heard_under_the_new_name(tmp_path: Path) -> None:
    """With and without the homeserver telling what the member event replaced."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await alice.send(room, "one")
        await town.until(lambda: town.said() == ["<alice> one"])
        await alice.set_displayname("Alice Liddell")
        await alice.send(room, "two")
        await town.until(lambda: "<Alice Liddell> two" in town.said())
        event = {
            "type": "m.room.member",
            "event_id": "$renamed",
            "room_id": room,
            "sender": alice.id,
            "state_key": alice.id,
            "origin_server_ts": now(),
            "content": {"membership": "join", "displayname": "Al"},
            "unsigned": {"prev_content": {"membership": "join", "displayname": "Alice Liddell"}},
        }
        headers = {"Authorization": "Bearer hs-secret"}
        url = f"http://{bridge.address}/_matrix/app/v1/transactions/by-hand"
        async with (
            aiohttp.ClientSession() as session,
            session.put(url, json={"events": [event]}, headers=headers),
        ):
            pass
        await alice.send(room, "three")
        await town.until(lambda: "<Al> three" in town.said())


async def test_of_pictures_that_were_stored_the_last_ones_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is a new one with each new face, for years."""
    monkeypatch.setattr(pictures, "REMEMBERED", 2)
    brought = list[str]()

    async def bring(picture: File, *_: object, **__: object) -> File:
        brought.append(picture.uri)
        return File(uri=f"mxc://{picture.uri}", name="", mime="image/png")

    ghosts: Any = SimpleNamespace(picture_from=lambda source: "")
    stored = pictures.Pictures(
        SimpleNamespace(patient=None),  # type: ignore[arg-type]
        ghosts,
        SimpleNamespace(bring=bring),  # type: ignore[arg-type]
        spawn=lambda work: None,
    )
    for source in ("a", "b", "a", "c", "a", "c"):
        await stored._mxc(File(uri=source, name="", mime="image/png"))
    assert brought == ["a", "b", "c", "a"]
    assert len(stored._stored) == 2
