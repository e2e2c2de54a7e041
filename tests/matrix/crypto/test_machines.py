"""Our devices, as the homeserver gets to know them: in which order, and what is on disk before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridgekit.contract.errors import MatrixForbidden, MatrixRefused
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import devices
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.machines import GHOST_KEYS, Machines
from bridgekit.store import SealingKey, Store
from bridgekit.tasks import Spawn
from bridgekit.testing.homeserver.keys import KeyStore
from tests.matrix.crypto.test_devices import machine
from tests.matrix.crypto.test_machine import device_of, message

BOT, GHOST = PersonId("@bot:hs.test"), PersonId("@_bk_bob:hs.test")


class Calls(KeyCalls):
    """A homeserver's keys; `log` holds the calls in the order in which they were over."""

    def __init__(self) -> None:
        self.keys = KeyStore()
        self.log: list[str] = []
        self.refuse = ""
        self.uploads: list[Mapping[str, Any]] = []

    async def _over(self, call: str) -> None:
        await asyncio.sleep(0.01 if call == "identity" else 0)  # the identity is the slow one
        if call == self.refuse:
            raise MatrixRefused(f"no {call}")
        self.log.append(call)

    async def put_device(self, user: PersonId, device: str, name: str) -> None:
        await self._over("device")

    async def device_names(self, user: PersonId) -> list[str]:
        return list(self.keys.devices.get(user, {}))

    async def remove_device(self, user: PersonId, device: str) -> None:
        await self._over("remove")
        self.keys.forget(user, device)

    async def upload_identity(self, user: PersonId, body: Mapping[str, Any]) -> None:
        await self._over("identity")
        self.keys.upload_identity(user, dict(body))

    async def upload(self, user: PersonId, device: str, body: Mapping[str, Any]) -> int:
        self.uploads.append(body)
        await self._over("keys")
        self.keys.upload(user, device, dict(body))
        return len(body.get("one_time_keys", {}))

    async def query(
        self, users: Iterable[PersonId], *, user: PersonId, tries: int | None = None
    ) -> devices.Answer:
        self.log.append("query")
        return msgspec.convert(self.keys.query(user, users, {}), devices.Answer)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", SealingKey.generate())
    yield opened
    await opened.close()


async def nobody_else() -> None:
    """This process is the only one."""


def in_the_background(work: Coroutine[Any, Any, None]) -> object:
    return asyncio.get_running_loop().create_task(work)


def machines(
    store: Store,
    calls: Calls,
    alone: Callable[[], Awaitable[object]] = nobody_else,
    spawn: Spawn = in_the_background,
) -> Machines:
    return Machines(
        store,
        calls,
        bot=BOT,
        may_have=lambda user: user != "@alice:hs.test",
        is_ours_alone=alone,
        published=lambda _: None,
        spawn=spawn,
    )


async def test_the_identity_is_there_before_the_keys_of_the_device(store: Store) -> None:
    """A client that asked in between would hold the device for one that nobody vouches for, and not ask again."""
    calls = Calls()
    await machines(store, calls).of(GHOST)
    *first, last = calls.log
    assert sorted(first) == ["device", "identity", "keys"]
    assert last == "keys"
    assert ["device_keys" in upload for upload in calls.uploads] == [False, True]


async def test_whoever_is_told_of_a_device_finds_keys_to_begin_with(store: Store) -> None:
    """A client that finds none leaves the device out for minutes (matrix-rust-sdk)."""
    calls = Calls()
    await machines(store, calls).of(GHOST)
    first, second = calls.uploads
    assert (len(first["one_time_keys"]), len(first["fallback_keys"])) == (GHOST_KEYS, 1)
    assert list(second) == ["device_keys"]


@pytest.mark.parametrize("refused", ["device", "identity"])
async def test_no_device_is_published_where_it_or_the_identity_is_refused(store: Store, refused: str) -> None:
    calls = Calls()
    calls.refuse = refused
    ours = machines(store, calls)
    with pytest.raises(MatrixRefused, match=f"no {refused}"):
        await ours.of(GHOST)
    assert not any("device_keys" in upload for upload in calls.uploads)
    assert not ours.is_ready(GHOST)
    calls.refuse = ""
    device = (await ours.of(GHOST)).device
    assert list(calls.keys.devices[GHOST]) == [device]


async def test_keys_that_others_may_take_are_on_disk_before_the_homeserver_has_them(store: Store) -> None:
    calls = Calls()
    calls.refuse = "keys"
    with pytest.raises(MatrixRefused):
        await machines(store, calls).of(GHOST)
    row = await store.keys.device(GHOST)
    assert row is not None
    kept = Machine(row, [], store.keys.pickle_key).unpublished()
    (upload,) = calls.uploads
    assert len(kept["one_time_keys"]) == GHOST_KEYS
    for kind in ("one_time_keys", "fallback_keys"):
        assert set(kept[kind]) == set(upload[kind])


async def test_many_who_ask_at_once_get_one_device(store: Store) -> None:
    calls = Calls()
    ours = machines(store, calls)
    found = await asyncio.gather(*(ours.of(GHOST) for _ in range(5)))
    assert {id(one) for one in found} == {id(found[0])}
    assert sorted(calls.log) == ["device", "identity", "keys", "keys"]


async def test_a_device_that_stands_as_it_should_is_only_looked_at_after_a_restart(store: Store) -> None:
    calls = Calls()
    device = (await machines(store, calls).of(GHOST)).device
    calls.log.clear()
    again = machines(store, calls)
    await again.load()
    await again.check_all()
    assert calls.log == ["query"]
    assert ((await again.of(GHOST)).device, again.is_ready(GHOST)) == (device, True)
    assert calls.log == ["query"]


async def test_an_identity_that_was_replaced_is_replaced_again_with_the_same_device(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.matrix.crypto.machines.RECHECK_SECONDS", 0.0)
    calls = Calls()
    ours = machines(store, calls)
    own = await ours.of(GHOST)
    first = own.master
    stranger = Machine(Machine.new(GHOST, bytes(32)), [], bytes(32))
    calls.keys.upload_identity(GHOST, stranger.identity())
    ours.changed([GHOST])
    async with asyncio.timeout(60):
        while not own.is_as_published(devices.person(GHOST, await calls.query([GHOST], user=BOT))):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert list(calls.keys.devices[GHOST]) == [own.device]
    assert own.master not in (first, stranger.master)
    row = await store.keys.device(GHOST)
    assert row is not None
    assert Machine(row, [], store.keys.pickle_key).master == own.master


async def test_a_fallback_key_opens_what_is_begun_with_it_however_often_the_homeserver_says_it_is_taken(
    store: Store,
) -> None:
    """An account keeps the one before the present one, so each is in use for an hour at least. What is said while keys
    are filled up, or was on its way then, is of the key before."""
    calls = Calls()
    filling: list[Coroutine[Any, Any, None]] = []
    ours = machines(store, calls, spawn=filling.append)
    ghost = await ours.of(GHOST)
    name, taken, _ = calls.keys.fallback[GHOST][ghost.device]
    for _ in range(5):
        ours.counts({}, {GHOST: {ghost.device: []}})
        ours.counts({}, {GHOST: {ghost.device: []}})
        while filling:
            await filling.pop()
    assert calls.keys.fallback[GHOST][ghost.device][0] != name
    ann = machine(PersonId("@ann:hs.test"))
    assert ann.begin(device_of(ghost), taken, 1) is not None
    found, _, begun = ghost.decrypt(ann.user, message(ann, ghost, {"n": 1}), 2)
    assert (bytes(found.content), begun) == (b'{"n":1}', True)


async def test_who_is_not_the_bridges_gets_no_device(store: Store) -> None:
    calls = Calls()
    with pytest.raises(MatrixForbidden):
        await machines(store, calls).of(PersonId("@alice:hs.test"))
    assert calls.log == []


async def test_what_a_bridge_whose_store_is_lost_has_left_is_signed_out(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no device that somebody else has made for the user."""
    monkeypatch.setattr("bridgekit.matrix.crypto.machines.SIGN_OUT_SECONDS", 0.0)
    calls = Calls()
    other = await Store.open(f"sqlite:///{tmp_path / 'lost.db'}", SealingKey.generate())
    old = (await machines(other, calls).of(GHOST)).device
    await other.close()
    calls.keys.devices[GHOST]["ELSEWHERE"] = {}
    ours = machines(store, calls)
    new = (await ours.of(GHOST)).device
    async with asyncio.timeout(5):
        while old in calls.keys.devices[GHOST]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert set(calls.keys.devices[GHOST]) == {new, "ELSEWHERE"}
    assert (await ours.of(GHOST)).device == new


async def test_beside_another_process_nothing_is_made_published_or_signed_out(store: Store) -> None:
    """Two bridges on one registration would each undo the other's identities."""

    async def beside_another() -> None:
        raise MatrixRefused("Another process answers.")

    calls = Calls()
    first = await machines(store, calls).of(GHOST)
    calls.log.clear()
    with pytest.raises(MatrixRefused, match="Another process"):
        await machines(store, calls, beside_another).of(BOT)
    with pytest.raises(MatrixRefused, match="Another process"):
        await machines(store, calls, beside_another).of(GHOST)
    assert calls.log == []
    assert list(calls.keys.devices) == [GHOST]
    assert list(calls.keys.devices[GHOST]) == [first.device]
    assert await store.keys.device(BOT) is None
