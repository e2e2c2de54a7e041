"""In a quiet room a fact is planned while it is written down, and performed when that is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.ids import ChatId, NetworkId, PortalKey
from bridgekit.core.model import SideView
from bridgekit.runtime.bridge import Bridge
from bridgekit.runtime.cases import Case
from bridgekit.runtime.traffic import matrix_side
from bridgekit.store import SealingKey, Store, StoreError, new_id
from tests.runtime.fake_network import TALK, Town, says
from tests.runtime.running import by, emptied, ghost, linked, town_world, until
from tests.runtime.running import said as shown
from tests.runtime.traffic.surroundings import ADA, CHANNEL, MATRIX_SIDE, PARROT, Around, Scene, said


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    store = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", SealingKey.generate())
    sides = (SideView(key=CHANNEL, label="IRCnet"), SideView(key=PARROT, label="Parrot"))
    scene = Scene(store, Around(store, *sides))
    yield scene
    await scene.stop()
    await store.close()


def case(words: str, written: asyncio.Future[None]) -> Case:
    fact = said(CHANNEL, ADA, words)
    made = Case(new_id(), CHANNEL, fact, durable=True, started=time.monotonic())
    made.written = written
    return made


async def test_nothing_is_performed_before_the_fact_is_on_disk(scene: Scene):
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    scene.worker.offer(case("hello", written))
    await asyncio.sleep(0.05)
    assert scene.worker.under_way == 1
    assert scene.around.begun == []
    written.set_result(None)
    await scene.quiet()
    assert scene.said(MATRIX_SIDE) == scene.said(PARROT) == ["hello"]


async def test_what_cannot_be_written_down_is_said_all_the_same(scene: Scene):
    """The database refused this one row: the message is at hand, and a crash is the only thing that loses it."""
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    scene.worker.offer(case("hello", written))
    written.set_exception(StoreError("The database refused a write."))
    await scene.quiet()
    assert scene.said(MATRIX_SIDE) == ["hello"]


async def test_what_comes_while_another_is_written_does_not_overtake_it(scene: Scene):
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    scene.worker.offer(case("first", written))
    await scene.hear(CHANNEL, said(CHANNEL, ADA, "second"))
    await asyncio.sleep(0.05)
    assert scene.around.begun == []
    written.set_result(None)
    await scene.quiet()
    assert scene.said(MATRIX_SIDE) == ["first", "second"]


# In a whole bridge: what goes into the room is ready to go, and goes when it is on disk ---------------------------

SIDE = PortalKey(NetworkId("town"), ChatId(TALK))


@contextmanager
def slow_disk(bridge: Bridge) -> Iterator[list[Any]]:
    """What is given to the disk, which takes none of it until the end of the block."""
    driver: Any = bridge.store._driver
    given: list[Any] = []
    takes, driver.submit = driver.submit, given.extend
    try:
        yield given
    finally:
        driver.submit = takes
        takes(given)


async def hears(bridge: Bridge, town: Town, words: str) -> None:
    """Somebody says it, and it is ready to go into the room."""
    town.emit(says("ada", words))
    await until(lambda: bridge.parts.rooms.depth()[0] == 1)
    await asyncio.sleep(0.05)  # whatever does not wait for the disk has happened by then


async def test_what_is_ready_to_go_into_the_room_waits_for_the_disk(tmp_path: Path):
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        town.emit(says("ada", "before"))
        await shown(place, by(ghost("ada"), "before"))
        await emptied(bridge)
        with slow_disk(bridge):
            await hears(bridge, town, "hello")
            assert [e.body for e in place.homeserver.messages(room)][-1] == "before"
        await shown(place, by(ghost("ada"), "hello"))


async def test_what_has_waited_for_long_is_asked_anew_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        town.emit(says("ada", "before"))
        await shown(place, by(ghost("ada"), "before"))
        await emptied(bridge)
        monkeypatch.setattr(matrix_side, "FRESH", 0.0)
        with slow_disk(bridge):
            await hears(bridge, town, "hello")
        await shown(place, by(ghost("ada"), "hello"))
        await emptied(bridge)
        assert [e.body for e in place.homeserver.messages(room)].count("hello") == 1


async def test_what_waits_for_the_disk_does_not_go_where_the_way_was_closed_meanwhile(tmp_path: Path):
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        _, room = await linked(place)
        town.emit(says("ada", "before"))
        await shown(place, by(ghost("ada"), "before"))
        await emptied(bridge)
        with slow_disk(bridge):
            await hears(bridge, town, "hello")
            bridge.parts.exposures.cleared.discard(SIDE)
        await asyncio.sleep(0.2)
        assert [e.body for e in place.homeserver.messages(room)][-1] == "before"
        bridge.parts.exposures.weigh(ChatId(room))  # which finds that nothing is in the way
        await shown(place, by(ghost("ada"), "hello"))
