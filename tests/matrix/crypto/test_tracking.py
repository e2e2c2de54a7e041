"""Whose devices are known, and what is done where the homeserver fails to tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.errors import HomeserverUnavailable, MatrixRefused
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import devices, tracking
from bridgekit.matrix.crypto.asking import SILENT
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.tracking import Tracking
from bridgekit.store import SealingKey, Store

BOT = PersonId("@bot:hs.test")
PEOPLE = [PersonId(f"@{name}:hs.test") for name in ("alice", "bob", "carol", "dan", "eve")]
BOB = PEOPLE[1]


class Calls(KeyCalls):
    """A homeserver that fails to answer whatever is about one of `broken`."""

    def __init__(self, *broken: PersonId) -> None:
        self.broken = set(broken)
        self.asked: list[list[PersonId]] = []

    async def query(
        self, users: Iterable[PersonId], *, user: PersonId, tries: int | None = None
    ) -> devices.Answer:
        self.asked.append(list(users))
        if self.broken.intersection(users):
            raise HomeserverUnavailable("The homeserver is in trouble (status 500); try again later.")
        return devices.Answer()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", SealingKey.generate())
    yield opened
    await opened.close()


def of(store: Store, calls: Calls) -> Tracking:
    return Tracking(store, calls, bot=BOT, reset=lambda user: None)


async def test_where_all_together_fail_each_is_asked_for(store: Store) -> None:
    calls = Calls(BOB)
    ours = of(store, calls)
    assert sorted(await ours.of(PEOPLE)) == [person for person in PEOPLE if person != BOB]
    assert calls.asked == [PEOPLE, *([person] for person in PEOPLE)]
    assert ours.lacking_seconds


async def test_who_is_not_told_of_is_left_alone_for_a_while_and_then_asked_for_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(BOB)
    ours = of(store, calls)
    await ours.of(PEOPLE)
    calls.asked.clear()
    await ours.of(PEOPLE)
    assert calls.asked == []
    monkeypatch.setattr(tracking, "SILENT_SECONDS", 0.0)
    calls.broken.clear()
    assert sorted(await ours.of(PEOPLE)) == PEOPLE
    assert calls.asked == [[BOB]]
    assert not ours.lacking_seconds


async def test_where_nobody_is_told_of_it_is_about_nobody(store: Store) -> None:
    calls = Calls(*PEOPLE)
    assert await of(store, calls).of(PEOPLE) == {}
    assert len(calls.asked) == 1 + SILENT


async def test_a_message_that_nobody_could_read_waits_until_somebody_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SILENT_SECONDS", 0.01)
    calls = Calls(BOB)
    ours = of(store, calls)
    waiting = asyncio.create_task(ours.reachable([BOB]))
    while len(calls.asked) < 3:  # noqa: ASYNC110 - it asks by itself
        await asyncio.sleep(0.01)
    assert not waiting.done()
    assert sorted(await ours.of(PEOPLE[2:])) == PEOPLE[2:], "nobody else waits for it"
    calls.broken.clear()
    assert list(await waiting) == [BOB]


async def test_what_is_refused_is_asked_again_in_seconds_and_each_time_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    ours = of(store, calls)
    real = calls.query

    async def refuse(*_: Any, **__: Any) -> Any:
        raise MatrixRefused("no")

    monkeypatch.setattr(calls, "query", refuse)
    assert await ours.of(PEOPLE) == {}
    assert ours.lacking_seconds == tracking.REFUSED_SECONDS
    monkeypatch.setattr(calls, "query", real)
    assert await ours.of(PEOPLE) == {}
    assert calls.asked == [], "not at once"
    monkeypatch.setattr(calls, "query", refuse)
    monkeypatch.setattr(ours, "_refused_until", 0.0)
    await ours.of(PEOPLE)
    assert ours.lacking_seconds == 2 * tracking.REFUSED_SECONDS
    monkeypatch.setattr(calls, "query", real)
    monkeypatch.setattr(ours, "_refused_until", 0.0)
    assert sorted(await ours.of(PEOPLE)) == PEOPLE
    assert ours.lacking_seconds == 0
