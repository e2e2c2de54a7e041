"""Sightings: each thing is taken once, waited for, and missed with a sentence that says what came instead."""

from __future__ import annotations

import asyncio

import pytest

from bridgekit.testing.sightings import NotSeen, Sightings


async def test_each_thing_is_taken_once_and_in_any_order():
    seen: Sightings[int] = Sightings()
    for number in (1, 2, 2, 3):
        seen.add(number)
    assert [await seen.take(lambda n: n == 2) for _ in range(2)] == [2, 2]
    assert seen.left() == [1, 3]
    assert seen.left(lambda n: n > 1) == [3]
    assert seen.all == [1, 2, 2, 3]
    seen.forget()
    assert seen.left() == []


async def test_what_comes_later_is_waited_for():
    watched: list[str] = []
    seen: Sightings[str] = Sightings(watch=watched.append)
    waiting = asyncio.create_task(seen.take(lambda word: word == "b", 5))
    await asyncio.sleep(0)
    seen.add("a")
    await asyncio.sleep(0)
    seen.add("b")
    assert await waiting == "b"
    assert (seen.left(), watched) == (["a"], ["a", "b"])


async def test_what_does_not_come_is_missed_with_what_came_instead():
    seen: Sightings[int] = Sightings(show=lambda n: f"number {n}")
    seen.add(7)
    with pytest.raises(NotSeen, match=r"the answer did not come in 0\.01 s(.|\n)*number 7"):
        await seen.take(lambda n: n == 42, 0.01, "the answer")
