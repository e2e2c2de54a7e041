"""The presence gate: nobody reads a chat unseen, one stuck user stops nobody for long, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridgekit.contract.connector import OwnAccounts
from bridgekit.contract.facts import Change, Fact, Membership, Roster
from bridgekit.contract.ids import NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Member
from bridgekit.core.gate import GateRules
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import Human
from bridgekit.testing.homeserver.faults import Delay, Fail
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import BOT, World, by, emptied, ghost, linked, membership, said, town_world, until

SIDE = PortalKey(NetworkId("town"), TALK)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridgekit.runtime.gates.readers.PATIENT", 0.2)


def patience(bridge: Bridge, grace: int = 600, split: int = 600) -> None:
    """Let the gate of the town wait for so many milliseconds."""
    rules = GateRules(coming=grace, split=split, grace=grace)
    bridge.parts.rules.gates[NetworkId("town")] = rules


def there(*names: str) -> Fact:
    """Everybody who is in the chat."""
    return Roster(chat=TALK, at=now(), members=tuple(Member(person=person(name)) for name in names))


def came(name: str, change: Change = Change.JOIN, *, split: bool = False) -> Fact:
    return Membership(chat=TALK, at=now(), person=person(name), change=change, split=split)


def lines(place: World, room: str) -> list[str]:
    return [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")]


@asynccontextmanager
async def gated(tmp_path: Path, grace: int = 60_000) -> AsyncIterator[tuple[Town, World, Bridge, str, Human]]:
    """The town with its bridge, and a linked room in which all are seen in the chat; Carol, who is not, is outside."""
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        patience(bridge, grace=grace)
        _, room = await linked(place)
        town.emit(there("Bob", "own-alice"))
        yield town, place, bridge, room, place.homeserver.user("carol")


async def test_messages_wait_until_everybody_who_reads_is_seen_in_the_chat(tmp_path: Path) -> None:
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        patience(bridge, grace=60_000)
        alice, room = await linked(place)
        town.emit(there("Bob"), *(says("Bob", f"line {n}") for n in range(3)))
        told = await said(place, by(BOT, "are held"))
        assert "@alice:hs.test is in this room and is not seen in #talk on Town" in told.body
        assert lines(place, room) == []
        rows = await bridge.store.held.all()
        assert [row.cause.value for row in rows if row.person == PersonId("bob")] == ["gate"] * 3
        await alice.send(room, "!bridge status")
        await said(place, by(BOT, "leave this room"))
        town.emit(came("own-alice"))
        await said(place, by(ghost("bob"), "line 2"))
        assert lines(place, room) == ["line 0", "line 1", "line 2"]


async def test_one_who_stays_unseen_is_taken_out_and_the_room_goes_on(tmp_path: Path) -> None:
    async with gated(tmp_path) as (town, place, bridge, room, carol):
        patience(bridge)
        await carol.join(room)
        await until(lambda: SIDE not in bridge.parts.passage.passing)
        town.emit(says("Bob", "hello"))
        await said(place, membership(carol.id, "leave"))
        await said(place, by(ghost("bob"), "hello"))
        assert place.homeserver.members(room)[f"@alice:{carol.id.partition(':')[2]}"] == "join"


async def test_words_on_their_way_when_somebody_unseen_comes_in_wait_and_keep_their_order(
    tmp_path: Path,
) -> None:
    """The first is at the homeserver already; the others were planned, and no check but the last one stops them."""
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        patience(bridge, grace=60_000)
        _, room = await linked(place)
        carol = place.homeserver.user("carol")
        town.emit(there("Bob", "own-alice"), says("Bob", "before"))
        await said(place, by(ghost("bob"), "before"))
        rule = place.homeserver.fault("PUT */send/m.room.message/*", Delay(seconds=2.0), times=1)
        words = [f"line {n}" for n in range(5)]
        town.emit(*(says("Bob", line) for line in words))
        await until(lambda: rule.hits)
        await carol.join(room)
        await until(lambda: SIDE not in bridge.parts.passage.passing)
        await until(lambda: bridge.parts.holding.count(SIDE) == 4)
        assert lines(place, room) == ["before", "line 0"]
        await bridge.store.commit()
        assert [row.cause.value for row in await bridge.store.held.all()] == ["gate"] * 4
        town.emit(says("Bob", "after"), came("own-carol"))
        await said(place, by(ghost("bob"), "after"))
        assert lines(place, room) == ["before", *words, "after"]


async def test_a_netsplit_holds_what_is_said_until_it_heals(tmp_path: Path) -> None:
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        patience(bridge, grace=60_000, split=60_000)
        _, room = await linked(place)
        town.emit(there("Bob", "own-alice"), says("Bob", "before"))
        await said(place, by(ghost("bob"), "before"))
        town.emit(came("own-alice", Change.LEAVE, split=True), says("Bob", "meanwhile"))
        await until(lambda: bridge.parts.holding.count(SIDE) >= 1)
        assert lines(place, room) == ["before"]
        town.emit(came("own-alice"))
        await said(place, by(ghost("bob"), "meanwhile"))


async def test_a_storm_of_joins_splits_and_reconnects_loses_nothing(tmp_path: Path) -> None:
    """Five hundred members, a gate that opens and closes, a network that goes and comes back: every message has its
    end, in order, and the test counts them."""
    town = Town(OwnAccounts.AUTOMATIC)
    crowd = [f"m{n}" for n in range(500)]
    async with town_world(tmp_path, town, members="none") as place, place.bridge() as bridge:
        patience(bridge, grace=60_000, split=60_000)
        _, room = await linked(place)
        town.emit(there("Bob", "own-alice", *crowd))
        count = 0
        for turn in range(10):
            for _ in range(20):
                town.emit(says("Bob", f"line {count}"))
                count += 1
            town.emit(came("own-alice", Change.LEAVE, split=bool(turn % 2)))
            town.emit(*(came(name, Change.LEAVE, split=True) for name in crowd[turn * 50 : turn * 50 + 50]))
            for _ in range(20):
                town.emit(says("Bob", f"line {count}"))
                count += 1
            await asyncio.sleep(0.05)
            if turn % 3 == 2:
                town.cut()
                await until(lambda: None not in town.sessions)
                town.mend()
                await until(lambda: None in town.sessions)
                town.emit(there("Bob", *crowd))
            town.emit(*(came(name) for name in crowd[turn * 50 : turn * 50 + 50]), came("own-alice"))
        await said(place, by(ghost("bob"), f"line {count - 1}"), 60)
        await emptied(bridge)
        shown = lines(place, room)
        held = [row for row in await bridge.store.held.all() if row.person == PersonId("bob")]
        assert (len(shown), len(held), await bridge.store.inbox.count_parked()) == (count, 0, 0)
        assert shown == [f"line {n}" for n in range(count)]


async def test_where_the_bridges_own_presence_is_enough_nothing_waits(tmp_path: Path) -> None:
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town, gate="relay-allowed") as place, place.bridge():
        await linked(place)
        town.emit(there("Bob"), says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))


@pytest.mark.parametrize(
    ("status", "errcode"), [(404, "M_NOT_FOUND"), (400, "M_UNKNOWN"), (403, "M_FORBIDDEN")]
)
async def test_the_gate_stays_closed_while_the_homeserver_does_not_take_out_who_is_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, errcode: str
) -> None:
    """Whatever the refusal: who is still in the room reads on, so nothing is shown; and it is tried again."""
    monkeypatch.setattr("bridgekit.runtime.gates.readers.REMOVE_AGAIN", 0.3)
    async with gated(tmp_path) as (town, place, bridge, room, carol):
        rule = place.homeserver.fault("POST */kick", Fail(status=status, errcode=errcode))
        patience(bridge, grace=100)
        await carol.join(room)
        await until(lambda: SIDE not in bridge.parts.passage.passing)
        town.emit(says("Bob", "hello"))
        await until(lambda: rule.hits >= 2)
        await said(place, by(BOT, "does not let the bridge take them out"))
        assert lines(place, room) == []
        place.homeserver.heal(rule)
        await said(place, membership(carol.id, "leave"))
        await said(place, by(ghost("bob"), "hello"))
        left = place.homeserver.timeline(room)
        assert [e.body for e in left if e.body == "hello" or e.state_key == carol.id][-1] == "hello"


async def test_the_room_is_told_again_once_somebody_cannot_be_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first words promised that they would be."""
    monkeypatch.setattr("bridgekit.runtime.gates.readers.PATIENT", 0.05)
    async with gated(tmp_path) as (town, place, bridge, room, carol):
        place.homeserver.fault("POST */kick", Fail(status=403, errcode="M_FORBIDDEN"))
        patience(bridge, grace=2_000)
        town.emit(says("Bob", "before"))
        await said(place, by(ghost("bob"), "before"))
        await carol.join(room)
        await until(lambda: SIDE not in bridge.parts.passage.passing)
        town.emit(says("Bob", "hello"), there("Bob", "own-alice"))
        await said(place, by(BOT, "who stays unseen is taken out of the room"))
        await said(place, by(BOT, "does not let the bridge take them out"))


async def test_who_comes_in_while_the_bridge_asks_who_is_there_is_not_overlooked(tmp_path: Path) -> None:
    """The answer is as old as the question, and the news of the join is here before it."""
    town = Town(OwnAccounts.AUTOMATIC)
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            patience(bridge, grace=60_000)
            _, room = await linked(place)
        slow = place.homeserver.fault("GET */joined_members", Delay(seconds=2.0, after_effect=True))
        async with place.bridge() as bridge:
            patience(bridge, grace=60_000)
            await until(lambda: slow.hits and None in town.sessions)
            carol = place.homeserver.user("carol")
            await carol.join(room)
            town.emit(there("Bob", "own-alice"), says("Bob", "hello"))
            await said(place, by(BOT, f"{carol.id} is in this room and is not seen"), 10)
            assert lines(place, room) == []


async def test_who_comes_in_again_and_again_does_not_hold_up_the_room_each_time(tmp_path: Path) -> None:
    """Each time within the grace, so that nobody takes them out."""
    async with gated(tmp_path) as (town, place, bridge, room, carol):
        for _ in range(2):
            await until(lambda: SIDE in bridge.parts.passage.passing)
            await carol.join(room)
            await until(lambda: SIDE not in bridge.parts.passage.passing)
            await carol.leave(room)
        await until(lambda: SIDE in bridge.parts.passage.passing)
        await carol.join(room)
        await said(place, lambda e: e.sender == BOT and membership(carol.id, "leave")(e))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        # Seen in the chat, they are as welcome as anybody.
        town.emit(came("own-carol"))
        await carol.join(room)
        town.emit(says("Bob", "welcome"))
        await said(place, by(ghost("bob"), "welcome"))
        assert carol.id in place.homeserver.joined(room)


async def test_who_is_back_before_the_kick_is_answered_is_not_overlooked(tmp_path: Path) -> None:
    async with gated(tmp_path, grace=600) as (town, place, bridge, room, carol):
        await until(lambda: SIDE in bridge.parts.passage.passing)
        kick = place.homeserver.fault("POST */kick", Delay(seconds=2.0, after_effect=True), times=1)
        await carol.join(room)
        await until(lambda: kick.hits and carol.id not in place.homeserver.joined(room))
        patience(bridge, grace=60_000)
        await carol.join(room)
        await until(lambda: not bridge.parts.readers._removing)
        town.emit(says("Bob", "hello"))
        await said(place, by(BOT, "is held"))
        assert lines(place, room) == []


async def test_what_is_said_long_after_the_gate_has_closed_is_told_of_as_well(tmp_path: Path) -> None:
    async with gated(tmp_path) as (town, place, bridge, room, carol):
        await until(lambda: SIDE in bridge.parts.passage.passing)
        await carol.join(room)
        await until(lambda: SIDE not in bridge.parts.passage.passing)
        await asyncio.sleep(0.5)  # nothing waited when it was looked whether something does
        town.emit(says("Bob", "hello"))
        told = await said(place, by(BOT, "is held"))
        assert f"{carol.id} is in this room and is not seen in #talk on Town" in told.body
