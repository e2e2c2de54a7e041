"""What is lost, late or in doubt when networks, the homeserver or the bridge itself go away: nothing."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.connector import OwnAccounts
from bridgekit.contract.ids import MATRIX, ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Kind, Person
from bridgekit.contract.verbs import PostMessage, Verb
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.traffic import rooms, worker
from bridgekit.store.rows import InboxRow
from bridgekit.store.traffic import Inbox
from bridgekit.testing.homeserver import Delay
from tests.runtime.fake_network import Town, says
from tests.runtime.running import STATUS, by, emptied, ghost, has_fate, linked, said, town_world, until

TOWN = NetworkId("town")


async def parked_one(bridge: Bridge) -> None:
    """Return once something was put aside."""
    async with asyncio.timeout(60):
        while not await bridge.store.inbox.parked():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


async def on_disk(bridge: Bridge, rows: int) -> None:
    """Return once so many of what came in are on disk."""
    async with asyncio.timeout(60):
        while await bridge.store.inbox.count() != rows:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"line {n}" for n in range(start, start + count)]


async def test_what_is_said_while_the_network_is_away_goes_out_in_order_when_it_is_back(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.cut()
        for line in numbered(20):
            await alice.send(room, line)
        await asyncio.sleep(1.5)
        assert town.said() == []
        town.mend()
        await town.until(lambda: len(town.said()) == 20)
        assert town.said() == [f"<alice> {line}" for line in numbered(20)]


async def test_what_waits_for_the_network_goes_out_after_a_restart(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            for line in numbered(20):
                await alice.send(room, line)
            await asyncio.sleep(0.5)
        assert town.said() == []
        for line in numbered(5, 20):
            await alice.send(room, line)
        town.mend()
        async with place.bridge() as bridge:
            await town.until(lambda: len(town.said()) == 25)
            assert town.said() == [f"<alice> {line}" for line in numbered(25)]
            await emptied(bridge)
        fates = [e.content["status"] for e in place.homeserver.timeline(room) if "m.relates_to" in e.content]
        assert set(fates) == {"SUCCESS"}


@pytest.mark.parametrize("own", [False, True], ids=["relay", "own account"])
async def test_what_is_taken_up_before_any_session_starts_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """The first of it was refused, now and then: "Town is not configured any more"."""
    town = Town(OwnAccounts.AUTOMATIC if own else OwnAccounts.OFF)
    name = "" if own else "<alice> "  # the relay says who speaks
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            await alice.send(room, "before")
            await town.until(lambda: town.said() == [f"{name}before"])
            town.cut()
            await alice.send(room, "meanwhile")
            await asyncio.sleep(0.2)
        town.mend()
        listen = Bridge._listen

        async def late(bridge: Bridge) -> None:
            await asyncio.sleep(0.5)
            await listen(bridge)

        monkeypatch.setattr(Bridge, "_listen", late)
        async with place.bridge():
            await town.until(lambda: town.said() == [f"{name}before", f"{name}meanwhile"])
        fates = {e.content["status"] for e in place.homeserver.timeline(room) if e.type == STATUS}
        assert fates - {"PENDING"} == {"SUCCESS"}


async def test_a_stop_does_not_wait_for_a_database_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the database (a backup, a shell): what was not acknowledged comes again."""
    monkeypatch.setattr("bridgekit.runtime.bridge.STOP_SECONDS", 5.0)
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.send(room, "before")
            await town.until(lambda: town.said() == ["<alice> before"])
            holder = sqlite3.connect(tmp_path / "bridge.db")
            holder.execute("BEGIN IMMEDIATE")
            await alice.send(room, "meanwhile")
            await until(lambda: bridge.store.trouble)
            began = time.monotonic()
        assert time.monotonic() - began < 60  # it is held for ever
        holder.close()
        assert town.said() == ["<alice> before"]
        async with place.bridge():
            await town.until(lambda: len(town.said()) == 2)
        assert town.said() == ["<alice> before", "<alice> meanwhile"]


async def test_a_stop_does_not_wait_for_a_network_that_does_not_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.bridge.STOP_SECONDS", 4.0)
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            await alice.send(room, "before")
            await town.until(lambda: town.said() == ["<alice> before"])
            town.lingers = 3600.0
            began = time.monotonic()
        assert time.monotonic() - began < 60
        town.lingers = 0.0
        async with place.bridge():
            await alice.send(room, "after")
            await town.until(lambda: len(town.said()) == 2)
        assert town.said() == ["<alice> before", "<alice> after"]


async def test_a_stop_with_500_messages_under_way_takes_less_than_ten_seconds_and_loses_none(
    tmp_path: Path,
    database: dict[str, Any],
) -> None:
    town = Town()

    async def slowly(login: LoginId | None, verb: Verb) -> None:
        await asyncio.sleep(0.2)  # 50 seconds in all: nobody is through before the stop

    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge():
            alice, room = await linked(place)
            town.behave = slowly
            place.homeserver.fault("PUT */send/m.room.message/*", Delay(seconds=0.05))
            lines = numbered(250)
            for line in lines:
                await alice.send(room, line)
            town.emit(*(says("Bob", line) for line in lines))
            await place.homeserver.settled()
            began = time.monotonic()
        assert time.monotonic() - began < 10
        assert len(town.said()) < 250
        town.behave = None
        place.homeserver.heal()
        async with place.bridge():
            await town.until(lambda: len(town.said()) >= 250, 120)
            await said(place, by(ghost("bob"), "line 249"), 120)
            await asyncio.sleep(0.2)
        assert town.said() == [f"<alice> {line}" for line in lines]
        assert [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")] == lines


async def test_no_worker_is_given_anything_once_the_bridge_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run left is still being read: it is left where it is."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            town.cut()
            event = await alice.send(room, "hello")
            await alice.edit(room, event, "hello!")
            await on_disk(bridge, 2)
        reading, go_on = asyncio.Event(), asyncio.Event()
        numbered = Inbox.numbered

        async def slow(inbox: Inbox, ids: Iterable[int]) -> list[InboxRow]:
            reading.set()
            await go_on.wait()
            return await numbered(inbox, ids)

        monkeypatch.setattr(Inbox, "numbered", slow)
        async with place.bridge() as bridge:
            await reading.wait()
            assert await bridge.rooms.drain(0.1)
            go_on.set()
            await bridge.store.inbox.numbered([1])  # the other was asked for first
            await asyncio.sleep(0.2)
            assert (bridge.rooms.depth()[0], await bridge.store.inbox.count()) == (0, 2)


async def test_a_fact_that_strikes_a_fault_is_put_aside_alone(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge() as bridge:
            _, room = await linked(place)
            nobody = Person(id=PersonId(""), name="nobody")  # no user id can be made of this
            town.emit(says("Bob", "before"), says("", "poison", sender=nobody), says("Bob", "after"))
            await said(place, by(ghost("bob"), "after"))
            await parked_one(bridge)
            [parked] = await bridge.store.inbox.parked()
            assert parked.error.startswith("ValueError at ghosts.py:")
            assert b'bridgekit_parked_facts_total{network="town"} 1.0' in await bridge.metrics.exposition()
            assert [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")] == [
                "before",
                "after",
            ]


async def test_a_fault_of_the_connector_costs_one_message_and_its_sender_knows(tmp_path: Path) -> None:
    town = Town()

    async def faulty(login: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage) and verb.content.text.body == "poison":
            raise IndexError("a bug")

    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.behave = faulty
        event = await alice.send(room, "poison")
        await alice.send(room, "after")
        await town.until(lambda: town.said() == ["<alice> after"])
        fate = await said(place, has_fate(event))
        assert fate.content["status"] == "FAIL_PERMANENT"


async def test_facts_beyond_what_memory_should_hold_wait_on_disk_and_come_in_order(tmp_path: Path) -> None:
    town = Town()
    count = 5500
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        await place.homeserver.pause()
        for n in range(count):
            town.emit(says("Bob", f"line {n}"))
            if n % 100 == 0:
                await asyncio.sleep(0.2)
        worker = bridge.rooms.worker(ChatId(room))
        await until(lambda: worker.waiting + worker.under_way >= 4500, 120)
        await on_disk(bridge, count)
        await asyncio.sleep(0.5)
        assert worker.waiting <= 4000
        assert worker.under_way <= 500
        assert await bridge.store.inbox.count() == count
        depth, age = bridge.rooms.depth()
        assert depth <= 4500
        assert age > 0.4
        await place.homeserver.resume()
        await said(place, by(ghost("bob"), f"line {count - 1}"), 200)
        heard = [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")]
        assert heard == numbered(count)


async def test_matrix_messages_beyond_what_memory_should_hold_go_out_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.traffic.worker.IN_MEMORY", 400)
    monkeypatch.setattr("bridgekit.runtime.traffic.worker.UNDER_WAY", 50)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.cut()
        for line in numbered(1000):
            await alice.send(room, line)
        await place.homeserver.settled()
        worker = bridge.rooms.worker(ChatId(room))
        assert worker.waiting <= 400
        assert worker.under_way <= 50
        town.mend()
        await town.until(lambda: len(town.said()) == 1000, 120)
        assert town.said() == [f"<alice> {line}" for line in numbered(1000)]


async def test_metrics_and_health_say_how_it_is(tmp_path: Path) -> None:
    import aiohttp

    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        async with aiohttp.ClientSession(f"http://{bridge.admin_address}") as session:

            async def look() -> tuple[int, dict[str, object], str]:
                async with session.get("/health/ready") as ready, session.get("/metrics") as metrics:
                    return ready.status, (await ready.json())["parts"], await metrics.text()

            status, parts, metrics = await look()
            assert status == 200
            assert parts["network.town"] == {"ok": True, "detail": "ready", "needed": False}
            assert 'bridgekit_sessions{network="town",state="ready"} 1.0' in metrics

            town.cut()
            sent = time.monotonic()
            for line in numbered(3):
                await alice.send(room, line)
            await until(lambda: bridge.rooms.depth()[0] == 3)
            await asyncio.sleep(0.5)
            status, parts, metrics = await look()
            passed = time.monotonic() - sent
            # What is said to a network that is away waits: no reason to turn anything away.
            assert status == 200
            assert parts["network.town"]["ok"] is False  # type: ignore[index]
            assert 'bridgekit_queue_depth{queue="rooms"} 3.0' in metrics
            assert 'bridgekit_inbox_rows{state="pending"} 3.0' in metrics
            again = re.search(r'bridgekit_reconnects_total{network="town"} ([1-9]\d*)\.0', metrics)
            assert again is not None
            age = next(line for line in metrics.splitlines() if 'oldest_seconds{queue="rooms"}' in line)
            assert 0.3 < float(age.split()[-1]) <= passed

            town.mend()
            await town.until(lambda: len(town.said()) == 3)
            await place.homeserver.pause()
            town.emit(says("Bob", "hello"))
            await until(lambda: not bridge.client.available)
            status, parts, metrics = await look()
            assert status == 503
            assert parts["homeserver"] == {"ok": False, "detail": "The homeserver does not answer."}
            assert "bridgekit_homeserver_up 0.0" in metrics
            await place.homeserver.resume()
            await said(place, by(ghost("bob"), "hello"))
            status, _, metrics = await look()
            assert status == 200
            delivered = 'bridgekit_messages_total{direction="to_network",fate="delivered",network="town"} 3.0'
            assert delivered in metrics


async def test_a_stop_while_the_homeserver_is_away_is_quick_and_loses_nothing(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            _, room = await linked(place)
            await place.homeserver.pause()
            town.emit(*(says("Bob", line) for line in numbered(50)))
            await asyncio.sleep(0.5)
            began = time.monotonic()
        assert time.monotonic() - began < 9  # STOP_SECONDS, had it waited
        await place.homeserver.resume()
        async with place.bridge():
            await said(place, by(ghost("bob"), "line 49"))
            await asyncio.sleep(0.1)
            assert [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")] == numbered(
                50
            )


async def test_a_bridge_that_starts_while_the_homeserver_is_away_delivers_when_it_is_back(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        await place.homeserver.pause()
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(*(says("Bob", line) for line in numbered(3)))
            await asyncio.sleep(0.5)
            await place.homeserver.resume()
            await said(place, by(ghost("bob"), "line 2"))
            await alice.send(room, "hello")
            await town.until(lambda: town.said() == ["<alice> hello"])
            heard = [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")]
            assert heard == numbered(3)


async def test_whoever_wrote_once_is_not_remembered_for_ever_and_nothing_is_said_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses cost nothing: each is a chat of its own, of which it is known how much was handed over."""
    monkeypatch.setattr(rooms, "REMEMBERED", 8)
    monkeypatch.setattr(worker, "IN_MEMORY", 20)
    monkeypatch.setattr(worker, "UNDER_WAY", 3)
    town, opened = Town(), asyncio.Event()

    async def behave(login: LoginId | None, verb: Verb) -> None:
        if login is None and isinstance(verb, PostMessage) and verb.content.kind is not Kind.NOTICE:
            await opened.wait()

    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        carol = place.homeserver.user("carol")
        await bridge.accounts.open(TOWN, PersonId(carol.id))
        own = LoginId(f"town/{carol.id}")
        await until(lambda: own in town.sessions)
        town.behave = behave
        for line in numbered(5):
            await alice.send(room, line)
        await until(lambda: bridge.rooms.depth()[0] >= 5)
        for stranger in range(40):
            town.emit(says("Eve", "buy!", chat=f"dm:eve{stranger}", private=True), login=own)
            await until(lambda so_far=stranger: bridge._parts.directs.turned_away[TOWN] > so_far)  # type: ignore[misc]
        await until(lambda: len(bridge.rooms._newest) < 40)
        assert PortalKey(MATRIX, ChatId(room)) in bridge.rooms._newest
        for line in numbered(40, 5):
            await alice.send(room, line)
        # More than memory holds: it is read from disk, from behind what was handed over.
        await until(lambda: bridge.rooms._spilled)
        opened.set()
        await town.until(lambda: len(town.said()) >= 45)
        await emptied(bridge)
        assert town.said() == [f"<alice> {line}" for line in numbered(45)]
