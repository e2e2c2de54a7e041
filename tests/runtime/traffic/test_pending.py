"""Who speaks while a network is away is shown that their words wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract.connector import OwnAccounts
from bridgekit.contract.errors import Disconnected, SendRejected
from bridgekit.contract.facts import Retraction
from bridgekit.contract.ids import LoginId, MessageId, PersonId
from bridgekit.contract.verbs import EditMessage, PostMessage, React, Retract, Unreact, Verb
from bridgekit.testing.homeserver import Event, Fail
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import (
    BOT,
    SERVER,
    STATUS,
    by,
    emptied,
    ghost,
    is_about,
    linked,
    said,
    town_world,
    until,
)

WORDS = "Town cannot be reached. The town is cut off. What you say waits, and is passed on when it is back."


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for moments."""
    monkeypatch.setattr("bridgekit.runtime.traffic.pending.AFTER", 0.3)
    monkeypatch.setattr("bridgekit.runtime.networks.sessions.FIRST_WAIT", 0.5)
    monkeypatch.setattr("bridgekit.runtime.networks.sessions.LONGEST_WAIT", 0.5)


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
    monkeypatch.setattr("bridgekit.runtime.traffic.pending.AFTER", 2.0)
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


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_is_edited_while_it_waits_is_said_once_and_as_it_was_edited_last(
    tmp_path: Path, restarted: bool
) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            await until(lambda: None not in town.sessions)
            await alice.send(room, "first")
            event = await alice.send(room, "we met at noon")
            await alice.send(room, "last")
            edits = [await alice.edit(room, event, f"we meet at {hour}") for hour in ("one", "two")]
            for one in event, *edits:
                await said(place, has_status(one, "PENDING"))
            if not restarted:
                town.mend()
                await town.until(lambda: len(town.said()) == 3)
        town.mend()
        async with place.bridge():
            await town.until(lambda: len(town.said()) == 3)
            for one in event, *edits:
                await said(place, has_status(one, "SUCCESS"))
            assert town.said() == ["<alice> first", "<alice> we meet at two", "<alice> last"]
            # What is edited afterwards is an edit.
            await alice.edit(room, event, "we meet at three")
            await town.until(lambda: town.done(EditMessage))
            (edit,) = town.done(EditMessage)
            assert edit.content.text.body == "we meet at three"
            (post,) = (one for one in town.done(PostMessage) if one.content.text.body == "we meet at two")
            assert edit.target == next(deed.id for deed in town.deeds if deed.verb is post)


async def test_what_replaces_words_is_told_from_those_that_were_said(tmp_path: Path) -> None:
    """ "s/old/new/" is about what people read, not about what was edited before that."""
    town = Town(OwnAccounts.OFF)
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {EditMessage})
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.cut()
        await until(lambda: None not in town.sessions)
        event = await alice.send(room, "we meet at noon in the park")
        edit = await alice.edit(room, event, "we meet at one in the park")
        await said(place, has_status(edit, "PENDING"))
        town.mend()
        await town.until(lambda: town.said() == ["<alice> we meet at one in the park"])
        await alice.edit(room, event, "we meet at two in the park")
        await town.until(lambda: len(town.said()) == 2)
        assert town.said()[1] == "<alice> s/one/two/"


async def test_of_the_edits_that_wait_the_last_is_made(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        event = await alice.send(room, "noon")
        await town.until(lambda: town.said() == ["<alice> noon"])
        town.cut()
        await until(lambda: None not in town.sessions)
        edits = [await alice.edit(room, event, words) for words in ("one", "two", "three")]
        for one in edits:
            await said(place, has_status(one, "PENDING"))
        town.mend()
        for one in edits:
            await said(place, has_status(one, "SUCCESS"))
        assert [edit.content.text.body for edit in town.done(EditMessage)] == ["three"]


async def test_a_caption_does_not_take_the_place_of_its_picture(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    town.can = msgspec.structs.replace(town.can, files=True)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.cut()
        await until(lambda: None not in town.sessions)
        event = await alice.send_file(room, b"picture", name="cat.png", mimetype="image/png")
        edit = await alice.edit(room, event, "a cat")
        await said(place, has_status(edit, "PENDING"))
        town.mend()
        await said(place, has_status(edit, "SUCCESS"))
        assert [one.content.file.name for one in town.done(PostMessage) if one.content.file] == ["cat.png"]
        assert [one.content.text.body for one in town.done(EditMessage)] == ["a cat"]


async def test_the_fate_of_what_was_edited_is_that_of_its_edits_too(tmp_path: Path) -> None:
    """Told in words once: it is one message to whoever reads the room."""
    town = Town(OwnAccounts.OFF)

    async def refuse(login: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage):
            raise SendRejected("Nobody hears you.")

    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.cut()
        await until(lambda: None not in town.sessions)
        town.behave = refuse
        event = await alice.send(room, "noon")
        edit = await alice.edit(room, event, "one")
        await said(place, has_status(edit, "PENDING"))
        town.mend()
        for one in event, edit:
            gone = await said(place, has_status(one, "FAIL_PERMANENT"))
            assert gone.content["message"] == "Nobody hears you."
        assert len([e for e in place.homeserver.messages(room) if "Nobody hears you." in e.body]) == 1


async def test_what_was_under_way_at_a_crash_is_uncertain_with_its_edits(tmp_path: Path) -> None:
    town = Town(OwnAccounts.OFF)
    saying = asyncio.Event()

    async def stall(login: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage):
            saying.set()
            await asyncio.Event().wait()

    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            await until(lambda: None not in town.sessions)
            town.behave = stall
            event = await alice.send(room, "noon")
            edit = await alice.edit(room, event, "one")
            await said(place, has_status(edit, "PENDING"))
            town.mend()
            await saying.wait()
        town.behave = None
        async with place.bridge():
            for one in event, edit:
                await said(place, has_status(one, "FAIL_RETRIABLE"))
            await alice.send(room, "later")
            await town.until(lambda: town.said() == ["<alice> later"])
            assert not town.done(EditMessage)


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


async def test_what_could_not_be_delivered_is_told_once_whatever_befalls_bridge_and_homeserver(
    tmp_path: Path,
) -> None:
    """The bridge dies when it has told it, before that is on disk; the homeserver has forgotten what it was sent."""
    town = Town(OwnAccounts.OFF)

    async def refuse(login: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage) and verb.content.text.body == "no":
            raise SendRejected("Nobody may say that.")

    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await emptied(bridge)
            town.behave = refuse
            bridge.store.inbox.done = lambda number: bridge.store.kv.put("nothing", "done", b"")  # type: ignore[assignment, method-assign]
            event = await alice.send(room, "no")
            await said(place, has_status(event, "FAIL_PERMANENT"))
        place.homeserver.forget_txns()
        async with place.bridge() as bridge:
            await emptied(bridge)
        shown = place.homeserver.timeline(room)
        assert len([e for e in shown if e.sender == BOT and "Nobody may say that." in e.body]) == 1
        assert len([e for e in shown if has_status(event, "FAIL_PERMANENT")(e)]) == 1
