"""Whose turn it is, when many rooms are compared after a start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridgekit.contract.ids import ChatId
from bridgekit.runtime.gates import surveying
from bridgekit.runtime.gates.surveying import AT_ONCE, Surveying
from bridgekit.testing.homeserver import Delay
from tests.runtime.fake_network import Town, says
from tests.runtime.running import by, ghost, linked, said, town_world, until


class Rooms:
    """Rooms that are compared until they are let go; `begun` tells in which order."""

    def __init__(self, count: int) -> None:
        self.surveying = Surveying()
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks = {name: self.add(name) for name in map(str, range(count))}

    def add(self, name: str) -> asyncio.Task[None]:
        self._ends[name] = asyncio.Event()
        return asyncio.create_task(self._compare(name))

    async def _compare(self, name: str) -> None:
        async with self.surveying.turn(ChatId(name)):
            self.begun.append(name)
            await self._ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_some_go_at_once_and_the_others_in_the_order_in_which_they_came() -> None:
    rooms = Rooms(AT_ONCE + 3)
    await settle()
    first = [str(n) for n in range(AT_ONCE)]
    assert rooms.begun == first
    await rooms.end("3", "5")
    assert rooms.begun == [*first, str(AT_ONCE), str(AT_ONCE + 1)]


async def test_one_that_somebody_waits_for_goes_before_the_others() -> None:
    rooms = Rooms(AT_ONCE + 30)
    await settle()
    rooms.surveying.hurry(ChatId("33"))
    await settle()
    assert rooms.begun[AT_ONCE:] == ["33"]
    await rooms.end("33")
    assert len(rooms.begun) == AT_ONCE + 1, "it had no place among those that go at once, so it leaves none"
    await rooms.end("0")
    assert rooms.begun[-1] == str(AT_ONCE)


async def test_one_that_is_hurried_during_its_turn_has_the_next_at_once() -> None:
    rooms = Rooms(AT_ONCE + 2)
    await settle()
    rooms.surveying.hurry(ChatId("0"))
    await rooms.end("0")
    again = rooms.add("0")
    await settle()
    assert rooms.begun[-1] == "0"
    await rooms.end("0")
    assert again.done()


@pytest.mark.parametrize("granted", [False, True])
async def test_who_goes_away_while_waiting_takes_no_turn_from_the_others(granted: bool) -> None:
    rooms = Rooms(AT_ONCE + 2)
    await settle()
    waiting = str(AT_ONCE)
    if granted:  # in the very moment of its turn
        rooms.surveying.hurry(ChatId(waiting))
    rooms.tasks[waiting].cancel()
    await settle()
    await rooms.end(*map(str, range(AT_ONCE)))
    assert rooms.begun[-1] == str(AT_ONCE + 1)
    assert waiting not in rooms.begun


async def test_words_that_wait_for_their_room_do_not_wait_until_all_others_were_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 500 rooms, the first words after a restart waited until the last room was compared."""
    monkeypatch.setattr(surveying, "AT_ONCE", 1)
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            (_, first), (_, _), (_, last) = [
                await linked(place, chat) for chat in ("#talk", "#other", "#third")
            ]
        slow = place.homeserver.fault(f"GET */rooms/{first}/state/*history_visibility*", Delay(seconds=600))
        async with place.bridge():
            await until(lambda: slow.hits)
            town.emit(says("Bob", "hello", chat="#third"))
            heard = await said(place, by(ghost("bob"), "hello"))
            assert heard.room_id == last
