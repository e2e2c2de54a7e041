"""Whoever is new waits until people's clients have had the time to ask who they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

import pytest

from bridgekit.contract.errors import HomeserverUnavailable
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import meeting
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.meeting import Meetings

ANN, BOB, BOT = PersonId("@ann:hs"), PersonId("@bob:hs"), PersonId("@bot:hs")


class Slow:
    """A homeserver that answers when it is let; `fails`: with an error."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked: list[list[PersonId]] = []
        self.fails = False

    async def query(self, users: Iterable[PersonId], *, user: PersonId, tries: int | None = None) -> None:
        self.asked.append(list(users))
        await self.answers.wait()
        if self.fails:
            raise HomeserverUnavailable("away")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(meeting, "LEAST_SECONDS", 0.01)
    return Slow()


def meetings(slow: Slow) -> Meetings:
    spawn = asyncio.get_running_loop().create_task
    return Meetings(cast(KeyCalls, slow), bot=BOT, spawn=spawn)


async def test_who_was_not_just_met_is_not_waited_for(slow: Slow) -> None:
    ours = meetings(slow)
    ours.begin(ANN)
    await ours.over(BOB)
    assert not slow.answers.is_set()
    slow.answers.set()
    await ours.over(ANN)
    await ours.over(ANN)
    assert slow.asked == [[ANN]]


async def test_the_longer_the_homeserver_takes_the_longer_clients_have(slow: Slow) -> None:
    ours = meetings(slow)
    clock = asyncio.get_running_loop().time
    began = clock()
    ours.begin(ANN)
    await asyncio.sleep(0.1)
    answered = clock()
    slow.answers.set()
    await ours.over(ANN)
    assert clock() - answered >= meeting.TIMES * (answered - began) * 0.9


async def test_who_is_seen_once_more_meanwhile_is_waited_for_anew(slow: Slow) -> None:
    ours = meetings(slow)
    ours.begin(ANN)
    await asyncio.sleep(0)
    ours.begin(ANN)
    slow.answers.set()
    await ours.over(ANN)
    assert slow.asked == [[ANN], [ANN]]


async def test_a_homeserver_that_does_not_answer_holds_up_nobody_for_long(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "MOST_SECONDS", 0.05)
    ours = meetings(slow)
    ours.begin(ANN)
    await ours.over(ANN)
    assert not slow.answers.is_set()


async def test_where_asking_fails_the_least_time_is_given(slow: Slow) -> None:
    slow.fails = True
    slow.answers.set()
    ours = meetings(slow)
    ours.begin(ANN)
    await ours.over(ANN)
    assert slow.asked == [[ANN]]
