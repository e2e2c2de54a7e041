"""Somebody leaves, and others act before they have heard of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bridgekit.contract import verbs
from bridgekit.contract.errors import SendRejected
from connectors.mimi import uris
from connectors.mimi.service.peers import Answer, Endpoint, Peers
from tests.connectors.mimi.engine.pair import ROOM, Pair, Side


async def test_one_comes_in_while_the_news_of_a_leave_is_on_its_way(tmp_path: Path):
    """The commit by which ben joins covers a SelfRemove that nobody of his provider has been told of."""
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        pair.b.tenants.reading.clear()
        await pair.a.session.perform(verbs.Leave(chat=ROOM))
        await pair.b.says("ben", "hello too")
        pair.b.tenants.reading.set()
        await pair.b.says("bob", "we are alone")
        assert clients(pair.b) == {"bridge", "bob:hs", "ben:hs"}


async def test_the_hub_is_answered_before_what_it_tells_of_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A commit may need to have heard what the hub has still to tell, and that comes after the answer."""
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        post, begun, may = Peers.post, asyncio.Event(), asyncio.Event()

        async def held(peers: Peers, domain: str, endpoint: Endpoint, target: str, body: bytes) -> Answer:
            if endpoint is Endpoint.UPDATE:
                begun.set()
                await may.wait()
            return await post(peers, domain, endpoint, target, body)

        monkeypatch.setattr(Peers, "post", held)
        await pair.a.session.perform(verbs.Leave(chat=ROOM))
        async with asyncio.timeout(60):
            await begun.wait()
            await until(lambda: pair.a.tenants._provider.outbox.waiting == 0)
            may.set()
            await until(lambda: clients(pair.b) == {"bridge", "bob:hs"})


async def test_a_change_of_which_no_valid_commit_can_be_made_is_refused_with_a_sentence(tmp_path: Path):
    """RFC 9420 12.4.1: nobody removes themselves by their own commit."""
    pair = Pair(tmp_path)
    async with pair.a.up():
        with pytest.raises(SendRejected, match="cannot be changed so now"):
            await pair.a.tenants.change(ROOM, lambda seat: seat._commit(None, remove=[seat.group.leaf]))
        await pair.a.says("alice", "still here")


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def clients(side: Side) -> set[str]:
    """Whose clients are in the room, as the side's own has it."""
    seat = side.tenants.seat(ROOM)
    assert seat is not None
    return {uris.parse(member.name.decode()).name.partition("/")[0] for member in seat.group.members}
