"""What is measured of one contestant in one repetition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from bridgekit.testing.homeserver import Delay
from tests.bench import figures
from tests.bench.contestants import Contestant
from tests.bench.figures import Results
from tests.bench.stage import CHANNEL, Load, stage

SLOW = 50
"""Messages a second where latency is measured."""
FAR = 0.010
"""Seconds that the far homeserver waits before each send takes effect."""

Make = Callable[[Path], Contestant]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much: messages to Matrix and to IRC flat out, seconds of latency each way, messages to afar,
    and to an encrypted room."""

    to_matrix: int = 20_000
    to_irc: int = 10_000
    seconds: int = 20
    far: int = 3_000
    members: int = 500
    sealed: int = 5_000


def note(results: Results, who: str, what: str, load: Load) -> Load:
    results.steal.append(load.steal)
    results.others.append(load.others)
    if load.fault:
        results.faults.append(f"{who}, {what}: {load.fault}")
    return load


async def near(make: Make, size: Size, results: Results) -> None:
    """A homeserver that answers at once: rates, CPU, latency, memory."""
    async with stage(make) as place:
        who = place.who.name
        first, _ = await place.start()
        results.add(who, figures.START, first)
        await asyncio.sleep(1)
        results.add(who, figures.RSS_IDLE, place.memory)
        load = note(results, who, figures.RATE_IN, await place.to_matrix(size.to_matrix))
        results.add(who, figures.RATE_IN, load.rate)
        results.add(who, figures.CPU_IN, load.cpu_per_1000)
        load = note(results, who, figures.RATE_OUT, await place.to_irc(size.to_irc))
        results.add(who, figures.RATE_OUT, load.rate)
        results.add(who, figures.CPU_OUT, load.cpu_per_1000)
        results.add(who, figures.RSS_LOAD, place.memory)
        load = note(results, who, figures.P50_IN, await place.to_matrix(SLOW * size.seconds, rate=SLOW))
        latency(results, who, load, figures.P50_IN, figures.P99_IN)
        load = note(results, who, figures.P50_OUT, await place.to_irc(SLOW * size.seconds, rate=SLOW))
        latency(results, who, load, figures.P50_OUT, figures.P99_OUT)


def latency(results: Results, who: str, load: Load, half: str, most: str) -> None:
    if load.report.p50 is not None and load.report.p99 is not None:
        results.add(who, half, load.report.p50 * 1000)
        results.add(who, most, load.report.p99 * 1000)


async def crowded(make: Make, size: Size, results: Results) -> None:
    """A channel of many members, of whom one speaks as soon as the contestant has joined it."""
    async with stage(make) as place:
        who = place.who.name
        _, first = await place.start(members=size.members)
        results.add(who, figures.FIRST_500, first)
        joined = (await place.ircd.order("wait", pattern=f"^JOIN {CHANNEL}"))["at"]
        results.add(who, figures.ALL_500, await place.everybody(size.members) - joined)
        await asyncio.sleep(2)
        note(results, who, figures.RSS_500, await place.to_matrix(1_000, speakers=size.members))
        results.add(who, figures.RSS_500, place.memory)


async def far(make: Make, size: Size, results: Results) -> None:
    """A homeserver ten milliseconds away: many senders side by side, and the strict order while it keeps up."""
    async with stage(make) as place:
        who = place.who.name
        await place.start()
        await place.hs.fault("PUT */send/*", Delay(seconds=FAR))
        load = note(results, who, figures.RATE_FAR, await place.to_matrix(size.far))
        results.add(who, figures.RATE_FAR, load.rate)
        load = note(results, who, figures.LATE_FAR, await place.to_matrix(10 * SLOW, rate=SLOW))
        results.add(who, figures.LATE_FAR, load.report.late_within_room)


async def strict(make: Make, size: Size, results: Results) -> None:
    """Ten milliseconds away, one message after the other: what strict order alone would reach."""
    async with stage(make) as place:
        await place.start()
        await place.hs.fault("PUT */send/*", Delay(seconds=FAR))
        load = note(results, place.who.name, figures.RATE_STRICT, await place.to_matrix(size.far // 10))
        results.add(place.who.name, figures.RATE_STRICT, load.rate)
