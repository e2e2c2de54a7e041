"""How many messages a second go from one MIMI provider to another: python -m tests.bench mimi

Two bridges as processes of their own, each with a database and a fake homeserver that answers at once, with mutual TLS
between them on loopback. Everything that a message costs is in it: the inbox, a seat's encryption, the hub's check and
outbox, the other side's decryption, the send to the homeserver. A run counts only if every message arrived once, in
its sender's order and under the right name.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import msgspec

from bridgekit.testing.ledger import find_marker
from tests.bench.contestants import cpu
from tests.scenarios.mimi.places import Place, places

SPEAKERS = 10


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One direction: messages a second, and CPU seconds for a thousand messages at either end."""

    name: str
    rate: float
    cpu_from: float
    cpu_to: float


async def flow(name: str, source: Place, target: Place, count: int) -> Flow:
    """Say as much, and wait until the last of it is there. Raises AssertionError where anything is amiss."""
    for speaker in range(SPEAKERS):  # their seats are taken by their first words
        await source.say(speaker, target)
    await arrived(source, target)
    began, before = time.monotonic(), (cpu(source.bridge.service.pid), cpu(target.bridge.service.pid))
    for number in range(count):
        await source.say(number % SPEAKERS, target)
    await arrived(source, target)
    spent = time.monotonic() - began
    after = (cpu(source.bridge.service.pid), cpu(target.bridge.service.pid))
    target.arrivals(source.ledger)
    report = source.ledger.report()
    assert report.clean, str(report)
    assert report.lost == 0, str(report)
    each = [(now - then) * 1000 / count for then, now in zip(before, after, strict=True)]
    return Flow(name=name, rate=count / spent, cpu_from=each[0], cpu_to=each[1])


async def arrived(source: Place, target: Place) -> None:
    """Wait until the other homeserver has all that was said."""
    async with asyncio.timeout(600):
        while True:
            came = [e for e in target.homeserver.messages(target.room) if e.sender.startswith("@_bk_")]
            if len({found.id for e in came if (found := find_marker(e.body))}) >= len(source.events):
                return
            await asyncio.sleep(0.02)


async def _measure(count: int) -> list[Flow]:
    with tempfile.TemporaryDirectory(prefix="bench-mimi") as folder:
        async with places(Path(folder)) as (hub, follower):
            await hub.link()
            await follower.link()
            return [
                await flow("hub to follower", hub, follower, count),
                await flow("follower to hub", follower, hub, count),
            ]


def flows(count: int = 1_000) -> str:
    """Measure, and say it as a Markdown table."""
    rows = ["| | msg/s | CPU s for 1,000: from | to |", "|---|---:|---:|---:|"]
    rows += [
        f"| {f.name} | {f.rate:.0f} | {f.cpu_from:.2f} | {f.cpu_to:.2f} |"
        for f in asyncio.run(_measure(count))
    ]
    return "\n".join(rows)
