"""Abuse that is reported reaches the admins (draft-ietf-mimi-protocol-06 5.9)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest

from bridgekit.contract.ids import PersonId
from bridgekit.contract.reports import AbuseReport
from bridgekit.testing.homeserver import Event
from connectors.mimi.network import MimiNetwork
from connectors.mimi.service import server
from connectors.mimi.service.peers import Endpoint
from connectors.mimi.wire import rooms, users
from connectors.mimi.wire.mls import AES128_X25519
from tests.connectors.mimi.engine.pair import ROOM, Pair
from tests.connectors.mimi.engine.test_bridges import Pair as Bridges
from tests.connectors.mimi.engine.test_bridges import linked, pair  # noqa: F401 - a fixture
from tests.runtime.running import BOT, by, said
from tests.runtime.test_desk import call

FRANK = rooms.Frank(bytes(32), AES128_X25519, b"s")
SHOWN = users.AbusiveMessage(b"the words themselves", FRANK, 1)
REPORT = users.AbuseReport(
    "mimi://b.example/u/bob", "mimi://a.example/u/alice:hs", 0, "she is rude", (SHOWN, SHOWN)
)


async def test_the_admins_read_who_reports_whom_and_not_what_was_said(tmp_path: Path):
    """One of ours is named as on Matrix, and what is shown twice counts once."""
    two = Pair(tmp_path)
    async with two.up():
        await two.b.says("bob", "hello")
        await two.a.reads("hello")
        body = users.ABUSE_REPORT.encode(REPORT)
        answer = await two.b.tenants._peers.post("a.example", Endpoint.REPORT_ABUSE, ROOM, body)
        assert answer.status == 201
    (report,) = two.a.host.reports
    assert msgspec.structs.replace(report, at=0) == AbuseReport(
        chat=ROOM,
        at=0,
        accused=PersonId("@alice:hs"),
        reporter=PersonId("mimi://b.example/u/bob"),
        note="she is rude",
        messages=1,
        proven=0,
    )


async def test_one_provider_that_reports_without_end_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "REPORTS_AT_ONCE", 2)
    two = Pair(tmp_path)
    async with two.up():
        await two.b.says("bob", "hello")
        await two.a.reads("hello")
        body = users.ABUSE_REPORT.encode(REPORT)
        answers = [
            await two.b.tenants._peers.post("a.example", Endpoint.REPORT_ABUSE, ROOM, body) for _ in range(3)
        ]
    assert [answer.status for answer in answers] == [201, 201, 429]
    assert (answers[-1].retry_after or 0) > 1
    assert len(two.a.host.reports) == 2


async def test_a_whole_bridge_tells_its_admin_who_closes_it(pair: Bridges):  # noqa: F811
    lobby = "mimi://a.example/r/lobby"
    report = AbuseReport(chat=ROOM, at=1, accused=PersonId("mimi://b.example/u/eve"), note="rude")
    async with pair.a.bridge() as bridge:
        alice, room = await linked(pair.a, lobby)
        (network,) = bridge._parts.networks.values()
        await cast(MimiNetwork, network)._host.report(msgspec.structs.replace(report, chat=lobby))
        line = f"Report 1, MIMI: somebody who does not say who they are reports {report.accused} in {lobby}"
        told: Event = await said(pair.a, by(BOT, line))
        alone = told.room_id

        counted = bridge.metrics.registry.get_sample_value
        assert counted("bridgekit_abuse_reports_total", {"network": "mimi"}) == 1
        assert counted("bridgekit_open_abuse_reports", {"network": "mimi"}) == 1
        status, found = await call(bridge, "GET", "/reports")
        (seen,) = found["reports"]
        assert (status, seen["number"], seen["room"], seen["told"]) == (200, 1, room, True)

        await alice.send(room, "!bridge reports")
        await said(pair.a, by(BOT, "say that in a room where you are alone with me"))
        await alice.join(alone)
        await alice.send(alone, "reports")
        await said(pair.a, lambda e: e.sender == BOT and e.body.startswith(line))
        await alice.send(alone, "reports done 1")
        await said(pair.a, by(BOT, "Report 1 is closed"))
        assert await call(bridge, "GET", "/reports") == (200, {"reports": []})
        assert counted("bridgekit_open_abuse_reports", {"network": "mimi"}) == 0
        status, refusal = await call(bridge, "DELETE", "/reports?number=1")
        assert (status, refusal["error"]) == (404, "There is no open report 1: `!bridge reports` lists them.")
        assert (await call(bridge, "DELETE", "/reports?number=one"))[0] == 400
