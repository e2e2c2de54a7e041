"""Abuse that is reported reaches the admins (draft-ietf-mimi-protocol-06 5.9)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from bridgekit.contract.errors import Disconnected, MatrixError
from bridgekit.testing.host import FakeHost
from connectors.mimi import reports
from connectors.mimi.network import MimiNetwork
from connectors.mimi.peers import Endpoint
from connectors.mimi.reports import Reports
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.mls import AES128_X25519
from tests.connectors.mimi.engine.pair import ROOM, Pair
from tests.connectors.mimi.engine.test_bridges import Pair as Bridges
from tests.connectors.mimi.engine.test_bridges import linked, pair  # noqa: F401 - a fixture
from tests.connectors.mimi.engine.test_leaves import until
from tests.runtime.running import BOT, by, said

FRANK = rooms.Frank(bytes(32), AES128_X25519, b"s")
REPORT = users.AbuseReport(
    "mimi://b.example/u/bob",
    "mimi://a.example/u/alice:hs",
    0,
    "she\nis rude",
    (users.AbusiveMessage(b"the words themselves", FRANK, 1),),
)
SENTENCE = (
    "mimi://b.example/u/bob reports abuse by mimi://a.example/u/alice:hs in mimi://a.example/r/club"
    " (1 messages shown, 0 of them proven to be theirs): “she is rude”"
)


async def test_the_admins_read_who_reports_whom_and_not_what_was_said(tmp_path: Path):
    two = Pair(tmp_path)
    async with two.up():
        await two.b.says("bob", "hello")
        await two.a.reads("hello")
        body = users.ABUSE_REPORT.encode(REPORT)
        answer = await two.b.tenants._peers.post("a.example", Endpoint.REPORT_ABUSE, ROOM, body)
        assert answer.status == 201
        async with asyncio.timeout(60):
            await until(lambda: bool(two.a.host.told))
            await until(lambda: not [key for key in two.a.kept if key.startswith(reports.PREFIX)])
    assert two.a.host.told == [SENTENCE]


async def test_a_report_waits_until_somebody_could_be_told(monkeypatch: pytest.MonkeyPatch):
    """Also across a restart, and those that came meanwhile are one notice."""
    monkeypatch.setattr(reports, "PAUSE", 0.0)
    host, tries = FakeHost(), 0

    async def away(words: str) -> None:
        nonlocal tries
        tries += 1
        raise MatrixError("The homeserver is away.")

    tell = host.tell_admins
    monkeypatch.setattr(host, "tell_admins", away)
    for there in (False, True):
        kept = Reports(host)
        await kept.take(ROOM, REPORT, 0)
        if there:
            monkeypatch.setattr(host, "tell_admins", tell)
        running = asyncio.create_task(kept.run())
        async with asyncio.timeout(60):
            await until(lambda there=there: bool(host.told) if there else tries > 2)  # type: ignore[misc]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert host.told == [f"{SENTENCE}\n{SENTENCE}"]


async def test_who_reports_without_end_is_told_to_come_again():
    kept = Reports(FakeHost())
    for _ in range(reports.MOST):
        await kept.take(ROOM, REPORT, 0)
    with pytest.raises(Disconnected) as told:
        await kept.take(ROOM, REPORT, 0)
    assert (told.value.retry_after or 0) > 0


async def test_a_whole_bridge_tells_its_admin_in_their_room(pair: Bridges):  # noqa: F811
    async with pair.a.bridge() as bridge:
        await linked(pair.a, "mimi://a.example/r/lobby")
        (network,) = bridge._parts.networks.values()
        await cast(MimiNetwork, network)._host.tell_admins("somebody reports abuse")
        told = await said(pair.a, by(BOT, "somebody reports abuse"))
        assert told.body == "MIMI: somebody reports abuse"
