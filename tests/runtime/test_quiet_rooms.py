"""In a quiet room a fact is planned while it is written down, and performed when that is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridgekit.core.model import SideView
from bridgekit.runtime.cases import Case
from bridgekit.store import SealingKey, Store, StoreError, new_id
from tests.runtime.surroundings import ADA, CHANNEL, MATRIX_SIDE, PARROT, Around, Scene, said


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
