"""Ghosts that may speak next have their keys ahead: who, in which order, and when nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.encryption import readying
from bridgekit.runtime.encryption.readying import Readying
from bridgekit.runtime.people.ghosts import Ghosts

ROOM, CLEAR, UNKNOWN = ChatId("!room"), ChatId("!clear"), ChatId("!unknown")
ANN, BOB, CAT = PersonId("@ann"), PersonId("@bob"), PersonId("@cat")


class Present:
    """Who is in which room."""

    def __init__(self) -> None:
        self.there: dict[ChatId, set[PersonId]] = {}
        self.arrived: Any = None
        self.introduce: Any = None
        self.acquaint: Any = None

    def present(self, room: ChatId) -> set[PersonId]:
        return self.there.get(room, set())

    def is_present(self, ghost: PersonId, room: ChatId) -> bool:
        return ghost in self.present(room)

    def is_one(self, user: PersonId) -> bool:
        return user != "@alice"


class Around:
    """An engine that notes what it is asked for, and ghosts. `ROOM` is encrypted, `CLEAR` is not, of others nobody
    has asked yet."""

    def __init__(self) -> None:
        self.prepared: list[tuple[ChatId, PersonId]] = []
        self.spoken: set[tuple[ChatId, PersonId]] = set()
        self.refused: set[PersonId] = set()
        self.speakers = Speakers()
        self.tasks: list[asyncio.Task[None]] = []
        self.ghosts = Present()
        self.there = self.ghosts.there
        self.readying = Readying(
            cast(Engine, self), cast(Ghosts, self.ghosts), speakers=self.speakers, spawn=self.spawn
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]

    async def all_done(self) -> list[tuple[ChatId, PersonId]]:
        await asyncio.gather(*self.tasks)
        return self.prepared

    # The engine

    def encrypted_rooms(self) -> list[ChatId]:
        return [ROOM]

    def knows_encrypted(self, room: ChatId) -> bool:
        return room == ROOM

    def is_clear(self, room: ChatId, type: str) -> bool:
        return room == CLEAR

    def has_spoken(self, room: ChatId, user: PersonId) -> bool:
        return (room, user) in self.spoken

    def entered(self, room: ChatId, user: PersonId) -> None:
        pass

    async def introduce(self, room: ChatId, user: PersonId) -> None:
        if user in self.refused:
            raise MatrixRefused("no devices here")

    async def prepare(self, room: ChatId, user: PersonId) -> None:
        await asyncio.sleep(0)
        if user in self.refused:
            raise MatrixRefused("no devices here")
        self.prepared.append((room, user))

    def enter(self, room: ChatId, *ghosts: PersonId) -> None:
        for ghost in ghosts:
            self.there.setdefault(room, set()).add(ghost)
            self.ghosts.arrived(room, ghost)


async def test_a_ghost_that_enters_an_encrypted_room_is_made_ready() -> None:
    around = Around()
    around.enter(ROOM, ANN)
    assert await around.all_done() == [(ROOM, ANN)]


async def test_a_ghost_that_enters_a_room_of_which_nothing_is_known_is_made_ready() -> None:
    """It was invited into a direct chat, perhaps, and its first word must not wait for all of this."""
    around = Around()
    around.enter(UNKNOWN, ANN)
    assert await around.all_done() == [(UNKNOWN, ANN)]


async def test_a_ghost_that_enters_a_clear_room_is_given_nothing() -> None:
    around = Around()
    around.enter(CLEAR, ANN)
    assert await around.all_done() == []


async def test_where_many_have_entered_only_who_types_is_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readying, "SMALL", 1)
    around = Around()
    around.there[ROOM] = {ANN}
    around.enter(ROOM, BOB, CAT)
    assert await around.all_done() == []
    around.readying.likely(ROOM, CAT)
    assert await around.all_done() == [(ROOM, CAT)]


async def test_who_types_comes_before_all_who_entered_earlier() -> None:
    around = Around()
    with around.speakers.one():
        around.enter(ROOM, ANN, BOB, CAT)
        await asyncio.sleep(0)
        around.readying.likely(ROOM, CAT)
    assert await around.all_done() == [(ROOM, CAT), (ROOM, ANN), (ROOM, BOB)]


async def test_nobody_is_made_ready_while_somebody_speaks() -> None:
    around = Around()
    with around.speakers.one():
        around.enter(ROOM, ANN)
        await asyncio.sleep(0.01)
        assert around.prepared == []
    assert await around.all_done() == [(ROOM, ANN)]


async def test_who_has_spoken_or_left_meanwhile_is_passed_over() -> None:
    around = Around()
    around.spoken.add((ROOM, ANN))
    with around.speakers.one():
        around.enter(ROOM, ANN, BOB, CAT)
        await asyncio.sleep(0)
        around.there[ROOM].discard(BOB)
    assert await around.all_done() == [(ROOM, CAT)]


async def test_one_who_cannot_be_made_ready_keeps_nobody_else_from_it() -> None:
    around = Around()
    around.refused.add(ANN)
    around.enter(ROOM, ANN, BOB)
    assert await around.all_done() == [(ROOM, BOB)]
    around.enter(ROOM, CAT)
    assert await around.all_done() == [(ROOM, BOB), (ROOM, CAT)]


async def test_who_cannot_have_a_device_enters_all_the_same() -> None:
    around = Around()
    around.refused.add(ANN)
    await around.readying.introduce(ROOM, ANN)
    around.enter(ROOM, ANN)
    assert await around.all_done() == []


async def test_after_a_start_those_in_encrypted_rooms_are_made_ready() -> None:
    around = Around()
    around.there.update({ROOM: {BOB, ANN}, CLEAR: {CAT}})
    around.readying.all()
    assert await around.all_done() == [(ROOM, ANN), (ROOM, BOB)]
