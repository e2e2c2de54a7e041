"""Who speaks while a network is away is shown that their words wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bridgekit.contract.connector import OwnAccounts
from bridgekit.contract.errors import Disconnected
from bridgekit.contract.facts import Retraction
from bridgekit.contract.ids import MessageId, PersonId
from bridgekit.contract.verbs import React, Retract, Unreact
from bridgekit.testing.homeserver import Event, Fail
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import BOT, SERVER, STATUS, by, ghost, is_about, linked, said, town_world, until

WORDS = "Town cannot be reached. The town is cut off. What you say waits, and is passed on when it is back."


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for moments."""
    monkeypatch.setattr("bridgekit.runtime.pending.AFTER", 0.3)
    monkeypatch.setattr("bridgekit.runtime.sessions.FIRST_WAIT", 0.5)
    monkeypatch.setattr("bridgekit.runtime.sessions.LONGEST_WAIT", 0.5)


def has_status(event: str, status: str) -> Callable[[Event], bool]:
    return lambda e: is_about(event)(e) and e.content["status"] == status


@pytest.mark.parametrize("every", ["all", "problems"])
async def test_what_waits_for_a_network_is_pending_until_it_has_arrived(tmp_path: Path, every: str) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place:
        place.more["messages"] = {"status_events": every}
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            await until(lambda: None not in town.sessions)
            events = [await alice.send(room, words) for words in ("one", "two", "three")]
            for event in events:
                pending = await said(place, has_status(event, "PENDING"))
                assert pending.content["network"] == "town"
            notice = await said(place, by(BOT, "cannot be reached"))
            assert notice.body == f"⏳ {WORDS}"
            town.mend()
            await town.until(lambda: town.said() == ["<alice> one", "<alice> two", "<alice> three"])
            for event in events:
                await said(place, has_status(event, "SUCCESS"))
            # In words once: every client can show that.
            notices = [e for e in place.homeserver.messages(room) if "cannot be reached" in e.body]
            assert len(notices) == 1
            town.cut()
            await until(lambda: None not in town.sessions)
            await alice.send(room, "four")
            await until(
                lambda: (
                    len([e for e in place.homeserver.messages(room) if "cannot be reached" in e.body]) == 2
                )
            )


async def test_a_network_that_is_back_in_a_moment_makes_nobody_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.pending.AFTER", 2.0)
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.cut()
        await until(lambda: None not in town.sessions)
        town.mend()
        event = await alice.send(room, "hello")
        await said(place, has_status(event, "SUCCESS"))
        shown = [e.content["status"] for e in place.homeserver.timeline(room) if e.type == STATUS]
        assert "PENDING" not in shown


async def test_what_is_stopped_while_it_waits_has_its_fate(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.cut()
        await until(lambda: None not in town.sessions)
        events = [await alice.send(room, words) for words in ("one", "two")]
        for event in events:
            await said(place, has_status(event, "PENDING"))
        await alice.send(room, "!bridge stop")
        for event in events:
            await said(place, has_status(event, "FAIL_PERMANENT"))
        town.mend()
        await alice.send(room, "three")
        await town.until(lambda: town.said() == ["<alice> three"])


async def test_who_waits_for_their_own_account_is_shown_that_at_once(tmp_path: Path) -> None:
    """It does not get in, and nobody has to wait for half a minute without a word: the relay speaks in the end."""
    town = Town(OwnAccounts.AUTOMATIC)
    town.rejection = Disconnected
    town.rejected[PersonId(f"@alice:{SERVER}")] = "Too many connections from your host."
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        events = [await alice.send(room, words) for words in ("one", "two")]
        for event in events:
            pending = await said(place, has_status(event, "PENDING"))
            assert pending.content["message"] == "It waits for your account on Town."
        assert town.said() == []
        del town.rejected[PersonId(f"@alice:{SERVER}")]
        await town.until(lambda: town.said() == ["one", "two"])
        for event in events:
            await said(place, has_status(event, "SUCCESS"))


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_its_sender_takes_back_while_it_waits_is_never_said(
    tmp_path: Path, restarted: bool
) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            await until(lambda: None not in town.sessions)
            event = await alice.send(room, "my password is hunter2")
            corrected = await alice.edit(room, event, "my password is hunter3")
            await said(place, has_status(event, "PENDING"))
            if not restarted:
                await alice.redact(room, event)
                for one in event, corrected:
                    gone = await said(place, has_status(one, "FAIL_PERMANENT"))
                    assert gone.content["message"] == "It was taken back before it was sent."
        if restarted:
            await alice.redact(room, event)
        async with place.bridge():
            if restarted:
                await said(place, has_status(event, "FAIL_PERMANENT"))
            await alice.send(room, "and what is yours?")
            town.mend()
            await town.until(lambda: town.said() == ["<alice> and what is yours?"])
            assert not town.done(Retract)
            # Nobody is told that it could still be read there.
            assert not [e for e in place.homeserver.messages(room) if "⚠" in e.body]


async def test_a_reaction_that_is_taken_back_while_it_waits_never_comes(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        event = await alice.send(room, "who comes?")
        await town.until(lambda: town.said() == ["<alice> who comes?"])
        town.cut()
        await until(lambda: None not in town.sessions)
        mark = await alice.react(room, event, "👍")
        await said(place, has_status(mark, "PENDING"))
        await alice.redact(room, mark)
        await said(place, has_status(mark, "FAIL_PERMANENT"))
        town.mend()
        await alice.send(room, "nobody")
        await town.until(lambda: town.said() == ["<alice> who comes?", "<alice> nobody"])
        assert not town.done(React)
        assert not town.done(Unreact)


async def test_what_somebody_there_takes_back_while_it_waits_never_comes(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        away = place.homeserver.fault("PUT */send/m.room.message/*", Fail(status=502), user=ghost("bob"))
        town.emit(says("Bob", "one", id="b1"), says("Bob", "a slip", id="b2"))
        await until(lambda: away.hits)
        town.emit(Retraction(chat=TALK, at=now(), sender=person("Bob"), target=MessageId("b2")))
        async with asyncio.timeout(60):
            while 'fate="failed",network="town"} 1.0' not in (await bridge.metrics.exposition()).decode():  # noqa: ASYNC110 - the metrics tell nobody
                await asyncio.sleep(0.02)
        place.homeserver.heal(away)
        await said(place, by(ghost("bob"), "one"))
        town.emit(says("Bob", "two", id="b3"))
        await said(place, by(ghost("bob"), "two"))
        bodies = [e.body for e in place.homeserver.messages(room)]
        assert not [body for body in bodies if "slip" in body or "could not be shown" in body]
