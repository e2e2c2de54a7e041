"""Lanes keep every speaker's order always, and everybody's order while the room keeps up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.core.order import BACKLOG, WIDE
from bridgekit.runtime.traffic.lanes import Lane, Turn


class Word(msgspec.Struct, eq=False):
    """What travels here: the `number`th word of `actor`."""

    actor: str
    number: int
    turn: Turn | None = None


class Stage:
    """A lane whose errands end when the test says so, and with what it says."""

    def __init__(self, *, adaptive: bool = True, pipeline: int = 1) -> None:
        self.lane: Lane[Word] = Lane(self._run, self._spawn, adaptive=adaptive, pipeline=pipeline)
        self.started: list[Word] = []
        self.ended: list[Word] = []
        self.open: list[tuple[Word, asyncio.Future[bool]]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.widest = 0

    def put(self, *words: tuple[str, int]) -> None:
        for actor, number in words:
            self.lane.put(Word(actor, number))

    async def _run(self, word: Word) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.started.append(word)
        self.open.append((word, future))
        self.widest = max(self.widest, len(self.open))
        try:
            done = await future
        finally:
            self.open = [entry for entry in self.open if entry[1] is not future]
        if done:
            self.ended.append(word)
        return done

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def end(self, index: int = 0, *, done: bool = True) -> None:
        """Let the errand that started `index`th of those under way end."""
        self.open[index][1].set_result(done)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async def finish(self) -> None:
        while self.open:
            await self.end()


def numbered(words: list[Word]) -> list[tuple[str, int]]:
    return [(word.actor, word.number) for word in words]


async def test_while_the_room_keeps_up_the_order_is_everybodys():
    stage = Stage()
    said = [("ada", 1), ("bob", 1), ("ada", 2), ("cyd", 1)]
    stage.put(*said)
    await stage.settle()
    assert len(stage.open) == 1
    await stage.finish()
    assert numbered(stage.started) == said
    assert stage.widest == 1


async def test_a_backlog_splits_the_lane_by_speaker():
    stage = Stage()
    stage.put(*[(f"user{i}", 1) for i in range(BACKLOG + 1)])
    await stage.settle()
    assert len(stage.open) == BACKLOG + 1
    await stage.finish()


async def test_one_speaker_alone_stays_in_order_however_long_the_backlog():
    stage = Stage()
    said = [("ada", i) for i in range(50)]
    stage.put(*said)
    await stage.settle()
    assert len(stage.open) == 1
    await stage.finish()
    assert numbered(stage.ended) == said
    assert stage.widest == 1


async def test_never_are_more_under_way_than_the_lane_is_wide():
    stage = Stage()
    stage.put(*[(f"user{i}", 1) for i in range(3 * WIDE)])
    await stage.settle()
    assert len(stage.open) == WIDE
    await stage.finish()
    assert stage.widest == WIDE


async def test_a_lane_that_has_caught_up_is_strict_again():
    stage = Stage()
    stage.put(*[(f"user{i}", 1) for i in range(BACKLOG + 1)])
    await stage.settle()
    await stage.finish()
    assert stage.lane.idle
    stage.put(("ada", 1), ("bob", 1))
    await stage.settle()
    assert len(stage.open) == 1
    await stage.finish()


async def test_a_network_lane_lets_every_account_go_at_its_own_pace():
    stage = Stage(adaptive=False)
    stage.put(("slow", 1), ("slow", 2), ("fast", 1), ("fast", 2))
    await stage.settle()
    assert numbered(stage.started) == [("slow", 1), ("fast", 1)]
    await stage.end(1)
    assert numbered(stage.started) == [("slow", 1), ("fast", 1), ("fast", 2)]
    await stage.finish()


async def test_as_many_of_one_account_are_under_way_as_its_pipeline_allows():
    stage = Stage(adaptive=False, pipeline=3)
    stage.put(*[("ada", i) for i in range(5)])
    await stage.settle()
    assert numbered(stage.started) == [("ada", 0), ("ada", 1), ("ada", 2)]
    await stage.end()
    assert numbered(stage.started)[3:] == [("ada", 3)]
    await stage.finish()
    assert stage.widest == 3


async def test_what_must_be_tried_again_is_tried_before_what_came_after_it():
    stage = Stage()
    stage.put(("ada", 1), ("ada", 2), ("bob", 1))
    await stage.settle()
    await stage.end(done=False)
    await stage.end(done=False)
    await stage.finish()
    assert numbered(stage.started) == [("ada", 1), ("ada", 1), ("ada", 1), ("ada", 2), ("bob", 1)]
    assert numbered(stage.ended) == [("ada", 1), ("ada", 2), ("bob", 1)]


async def test_a_pipeline_that_broke_starts_again_in_its_order():
    """A lost connection fails all that is under way, in the order of the calls."""
    stage = Stage(adaptive=False, pipeline=3)
    stage.put(*[("ada", i) for i in range(6)])
    await stage.settle()
    for _ in range(3):
        await stage.end(done=False)
    assert numbered(stage.started) == [("ada", i) for i in (0, 1, 2, 0, 1, 2)]
    await stage.finish()
    assert numbered(stage.ended) == [("ada", i) for i in range(6)]


async def test_an_errand_that_fails_with_a_bug_stops_nobody():
    async def run(word: Word) -> bool:
        if word.number == 1:
            raise ValueError
        return True

    tasks: list[asyncio.Task[None]] = []
    lane: Lane[Word] = Lane(run, lambda work: tasks.append(asyncio.create_task(work)), adaptive=True)
    for i in (1, 2, 3):
        lane.put(Word("ada", i))
    for _ in range(20):
        await asyncio.sleep(0)
    assert lane.idle
    failed = [error for error in await asyncio.gather(*tasks, return_exceptions=True) if error]
    assert [type(error) for error in failed] == [ValueError]


async def test_nothing_new_starts_when_the_bridge_stops():
    stage = Stage()
    stage.put(("ada", 1), ("ada", 2), ("bob", 1))
    await stage.settle()
    for task in list(stage.tasks):
        task.cancel()
    await stage.settle()
    assert numbered(stage.started) == [("ada", 1)]
    assert not stage.tasks


@pytest.mark.parametrize("adaptive", [True, False])
@given(
    said=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    pipeline=st.integers(1, 4),
    dice=st.integers(0, 2**32),
)
def test_every_speakers_order_is_kept_whatever_happens(
    adaptive: bool, said: list[str], pipeline: int, dice: int
):
    """Errands end in any order and new ones come at any time; each speaker's start as they were put in."""

    async def run() -> None:
        chance = random.Random(dice)
        stage = Stage(adaptive=adaptive, pipeline=pipeline)
        coming = [(actor, i) for i, actor in enumerate(said)]
        while coming or stage.open:
            if coming and (not stage.open or chance.random() < 0.6):
                stage.put(coming.pop(0))
                await stage.settle()
            else:
                await stage.end(chance.randrange(len(stage.open)))
            under_way = [word.actor for word, _ in stage.open]
            assert all(under_way.count(actor) <= pipeline for actor in "abc")
            assert not adaptive or len(under_way) <= WIDE
        assert stage.lane.idle
        for actor in "abc":
            mine = [word.number for word in stage.started if word.actor == actor]
            assert mine == [i for i, who in enumerate(said) if who == actor]

    asyncio.run(run())


@given(said=st.lists(st.sampled_from("abc"), min_size=1, max_size=40), dice=st.integers(0, 2**32))
def test_trying_again_at_random_changes_no_speakers_order(said: list[str], dice: int):
    async def run() -> None:
        chance = random.Random(dice)
        stage = Stage()
        stage.put(*[(actor, i) for i, actor in enumerate(said)])
        await stage.settle()
        while stage.open:
            await stage.end(chance.randrange(len(stage.open)), done=chance.random() < 0.5)
        for actor in "abc":
            mine = [word.number for word in stage.ended if word.actor == actor]
            assert mine == [i for i, who in enumerate(said) if who == actor]

    asyncio.run(run())


class Turns:
    """A lane of one actor whose errands prepare, take their turn and end when the test says so."""

    def __init__(self, pipeline: int) -> None:
        self.lane: Lane[Word] = Lane(self._run, self._spawn, adaptive=False, pipeline=pipeline)
        self.prepared: dict[int, asyncio.Future[None]] = {}
        self.over: dict[int, asyncio.Future[bool]] = {}
        self.said: list[int] = []
        self.sent_back: list[int] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.lane.put(Word("ada", number))

    async def _run(self, word: Word) -> bool:
        loop = asyncio.get_running_loop()
        prepared = self.prepared[word.number] = loop.create_future()
        over = self.over[word.number] = loop.create_future()
        await prepared
        assert word.turn is not None
        if not await word.turn.come():
            self.sent_back.append(word.number)
            return False
        self.said.append(word.number)
        return bool(await over)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def prepare(self, *numbers: int) -> None:
        for number in numbers:
            self.prepared[number].set_result(None)
        await self.settle()

    async def end(self, number: int, *, done: bool = True) -> None:
        self.over[number].set_result(done)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


async def test_whoever_is_prepared_sooner_waits_for_their_turn():
    turns = Turns(pipeline=3)
    turns.put(0, 1, 2)
    await turns.settle()
    await turns.prepare(2, 1)
    assert turns.said == []
    await turns.prepare(0)
    assert turns.said == [0, 1, 2]


async def test_what_was_under_way_behind_a_lost_connection_overtakes_nothing_on_the_next_one():
    """Message 0 was queued and is to go again; 1 and 2 were still preparing, and 3 was about to start."""
    turns = Turns(pipeline=3)
    turns.put(0, 1, 2, 3)
    await turns.settle()
    await turns.prepare(0)
    await turns.end(0, done=False)
    assert set(turns.over) == {0, 1, 2}  # nothing starts before all that is under way has ended
    await turns.prepare(2, 1)
    assert sorted(turns.sent_back) == [1, 2]
    await turns.prepare(2, 1, 0)
    assert turns.said == [0, 0, 1, 2]
    await turns.end(0)
    await turns.prepare(3)
    assert turns.said == [0, 0, 1, 2, 3]


async def test_who_ends_without_having_gone_holds_up_nobody_and_lets_nobody_pass_too_soon():
    turns = Turns(pipeline=3)
    turns.put(0, 1, 2)
    await turns.settle()
    turns.prepared[1].set_exception(ValueError("refused"))
    await turns.settle()
    await turns.prepare(2)
    assert turns.said == []
    await turns.prepare(0)
    assert turns.said == [0, 2]


async def test_what_nobody_wants_any_more_is_taken_out_and_the_rest_goes_on() -> None:
    stage = Stage(adaptive=False)
    stage.put(("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2), ("a", 4))
    await asyncio.sleep(0)
    taken = stage.lane.take_back(lambda word: word.actor == "a" and word.number != 3)
    assert [(word.actor, word.number) for word in taken] == [("a", 2), ("a", 4)]
    assert stage.lane.waiting == 2
    assert stage.lane.take_back(lambda word: word.actor == "nobody") == []
    while stage.open:
        await stage.end()
    assert [(w.actor, w.number) for w in stage.ended if w.actor == "a"] == [("a", 1), ("a", 3)]
    assert [(w.actor, w.number) for w in stage.ended if w.actor == "b"] == [("b", 1), ("b", 2)]
    assert stage.lane.idle


async def test_a_lane_from_which_everything_was_taken_starts_anew() -> None:
    stage = Stage(adaptive=False)
    stage.put(("a", 1), ("a", 2))
    await asyncio.sleep(0)
    stage.lane.take_back(lambda word: True)
    await stage.end()
    stage.put(("a", 3))
    await asyncio.sleep(0)
    await stage.end()
    assert [word.number for word in stage.ended] == [1, 3]
    assert stage.lane.idle


async def test_a_busy_lane_goes_on_in_the_task_that_has_just_become_free():
    stage = Stage(pipeline=2, adaptive=False)
    stage.put(*((actor, number) for number in range(4) for actor in ("ada", "bob")))
    await stage.settle()
    tasks = set(stage.tasks)
    assert len(tasks) == 4
    while stage.open:
        await stage.end()
        assert stage.tasks <= tasks
    assert sorted(numbered(stage.ended)) == [(actor, n) for actor in ("ada", "bob") for n in range(4)]


async def test_what_fails_at_once_leaves_the_others_a_turn():
    tries = 0

    async def run(_: Word) -> bool:
        nonlocal tries
        tries += 1
        return tries > 100

    tasks: list[asyncio.Task[None]] = []
    lane: Lane[Word] = Lane(run, lambda work: tasks.append(asyncio.create_task(work)), adaptive=True)
    lane.put(Word("ada", 1))
    await asyncio.sleep(0)
    assert tries <= 2
    for _ in range(500):
        await asyncio.sleep(0)
    assert lane.idle
    assert tries == 101
    await asyncio.gather(*tasks)
