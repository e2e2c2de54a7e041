"""Two whole bridges: somebody takes their account away, and nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridgekit.contract.ids import LoginId, NetworkId, PersonId
from bridgekit.contract.people import Login
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import Human
from bridgekit.testing.host import FakeHost
from connectors.mimi.clients.accounts import LEFT
from connectors.mimi.clients.parting import PREFIX
from connectors.mimi.clients.tenants import Tenants
from connectors.mimi.network import MimiNetwork
from connectors.mimi.session import MimiSession
from tests.connectors.mimi.engine.test_bridges import Pair, of_somebody, pair
from tests.connectors.mimi.engine.test_direct_rooms import (
    ALICE,
    BOB,
    account,
    agreed,
    ghost,
    in_clear,
    opened,
    sealed_by,
)
from tests.runtime.running import BOT, World, by, has_fate, membership, said, until

__all__ = ["in_clear", "pair"]  # the fixtures

MIMI = NetworkId("mimi")
BOBS = Login(id=LoginId("mimi/@bob:hs.test"), owner=PersonId("@bob:hs.test"), fields={})


def tenants(bridge: Bridge) -> Tenants:
    session = bridge.accounts.sessions[MIMI, None].session
    assert isinstance(session, MimiSession)
    return session.tenants


def waiting(bridge: Bridge) -> int:
    """How many letters the hub there could not deliver."""
    return tenants(bridge)._provider.outbox.waiting


async def kept_of(bridge: Bridge, name: str) -> list[str]:
    """Under which keys the connector keeps something that names somebody."""
    kept = await bridge.store.kv.items(MIMI)
    return sorted(key for key, value in kept.items() if name in key or name.encode() in value)


async def nothing_is_kept_of(bridge: Bridge, name: str) -> None:
    kept: list[str] = []
    try:
        async with asyncio.timeout(60):
            while kept := await kept_of(bridge, name):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"Still kept: {kept}") from None


async def bob_is_asked(b: Bridge) -> None:
    await until(lambda: b.accounts.is_ready(MIMI) and tenants(b)._provider.consents(BOB).waiting)


async def log_out(place: World, human: Human) -> None:
    room = await human.create_room(invite=[BOT], is_direct=True)
    await said(place, lambda e: e.room_id == room and by(BOT, "Every word here is a command")(e))
    await human.send(room, "logout mimi")
    await said(place, lambda e: e.room_id == room and by(BOT, "was taken away")(e))


async def together(pair: Pair) -> tuple[Human, str, Human, str]:
    """Alice of `a`, whose provider is the hub, and bob of `b` talk alone: each with their room."""
    bob = await account(pair.b, "bob")
    alice = await pair.a.homeserver.user("alice").ready()
    at_a = await opened(pair.a, alice, BOB)
    await agreed(pair.a, alice, at_a, BOB)
    await alice.send(at_a, "hello")
    at_b = (await said(pair.b, membership(bob.id, "invite"), 60)).room_id
    await bob.join(at_b)
    await said(pair.b, sealed_by(ghost(ALICE)), 60)
    await bob.send(at_b, "hello to you")
    await said(pair.a, of_somebody("hello to you"), 60)
    return alice, at_a, bob, at_b


async def test_who_takes_their_account_away_leaves_and_nothing_waits_for_them(pair: Pair):
    """RFC 9420 12.1.2 (SelfRemove), protocol 5.3: the hub keeps the leave, and the other's client commits it."""
    async with pair.a.bridge() as a, pair.b.bridge() as b:
        alice, at_a, bob, _ = await together(pair)
        assert await kept_of(b, "bob") != []
        await log_out(pair.b, bob)
        told = await said(pair.a, lambda e: by(BOT, LEFT)(e) and e.room_id == at_a, 60)
        assert BOB in told.body or "bob" in told.body
        words = await alice.send(at_a, "are you still there?")
        fate = await said(pair.a, has_fate(words), 60)
        assert (fate.content["status"], fate.content["message"]) == ("FAIL_PERMANENT", LEFT)
        await until(lambda: waiting(a) == 0)
        await until(lambda: tenants(b).directs.of_user(BOB) == [])
        (room,) = tenants(a)._provider._rooms.values()
        assert room.providers(tenants(a).people) == {"a.example"}, "the hub knows that he is gone"
        await nothing_is_kept_of(b, "bob")


async def test_who_is_at_the_hub_leaves_as_well(pair: Pair):
    async with pair.a.bridge() as a, pair.b.bridge() as b:
        alice, _, bob, at_b = await together(pair)
        await log_out(pair.a, alice)
        await until(lambda: [link.reason for link in b.registry.links.values()] == [LEFT])
        words = await bob.send(at_b, "are you still there?")
        fate = (await said(pair.b, has_fate(words), 60)).content
        assert fate["status"] == "FAIL_PERMANENT"  # why, he reads in the room, which is encrypted
        await until(lambda: waiting(a) == 0)


async def test_a_hub_that_was_away_hears_of_it_when_it_is_back(pair: Pair):
    """What is to be done is on disk: also the bridge of who left was restarted meanwhile."""
    async with pair.a.bridge(), pair.b.bridge():
        alice, at_a, bob, _ = await together(pair)
    async with pair.b.bridge() as b:
        await until(lambda: b.accounts.is_ready(MIMI))
        await log_out(pair.b, bob)
        assert [d.other for d in tenants(b).directs.of_user(BOB)] == [ALICE], "nobody could be told"
    async with pair.a.bridge() as a:
        words = await alice.send(at_a, "are you there?")
        assert (await said(pair.a, has_fate(words), 60)).content["status"] == "SUCCESS"
        async with pair.b.bridge() as b:
            await said(pair.a, lambda e: e.room_id == at_a and by(BOT, LEFT)(e), 90)
            await until(lambda: waiting(a) == 0)
            await until(lambda: tenants(b).directs.of_user(BOB) == [])


@asynccontextmanager
async def serving(network: MimiNetwork) -> AsyncIterator[None]:
    """The provider comes up, and runs."""

    async def run() -> None:
        async with network.connect(None) as session:
            await session.run(lambda fact: None)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run())
        yield
        task.cancel()


class Hesitant(FakeHost):
    """The first answer to the question who is leaving is given, and arrives only once it may."""

    def __init__(self) -> None:
        super().__init__("mimi")
        self.answered, self.may_arrive = asyncio.Event(), asyncio.Event()

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        found = await super().items(prefix)
        if prefix == PREFIX and not self.answered.is_set():
            self.answered.set()
            await self.may_arrive.wait()
        return found


async def test_who_takes_their_account_away_while_the_provider_comes_up_is_gone_without_a_restart(
    pair: Pair,
):
    """It has read already who leaves, and is not there yet to be told."""
    host = Hesitant()
    network = MimiNetwork(pair.b.networks["mimi"]["config"], host)
    async with serving(network):
        await host.answered.wait()
        leaving = asyncio.create_task(network.take_leave(BOBS))
        await asyncio.sleep(0)  # it begins
        host.may_arrive.set()
        await leaving
        await until(lambda: f"{PREFIX}{BOB}" not in host.kept)


async def test_who_takes_their_account_away_while_the_provider_is_down_is_gone_once_it_is_up(pair: Pair):
    host = FakeHost("mimi")
    network = MimiNetwork(pair.b.networks["mimi"]["config"], host)
    await network.take_leave(BOBS)
    assert f"{PREFIX}{BOB}" in host.kept
    async with serving(network):
        await until(lambda: f"{PREFIX}{BOB}" not in host.kept)


async def test_a_question_is_taken_back_with_the_account_of_who_asked(pair: Pair):
    """5.7 (cancel); and the room in which nobody would ever be is none of the hub's any more."""
    async with pair.a.bridge() as a, pair.b.bridge() as b:
        await account(pair.b, "bob")
        alice = await pair.a.homeserver.user("alice").ready()
        at_a = await opened(pair.a, alice, BOB)
        await agreed(pair.a, alice, at_a, BOB)
        await alice.send(at_a, "hello")
        await bob_is_asked(b)
        await log_out(pair.a, alice)
        await until(lambda: not tenants(b)._provider.consents(BOB).entries)
        await until(lambda: tenants(a)._provider._rooms == {})
        await nothing_is_kept_of(a, "alice")


async def test_who_comes_back_is_talked_with_again(pair: Pair):
    """They ask now, and her room with them is open again."""
    async with pair.a.bridge(), pair.b.bridge():
        alice, at_a, bob, _ = await together(pair)
        await account(pair.a, "alice")
        await log_out(pair.b, bob)
        await said(pair.a, lambda e: e.room_id == at_a and by(BOT, LEFT)(e), 60)
        await account(pair.b, "bob")
        at_b = await opened(pair.b, bob, ALICE)
        await agreed(pair.b, bob, at_b, ALICE)
        await bob.send(at_b, "here I am again")
        assert (await said(pair.a, of_somebody("here I am again"), 60)).room_id == at_a
        words = await alice.send(at_a, "welcome back")
        await said(pair.b, of_somebody("welcome back"), 60)
        assert (await said(pair.a, has_fate(words), 60)).content["status"] == "SUCCESS"


async def test_who_agrees_and_speaks_before_they_are_brought_in_makes_no_second_room(pair: Pair):
    """It would be left with nobody in it when one of the two goes, and its fixed list of participants names both."""
    async with pair.a.bridge(), pair.b.bridge() as b:
        await account(pair.b, "bob")
        alice = await pair.a.homeserver.user("alice").ready()
        await opened(pair.a, alice, BOB)
        await bob_is_asked(b)
        bob = tenants(b).account(BOB)
        await bob.begin(ALICE)
        room = await bob.together(ALICE)
        assert [one.room for one in tenants(b).directs.of_user(BOB)] == [room]
        assert room.startswith("mimi://a.example/")


async def test_who_agreed_and_is_not_brought_in_makes_a_room_after_a_while(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    """Who asked may be gone by now, and the answer with them."""
    monkeypatch.setattr("connectors.mimi.clients.accounts.WELCOME", 0.2)
    async with pair.b.bridge() as b:
        await account(pair.b, "bob")
        async with pair.a.bridge():
            alice = await pair.a.homeserver.user("alice").ready()
            await opened(pair.a, alice, BOB)
            await bob_is_asked(b)
        bob = tenants(b).account(BOB)
        await bob.begin(ALICE)
        await bob.begin(ALICE)
        await until(lambda: [one.other for one in tenants(b).directs.of_user(BOB)] == [ALICE])
