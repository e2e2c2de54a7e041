"""How a session begins and ends: it leaves nothing behind, and every loss has a fate."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridgekit.contract.connector import Network, OwnAccounts
from bridgekit.contract.errors import BridgeError, Disconnected, LoginRejected, SendUncertain
from bridgekit.contract.people import Login
from bridgekit.contract.verbs import Sent
from bridgekit.testing.contract.bench import Bench, eventually, opened
from bridgekit.testing.contract.hearing import need
from bridgekit.testing.contract.peer import Ability, Peer
from bridgekit.testing.contract.samples import is_sentence, post
from bridgekit.testing.contract.speaking import need_words

_OPEN_FILES = Path("/proc/self/fd")


def left_since(before: set[asyncio.Task[Any]]) -> Callable[[], str]:
    """Says which tasks there are that were not there before."""
    return lambda: f"tasks left: {[task.get_name() for task in asyncio.all_tasks() - before]}"


def open_sockets() -> int:
    """How many sockets this process holds; 0 where the system does not tell."""
    if not _OPEN_FILES.is_dir():
        return 0
    count = 0
    for entry in os.listdir(_OPEN_FILES):
        try:
            count += os.readlink(_OPEN_FILES / entry).startswith("socket:")
        except OSError:
            continue  # the one that listed the folder
    return count


class FailingContract:
    """Connecting, losing, and letting go."""

    async def test_a_session_is_usable_when_it_is_entered(self, network: Network, peer: Peer) -> None:
        async with opened(network, peer) as bench:
            assert bench.session.me.id
            assert bench.session.me.name

    async def test_a_closed_session_leaves_no_task_and_no_socket(self, network: Network, peer: Peer) -> None:
        async with opened(network, peer):
            pass
        before, sockets = asyncio.all_tasks(), open_sockets()
        for _ in range(3):
            async with opened(network, peer) as bench:
                await bench.enter(bench.shared)
        await eventually(
            lambda: asyncio.all_tasks() <= before and open_sockets() <= sockets, what=left_since(before)
        )

    async def test_a_session_that_was_never_read_closes_as_well(self, network: Network) -> None:
        before = asyncio.all_tasks()
        async with asyncio.timeout(30), network.connect(None):
            pass
        await eventually(lambda: asyncio.all_tasks() <= before, what=left_since(before))

    async def test_run_ends_when_it_is_cancelled(self, network: Network, peer: Peer) -> None:
        async with opened(network, peer) as bench:
            assert bench.reading is not None
            await asyncio.sleep(0.01)
            bench.reading.cancel()
            async with asyncio.timeout(30):
                await asyncio.wait([bench.reading])
            assert bench.reading.cancelled()

    async def test_a_person_can_have_an_account_of_their_own(
        self, network: Network, peer: Peer, login: Login | None
    ) -> None:
        if network.own_accounts is OwnAccounts.OFF or login is None:
            pytest.skip("no account was given to try")
        async with opened(network, peer) as relay, opened(network, peer, login) as own:
            await relay.enter(relay.shared)
            assert own.session.me.id != relay.session.me.id
            need_words(own)
            await own.perform(post(own.shared, "in my own name"))
            assert len(await relay.received("in my own name")) == 1
            await own.works("once more")

    async def test_a_lost_connection_ends_the_reader_with_disconnected(self, bench: Bench) -> None:
        need(bench, Ability.DROP)
        await bench.peer.drop()
        error = await bench.ended()
        assert isinstance(error, Disconnected)
        assert is_sentence(error.notice)

    async def test_every_verb_under_way_has_a_fate_when_the_connection_is_lost(self, bench: Bench) -> None:
        """Delivered, uncertain, or not sent; never nothing, and what was not sent did not arrive."""
        need(bench, Ability.DROP)
        need_words(bench)
        tasks = [asyncio.create_task(bench.perform(post(bench.shared, f"fate-{i}-"))) for i in range(20)]
        for _ in range(3):
            await asyncio.sleep(0)
        await bench.peer.drop()
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        received = await bench.peer.received(bench.shared)
        for i, outcome in enumerate(outcomes):
            count = sum(f"fate-{i}-" in said for said in received)
            if isinstance(outcome, Disconnected):
                assert count == 0
            elif isinstance(outcome, SendUncertain):
                assert count <= 1
            else:
                assert outcome is None or isinstance(outcome, Sent), repr(outcome)
                assert count == 1
            if isinstance(outcome, BridgeError):
                assert is_sentence(outcome.notice)

    async def test_what_is_tried_again_on_the_next_connection_arrives_once(
        self, network: Network, peer: Peer
    ) -> None:
        """Where a chat is said to be idempotent: a verb with a key that may have arrived does nothing twice."""
        if Ability.DROP not in peer.abilities:
            pytest.skip("this peer cannot drop")
        async with opened(network, peer) as first:
            await first.enter(first.shared)
            if not first.can().idempotent:
                pytest.skip("the network cannot tell what has arrived")
            verbs = [
                msgspec.structs.replace(post(first.shared, f"once-{i}-"), key=f"once-{i}") for i in range(20)
            ]
            tasks = [asyncio.create_task(first.perform(verb)) for verb in verbs]
            for _ in range(3):
                await asyncio.sleep(0)
            await peer.drop()
            async with asyncio.timeout(30):
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await first.ended()
        async with opened(network, peer) as second:
            await second.enter(second.shared)
            for verb, outcome in zip(verbs, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    assert isinstance(outcome, Disconnected), repr(outcome)
                    await second.perform(verb)
            await second.works("and on")
            received = await peer.received(second.shared)
        assert [sum(f"once-{i}-" in said for said in received) for i in range(20)] == [1] * 20

    async def test_nothing_is_said_on_a_dead_connection(self, bench: Bench) -> None:
        need(bench, Ability.DROP)
        need_words(bench)
        await bench.peer.drop()
        await bench.ended()
        with pytest.raises((Disconnected, SendUncertain)) as lost:
            await bench.perform(post(bench.shared, "too late"))
        assert is_sentence(lost.value.notice)

    async def test_the_next_connection_works(self, network: Network, peer: Peer) -> None:
        if Ability.DROP not in peer.abilities:
            pytest.skip("this peer cannot drop")
        async with opened(network, peer) as first:
            await first.enter(first.shared)
            await peer.drop()
            await first.ended()
        async with opened(network, peer) as second:
            await second.enter(second.shared)
            await second.works("back again")

    async def test_who_is_not_let_in_is_told_why(self, network: Network, peer: Peer) -> None:
        if Ability.REFUSE not in peer.abilities:
            pytest.skip("this peer cannot refuse")
        await peer.refuse_logins()
        with pytest.raises((LoginRejected, Disconnected)) as refused:
            async with asyncio.timeout(60), network.connect(None):
                pass
        assert is_sentence(refused.value.notice)
