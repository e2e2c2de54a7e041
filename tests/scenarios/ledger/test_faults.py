"""Single faults, on a small ledger: answers that get lost, transactions that come twice, limits, bursts, an outage."""

from __future__ import annotations

import asyncio
import bisect
import os
import sys
import time
from pathlib import Path

import pytest

from bridgekit.testing.homeserver.faults import Delay, Drop, Fail, Fault, RateLimit, Repeat
from tests.scenarios.ledger.stage import CROWD, Stage, stage

SENDS = "PUT */send/*"
TRANSACTIONS = "PUT /_matrix/app/v1/transactions/*"
EACH = 40
OUTAGE = float(os.environ.get("BRIDGEKIT_LEDGER_OUTAGE", "60"))
"""Seconds; what an hour does to the delays is shown with a clock that is put forward, in tests/matrix/test_gate.py."""
WAITING = 5000
AT_ONCE = 40
"""Sends that may be under way after an outage: the lane's 32, and what the bot has to say."""
GROWTH = 40 << 20
"""Bytes that 5,000 waiting messages may cost."""


async def _talk(here: Stage, *, each: int = EACH, rate: float = 150.0) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(here.talk_on_irc(each, rate))
        group.create_task(here.talk_on_matrix(each, rate))


FAULTS: dict[str, list[tuple[str, Fault, float]]] = {
    "calls and their answers are lost": [(SENDS, Drop(after_effect=True), 0.1), (SENDS, Drop(), 0.1)],
    "transactions come again, and their answers are lost": [
        (TRANSACTIONS, Repeat(times=2), 0.5),
        (TRANSACTIONS, Drop(after_effect=True), 0.4),
    ],
    "a limit that names its seconds": [(SENDS, RateLimit(retry_after_ms=200), 0.05)],
    "a homeserver and a proxy that fail, with and without effect": [
        (SENDS, Fail(status=500, after_effect=True), 0.02),
        (SENDS, Fail(status=504, after_effect=True), 0.02),
        (SENDS, Fail(status=502), 0.02),
        (SENDS, Fail(status=503), 0.02),
    ],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
async def test_each_message_arrives_once_and_in_order_though(
    faults: list[tuple[str, Fault, float]], tmp_path: Path
):
    async with stage(tmp_path) as here:
        await here.ready()
        rules = [await here.homeserver.fault(pattern, fault, p=p) for pattern, fault, p in faults]
        await _talk(here)
        await here.settle()
        struck = {rule.id: rule.hits for rule in await here.homeserver.faults()}
        assert all(struck[rule.id] for rule in rules), struck
        await here.is_clean()
        assert here.heard.told("FAIL_RETRIABLE") == []


@pytest.mark.timeout(300 + 2 * OUTAGE)
async def test_after_an_outage_what_waited_comes_without_a_flood_and_without_having_filled_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A homeserver that has just come back is the last that wants 5,000 calls at once."""
    async with stage(tmp_path) as here:
        await here.ready()
        await here.talk_on_irc(1, 100.0, people=CROWD)
        await here.settle()
        before = here.bridge.memory()
        began = time.monotonic()
        await here.homeserver.pause()
        await here.talk_on_irc(WAITING // len(CROWD), 1000.0, first=1, people=CROWD)
        await here.talk_on_matrix(10, 1000.0)
        await asyncio.sleep(began + OUTAGE - time.monotonic())
        grown = here.bridge.memory("VmHWM") - before
        slow = 0.1  # while each call takes so long, what arrives in that time was under way at once
        rule = await here.homeserver.fault(SENDS, Delay(seconds=slow))
        back = time.monotonic()
        await here.homeserver.resume()
        arrived: list[float] = []
        while len(arrived) < 1000:  # the first may take 30 s: it waits for a probe
            await asyncio.sleep(0.5)
            arrived = [
                at for event, at in await here.homeserver.arrivals(here.room) if event.sender[:5] == "@_bk_"
            ]
            arrived = [at for at in arrived if at > back]
        await here.homeserver.heal(rule)
        await here.settle()
        at_once = max(bisect.bisect_left(arrived, at + slow) - place for place, at in enumerate(arrived))
        with capsys.disabled():
            sys.stdout.write(
                f"\n{OUTAGE:g} s without a homeserver, {WAITING} messages waited: RSS grew by {grown >> 20} MiB, "
                f"first arrival {arrived[0] - back:.1f} s after the return, {at_once} under way at once\n"
                f"{here.account()}\n"
            )
        await here.is_clean()
        assert grown < GROWTH
        assert at_once <= AT_ONCE
