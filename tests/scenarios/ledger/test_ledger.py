"""20,000 messages, 20 times SIGKILL, both servers away for a while: nothing is lost, doubled or late unexplained.

More of it: BRIDGEKIT_LEDGER_MESSAGES (each way), BRIDGEKIT_LEDGER_KILLS, BRIDGEKIT_LEDGER_RATE (messages a second
each way), BRIDGEKIT_LEDGER_SEED (docs/testing.md).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bridgekit.store import SealingKey, Store
from bridgekit.testing.servers.postgres import Postgres
from tests.scenarios.ledger import trouble
from tests.scenarios.ledger.stage import IRC_PEOPLE, MATRIX_PEOPLE, stage
from tests.scenarios.ledger.trouble import SEED

MESSAGES = int(os.environ.get("BRIDGEKIT_LEDGER_MESSAGES", "10000"))
KILLS = int(os.environ.get("BRIDGEKIT_LEDGER_KILLS", "20"))
RATE = float(os.environ.get("BRIDGEKIT_LEDGER_RATE", "150"))


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Postgres | None:
    """The server that the bridge keeps its data on; None is a file."""
    if request.param == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("postgres")
    return server


@pytest.mark.timeout(300 + 4 * MESSAGES / RATE)
async def test_whatever_happens_each_message_arrives_once_or_its_sender_is_told(
    database: Postgres | None, on_disk: Path, capsys: pytest.CaptureFixture[str]
):
    store = await database.create_database() if database is not None else f"sqlite:///{on_disk}/bridge.db"
    with capsys.disabled():  # first, so that a run that hangs can be had again
        sys.stdout.write(f"\nBRIDGEKIT_LEDGER_SEED={SEED}\n")
    async with stage(on_disk, store=store) as here:
        await here.ready()
        await here.slow_down()
        kills, outages = trouble.draw_kills(SEED, KILLS), trouble.draw_outages(SEED, MESSAGES / RATE)
        async with asyncio.TaskGroup() as group:
            group.create_task(here.talk_on_irc(MESSAGES // len(IRC_PEOPLE), RATE))
            group.create_task(here.talk_on_matrix(MESSAGES // len(MATRIX_PEOPLE), RATE))
            happened = group.create_task(trouble.make(here, kills, outages))
        await here.settle()
        with capsys.disabled():
            kind = store.partition(":")[0]
            sys.stdout.write(f"\n{kind}, seed {SEED}\n{chr(10).join(happened.result())}\n{here.account()}\n")
        await here.is_clean()
        breaks = sum(isinstance(outage, trouble.IrcdDown) for outage in outages)
        assert len(here.heard.told("FAIL_RETRIABLE")) <= trouble.most_uncertain(len(kills), breaks)
        assert await here.bridge.stop() == 0
    left = await Store.open(store, key=SealingKey.load_or_create(on_disk / "bridge.key"))
    try:
        assert (await left.inbox.count(), await left.inbox.count_parked()) == (0, 0)
    finally:
        await left.close()
