"""What may not pass yet waits in its order, outlives a restart, can be taken back, and ends with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract.facts import Edit, Reaction, Retraction, Unreaction
from bridgekit.contract.ids import MessageId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from tests.runtime.fake_network import TALK, Town, now, person, says
from tests.runtime.gates.talking import SECRET, SIDE, history, lines, notices, says_of_itself, talking
from tests.runtime.running import BOT, by, emptied, ghost, linked, said, town_world, until


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridgekit.core.steady.CALM", 300)
    monkeypatch.setattr("bridgekit.runtime.gates.visibilities.TOLD_SECONDS", 0.3)
    monkeypatch.setattr("bridgekit.runtime.gates.exposure.TRY_AGAIN", 0.2)


async def test_without_power_the_chats_words_are_held_both_sides_hear_why_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    town = Town()
    async with talking(tmp_path, town, power=50) as (place, bridge, alice, room):
        town.visibility = SECRET  # it says the same to whoever enters it later
        town.emit(says_of_itself(SECRET), *(says("Bob", f"line {n}") for n in range(5)))
        told = await said(place, by(BOT, "are held back"))
        assert "who joins later can read what was said before" in told.body
        assert "set m.room.history_visibility to joined" in told.body
        await town.until(lambda: any("are held back" in words for words in notices(town)))
        await alice.send(room, "the other way is open")
        await town.until(lambda: "<alice> the other way is open" in town.said())
        await alice.send(room, "!bridge status")
        assert "5 messages from #talk on Town are held" in (await said(place, by(BOT, "paused:"))).body
        assert [(r.cause.value, r.why[:13]) for r in await bridge.store.held.all()] == [
            ("pause", told.body[2:15])
        ] * 5
        assert lines(place, room) == []
        await alice.set_power(room, BOT, 100)
        await said(place, by(ghost("bob"), "line 4"))
        await said(place, by(BOT, "pass again"))
        assert lines(place, room) == [f"line {n}" for n in range(5)]
        assert history(place, room) == "joined"
        await until(lambda: not bridge.parts.holding.count(SIDE))
        await bridge.store.commit()
        assert await bridge.store.held.all() == []


async def test_what_was_taken_back_while_it_was_held_is_not_said_however_much_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than is read from disk at once: the taking-back is in another part than the message."""
    monkeypatch.setattr("bridgekit.runtime.gates.holding.AT_ONCE", 10)
    town = Town()
    async with talking(tmp_path, town, power=50) as (place, bridge, alice, room):
        town.emit(says_of_itself(SECRET), *(says("Bob", f"line {n}", id=f"t{n}") for n in range(30)))
        bob = person("Bob")
        for gone in (2, 15, 28):
            town.emit(Retraction(chat=TALK, at=now(), sender=bob, target=MessageId(f"t{gone}"), own=True))
        meant = Content(text=plain("line 3, as it was meant"))
        town.emit(Edit(chat=TALK, at=now(), sender=bob, target=MessageId("t3"), content=meant))
        await until(lambda: bridge.parts.holding.count(SIDE) == 34)
        await alice.set_power(room, BOT, 100)
        await emptied(bridge)
        shown = [e for e in place.homeserver.timeline(room) if e.sender == ghost("bob")]
        assert not [e for e in shown if e.type == "m.room.redaction"]
        said_at_first = [e.body for e in shown if e.type == "m.room.message" and "*" not in e.body]
        assert said_at_first == [f"line {n}" for n in range(30) if n not in (2, 15, 28)]
        await bridge.store.commit()
        assert await bridge.store.held.all() == []


async def test_what_was_said_is_taken_back_at_once_also_while_the_link_pauses(tmp_path: Path) -> None:
    """It shows nothing, and the room is more open than it may be: so much the better."""
    town = Town()
    async with talking(tmp_path, town, power=50) as (place, bridge, alice, room):
        town.emit(says("Bob", "sorry", id="t0"))
        await said(place, by(ghost("bob"), "sorry"))
        town.emit(says_of_itself(SECRET), says("Bob", "oh", id="t1"), says("Bob", "no", id="t2"))
        meant = Content(text=plain("very sorry"))
        town.emit(Edit(chat=TALK, at=now(), sender=person("Bob"), target=MessageId("t0"), content=meant))
        await until(lambda: bridge.parts.holding.count(SIDE) == 3)
        for gone in ("t0", "t1"):
            town.emit(Retraction(chat=TALK, at=now(), sender=person("Bob"), target=MessageId(gone), own=True))
        await said(place, lambda e: e.type == "m.room.redaction" and e.sender == ghost("bob"))
        assert lines(place, room) == [""]
        await until(lambda: bridge.parts.holding.count(SIDE) == 3)  # t1, and what takes it back
        await alice.set_power(room, BOT, 100)
        await said(place, by(ghost("bob"), "no"))
        await emptied(bridge)
        assert lines(place, room) == ["", "no"]
        assert await bridge.store.held.all() == []


async def test_a_reaction_that_is_taken_away_goes_at_once_and_no_other_in_its_place(tmp_path: Path) -> None:
    town = Town()

    def reacts(key: str, name: str = "Bob") -> Reaction:
        return Reaction(chat=TALK, at=now(), sender=person(name), target=MessageId("t0"), key=key)

    def takes_away(key: str, name: str = "Bob") -> Unreaction:
        return Unreaction(chat=TALK, at=now(), sender=person(name), target=MessageId("t0"), key=key)

    async with talking(tmp_path, town, power=50) as (place, bridge, alice, room):

        def reactions() -> list[str]:
            shown = [e for e in place.homeserver.timeline(room) if e.type == "m.reaction" and e.content]
            return [e.content["m.relates_to"]["key"] for e in shown]

        town.emit(says("Eve", "tea?", id="t0"), reacts("yes"))
        await until(lambda: reactions() == ["yes"])
        town.emit(says_of_itself(SECRET), says("Eve", "anybody?"))
        await until(lambda: bridge.parts.holding.count(SIDE) == 1)
        town.emit(takes_away("yes"))
        await until(lambda: reactions() == [])
        assert bridge.parts.holding.count(SIDE) == 1
        town.emit(reacts("yes"), takes_away("yes"), reacts("no"))
        await until(lambda: bridge.parts.holding.count(SIDE) == 4)
        await alice.set_power(room, BOT, 100)
        await until(lambda: reactions() == ["no"])
        await emptied(bridge)
        assert reactions() == ["no"]
        assert await bridge.store.held.all() == []


async def test_nobody_ends_what_waits_of_another_by_taking_back_what_is_not_theirs(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town, power=50) as (place, bridge, alice, room):
        town.emit(says("Bob", "hello", id="t0"))
        await said(place, by(ghost("bob"), "hello"))
        meant = Content(text=plain("hello, all"))
        town.emit(says_of_itself(SECRET))
        town.emit(Edit(chat=TALK, at=now(), sender=person("Bob"), target=MessageId("t0"), content=meant))
        forged = Retraction(chat=TALK, at=now(), sender=person("Eve"), target=MessageId("t0"), own=True)
        town.emit(forged, says("Bob", "bye"))
        await until(lambda: bridge.parts.holding.count(SIDE) == 3)
        await alice.set_power(room, BOT, 100)
        await said(place, by(ghost("bob"), "bye"))
        assert [words.removeprefix("* ") for words in lines(place, room)] == ["hello", "hello, all", "bye"]


async def test_what_is_held_outlives_a_restart_and_keeps_its_age(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place, power=50)
            town.visibility = SECRET
            town.emit(says_of_itself(SECRET))
            await said(place, by(BOT, "are held back"))
            town.emit(*(says("Bob", f"line {n}") for n in range(3)))
            await until(lambda: bridge.parts.holding.count(SIDE) == 3)
            await bridge.store.commit()
            held = [(row.number, row.since) for row in await bridge.store.held.all()]
        async with place.bridge() as bridge:
            await until(lambda: bridge.parts.holding.count(SIDE) == 3 and None in town.sessions)
            town.emit(says("Bob", "line 3"))
            await until(lambda: bridge.parts.holding.count(SIDE) == 4)
            await bridge.store.commit()
            assert [(row.number, row.since) for row in await bridge.store.held.all()][:3] == held
            await alice.set_power(room, BOT, 100)
            await said(place, by(ghost("bob"), "line 3"))
            assert lines(place, room) == [f"line {n}" for n in range(4)]


async def test_what_is_held_when_the_link_ends_is_told_and_not_shown(tmp_path: Path) -> None:
    town = Town()
    async with talking(tmp_path, town, power=50) as (place, bridge, alice, room):
        town.emit(says_of_itself(SECRET), says("Bob", "one"), says("Bob", "two"))
        await until(lambda: bridge.parts.holding.count(SIDE) == 2)
        await alice.send(room, "!bridge unlink")
        await said(place, by(BOT, "2 messages were held back until the link to #talk on Town ended"))
        await until(lambda: "no longer linked" in lines(place, room, BOT)[-1])
        await emptied(bridge)
        assert await bridge.store.held.all() == []
        assert lines(place, room) == []
