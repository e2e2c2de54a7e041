"""The spam shield in a whole bridge: a flood comes slower and ends, a stranger waits for a nod, nothing goes unsaid."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridgekit.admin.metrics import Direction
from bridgekit.config.model import Shield
from bridgekit.contract.facts import Change, Edit, Membership, RoleChange, Roster
from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Member, Role
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import PostMessage
from bridgekit.core import wording
from bridgekit.runtime.bridge import Bridge
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import BOT, World, by, ghost, linked, membership, said, town_world, until

SIDE = PortalKey(NetworkId("town"), TALK)


def shield(**rules: Any) -> Shield:
    return Shield.model_validate(rules)


def lines(place: World, room: str, who: str = "eve") -> list[str]:
    return [e.body for e in place.homeserver.messages(room) if e.sender == ghost(who)]


def told(town: Town, name: str = "eve") -> list[str]:
    """What the bridge said to somebody in private."""
    return [v.content.text.body for v in town.done(PostMessage) if v.chat == ChatId(f"dm:{name}")]


def counted(bridge: Bridge, fate: str) -> float:
    labels = {"network": "town", "direction": Direction.TO_MATRIX.value, "fate": fate}
    return bridge.metrics.registry.get_sample_value("bridgekit_messages_total", labels) or 0.0


async def held(bridge: Bridge, count: int) -> None:
    await until(lambda: bridge.parts.holding.count(SIDE) == count)


async def nothing_is_left(bridge: Bridge) -> None:
    """Everything has its end, on disk too."""
    await held(bridge, 0)
    async with asyncio.timeout(60):
        while await bridge.store.inbox.count():  # noqa: ASYNC110 - the disk tells nobody
            await asyncio.sleep(0.02)


# Floods ------------------------------------------------------------------------------------------------------


async def test_a_flood_of_one_person_is_slowed_down_then_ends_and_every_message_is_accounted_for(
    tmp_path: Path,
) -> None:
    """Four at once, one more every second and a half, and nothing may wait for more than two: 4 + 1 of twenty."""
    town = Town()
    rules = shield(person="4/6s", patience="2s")
    async with town_world(tmp_path, town, shield=rules) as place, place.bridge() as bridge:
        _, room = await linked(place)
        at = now()
        town.emit(*(says("Eve", f"buy {n}") for n in range(20)), says("Bob", "who is that?"))
        await said(place, by(ghost("bob"), "who is that?"))  # nobody else waits
        assert bridge.parts.holding.counts() == {(NetworkId("town"), "rate"): 1}
        await until(lambda: len(lines(place, room)) == 5)
        assert lines(place, room) == [f"buy {n}" for n in range(5)]
        assert now() - at >= 1500
        await nothing_is_left(bridge)
        assert counted(bridge, "failed") == 15
        assert await bridge.store.held.all() == []
        assert told(town) == [wording.too_fast(2)]
        for side, kept in bridge.parts.shields._shields.items():
            assert (side, kept is not None and kept.rest()) == (SIDE, [wording.flooded("Eve", 15)])


async def test_the_room_hears_how_much_of_a_flood_was_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.gates.shielding.REST", 0.2)
    town = Town()
    rules = shield(person="2/1h", patience="0s")
    async with town_world(tmp_path, town, shield=rules) as place, place.bridge() as bridge:
        _, room = await linked(place)
        town.emit(*(says("Eve", f"buy {n}") for n in range(12)))
        await until(lambda: counted(bridge, "failed") == 10)
        words = [wording.flooded("Eve", 1), wording.flooded("Eve", 9)]  # at once, and what came since
        for sentence in words:
            await said(place, by(BOT, sentence))
        assert lines(place, room) == ["buy 0", "buy 1"]


async def test_what_comes_out_of_a_gap_is_no_flood(tmp_path: Path) -> None:
    town = Town()
    rules = shield(person="2/1h", link="2/1h", patience="0s")
    async with town_world(tmp_path, town, shield=rules) as place, place.bridge() as bridge:
        _, room = await linked(place)
        town.emit(*(says("Eve", f"old {n}", replayed=True) for n in range(50)))
        await until(lambda: len(lines(place, room)) == 50)
        assert counted(bridge, "failed") == 0


async def test_what_waits_outlives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town()
    rules = shield(person="1/h", patience="3h")
    async with town_world(tmp_path, town, shield=rules) as place:
        async with place.bridge() as bridge:
            _, room = await linked(place)
            town.emit(*(says("Eve", f"line {n}") for n in range(3)))
            await held(bridge, 2)
            await bridge.store.commit()  # what was held this moment is on its way to the disk
            rows = {(row.number, row.since) for row in await bridge.store.held.all()}
        async with place.bridge() as bridge:
            await held(bridge, 2)
            assert {(row.number, row.since) for row in bridge.parts.holding.ledger.of(SIDE)} == rows
            await until(lambda: bridge.parts.passage.held_by(SIDE) is None)
            monkeypatch.setattr("bridgekit.runtime.gates.shielding.now", lambda: now() + 3 * 3_600_000)
            bridge.parts.shields.tend(SIDE)
            await until(lambda: len(lines(place, room)) == 3)
            assert lines(place, room) == ["line 0", "line 1", "line 2"]


async def test_people_who_come_in_a_wave_are_let_in_slower_and_speak_at_once(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town, shield=shield(joins="2/1h")) as place, place.bridge() as bridge:
        _, room = await linked(place)
        for n in range(5):
            town.emit(Membership(chat=TALK, at=now(), person=person(f"m{n}"), change=Change.JOIN))
        town.emit(says("m4", "hello"))
        await said(place, by(ghost("m4"), "hello"))
        await said(place, membership(ghost("m1"), "join"))
        await until(lambda: len(bridge.parts.joins) == 2)
        here = [who for who, what in place.homeserver.members(room).items() if what == "join"]
        assert sorted(who for who in here if "_m" in who) == [ghost("m0"), ghost("m1"), ghost("m4")]


# Strangers ---------------------------------------------------------------------------------------------------


async def test_a_strangers_words_wait_until_a_moderator_of_the_room_nods(tmp_path: Path) -> None:
    town = Town()
    rules = shield(quarantine="strangers")
    async with town_world(tmp_path, town, shield=rules) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.emit(says("Eve", "first"), says("Ann", "I am known", sender=person("Ann", account="ann")))
        await said(place, by(BOT, wording.quarantined("Eve", TALK)))
        await said(place, by(ghost("ann"), "I am known"))
        town.emit(says("Eve", "second"))
        await held(bridge, 2)
        assert lines(place, room) == []
        assert place.homeserver.members(room).get(ghost("eve")) is None
        await town.until(lambda: told(town) == [wording.STRANGER_WAITS])  # once
        await alice.send(room, "!bridge strangers")
        await said(place, by(BOT, wording.strangers(TALK, [("Eve", 2)])))

        await alice.send(room, "!bridge accept Eve")
        await said(place, by(BOT, wording.nodded("Eve", TALK, str(alice.id))))
        await said(place, by(ghost("eve"), "second"))
        town.emit(says("Eve", "third"))
        await said(place, by(ghost("eve"), "third"))
        assert lines(place, room) == ["first", "second", "third"]
        assert bridge.parts.holding.count(SIDE) == 0
        [nod] = await bridge.store.nods.all()
        assert (nod.side, nod.person, nod.accepted, nod.by) == (SIDE, PersonId("eve"), True, alice.id)


async def test_who_signs_in_needs_no_nod_and_whoever_has_the_name_later_does(tmp_path: Path) -> None:
    town = Town()
    rules = shield(quarantine="strangers")
    async with town_world(tmp_path, town, shield=rules) as place, place.bridge() as bridge:
        _, room = await linked(place)
        town.emit(says("Eve", "first"))
        await held(bridge, 1)
        town.emit(says("Eve", "second", sender=person("Eve", account="eve")))
        await said(place, by(ghost("eve"), "second"))
        town.emit(says("Eve", "buy!"))
        await held(bridge, 1)
        assert lines(place, room) == ["first", "second"]


async def test_who_is_not_wanted_is_not_heard_and_a_restart_forgets_neither_them_nor_the_others(
    tmp_path: Path,
) -> None:
    town = Town()
    rules = shield(quarantine="strangers")
    async with town_world(tmp_path, town, shield=rules) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            town.emit(says("Eve", "buy!"), says("Bob", "hello"), says("Carl", "me too"))
            await held(bridge, 3)
            await alice.send(room, "!bridge reject eve")
            await said(place, by(BOT, wording.shaken("Eve", TALK, str(alice.id), 1)))
            await alice.send(room, "!bridge accept Bob")
            await said(place, by(ghost("bob"), "hello"))
        async with place.bridge() as bridge:
            await held(bridge, 1)  # Carl still waits
            await until(lambda: None in town.sessions)
            town.emit(says("Eve", "buy more!"), says("Bob", "still here"))
            await said(place, by(ghost("bob"), "still here"))
            await until(lambda: counted(bridge, "failed") == 1)
            await alice.send(room, "!bridge accept Carl")
            await said(place, by(ghost("carl"), "me too"))
            assert lines(place, room) == []
            await nothing_is_left(bridge)


async def test_an_operator_nods_in_the_chat_and_nobody_else_can(tmp_path: Path) -> None:
    town = Town()
    rules = shield(quarantine="everybody")
    async with town_world(tmp_path, town, shield=rules) as place, place.bridge() as bridge:
        _, room = await linked(place)
        olga = person("Olga", account="olga")
        town.emit(
            Roster(
                chat=TALK,
                at=now(),
                members=(Member(person=olga, role=Role.MODERATOR), Member(person=person("Eve"))),
            )
        )
        town.emit(says("Eve", "let me in"))
        await held(bridge, 1)
        town.emit(says("Eve", "!bridge accept Eve"))
        await town.until(lambda: wording.not_operator(TALK) in told(town))
        town.emit(
            says("Olga", "!bridge accept Eve", sender=person("Olga", account="mallory"))
        )  # her nick, taken
        await town.until(lambda: wording.not_operator(TALK) in told(town, "olga"))
        assert lines(place, room) == []
        town.emit(says("Olga", "!bridge accept Eve", sender=olga))
        await said(place, by(ghost("eve"), "let me in"))
        await said(place, by(BOT, wording.nodded("Eve", TALK, "Olga")))
        assert wording.nodded("Eve", TALK, "Olga") in [v.content.text.body for v in town.done(PostMessage)]


async def test_who_may_not_put_people_out_of_the_room_does_not_nod(tmp_path: Path) -> None:
    town = Town()
    async with (
        town_world(tmp_path, town, shield=shield(quarantine="strangers")) as place,
        place.bridge() as bridge,
    ):
        _, room = await linked(place)
        carol = place.homeserver.user("carol")
        await carol.join(room)
        town.emit(says("Eve", "let me in"))
        await held(bridge, 1)
        await carol.send(room, "!bridge accept Eve")
        await said(place, by(BOT, "You need power level 50"))
        assert bridge.parts.holding.count(SIDE) == 1


async def test_of_one_stranger_the_first_words_wait_and_the_rest_is_refused(tmp_path: Path) -> None:
    town = Town()
    async with (
        town_world(tmp_path, town, shield=shield(quarantine="strangers")) as place,
        place.bridge() as bridge,
    ):
        alice, room = await linked(place)
        town.emit(*(says("Eve", f"line {n}") for n in range(30)))
        await said(place, by(BOT, wording.only_the_first("Eve", TALK, 20)))
        await until(lambda: counted(bridge, "failed") == 10)
        await alice.send(room, "!bridge accept Eve")
        await until(lambda: len(lines(place, room)) == 20)
        assert lines(place, room) == [f"line {n}" for n in range(20)]


async def test_a_hundred_strangers_are_neither_a_flood_in_the_room_nor_on_the_network(tmp_path: Path) -> None:
    town = Town()
    async with (
        town_world(tmp_path, town, shield=shield(quarantine="strangers")) as place,
        place.bridge() as bridge,
    ):
        alice, room = await linked(place)
        town.emit(*(says(f"eve{n}", "buy") for n in range(100)))
        await held(bridge, 100)
        await said(place, by(BOT, wording.more_strangers(TALK)))
        await alice.send(room, "!bridge status")
        await said(place, by(BOT, "eve99 (1 message)"))
        asked = [e for e in place.homeserver.messages(room) if "is new in" in e.body]
        assert len(asked) == 5
        assert len([v for v in town.done(PostMessage) if v.chat.startswith("dm:eve")]) == 10


async def test_who_is_given_a_voice_is_no_stranger_any_more(tmp_path: Path) -> None:
    town = Town()
    async with (
        town_world(tmp_path, town, shield=shield(quarantine="strangers")) as place,
        place.bridge() as bridge,
    ):
        _, room = await linked(place)
        town.emit(says("Eve", "first"))
        await held(bridge, 1)
        town.emit(
            RoleChange(chat=TALK, at=now(), person=person("Eve"), role=Role.VOICE), says("Eve", "second")
        )
        await said(place, by(ghost("eve"), "second"))
        assert lines(place, room) == ["first", "second"]


async def test_an_edit_of_what_waits_waits_behind_it(tmp_path: Path) -> None:
    town = Town()
    async with (
        town_world(tmp_path, town, shield=shield(quarantine="strangers")) as place,
        place.bridge() as bridge,
    ):
        alice, room = await linked(place)
        town.emit(says("Eve", "frist", id="m1"))
        town.emit(
            Edit(
                chat=TALK,
                at=now(),
                sender=person("Eve"),
                target=MessageId("m1"),
                content=Content(text=plain("first")),
            )
        )
        await held(bridge, 2)
        await asyncio.sleep(0.1)
        assert lines(place, room) == []
        await alice.send(room, "!bridge accept Eve")
        await said(place, lambda e: e.sender == ghost("eve") and "m.new_content" in e.content)
        assert lines(place, room)[0] == "frist"
