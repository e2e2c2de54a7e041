"""Whose ghosts are in a room: by mode, through netsplits and reconnects, of several chats, and the idle."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridgekit.contract.facts import Change, Membership, Roster
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Member, Role
from bridgekit.core import splits
from bridgekit.runtime.clock import now as milliseconds
from bridgekit.runtime.people import ghosts
from bridgekit.testing.homeserver import Delay, Fail
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import (
    BOT,
    World,
    by,
    ghost,
    invited,
    linked,
    membership,
    said,
    town_world,
    until,
)

DAY = 86_400_000


def went(name: str, change: Change = Change.LEAVE, *, chat: str = TALK, **more: object) -> Membership:
    return Membership(chat=chat, at=now(), person=person(name), change=change, **more)  # type: ignore[arg-type]


def roster(*names: str, chat: str = TALK, operators: tuple[str, ...] = ()) -> Roster:
    members = (
        Member(person=person(n), role=Role.MODERATOR if n in operators else Role.NONE)
        for n in (*names, *operators)
    )
    return Roster(chat=chat, at=now(), members=tuple(members))  # type: ignore[arg-type]


def moves(place: World, since: int) -> list[tuple[str | None, str]]:
    """Everybody's coming and going since a position of the homeserver's."""
    events = [e for e in place.homeserver.events(since) if e.type == "m.room.member"]
    return [(e.state_key, e.content["membership"]) for e in events]


# Modes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["active", "none"])
async def test_only_who_speaks_is_there(tmp_path: Path, mode: str) -> None:
    town = Town()
    async with town_world(tmp_path, town, members=mode) as place, place.bridge():
        _, room = await linked(place)
        town.emit(roster("Ada", "Bob", "Carl"), went("Dora", Change.JOIN), says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        await asyncio.sleep(0.3)
        assert [m for m in place.homeserver.joined(room) if m.startswith("@_bk_")] == [ghost("bob")]


async def test_who_left_is_gone_where_that_is_shown_and_stays_where_it_is_not(tmp_path: Path) -> None:
    town = Town()
    links = [{"chat": "#quiet", "room": "!unknown:hs.test", "members": "none"}]
    async with town_world(tmp_path, town, members="active", links=links) as place, place.bridge():
        alice, room = await linked(place)
        quiet = await invited(place, alice)
        await alice.send(quiet, "!bridge link town #quiet")
        await said(place, lambda e: e.room_id == quiet and "now linked" in e.body)
        town.emit(says("Bob", "hello"), says("Bob", "hello", chat="#quiet"))
        await until(lambda: all(ghost("bob") in place.homeserver.joined(r) for r in (room, quiet)))
        town.emit(went("Bob"), went("Bob", chat="#quiet"), says("Eve", "he left", chat="#quiet"))
        await said(place, membership(ghost("bob"), "leave"))
        await said(place, by(ghost("eve"), "he left"))
        assert ghost("bob") not in place.homeserver.joined(room)
        assert ghost("bob") in place.homeserver.joined(quiet)
        town.emit(went("Bob", Change.KICK, chat="#quiet", actor=person("Eve")))
        await until(lambda: ghost("bob") not in place.homeserver.joined(quiet))


async def test_in_a_full_room_everybody_is_there_before_anything_is_said(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, members="full") as place, place.bridge():
        _, room = await linked(place)
        place.homeserver.fault(
            "POST */join/*", Fail(status=403), times=2
        )  # one whom the room does not let in
        town.emit(roster(*(f"m{n}" for n in range(12))), says("m3", "hello"))
        await said(place, by(ghost("m3"), "hello"))
        assert len([m for m in place.homeserver.joined(room) if m.startswith("@_bk_")]) >= 10


async def test_operators_are_let_in_before_the_others(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        before = place.homeserver.position
        town.emit(roster("m1", "m2", "m3", operators=("boss",)))
        await until(lambda: len(place.homeserver.joined(room)) == 6)
        assert next(who for who, what in moves(place, before) if what == "join") == ghost("boss")


async def test_a_large_room_does_not_stand_in_front_of_a_small_one(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, large = await linked(place)
        small = await invited(place, alice)
        await alice.send(small, "!bridge link town #small")
        await said(place, lambda e: e.room_id == small and "now linked" in e.body)
        place.homeserver.fault("POST */join/*", Delay(seconds=0.02))
        town.emit(roster(*(f"m{n}" for n in range(300))), roster("Ada", "Bob", chat="#small"))
        await until(lambda: {ghost("ada"), ghost("bob")} <= set(place.homeserver.joined(small)))
        assert len(place.homeserver.joined(large)) < 100


async def test_a_room_that_lets_nobody_in_is_asked_less_and_less_often(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        refusing = place.homeserver.fault("POST */join/*", Fail(status=403))
        town.emit(roster(*(f"m{n}" for n in range(200))))
        await asyncio.sleep(4)
        await until(lambda: refusing.hits >= 2)
        assert refusing.hits <= 16
        assert place.homeserver.joined(room) == sorted([BOT, "@alice:hs.test"])


# Netsplits ---------------------------------------------------------------------------------------------------


async def test_who_comes_back_from_a_netsplit_never_left(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        town.emit(roster("Ada", "Bob"))
        await until(lambda: {ghost("ada"), ghost("bob")} <= set(place.homeserver.joined(room)))
        before = place.homeserver.position
        town.emit(went("Ada", split=True, reason="a.example b.example"), went("Bob", split=True))
        await until(lambda: len(bridge.members.splits) == 2)
        town.emit(went("Ada", Change.JOIN, split=True), says("Bob", "back"))
        await said(place, by(ghost("bob"), "back"))
        assert len(bridge.members.splits) == 0
        assert moves(place, before) == []


async def test_who_does_not_come_back_from_a_netsplit_leaves_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "HOLD", 700)
    monkeypatch.setattr(splits, "SPREAD", 1)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        town.emit(roster("Ada", "Bob"))
        await until(lambda: {ghost("ada"), ghost("bob")} <= set(place.homeserver.joined(room)))
        town.emit(went("Ada", split=True, reason="a.example b.example"), roster("Bob"))
        town.emit(says("Bob", "still here?"))
        await said(place, by(ghost("bob"), "still here?"))
        assert ghost("ada") in place.homeserver.joined(
            room
        )  # the roster does not name her, and she has her time
        left = await said(place, membership(ghost("ada"), "leave"))
        assert left.content.get("reason") == "a.example b.example"


# Several chats, several runs ---------------------------------------------------------------------------------


async def test_a_ghost_leaves_when_its_person_has_left_every_chat_of_the_room(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send(room, "!bridge link town #other")
        await said(place, lambda e: e.sender == BOT and "#other" in e.body and "now linked" in e.body)
        town.emit(roster("Ada", "Bob"))
        await until(lambda: {ghost("ada"), ghost("bob")} <= set(place.homeserver.joined(room)))
        town.emit(roster("Ada", chat="#other"))
        town.emit(went("Ada"), went("Bob"))
        await said(place, membership(ghost("bob"), "leave"))
        town.emit(says("Ada", "I am still in the other", chat="#other"))
        await said(place, by(ghost("ada"), "still in the other"))
        town.emit(went("Ada", chat="#other"))
        await said(place, membership(ghost("ada"), "leave"))


async def test_after_a_restart_nobody_leaves_for_a_chat_that_was_not_read_yet(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            await alice.send(room, "!bridge link town #other")
            await said(place, lambda e: e.sender == BOT and "#other" in e.body and "now linked" in e.body)
            town.emit(roster("Ada"), roster("Bob", "Carl", chat="#other"))
            everybody = {ghost("ada"), ghost("bob"), ghost("carl")}
            await until(lambda: everybody <= set(place.homeserver.joined(room)))
        before = place.homeserver.position
        async with place.bridge():
            await until(lambda: town.sessions)
            town.emit(roster("Ada"), says("Ada", "one"))
            await said(place, by(ghost("ada"), "one"))
            assert moves(place, before) == []
            town.emit(roster("Bob", chat="#other"))
            await said(place, membership(ghost("carl"), "leave"))
            assert moves(place, before) == [(ghost("carl"), "leave")]


async def test_who_came_back_before_the_ghost_had_left_does_not_leave(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        before = place.homeserver.position
        place.homeserver.fault("PUT */send/*", Delay(seconds=0.5), times=1)
        town.emit(says("Bob", "brb"), went("Bob"), went("Bob", Change.JOIN))
        await said(place, by(ghost("bob"), "brb"))
        town.emit(says("Bob", "re"))
        await said(place, by(ghost("bob"), "re"))
        assert moves(place, before) == []


# The idle ----------------------------------------------------------------------------------------------------


async def test_who_was_silent_for_long_is_retired_and_comes_back_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            _, room = await linked(place)
            with monkeypatch.context() as past:
                past.setattr(ghosts, "now", lambda: milliseconds() - 40 * DAY)
                town.emit(roster("Ada", "Bob", operators=("Boss",)))
                names = ("ada", "bob", "boss")
                await until(lambda: {ghost(n) for n in names} <= set(place.homeserver.joined(room)))
            town.emit(says("Ada", "I speak now and then"))
            await said(place, by(ghost("ada"), "now and then"))
            assert await bridge.members.retire(0) == 0
            assert await bridge.members.retire(30) == 1
            await said(place, membership(ghost("bob"), "leave"))
            town.emit(roster("Ada", "Bob", operators=("Boss",)))
        async with place.bridge():
            await until(lambda: town.sessions)
            town.emit(roster("Ada", "Bob", "Dora", operators=("Boss",)))
            await until(lambda: ghost("dora") in place.homeserver.joined(room))
            assert ghost("bob") not in place.homeserver.joined(room)
            town.emit(says("Bob", "you thought I was gone"))
            await said(place, by(ghost("bob"), "you thought I was gone"))


async def test_a_fault_in_letting_one_in_is_logged_and_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = Town()
    with structlog.testing.capture_logs() as logs:
        async with town_world(tmp_path, town) as place, place.bridge() as bridge:
            _, room = await linked(place)
            let_in, faults = bridge.ghosts.let_in, itertools.count()

            async def faulty(mxid: PersonId, *args: Any, **more: Any) -> None:
                if mxid == ghost("bob") and not next(faults):
                    raise KeyError("bob")
                await let_in(mxid, *args, **more)

            monkeypatch.setattr(bridge.ghosts, "let_in", faulty)
            town.emit(roster("bob", "dora"))
            await until(lambda: {ghost("bob"), ghost("dora")} <= set(place.homeserver.joined(room)), 30)
    assert [e["kind"] for e in logs if e["event"] == "task_failed"] == ["KeyError"]


# The pace ----------------------------------------------------------------------------------------------------


async def test_joins_slow_down_when_everything_else_gets_slow_and_speakers_do_not(tmp_path: Path) -> None:
    """The homeserver answers everything in a moment, until joins make it take a third of a second."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)

        def count() -> int:
            return len(place.homeserver.joined(room))

        names = [f"m{n}" for n in range(300)]
        everybody = len(names) + 2
        began = time.monotonic()
        town.emit(roster(*names))
        await until(lambda: count() >= 50)
        quick = count() / (time.monotonic() - began)
        slow = place.homeserver.fault("GET */profile/*", Delay(seconds=0.3))
        pace = quick
        while pace > quick / 2:
            before, began = count(), time.monotonic()
            await asyncio.sleep(1)
            pace = (count() - before) / (time.monotonic() - began)
        assert count() < everybody
        town.emit(says("m299", "me first"))
        await said(place, by(ghost("m299"), "me first"))
        assert count() < everybody
        place.homeserver.heal(slow)
        await until(lambda: count() == everybody, 120)
