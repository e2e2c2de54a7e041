"""`python -m tests.bench`: measure, print the table and a line for each goal; status 1 if one is missed."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from bridgekit import __version__
from tests.bench import measures
from tests.bench.contestants import Loop, Ours
from tests.bench.figures import Results, table, verdicts
from tests.bench.measures import Make, Size

Part = Callable[[Make, Size, Results], Awaitable[None]]
QUICK = Size(to_matrix=3_000, to_irc=2_000, seconds=5, far=1_000)
PACKAGES = ("aiohttp", "httptools", "msgspec", "uvloop")


QUIET = 0.1
"""Of the machine's CPU: a part during which others took more is measured again."""


async def measure(size: Size, repetitions: int, tries: int) -> tuple[Results, int]:
    """The results, and how many noisy tries were left out.

    Every repetition measures the bare loop and then the bridge, each in a fresh world, part by part. Of a part
    that was disturbed in all of its tries, the quietest counts.
    """
    results, dropped = Results(), 0
    for number in range(1, repetitions + 1):
        for part in (measures.near, measures.crowded, measures.far):
            found: list[Results] = []
            while not found or (found[-1].noise > QUIET and len(found) < tries):
                found.append(await _pair(part, size, f"{number}/{repetitions}"))
            quietest = min(found, key=lambda one: one.noise)
            for one in found:
                quietest.faults += one.faults if one is not quietest else []  # a lost message is no noise
            results.take(quietest)
            dropped += len(found) - 1
    await measures.strict(partial(Loop, strict=True), size, results)
    return results, dropped


async def _pair(part: Part, size: Size, which: str) -> Results:
    results = Results()
    for make in (Loop, Ours):
        began = time.monotonic()
        await part(make, size, results)
        spent = time.monotonic() - began
        noise = f"{spent:5.1f} s, others took up to {results.noise:.0%}"
        print(f"{which} {part.__name__:8} {make.name:9} {noise}", file=sys.stderr)
    return results


def machine() -> str:
    """Where it was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"bridgekit {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}; "
        f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}"
    )


DOCUMENT = """# Benchmarks

What the bridge costs and how fast it is, measured by `make bench` and written by
`make bench ARGS="--repetitions {repetitions}{realtime} --write docs/benchmarks.md"`: medians of {repetitions}.

{machine}. {noise}.

{table}

{goals}

How it is measured:

- The fake homeserver, the scripted IRC server and the bridge are processes of their own on one machine; the bridge is
  `bridgekit run` with its defaults, on SQLite with every message on disk before it is sent; only IRC's flood control
  is off. No network and no Synapse: this is the cost of the bridge, not of a deployment.
- The bare loop is what remains without a bridge: it reads IRC lines and sends them with aiohttp, keeps the order of
  each sender, and has no disk, no formatting, no retries and no memory of messages. It is measured in the same
  repetition, just before the bridge; the ratio is the median of the repetitions' ratios.
- Ten people take turns in one channel. A load counts only if every message arrived once, in its sender's order and
  under the right name; otherwise the run fails.
- Rates are from the first message said to the last one arrived. CPU is user and system time of the bridge's process
  until its inbox is empty. Latency is from the moment of saying to the moment of arrival at the other server.
- Other programs on the machine spoil figures, and the 99th percentile first: they share the disk and the caches. How
  much CPU they took stands above. A part during which it was more than a tenth is measured again (`--tries`);
  `--realtime` runs the bench before all others instead, but not before them on the disk.
- "10 ms away": every send waits 10 ms at the homeserver before it takes effect. A bridge that sends one message after
  the other reaches what the strict order does; the bridge is strict while it keeps up and goes over to the order of
  each sender when a backlog builds up.
"""


def disturbance(results: Results, dropped: int, *, realtime: bool) -> str:
    """How much of the CPU was not ours to use while we measured."""
    steal, others = results.steal, results.others
    return (
        f"during the loads the host took {mean(steal):.1%} of the CPU ({max(steal):.1%} at most), "
        f"other programs {mean(others):.1%} ({max(others):.1%} at most)"
        + (", after us (--realtime)" if realtime else f"; {dropped} noisier tries were left out")
    )


def main() -> int:
    """0 where all goals are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Figures and goals")
    parser.add_argument("--repetitions", type=int, default=3, help="how often everything is measured (3)")
    parser.add_argument(
        "--tries", type=int, default=2, help="how often a part is tried while others use the machine (2)"
    )
    parser.add_argument(
        "--realtime", action="store_true", help="run before all other programs of this machine (needs root)"
    )
    parser.add_argument("--quick", action="store_true", help="small loads, to see that it works")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the report, as Markdown")
    arguments = parser.parse_args()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # sched(7); our processes inherit it
        arguments.tries = 1  # the others have what we leave
    size = QUICK if arguments.quick else Size()
    results, dropped = asyncio.run(measure(size, arguments.repetitions, arguments.tries))
    figures = table(results, Ours.name, Loop.name)
    goals = verdicts(results, Ours.name)
    noise = disturbance(results, dropped, realtime=arguments.realtime)
    print(machine())
    print(f"medians of {arguments.repetitions}; {noise}\n")
    print(figures + "\n")
    for fault in results.faults:
        print(f"does not count: {fault}\n")
    for _, line in goals:
        print(line)
    if arguments.write is not None:
        text = DOCUMENT.format(
            repetitions=arguments.repetitions,
            realtime=" --realtime" if arguments.realtime else "",
            machine=machine(),
            noise=noise[0].upper() + noise[1:],
            table=figures,
            goals="\n".join(f"- {line}" for _, line in goals),
        )
        arguments.write.write_text(text)
    return 0 if all(met for met, _ in goals) else 1


if __name__ == "__main__":
    raise SystemExit(main())
