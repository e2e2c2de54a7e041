"""Rooms and chats: how they are linked, made, moved, closed and taken apart; those of direct chats stand apart."""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import partial
from pathlib import Path

import msgspec
import pytest

from bridgekit.contract.facts import ChatClosed, ChatOpened, Missed, Resync, Roster
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PortalKey
from bridgekit.contract.people import Member
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import FetchHistory, Join, Leave, PostMessage, Verb
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.linking.clearing import CLEARING
from bridgekit.testing.homeserver import Delay, Fail, Refused
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import (
    BOT,
    SERVER,
    World,
    by,
    ghost,
    has_fate,
    invited,
    linked,
    said,
    town_world,
    until,
)

TOWN = NetworkId("town")
OPEN = Visibility(known=True, exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, detail="+n")
ALIAS = f"#_bk_town_#talk:{SERVER}"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for moments."""
    monkeypatch.setattr("bridgekit.runtime.linking.standing.FIRST_WAIT", 0.2)
    monkeypatch.setattr("bridgekit.runtime.gates.visibilities.TOLD_SECONDS", 0.2)
    monkeypatch.setattr("bridgekit.runtime.linking.upgrades.TRIES", (0.1, 0.2))


# Links of the config -----------------------------------------------------------------------------------------


async def test_a_link_of_the_config_is_made_as_soon_as_its_room_is_there(tmp_path: Path) -> None:
    town = Town()
    links = [{"chat": "#talk", "room": f"#square:{SERVER}"}]
    async with town_world(tmp_path, town, links=links) as place, place.bridge() as bridge:
        await asyncio.sleep(0.3)
        assert bridge.registry.links == {}
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="public_chat", room_alias_name="square")
        await until(lambda: bridge.registry.links_of(ChatId(room)))
        await alice.send(room, "hello")
        await town.until(lambda: town.said() == ["<alice> hello"])


async def test_a_link_of_the_config_may_name_the_room_by_its_id_and_nobody_unlinks_it(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="public_chat")
        place.networks["town"]["links"] = [{"chat": "#Talk", "room": room}]
        async with place.bridge() as bridge:
            await until(lambda: bridge.registry.links_of(ChatId(room)))
            await alice.send(room, "!bridge unlink town #talk")
            await said(place, by(BOT, "stands in the bridge's configuration"))
        async with place.bridge() as bridge:  # it is not made twice
            await asyncio.sleep(0.2)
            assert len(town.done(Join)) == 1
            assert len(bridge.registry.links) == 1
        place.networks["town"]["links"] = []
        async with place.bridge() as bridge:
            await until(lambda: not bridge.registry.links)
            await town.until(lambda: town.done(Leave))


async def test_a_link_of_the_config_stays_where_its_room_has_moved_however_often(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        room = first = await alice.create_room(preset="public_chat")
        place.networks["town"]["links"] = [{"chat": "#talk", "room": first}]
        async with place.bridge() as bridge:
            await until(lambda: bridge.registry.links_of(ChatId(first)))
            for _ in range(2):
                await alice.set_power(room, BOT, 50)
                room = await alice.upgrade(room, "11")
                await until(partial(bridge.registry.links_of, ChatId(room)))
        kept = [{"chat": "#talk", "room": first}, {"chat": "#other", "room": first}]
        place.networks["town"]["links"] = kept
        async with place.bridge() as bridge:
            await until(lambda: len(bridge.registry.links) == 2)
            assert {link.room for link in bridge.registry.links.values()} == {room}
            await alice.kick(room, BOT)
            await until(lambda: not bridge.registry.links)
        async with place.bridge() as bridge:
            await until(lambda: len(bridge.parts.standing.missing()) == 2)
            await asyncio.sleep(0.2)
            assert place.homeserver.members(room)[BOT] == "leave"


async def test_the_config_is_read_anew_while_the_bridge_runs(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        one = await alice.create_room(preset="public_chat")
        two = await alice.create_room(preset="public_chat")
        place.networks["town"]["links"] = [{"chat": "#one", "room": one}]
        async with place.bridge() as bridge:
            await until(lambda: bridge.registry.links_of(ChatId(one)))
            place.networks["town"]["links"] = [{"chat": "#two", "room": two}]
            place.more["permissions"] = {"@alice:hs.test": "none", "@root:hs.test": "admin"}
            place.more["messages"] = {"status_events": "problems"}
            assert bridge.reload(place.config()) == []
            await until(
                lambda: bridge.registry.links_of(ChatId(two)) and not bridge.registry.links_of(ChatId(one))
            )
            event = await alice.send(two, "hello")
            fate = await said(place, has_fate(event))
            assert "not allowed to use this bridge" in fate.content["message"]
            place.networks["town"]["name"] = "City"
            place.networks["town"]["space"] = True
            assert bridge.reload(place.config()) == [
                "networks.town has changed: restart the bridge for that."
            ]


# Links of people ---------------------------------------------------------------------------------------------


async def test_a_command_is_obeyed_and_answered_once_though_the_bridge_died_behind_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town_world(tmp_path, Town()) as place:
        async with place.bridge():
            alice, room = await linked(place, "#talk")
            with monkeypatch.context() as died:
                died.setattr("bridgekit.runtime.traffic.endings.Endings.finish", lambda *_: None)
                await alice.send(room, "!bridge unlink")
                await said(place, by(BOT, "no longer linked"))
        before = [e.body for e in place.homeserver.messages(room) if e.sender == BOT]
        async with place.bridge() as bridge:
            while await bridge.store.inbox.pending(limit=1):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert [e.body for e in place.homeserver.messages(room) if e.sender == BOT] == before


async def test_who_invites_the_bridge_is_greeted_once_though_it_died_behind_its_greeting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town_world(tmp_path, Town()) as place:
        with monkeypatch.context() as died:
            died.setattr("bridgekit.runtime.traffic.endings.Endings.finish", lambda *_: None)
            async with place.bridge():
                room = await place.homeserver.user("alice").create_room(invite=[BOT])
                await said(place, by(BOT, "I am a bridge"))
        place.homeserver.forget_txns()
        async with place.bridge() as bridge:
            while await bridge.store.inbox.pending(limit=1):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert len([e for e in place.homeserver.messages(room) if e.sender == BOT]) == 1


async def test_one_of_two_links_is_taken_apart_by_its_name(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place, "#talk")
        await alice.send(room, "!bridge link town #other")
        await said(place, by(BOT, "linked to #other"))
        await alice.send(room, "!bridge unlink")
        await said(place, by(BOT, "Say `!bridge unlink <network> <chat>`"))
        await alice.send(room, "!bridge unlink town #Talk")
        await said(place, by(BOT, "no longer linked to #talk on Town"))
        assert [link.name for link in bridge.registry.links.values()] == ["#other"]
        await town.until(lambda: town.done(Leave))
        assert [leave.chat for leave in town.done(Leave)] == ["#talk"]


async def test_a_chat_that_does_not_let_the_bridge_in_is_not_linked_and_says_why(tmp_path: Path) -> None:
    town = Town()
    town.closed[TALK] = "#talk is invite-only: ask an operator to invite the bridge."
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "#talk is invite-only"))
        assert bridge.registry.links == {}


async def test_who_links_while_the_network_is_away_reads_at_once_that_it_waits_and_then_how_it_ended(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await until(lambda: None in town.sessions)
        town.cut()
        await until(lambda: None not in town.sessions)
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "Town is not connected now"))
        assert town.done(Join) == []
        town.mend()
        await said(place, by(BOT, "This room is now linked to #talk on Town"))


async def test_a_link_that_waited_for_its_network_in_vain_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.linking.portals.ENTER_SECONDS", 0.3)
    town = Town()
    town.up = False
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.send(room, "!bridge link town #talk")
        waits = await said(place, by(BOT, "Town is not connected now"))
        ended = await said(place, by(BOT, "so #talk is not linked: say it again when it is."))
        assert "I wait up to 0 s for it" in waits.body
        assert ended.body.startswith("Town is not connected")
        assert bridge.registry.links == {}


async def test_nobody_makes_the_bridge_knock_at_one_chat_after_the_other(tmp_path: Path) -> None:
    town = Town()
    for number in range(12):
        town.closed[ChatId(f"#shut{number}")] = "Nobody gets in."
    async with town_world(tmp_path, town) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        for slip in ("#two words", "nobody?", "", "#shut password"):
            await alice.send(room, f"!bridge link town {slip}")
            await alice.send(room, "!bridge link twon #shut0")
        for number in range(12):
            await alice.send(room, f"!bridge link town #shut{number}")
        await said(place, by(BOT, "You ask for more than I do at once"))
        await alice.send(room, "!bridge status")
        await said(place, by(BOT, "This room is not linked"))
        await until(
            lambda: len([e for e in place.homeserver.messages(room) if "more than I do" in e.body]) == 2
        )
        assert len(town.done(Join)) == 10


async def test_the_password_of_a_chat_lets_the_bridge_in_and_does_not_stay_in_the_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.send(room, "!bridge link town #talk nonsense")
        await said(place, by(BOT, "with `password=...` where it has one"))
        event = await alice.send(room, '!bridge link town #talk password="open sesame"')
        await said(place, by(BOT, "now linked to #talk"))
        assert [join.secret for join in town.done(Join)] == ["open sesame"]
        (redacted,) = [e for e in place.homeserver.timeline(room) if e.event_id == event]
        assert redacted.content == {}
        assert len(bridge.registry.links) == 1
        assert "sesame" not in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(
    "slip",
    [
        "link town password=sesame",
        "link password=sesame",
        "link password=sesame #talk",
        "link town #talk sesame",
        "link town #talk password=sesame sesame",
        "link town '#talk password=sesame'",
        "link #talk town password=sesame",
        "LINK town #talk PASSWORD=sesame",
    ],
)
async def test_the_bot_says_no_password_aloud_whatever_is_mistyped(tmp_path: Path, slip: str) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        event = await alice.send(room, f"!bridge {slip}")
        await until(lambda: len([e for e in place.homeserver.messages(room) if e.sender == BOT]) >= 2)
        assert not [e for e in place.homeserver.messages(room) if "sesame" in e.body]
        (hidden,) = [e for e in place.homeserver.timeline(room) if e.event_id == event]
        assert hidden.content == {}
        assert bridge.registry.links == {}


@pytest.mark.parametrize(("level", "may"), [("50", True), ("100", True), ("49", False), ("all", False)])
async def test_power_levels_that_are_strings_are_read_as_old_rooms_mean_them(
    tmp_path: Path, level: str, may: bool
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, bob = place.homeserver.user("alice"), place.homeserver.user("bob")
        room = await invited(place, alice)
        await bob.join(room)
        users = {alice.id: 100, BOT: 100, bob.id: level}
        await alice.set_state(room, "m.room.power_levels", {"users": users, "state_default": "50"})
        await bob.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "now linked" if may else "You need power level 50"))


async def test_where_every_word_needs_the_mark_the_bot_says_so(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice)
        await alice.send(room, "!BRIDGE dance")
        await said(place, by(BOT, "There is no command dance. Say `!bridge help` to see what there is."))


async def test_a_chat_that_was_lost_is_linked_again_by_the_same_words(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.emit(ChatClosed(chat=TALK, at=now(), reason="The bridge was put out of #talk."))
        await said(place, by(BOT, "put out of #talk"))
        town.closed[TALK] = "The bridge is banned from #talk."
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "banned from #talk"))
        (link,) = bridge.registry.links.values()
        assert (link.state, link.reason) == ("closed", "The bridge is banned from #talk.")
        del town.closed[TALK]
        before = len([e for e in place.homeserver.messages(room) if "now linked" in e.body])
        await alice.send(room, "!bridge link town #talk")
        await until(
            lambda: len([e for e in place.homeserver.messages(room) if "now linked" in e.body]) > before
        )
        (link,) = bridge.registry.links.values()
        assert (link.state, link.reason) == ("open", "")
        await alice.send(room, "back again")
        await town.until(lambda: town.said() == ["<alice> back again"])


async def test_two_who_link_a_lost_chat_again_at_once_are_both_answered(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.emit(ChatClosed(chat=TALK, at=now(), reason="The bridge was put out of #talk."))
        await said(place, by(BOT, "put out of #talk"))
        asked, both = itertools.count(1), asyncio.Event()

        async def together(_: LoginId | None, verb: Verb) -> None:
            if isinstance(verb, Join):
                if next(asked) == 2:
                    both.set()
                await both.wait()

        town.behave = together
        before = _answers(place, room)
        for _ in range(2):
            await alice.send(room, "!bridge link town #talk")
        await until(lambda: _answers(place, room) == before + 2, 20)


def _answers(place: World, room: str) -> int:
    """How often the bot has said in a room that it is linked."""
    return len([e for e in place.homeserver.messages(room) if "now linked" in e.body])


async def test_a_chat_that_closes_refuses_messages_with_the_reason_until_it_opens(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        why = "The bridge was kicked from #talk by Eve."
        town.emit(ChatClosed(chat=TALK, at=now(), reason=why))
        await said(place, by(BOT, why))
        event = await alice.send(room, "anybody?")
        fate = await said(place, has_fate(event))
        assert (fate.content["status"], fate.content["message"]) == ("FAIL_PERMANENT", why)
        town.emit(ChatOpened(chat=TALK, at=now()))
        await until(lambda: [link.state for link in bridge.registry.links.values()] == ["open"])
        await alice.send(room, "hello again")
        await town.until(lambda: town.said() == ["<alice> hello again"])


async def test_what_was_missed_is_fetched_and_nothing_comes_twice(tmp_path: Path) -> None:
    town = Town()
    town.visibility = msgspec.structs.replace(OPEN, exposure=Exposure.JOINED)  # nothing is told from before
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        town.emit(says("Bob", "one", id="a"))
        await said(place, by(ghost("bob"), "one"))
        missed = 1_700_000_000_000
        town.history = [
            says("Bob", "one", id="a", replayed=True),
            says("Bob", "two", id="b", replayed=True, at=missed),
            says("Bob", "three", id="c", replayed=True, at=missed + 1),
        ]
        town.emit(Resync(chat=TALK, at=now(), since=5, reason="reconnected"))
        await said(place, by(ghost("bob"), "three"))
        assert [v.since for v in town.done(FetchHistory)] == [5]
        town.emit(Resync(chat=TALK, at=now(), since=5, reason="reconnected"), says("Bob", "four", id="d"))
        await said(place, by(ghost("bob"), "four"))
        await asyncio.sleep(0.2)
        heard = [e for e in place.homeserver.messages(room) if e.sender == ghost("bob")]
        assert sorted(e.body for e in heard) == ["four", "one", "three", "two"]
        times = {e.body: e.origin_server_ts for e in heard}
        assert (times["two"], times["three"]) == (missed, missed + 1)
        assert times["one"] > missed + 2


async def test_what_cannot_be_told_is_said_to_be_missing_where_it_would_have_stood(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        await place.homeserver.user("alice").send(room, "!bridge link town #other")
        await said(place, by(BOT, "linked to #other"))
        noon = 1_767_268_800_000  # 2026-01-01, 12:00 UTC
        town.emit(
            says("Bob", "before"),
            Missed(chat=TALK, at=now(), since=noon, until=noon + 90 * 60_000, reason="Too much was said."),
            says("Bob", "after"),
        )
        await said(place, by(ghost("bob"), "after"))
        words = (
            "Too much was said. What was said there between 2026-01-01 12:00 and 13:30 UTC, if anything, "
            "is missing here."
        )
        heard = [e for e in place.homeserver.messages(room) if e.body in ("before", words, "after")]
        assert [(e.sender, e.content["msgtype"]) for e in heard] == [
            (ghost("bob"), "m.text"),
            (BOT, "m.notice"),
            (ghost("bob"), "m.text"),
        ]
        await town.until(lambda: [p.chat for p in town.done(PostMessage) if p.content.text.body == words])
        assert [p.chat for p in town.done(PostMessage) if p.content.text.body == words] == ["#other"]


async def test_a_room_that_cannot_be_shown_something_reads_so_once_for_each_reason(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        place.homeserver.fault("PUT */send/m.room.message/*", Fail(status=400), user=ghost("eve"))
        town.emit(says("Eve", "one"), says("Bob", "between"), says("Eve", "two"), says("Bob", "behind"))
        await said(place, by(ghost("bob"), "behind"))

        def notices() -> list[str]:
            return [e.body for e in place.homeserver.messages(room) if "could not be shown here" in e.body]

        await until(notices)
        await asyncio.sleep(0.2)
        (notice,) = notices()
        assert notice.startswith("⚠ Something that was said on the other side could not be shown here: ")
        place.homeserver.fault(
            "PUT */send/m.room.message/*", Fail(status=413, errcode="M_TOO_LARGE"), user=ghost("carl")
        )
        town.emit(says("Carl", "another reason"))
        await until(lambda: len(notices()) == 2)
        assert notices()[1].endswith("(And 1 more since I said so last.)")


async def test_history_is_not_repeated_after_a_restart(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            _, room = await linked(place)
            town.emit(says("Bob", "one", id="a"))
            await said(place, by(ghost("bob"), "one"))
        town.history = [says("Bob", "one", id="a", replayed=True), says("Bob", "two", id="b", replayed=True)]
        async with place.bridge():
            await until(lambda: None in town.sessions)
            town.emit(Resync(chat=TALK, at=now(), reason="started"))
            await said(place, by(ghost("bob"), "two"))
            assert [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")] == [
                "one",
                "two",
            ]


async def test_a_room_that_puts_the_bridge_out_is_unlinked(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="public_chat", invite=[BOT])
        await until(lambda: BOT in place.homeserver.joined(room))
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "now linked"))
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        await alice.kick(room, BOT)
        await until(lambda: not bridge.registry.links)
        await until(lambda: ghost("bob") not in place.homeserver.joined(room))
        assert [leave.chat for leave in town.done(Leave)] == ["#talk"]


PEOPLE = "Bob", "Carl", "Dora"


def everybody() -> Roster:
    return Roster(chat=TALK, at=now(), members=tuple(Member(person=person(name)) for name in PEOPLE))


def ghosts_in(place: World, room: str) -> set[str]:
    return {ghost(name.lower()) for name in PEOPLE} & set(place.homeserver.joined(room))


async def cleared(bridge: Bridge) -> None:
    """Return when there is no room that ghosts have yet to leave."""
    async with asyncio.timeout(60):
        while await bridge.store.kv.items(CLEARING):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("by_alias", [False, True], ids=["linked", "made"])
async def test_the_ghosts_of_an_unlinked_room_leave_it_be_it_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_alias: bool
) -> None:
    monkeypatch.setattr("bridgekit.runtime.linking.clearing.AFTERWARDS", 0.2)
    town = Town()
    town.visible[TALK] = OPEN
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            room = await place.homeserver.user("carol").join(ALIAS) if by_alias else (await linked(place))[1]
            town.emit(everybody())
            await until(lambda: len(ghosts_in(place, room)) == 3)
            slow = place.homeserver.fault("POST */leave", Delay(seconds=60))
            await bridge.portals.unlink(PortalKey(TOWN, TALK))
        assert len(ghosts_in(place, room)) == 3
        place.homeserver.heal(slow)
        async with place.bridge() as bridge:
            await until(lambda: not ghosts_in(place, room))
            await cleared(bridge)


async def test_who_comes_by_a_new_link_is_not_taken_out_for_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.linking.clearing.AFTERWARDS", 1.0)
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.emit(everybody())
        await until(lambda: len(ghosts_in(place, room)) == 3)
        await alice.send(room, "!bridge unlink")
        await until(lambda: not ghosts_in(place, room))
        await alice.send(room, "!bridge link town #talk")
        await until(lambda: bridge.parts.passage.passing)
        town.emit(everybody())
        await until(lambda: len(ghosts_in(place, room)) == 3)
        await cleared(bridge)
        assert len(ghosts_in(place, room)) == 3


async def test_the_room_of_the_bot_itself_is_not_linked(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[BOT])
        await said(place, by(BOT, "Every word here"))
        await alice.send(room, "link town #talk")
        await said(place, by(BOT, "say it in the room that shall be linked"))
        assert bridge.registry.links == {}


# Spaces ------------------------------------------------------------------------------------------------------


async def test_a_network_has_one_space_that_holds_its_rooms(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, space=True) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        rooms = [await invited(place, alice) for _ in range(2)]
        for room, chat in zip(rooms, ("#one", "#two"), strict=True):
            await alice.send(room, f"!bridge link town {chat}")
        await until(lambda: len(bridge.registry.links) == 2)

        def spaces() -> list[str]:
            return [p.room for p in bridge.registry.portals.values() if p.kind == "space"]

        await until(lambda: spaces() and alice.id in place.homeserver.members(spaces()[0]))
        [space] = spaces()
        await until(lambda: all(place.homeserver.state(space, "m.space.child", r) for r in rooms))
        assert place.homeserver.state(space, "m.space.child", rooms[0]) == {"via": [SERVER]}
        assert place.homeserver.members(space)[alice.id] == "invite"
        await alice.send(rooms[0], "!bridge unlink")
        await until(lambda: place.homeserver.state(space, "m.space.child", rooms[0]) == {})
        new = await alice.upgrade(rooms[1], "11")
        await until(lambda: place.homeserver.state(space, "m.space.child", new))
        await until(lambda: place.homeserver.state(space, "m.space.child", rooms[1]) == {})


# Aliases -----------------------------------------------------------------------------------------------------


async def test_an_open_chat_has_a_portal_at_its_alias_and_two_who_come_at_once_share_it(
    tmp_path: Path,
) -> None:
    town = Town()
    town.visible[TALK] = OPEN
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        place.homeserver.fault("POST */createRoom", Delay(seconds=0.2))
        people = [place.homeserver.user(name) for name in ("alice", "carol")]
        rooms = await asyncio.gather(*(one.join(ALIAS) for one in people))
        assert rooms[0] == rooms[1]
        assert len(bridge.registry.portals) == 1
        assert len(town.done(Join)) == 1
        histories = [e for e in place.homeserver.timeline(rooms[0]) if e.type == "m.room.history_visibility"]
        assert [e.content["history_visibility"] for e in histories] == ["joined", "shared"]
        await people[1].send(rooms[0], "hello")
        await town.until(lambda: town.said() == ["<carol> hello"])
        town.emit(says("Bob", "hello carol"))
        await said(place, by(ghost("bob"), "hello carol"))


@pytest.mark.parametrize(
    "visible",
    [
        None,
        Visibility(known=False, exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True),
        Visibility(known=True, exposure=Exposure.SHARED, entry=Entry.INVITE, listed=True),
        Visibility(known=True, exposure=Exposure.PRESENT, entry=Entry.OPEN, listed=True),
        Visibility(known=True, exposure=Exposure.SHARED, entry=Entry.OPEN, listed=False),
    ],
)
async def test_a_chat_that_is_not_known_to_be_open_to_everybody_has_no_portal_at_its_alias(
    tmp_path: Path, visible: Visibility | None
) -> None:
    town = Town()
    town.visibility = visible
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        with pytest.raises(Refused):
            await place.homeserver.user("alice").join(ALIAS)
        assert bridge.registry.portals == {}
        await town.until(
            lambda: town.done(Leave)
        )  # and the bridge stays in no chat that it was asked to look at


@pytest.mark.parametrize("by_alias", [False, True], ids=["linked", "made"])
async def test_no_alias_leads_into_a_room_that_is_not_its_chats_any_more(
    tmp_path: Path, by_alias: bool
) -> None:
    """It would for ever: a homeserver asks only for aliases that it does not know."""
    town, shouted = Town(), f"#_bk_town_#TALK:{SERVER}"
    town.visible[TALK] = OPEN
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        carol = place.homeserver.user("carol")
        if by_alias:
            room = await carol.join(shouted)
        else:
            _, room = await linked(place)
            await until(lambda: len(bridge.parts.passage.passing) == 1)
            assert await carol.join(shouted) == room
        assert await carol.join(ALIAS) == room
        await bridge.portals.unlink(PortalKey(TOWN, TALK))
        assert {await carol.join(alias) for alias in (ALIAS, shouted)} & {room} == set()


async def test_a_chat_that_is_linked_gets_no_alias_unless_it_is_open(tmp_path: Path) -> None:
    """An alias would tell the room, and who may enter it, to everybody who can guess the chat's name."""
    town = Town()
    town.visible[TALK] = msgspec.structs.replace(OPEN, listed=False)
    async with town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        with pytest.raises(Refused):
            await place.homeserver.user("carol").join(ALIAS)
        assert town.done(Leave) == []


# Upgrades ----------------------------------------------------------------------------------------------------


async def test_a_bridge_that_is_not_let_into_the_new_room_asks_and_follows_when_it_is_invited(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        await alice.set_state(room, "m.room.join_rules", {"join_rule": "invite"})
        new = await alice.upgrade(room, "11")
        await said(place, by(BOT, "invite it there"))
        assert bridge.registry.links_of(ChatId(room))
        await alice.invite(new, BOT)
        await until(lambda: bridge.registry.links_of(ChatId(new)))
        await alice.set_power(new, BOT, 100)
        await alice.send(new, "here?")
        await town.until(lambda: town.said() == ["<alice> here?"])
        await until(lambda: ghost("bob") in place.homeserver.joined(new))
        town.emit(says("Bob", "here!"))
        assert (await said(place, by(ghost("bob"), "here!"))).room_id == new


async def test_a_room_that_only_claims_to_replace_another_changes_nothing(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        mallory = place.homeserver.user("mallory")
        claim = {"predecessor": {"room_id": room, "event_id": "$x"}}
        false = await mallory.create_room(preset="public_chat", creation_content=claim, invite=[BOT])
        await said(place, lambda e: e.room_id == false and e.sender == BOT and "I am a bridge" in e.body)
        assert not bridge.registry.links_of(ChatId(false))
        assert bridge.registry.links_of(ChatId(room))


# What the room is told of its links --------------------------------------------------------------------------


async def test_the_status_of_a_link_says_that_its_network_is_away(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        town.cut()
        await until(lambda: None not in town.sessions)
        await alice.send(room, "!bridge status")
        await said(place, by(BOT, "#talk on Town: not connected (waiting: The town is cut off)"))


async def test_the_status_of_a_link_says_that_the_bridge_was_banned_from_the_network(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.ban = "K-lined: go away."
        town.sessions[None].lose()
        await until(lambda: bridge.accounts.status(TOWN).startswith("rejected"))
        await alice.send(room, "!bridge status")
        await said(place, by(BOT, "#talk on Town: not connected (rejected: K-lined: go away)"))
