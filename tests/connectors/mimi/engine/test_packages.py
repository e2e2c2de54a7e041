"""Key packages of hosted clients: how long their private halves are kept, and what becomes of a last resort."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import pytest

from connectors.mimi.clients.packages import AT_ONCE, GRACE, LOOK, PREFIX, TERMS, Packages, Term
from connectors.mimi.clients.seats import Seats
from connectors.mimi.service.presets import MEMBER
from connectors.mimi.service.shelf import RENEW, Package, Shelf
from connectors.mimi.testing.cast import ROOM, Client, create
from connectors.mimi.testing.houses import House
from connectors.mimi.wire.mls import KEY_PACKAGE
from connectors.mimi.wire.rooms import WelcomeFanout
from tests.connectors.mimi.engine.ears import town

BOB = "mimi://b.example/u/bob"
LIFE = 84 * 24 * 3600


class Scene:
    """bob's client at b.example, whose clock is the test's."""

    def __init__(self, house: House, packages: Packages, seats: Seats) -> None:
        self.house = house
        self.packages = packages
        self.seats = seats
        self.alice = Client("alice", "a.example")
        self.written: list[set[str]] = []

    @property
    def client(self) -> str:
        return self.seats.client(BOB)

    @property
    def shelf(self) -> list[Package]:
        """What others are given."""
        return list(msgspec.msgpack.decode(self.house.store[f"shelf/{BOB}"], type=Shelf).clients[self.client])

    @property
    def on_disk(self) -> set[str]:
        """Of which packages the private half is stored."""
        stored = msgspec.msgpack.decode(self.house.store[PREFIX + BOB], type=dict[str, bytes])
        return {name.removeprefix("key_package/") for name in stored}

    @property
    def terms(self) -> dict[str, Term]:
        return msgspec.msgpack.decode(self.house.store[TERMS + BOB], type=dict[str, Term])

    async def pass_by(self, seconds: float) -> None:
        self.house.host.advance(seconds)
        await self.packages.forget_old(BOB)

    async def publish(self) -> None:
        await self.packages.publish(BOB, self.house.provider)

    def welcome(self, package: Package) -> WelcomeFanout:
        """Alice makes a room and brings bob in by that package."""
        seat = create(self.alice, self.house.signer)
        bundle = seat.add(BOB, [KEY_PACKAGE.decode(package.octets)], MEMBER)
        assert bundle.welcome is not None
        return WelcomeFanout(0, bundle.welcome, bundle.tree)


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    async with town(tmp_path, "b.example") as made:
        house = made["b.example"]
        house.host.set_clock(time.time())
        seats = Seats("b.example", house.host, made.engine)
        await seats.load(house.provider.people)
        scene = Scene(house, Packages(house.host, made.engine, seats), seats)
        put_all = house.host.put_all

        async def noted(values: Mapping[str, bytes | None]) -> None:
            scene.written.append(set(values))
            await put_all(values)

        monkeypatch.setattr(house.host, "put_all", noted)
        await scene.publish()
        yield scene


async def test_a_private_half_is_forgotten_when_no_welcome_can_be_on_its_way_any_more(scene: Scene):
    """RFC 9420 16.8; a hub like ours keeps a Welcome for as long as the grace."""
    assert len(scene.on_disk) == AT_ONCE + 1
    (late,) = [package for package in scene.shelf if package.last_resort]
    first, *_ = scene.shelf
    await scene.pass_by(LIFE + GRACE - 2 * LOOK)
    assert len(scene.on_disk) == AT_ONCE + 1, "until then it opens what was under way"
    scene.written.clear()
    await scene.pass_by(3 * LOOK)
    assert (scene.on_disk, scene.terms) == (set(), {})
    assert scene.written == [{PREFIX + BOB, TERMS + BOB}], "in one transaction"
    assert scene.packages.open(ROOM, scene.welcome(first)) is None
    assert scene.packages.open(ROOM, scene.welcome(late)) is None


async def test_what_was_used_is_forgotten_at_once_with_its_term(scene: Scene):
    (first, *_) = [package for package in scene.shelf if not package.last_resort]
    opened = scene.packages.open(ROOM, scene.welcome(first))
    assert opened is not None
    _, rows = opened
    assert set(rows) == {PREFIX + BOB, TERMS + BOB}
    await scene.house.host.put_all(rows)
    assert first.reference.hex() not in scene.on_disk | set(scene.terms)
    assert scene.on_disk == set(scene.terms)


async def test_a_last_resort_that_was_used_is_replaced_and_forgotten_after_the_grace(scene: Scene):
    """RFC 9420 16.8: whoever uses it again could open all that was sealed to it."""
    (old,) = [package for package in scene.shelf if package.last_resort]
    opened = scene.packages.open(ROOM, scene.welcome(old))
    assert opened is not None
    await scene.publish()
    (new,) = [package for package in scene.shelf if package.last_resort]
    assert new.reference != old.reference
    assert {old.reference.hex(), new.reference.hex()} <= scene.on_disk, "another Welcome may be on its way"
    await scene.pass_by(GRACE + 1)
    assert old.reference.hex() not in scene.on_disk
    assert new.reference.hex() in scene.on_disk


async def test_a_last_resort_is_replaced_before_its_time_is_over(scene: Scene):
    (old,) = [package for package in scene.shelf if package.last_resort]
    await scene.pass_by(LIFE - RENEW - 2 * LOOK)
    await scene.publish()
    assert [p for p in scene.shelf if p.last_resort] == [old]
    await scene.pass_by(2 * LOOK)
    await scene.publish()
    assert [p for p in scene.shelf if p.last_resort] != [old]


async def test_what_is_past_its_time_leaves_the_shelf_and_is_made_up_for(scene: Scene):
    before = {package.reference for package in scene.shelf}
    await scene.pass_by(LIFE + 1)
    await scene.publish()
    assert before.isdisjoint(package.reference for package in scene.shelf)
    assert sorted(package.last_resort for package in scene.shelf) == [False] * AT_ONCE + [True]


async def test_packages_of_an_earlier_version_have_a_whole_life_left(scene: Scene):
    del scene.house.store[TERMS + BOB]
    again = Packages(scene.house.host, scene.packages._engine, scene.seats)
    await again.load()
    scene.packages = again
    await scene.pass_by(LIFE + GRACE - 1)
    assert len(scene.on_disk) == AT_ONCE + 1
    await scene.pass_by(2)
    assert scene.on_disk == set()


async def test_what_was_to_be_published_anew_is_not_where_the_account_is_gone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    """Who is gone is as if they had never been (protocol 5.2): nobody fetches their keys, and none are made."""
    store = scene.house.host.put_all

    async def slowly(rows: Mapping[str, bytes | None]) -> None:
        await asyncio.sleep(0)
        await store(rows)

    monkeypatch.setattr(scene.house.host, "put_all", slowly)
    await scene.packages.withdraw(BOB, scene.house.provider)
    publishing = asyncio.create_task(scene.publish())
    await asyncio.sleep(0)  # the private halves are on their way to the disk
    await scene.packages.withdraw(BOB, scene.house.provider)
    await publishing
    await scene.packages.refill(BOB, scene.house.provider)
    assert not scene.house.provider.publishes(BOB)
    left = [key for key in scene.house.store if BOB in key and key.startswith((PREFIX, TERMS, "shelf/"))]
    assert left == []
