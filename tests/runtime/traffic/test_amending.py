"""What waits far back in a busy room, and is edited or taken back meanwhile: it is said once, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.facts import Edit, Retraction
from bridgekit.contract.ids import MessageId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import EditMessage, React, Retract
from bridgekit.runtime.traffic import worker
from bridgekit.testing.homeserver import Delay, Fail, Human
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.running import BOT, World, by, emptied, ghost, has_fate, linked, said, town_world, until

TAKEN_BACK = "It was taken back before it was sent."


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room is busy with five messages, and twenty more fit into memory: the rest waits on disk."""
    monkeypatch.setattr(worker, "UNDER_WAY", 5)
    monkeypatch.setattr(worker, "IN_MEMORY", 20)
    monkeypatch.setattr(worker, "MOST", 40)
    monkeypatch.setattr("bridgekit.runtime.traffic.rooms.CHUNK", 10)
    monkeypatch.setattr("bridgekit.runtime.traffic.lobby.FULL", 5)
    monkeypatch.setattr("bridgekit.runtime.networks.sessions.FIRST_WAIT", 0.1)
    monkeypatch.setattr("bridgekit.runtime.networks.sessions.LONGEST_WAIT", 0.3)


async def lines(alice: Human, room: str, count: int) -> list[str]:
    return [await alice.send(room, f"line {number}") for number in range(count)]


async def fate_of(place: World, event: str) -> tuple[str, str]:
    told = await said(place, has_fate(event))
    return str(told.content["status"]), str(told.content.get("message", ""))


async def change_some(place: World, alice: Human, room: str, sent: list[str]) -> list[str]:
    """Take back or edit what is under way, what waits in memory and what waits on disk; what should be said."""
    for gone in (2, 12, 40, 59):
        await alice.redact(room, sent[gone])
    for edited in (3, 13, 41):
        await alice.edit(room, sent[edited], f"line {edited}, as it was meant")
    await alice.edit(room, sent[41], "line 41, at last")
    await place.homeserver.settled()
    words = {n: f"line {n}" for n in range(len(sent)) if n not in (2, 12, 40, 59)}
    words |= {3: "line 3, as it was meant", 13: "line 13, as it was meant", 41: "line 41, at last"}
    return [f"<alice> {said}" for _, said in sorted(words.items())]


async def test_however_much_waits_before_it_what_is_taken_back_is_not_said_and_what_is_edited_once(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            town.cut()
            sent = await lines(alice, room, 60)
            await place.homeserver.settled()
            expected = await change_some(place, alice, room, sent)
            town.mend()
            await emptied(bridge)
            assert town.said() == expected
            assert not town.done(Retract)
            assert not town.done(EditMessage)
            for gone in (2, 12, 40, 59):
                assert await fate_of(place, sent[gone]) == ("FAIL_PERMANENT", TAKEN_BACK)
            assert (await fate_of(place, sent[41]))[0] == "SUCCESS"


async def test_what_an_earlier_run_left_on_disk_is_amended_before_it_is_said(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            sent = await lines(alice, room, 60)
            await place.homeserver.settled()
            expected = await change_some(place, alice, room, sent)
        town.mend()
        async with place.bridge() as bridge:
            await emptied(bridge)
            assert town.said() == expected
            assert not town.done(Retract)
            assert not town.done(EditMessage)


async def test_what_a_network_takes_back_while_the_room_is_behind_never_reaches_the_room(
    tmp_path: Path, database: dict[str, Any]
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge() as bridge:
            _, room = await linked(place)
            await place.homeserver.pause()
            for number in range(60):
                town.emit(says("Bob", f"line {number}", id=f"t{number}"))
            for gone in (10, 30, 58):
                town.emit(
                    Retraction(
                        chat=TALK, at=now(), sender=person("Bob"), target=MessageId(f"t{gone}"), own=True
                    )
                )
            town.emit(
                Edit(
                    chat=TALK,
                    at=now(),
                    sender=person("Bob"),
                    target=MessageId("t31"),
                    content=Content(text=plain("line 31, as it was meant")),
                ),
                Edit(  # somebody else's
                    chat=TALK,
                    at=now(),
                    sender=person("Mallory"),
                    target=MessageId("t32"),
                    content=Content(text=plain("what Bob never said")),
                ),
            )
            await bridge.store.commit()
            await place.homeserver.resume()
            await emptied(bridge)
            shown = [e for e in place.homeserver.timeline(room) if e.sender == ghost("bob")]
            bodies = [e.body for e in shown if e.type == "m.room.message"]
            assert [body for body in bodies if "*" not in body] == [
                f"line {n}" for n in range(60) if n not in (10, 30, 58)
            ]
            assert [e.content["m.new_content"]["body"] for e in shown if "m.new_content" in e.content] == [
                "line 31, as it was meant"
            ]
            assert not [e for e in shown if e.type == "m.room.redaction"]


async def test_a_reaction_that_is_taken_back_while_it_waits_is_not_shown(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        first = await alice.send(room, "first")
        await town.until(lambda: town.said() == ["<alice> first"])
        town.cut()
        await lines(alice, room, 30)
        thumb = await alice.react(room, first, "👍")
        await lines(alice, room, 5)
        await alice.redact(room, thumb)
        await place.homeserver.settled()
        town.mend()
        await emptied(bridge)
        assert len(town.said()) == 36
        assert town.done(React) == []


async def test_to_stop_a_paste_does_not_wait_behind_it(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        town.cut()
        sent = await lines(alice, room, 60)
        await place.homeserver.settled()
        await alice.send(room, "!bridge stop")
        await said(place, by(BOT, "messages of yours that were still waiting"))
        await alice.send(room, "peace")
        await place.homeserver.settled()
        town.mend()
        await emptied(bridge)
        assert town.said() == ["<alice> peace"]
        for event in (sent[0], sent[20], sent[59]):
            assert await fate_of(place, event) == ("FAIL_PERMANENT", "You stopped it before it was sent.")


@pytest.mark.parametrize("brought", [True, False], ids=["a transaction brings it", "it was left behind"])
async def test_what_is_taken_back_while_the_bridge_is_down_is_not_said_when_it_is_back(
    tmp_path: Path, database: dict[str, Any], brought: bool
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more |= database
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            sent = await lines(alice, room, 4)
            await alice.edit(room, sent[2], "line 2, as it was not meant")
            await place.homeserver.settled()
        if not brought:
            place.homeserver.withhold(2)
        await alice.redact(room, sent[1])
        await alice.redact(room, sent[2])
        town.mend()
        async with place.bridge() as bridge:
            await town.until(lambda: len(town.said()) == 2)
            await emptied(bridge)
            assert town.said() == ["<alice> line 0", "<alice> line 3"]
            assert (await fate_of(place, sent[1]))[0] == "FAIL_PERMANENT"
            assert not town.done(Retract)
            assert not town.done(EditMessage)


@pytest.mark.parametrize("trouble", [Fail(status=403, errcode="M_FORBIDDEN"), Delay(seconds=30)], ids=str)
async def test_where_the_room_does_not_tell_what_was_taken_back_what_waits_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Fail | Delay
) -> None:
    monkeypatch.setattr("bridgekit.runtime.traffic.withdrawn.SECONDS", 0.3)
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            town.cut()
            await lines(alice, room, 3)
            await place.homeserver.settled()
        town.mend()
        place.homeserver.fault("GET */messages*", trouble)
        async with place.bridge():
            await town.until(lambda: len(town.said()) == 3)


async def test_what_waits_for_its_room_to_be_made_comes_once_and_in_order_however_much_it_is(
    tmp_path: Path,
) -> None:
    """More than the lobby holds waits on disk behind it; and what is taken back meanwhile does not come."""
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        login = await bridge.accounts.ensure(next(iter(place.networks)), alice.id)  # type: ignore[arg-type]
        await until(lambda: login in town.sessions)
        await place.homeserver.pause()
        for number in range(30):
            town.emit(
                says("Bob", f"line {number}", chat="dm:bob", private=True, id=f"d{number}"), login=login
            )
        town.emit(
            Retraction(
                chat=says("Bob", "", chat="dm:bob").chat,
                at=now(),
                private=True,
                sender=person("Bob"),
                target=MessageId("d20"),
                own=True,
            ),
            login=login,
        )
        await until(lambda: bridge.rooms.depth()[0] >= 5)
        await place.homeserver.resume()
        last = await said(place, by(ghost("bob"), "line 29"))
        await emptied(bridge)
        heard = [e.body for e in place.homeserver.messages(last.room_id) if e.sender == ghost("bob")]
        assert heard == [f"line {n}" for n in range(30) if n != 20]
