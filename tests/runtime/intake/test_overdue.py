"""What the homeserver leaves behind: it is read in its room, arrives once, and not again when it comes at last."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.matrix import rereading
from bridgekit.matrix.transactions import RawEvent
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.intake import arrivals, overdue
from bridgekit.store import copy
from bridgekit.store.urls import sqlite_path
from bridgekit.testing.homeserver import Fail
from tests.runtime.fake_network import Town, says
from tests.runtime.running import BOT, World, by, ghost, invited, linked, said, town_world, until
from tests.runtime.secret_client import SecretClient
from tests.runtime.secret_rooms import linked as linked_in_secret
from tests.runtime.secret_rooms import running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits, for a homeserver that is done in no time."""
    monkeypatch.setattr(arrivals, "QUIET", 0.3)
    monkeypatch.setattr(overdue, "AFTER", 0.1)
    monkeypatch.setattr(overdue, "AGAIN", 0.8)
    monkeypatch.setattr(overdue, "IN_FLIGHT_MS", 500)


@pytest.fixture(autouse=True)
def look(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Rooms are compared from when a test sets this: not before it has set its scene, however slow the machine is."""
    look, compare = asyncio.Event(), overdue.Overdue.compare

    async def when_told(self: overdue.Overdue, since: int) -> int:
        await look.wait()
        return await compare(self, since)

    monkeypatch.setattr(overdue.Overdue, "compare", when_told)
    return look


async def count(bridge: Bridge) -> float:
    """How many events were found overdue, as the metrics say."""
    lines = (await bridge.metrics.exposition()).decode().splitlines()
    [line] = [line for line in lines if line.startswith("bridgekit_overdue_events_total ")]
    return float(line.split()[1])


async def left_behind(place: World, *events: Any) -> None:
    """Do what `events` does while the homeserver leaves the transaction with it behind."""
    homeserver = place.homeserver
    await homeserver.settled()
    before = homeserver.withheld
    homeserver.withhold()
    for event in events:
        await event
    await until(lambda: homeserver.withheld == before + 1)


async def nothing_more(place: World, town: Town, alice: Any, room: str) -> None:
    """Let what was left behind come at last, and everything that could follow from it."""
    await place.homeserver.release()
    await alice.send(room, "the end")
    await town.until(lambda: "<alice> the end" in town.said())


async def test_what_was_left_behind_at_a_start_arrives_once(
    tmp_path: Path, database: dict[str, Any], look: asyncio.Event
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge():
            alice, room = await linked(place)
            await place.homeserver.settled()
        async with place.bridge() as bridge:
            await left_behind(place, alice.send(room, "one"))
            await alice.send(room, "two")
            await town.until(lambda: town.said() == ["<alice> two"])
            look.set()
            await town.until(lambda: len(town.said()) == 2)
            assert town.said() == ["<alice> two", "<alice> one"]
            await nothing_more(place, town, alice, room)
            assert town.said() == ["<alice> two", "<alice> one", "<alice> the end"]
            assert await count(bridge) == 1


async def test_what_was_taken_back_while_its_room_was_read_is_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: asyncio.Event
) -> None:
    """Its redaction comes before it, and was about nothing that was known."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        sent: list[str] = []

        async def say() -> None:
            sent.append(await alice.send(room, "a slip of the tongue"))

        read = overdue.Overdue._read

        async def meanwhile(self: overdue.Overdue, since: int) -> Any:
            found = await read(self, since)
            if sent:
                await alice.redact(room, sent.pop())
                await alice.send(room, "something else")
                await place.homeserver.settled()
                await town.until(lambda: town.said() == ["<alice> something else"])
            return found

        monkeypatch.setattr(overdue.Overdue, "_read", meanwhile)
        async with place.bridge() as bridge:
            await left_behind(place, say())
            bridge.parts.arrivals.suspect()
            look.set()
            await until(lambda: not sent)
            await until(lambda: len(bridge.parts.arrivals.overdue) == 1)
            await nothing_more(place, town, alice, room)
            assert town.said() == ["<alice> something else", "<alice> the end"]


async def test_what_nothing_came_after_arrives_too(tmp_path: Path, look: asyncio.Event) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        async with place.bridge():
            await left_behind(place, alice.send(room, "one"))
            look.set()
            await town.until(lambda: town.said() == ["<alice> one"])
            await nothing_more(place, town, alice, room)
            assert town.said() == ["<alice> one", "<alice> the end"]


async def test_it_is_remembered_over_a_restart_that_it_came(
    tmp_path: Path, database: dict[str, Any], look: asyncio.Event
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge():
            alice, room = await linked(place)
        async with place.bridge():
            await left_behind(place, alice.send(room, "one"))
            look.set()
            await town.until(lambda: town.said() == ["<alice> one"])
        async with place.bridge():
            await nothing_more(place, town, alice, room)
            assert town.said() == ["<alice> one", "<alice> the end"]


async def test_after_a_transaction_that_was_refused_rooms_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: asyncio.Event
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        transactions, record = bridge.store.transactions, bridge.store.transactions.record

        def refuse(*args: Any) -> Any:
            monkeypatch.setattr(transactions, "record", record)
            raise OSError("disk full")

        await place.homeserver.settled()
        monkeypatch.setattr(transactions, "record", refuse)
        await alice.send(room, "refused once")
        await town.until(lambda: town.said() == ["<alice> refused once"])
        await left_behind(place, alice.send(room, "one"))
        await alice.send(room, "two")
        await town.until(lambda: town.said()[1:] == ["<alice> two"])
        look.set()
        await town.until(lambda: len(town.said()) == 3)
        await nothing_more(place, town, alice, room)
        assert town.said()[1:] == ["<alice> two", "<alice> one", "<alice> the end"]


async def test_after_the_homeserver_was_away_rooms_are_compared(tmp_path: Path, look: asyncio.Event) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        await place.homeserver.pause()
        town.emit(says("Bob", "is anybody there?"))
        await until(lambda: not bridge.client.available)
        await place.homeserver.resume()
        await said(place, lambda e: e.body == "is anybody there?")
        await left_behind(place, alice.send(room, "one"))
        look.set()
        await town.until(lambda: town.said() == ["<alice> one"])
        await nothing_more(place, town, alice, room)
        assert town.said() == ["<alice> one", "<alice> the end"]


async def test_a_homeserver_that_did_not_say_which_rooms_there_are_is_asked_again(
    tmp_path: Path, look: asyncio.Event
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            await place.homeserver.settled()
        async with place.bridge():
            await left_behind(place, alice.send(room, "one"))
            refused = place.homeserver.faults.add(
                "GET */joined_rooms", Fail(status=403, errcode="M_FORBIDDEN"), times=1
            )
            look.set()
            await town.until(lambda: town.said() == ["<alice> one"])
            assert refused.hits == 1
            await nothing_more(place, town, alice, room)


async def test_a_crash_after_it_was_taken_in_neither_loses_nor_doubles_it(
    tmp_path: Path, look: asyncio.Event
) -> None:
    town = Town()
    home, after = tmp_path / "home", tmp_path / "after"
    home.mkdir()
    async with town_world(home, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        async with place.bridge() as bridge:
            town.cut()
            await left_behind(place, alice.send(room, "one"))
            look.set()
            async with asyncio.timeout(60):
                while await count(bridge) != 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            shutil.copytree(home, after)  # what a process that is killed now leaves on disk
        place.folder = after
        town.mend()
        async with place.bridge():
            await town.until(lambda: town.said() == ["<alice> one"])
            await nothing_more(place, town, alice, room)
            assert town.said() == ["<alice> one", "<alice> the end"]


async def test_an_encrypted_message_arrives_once(tmp_path: Path, look: asyncio.Event) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            alice, room = await linked_in_secret(place)
            await alice.say(room, "before")
            await town.until(lambda: town.said() == ["<alice> before"])
        async with running(place):
            await left_behind(place, alice.say(room, "one"))
            look.set()
            await town.until(lambda: town.said()[1:] == ["<alice> one"])
            await place.homeserver.release()
            await alice.say(room, "two")
            await town.until(lambda: "<alice> two" in town.said())
            assert town.said()[1:] == ["<alice> one", "<alice> two"]
            assert isinstance(alice, SecretClient)


async def test_a_command_is_done_once(tmp_path: Path, look: asyncio.Event) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        async with place.bridge():
            await left_behind(place, alice.send(room, "!bridge link town #other"))
            look.set()
            await said(place, lambda e: e.room_id == room and e.sender == BOT and "#other" in e.body)
            await nothing_more(place, town, alice, room)
            answers = [
                e.body for e in place.homeserver.messages(room) if e.sender == BOT and "#other" in e.body
            ]
            assert len(answers) == 1


async def test_more_than_a_page_arrives_in_order(tmp_path: Path, look: asyncio.Event) -> None:
    town = Town()
    lines = [f"line {n}" for n in range(2 * rereading.PAGE + 50)]
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            await place.homeserver.settled()
        async with place.bridge():
            place.homeserver.withhold(len(lines))
            for line in lines:
                await alice.send(room, line)
            look.set()
            await town.until(lambda: len(town.said()) == len(lines))
            assert town.said() == [f"<alice> {line}" for line in lines]
            await place.homeserver.release()
            await asyncio.sleep(0.3)
            assert len(town.said()) == len(lines)


async def test_a_direct_chat_is_read_by_its_ghost(tmp_path: Path, look: asyncio.Event) -> None:
    """Where the ghost may not ask the bot in, it is alone with its owner."""
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place:
        alice = place.homeserver.user("alice")
        async with place.bridge() as bridge:
            room = await invited(place, alice)
            await alice.send(room, "!bridge login town")
            await until(lambda: bridge.registry.logins)
            [login] = bridge.registry.logins
            await until(lambda: login in town.sessions)
            direct = await alice.create_room(
                is_direct=True, invite=[ghost("bob")], power_level_content_override={"invite": 100}
            )
            await until(
                lambda: PortalKey(NetworkId("town"), ChatId("dm:bob"), login) in bridge.registry.links
            )
            assert place.homeserver.joined(direct) == [alice.id, ghost("bob")]
            await alice.send(direct, "hello Bob")
            await town.until(lambda: "hello Bob" in town.said("dm:bob"))
        async with place.bridge():
            await until(lambda: login in town.sessions)
            await left_behind(place, alice.send(direct, "are you there?"))
            look.set()
            await town.until(lambda: town.said("dm:bob") == ["hello Bob", "are you there?"])
            await place.homeserver.release()
            await alice.send(direct, "bye")
            await town.until(lambda: "bye" in town.said("dm:bob"))
            assert town.said("dm:bob") == ["hello Bob", "are you there?", "bye"]


async def test_where_nothing_is_overdue_nothing_is_found(tmp_path: Path, look: asyncio.Event) -> None:
    """Nor is what was said before the bridge was there: that was not said to it."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="public_chat")
        await alice.send(room, "just between us")
        async with place.bridge() as bridge:
            await alice.invite(room, BOT)
            await said(place, lambda e: e.state_key == BOT and e.content["membership"] == "join")
            await alice.set_power(room, BOT, 100)
            await alice.send(room, "!bridge link town #talk")
            await said(place, lambda e: e.sender == BOT and "now linked" in e.body)
            await alice.send(room, "hello")
            town.emit(says("Bob", "hi"))
            await said(place, by("@_bk_town_bob:hs.test", "hi"))
            await town.until(lambda: town.said() == ["<alice> hello"])
            await place.homeserver.settled()
            look.set()
            assert await bridge.parts.overdue.compare(0) == 0
            assert town.said() == ["<alice> hello"]


async def test_the_first_start_compares_nothing(tmp_path: Path) -> None:
    """What an earlier version was sent is not known."""
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge:
        assert not bridge.parts.arrivals.owed.is_set()


# Which of a room's events are overdue (pure) ----------------------------------------------------------------


def event(id: str, *, at: int = 0, sender: str = "@alice:hs.test", topic: bool = False) -> RawEvent:
    return RawEvent(
        raw=b"{}",
        room_id=ChatId("!r:hs.test"),
        type="m.room.topic" if topic else "m.room.message",
        sender=PersonId(sender),
        event_id=MessageId(id),
        origin_server_ts=at,
        state_key="" if topic else None,
    )


def ids(events: list[RawEvent], missing: set[str], before: int) -> tuple[list[str], list[MessageId]]:
    wanted, late = arrivals.overdue(
        events, {MessageId(id) for id in missing}, before, is_own=lambda e: e.sender == BOT
    )
    return [e.event_id for e in wanted], late


def test_what_something_came_after_is_overdue_and_what_nothing_came_after_may_be_on_its_way() -> None:
    room = [event("$1", at=10), event("$2", at=20), event("$3", at=30), event("$4", at=40)]
    assert ids(room, {"$1", "$2", "$4"}, before=0) == (["$1", "$2"], [])
    assert ids(room, {"$1", "$2", "$4"}, before=41) == (["$1", "$2", "$4"], [])


def test_what_we_did_ourselves_proves_nothing() -> None:
    room = [event("$1", at=10), event("$2", at=20, sender=BOT)]
    assert ids(room, {"$1"}, before=0) == ([], [])


def test_state_that_was_replaced_is_too_late() -> None:
    room = [event("$1", topic=True), event("$2"), event("$3", topic=True, sender=BOT), event("$4")]
    assert ids(room, {"$1", "$2"}, before=0) == (["$2"], [MessageId("$1")])


async def test_what_crossed_after_a_backup_is_not_sent_again_when_that_is_restored(
    tmp_path: Path, look: asyncio.Event
) -> None:
    look.set()
    town = Town()
    backup = tmp_path / "backup.db"
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.send(room, "one")
            await town.until(lambda: town.said() == ["<alice> one"])
            await place.homeserver.settled()
            url = bridge.config.store.url.get_secret_value()
            await copy.backup(url, backup)
            await alice.send(room, "two")
            await town.until(lambda: town.said() == ["<alice> one", "<alice> two"])
            await place.homeserver.settled()
        database = sqlite_path(url)
        assert database is not None
        for left in ("-wal", "-shm"):
            database.with_name(database.name + left).unlink(missing_ok=True)
        shutil.copy(backup, database)
        async with place.bridge() as bridge:
            await alice.send(room, "three")
            await town.until(lambda: "<alice> three" in town.said())
            bridge.parts.arrivals.suspect()  # as after an outage
            await asyncio.sleep(2.5)  # both comparisons, if it made any
            assert town.said() == ["<alice> one", "<alice> two", "<alice> three"]
            assert await count(bridge) == 0
