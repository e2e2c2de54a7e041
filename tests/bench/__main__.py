"""`python -m tests.bench [encryption|mimi]`: measure, print tables and a line for each goal; status 1: one missed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from tests.bench import measures, sealed
from tests.bench.contestants import Loop, Ours
from tests.bench.figures import ENCRYPTED, Results, table, verdicts
from tests.bench.measures import Make, Size
from tests.bench.report import DOCUMENT, MIMI_DOCUMENT, SEALED_DOCUMENT, disturbance, machine, placed, report

Part = Callable[[Make, Size, Results], Awaitable[None]]
QUICK = Size(to_matrix=3_000, to_irc=2_000, seconds=5, far=1_000, sealed=2_000)


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


async def measure_sealed(size: Size, repetitions: int) -> Results:
    """The results of encrypted rooms, beside the same in clear."""
    results = Results()
    for number in range(1, repetitions + 1):
        for part in (
            partial(sealed.rates, size.sealed, size.seconds),
            sealed.memory,
            sealed.first_word,
        ):
            began = time.monotonic()
            await part(results)
            name = getattr(part, "__name__", "rates")
            print(
                f"{number}/{repetitions} encrypted {name:10} {time.monotonic() - began:5.1f} s",
                file=sys.stderr,
            )
    return results


async def _pair(part: Part, size: Size, which: str) -> Results:
    results = Results()
    for make in (Loop, Ours):
        began = time.monotonic()
        await part(make, size, results)
        spent = time.monotonic() - began
        noise = f"{spent:5.1f} s, others took up to {results.noise:.0%}"
        print(f"{which} {part.__name__:8} {make.name:9} {noise}", file=sys.stderr)
    return results


def _of_mimi(*, quick: bool, realtime: bool) -> str:
    # Its parts need the engine, which is not everywhere.
    from bridgekit_mls import VERSION

    from tests.bench import mls, providers

    tables = mls.tables((10, 100), 1) if quick else mls.tables()
    flows = providers.flows(200 if quick else 1_000)
    print(f"{machine()}\n\n{VERSION}\n\n{tables}\n\n{flows}")
    return MIMI_DOCUMENT.format(
        realtime=" --realtime" if realtime else "",
        engine=VERSION,
        machine=machine(),
        tables=tables,
        flows=flows,
    )


def _keep(file: Path | None, section: str) -> None:
    if file is not None:
        file.write_text(placed(file.read_text() if file.exists() else "", section))


def main() -> int:
    """0 where all goals are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Figures and goals")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("all", "encryption", "mimi"),
        default="all",
        help="only encrypted rooms; only MLS and MIMI providers; or all but these (all)",
    )
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
    if arguments.what == "mimi":
        _keep(arguments.write, _of_mimi(quick=arguments.quick, realtime=arguments.realtime))
        return 0
    size = QUICK if arguments.quick else Size()
    tell = partial(report, repetitions=arguments.repetitions, realtime=arguments.realtime)
    print(machine())
    goals: list[tuple[bool, str]] = []
    if arguments.what == "all":
        results, dropped = asyncio.run(measure(size, arguments.repetitions, arguments.tries))
        goals += (found := verdicts(results, Ours.name))
        figures = table(results, Ours.name, Loop.name)
        noise = disturbance(results, dropped, realtime=arguments.realtime)
        _keep(arguments.write, tell(DOCUMENT, results, figures, found, noise))
    results = asyncio.run(measure_sealed(size, arguments.repetitions))
    goals += (found := verdicts(results, sealed.SEALED, ENCRYPTED))
    figures = table(results, sealed.SEALED, sealed.CLEAR, ENCRYPTED)
    noise = disturbance(results, 0, realtime=arguments.realtime)
    _keep(arguments.write, tell(SEALED_DOCUMENT, results, figures, found, noise))
    return 0 if all(met for met, _ in goals) else 1


if __name__ == "__main__":
    raise SystemExit(main())
