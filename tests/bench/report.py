"""The bench's report: on the screen, and as the sections of docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from bridgekit import __version__
from tests.bench.figures import Results

PACKAGES = ("aiohttp", "httptools", "msgspec", "uvloop")


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


SEALED_DOCUMENT = """## Encrypted rooms

Measured by `make bench ARGS="encryption --repetitions {repetitions}{realtime} --write docs/benchmarks.md"`: medians
of {repetitions}.

{machine}. {noise}.

{table}

{goals}

How it is measured:

- The bridge beside itself: the same load on the same fake homeserver, first in a clear room, then in an encrypted one
  with eleven people, each with a device that gets every key; the ratio is the median of the repetitions' ratios.
  Sessions are rotated after 100 messages, as is the default. A message counts only if a member's device decrypts it
  afterwards, with a key from a device that its sender's identity has signed.
- Memory: what the process has grown by when each of 200 ghosts, who were in the room already, has spoken once, by
  their number.
- The first word: a real Synapse on SQLite, on the same cores. 50 people come into the channel at once, and somebody
  who comes last says something at once; seconds until a client in the room has decrypted it. The others still want to
  be registered, to join, and to have their devices.
"""

MIMI_DOCUMENT = """## MLS and MIMI providers

Measured by `make bench ARGS="mimi{realtime} --write docs/benchmarks.md"`, medians of three repetitions.

{engine}; {machine}.

{tables}

- Groups whose members were all added by one commit, so that the tree above the leaves is blank: the dearest case of
  the first commit. 200 octets a message. The bare published bindings are those of `agentvault-mls-rs-uniffi` and
  `rine-mls`, in turns with ours; the ratio is the median of the repetitions' ratios.
- Ours includes `take_changes`: what must be stored is at hand. mls-rs keeps its state to itself, rine writes it to
  files of its own, in memory. rine's face has no update.

From one provider to another:

{flows}

- Two bridges as processes of their own on these cores, each with its database and a fake homeserver that answers at
  once, mutual TLS between them on loopback, ten people who take turns. It counts only if every message arrived once,
  in its sender's order and under the right name.
"""


def placed(document: str, section: str) -> str:
    """The document with the section in place of the one with its heading; at its end where there is none. What stands
    before all headings of the second order is the section that begins with one of the first."""
    heading, parts = section.partition("\n")[0], re.split(r"^(?=## )", document, flags=re.MULTILINE)
    for at, part in enumerate(parts):
        if part.startswith(heading + "\n"):
            parts[at] = section
            break
    else:
        parts.append(section)
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def disturbance(results: Results, dropped: int, *, realtime: bool) -> str:
    """How much of the CPU was not ours to use while we measured."""
    steal, others = results.steal, results.others
    return (
        f"during the loads the host took {mean(steal):.1%} of the CPU ({max(steal):.1%} at most), "
        f"other programs {mean(others):.1%} ({max(others):.1%} at most)"
        + (", after us (--realtime)" if realtime else f"; {dropped} noisier tries were left out")
    )


def report(
    document: str,
    results: Results,
    figures: str,
    goals: list[tuple[bool, str]],
    noise: str,
    *,
    repetitions: int,
    realtime: bool,
) -> str:
    """Print it; the same as Markdown."""
    print(f"medians of {repetitions}; {noise}\n")
    print(figures + "\n")
    for fault in results.faults:
        print(f"does not count: {fault}\n")
    for _, line in goals:
        print(line)
    return document.format(
        repetitions=repetitions,
        realtime=" --realtime" if realtime else "",
        machine=machine(),
        noise=noise[0].upper() + noise[1:],
        table=figures,
        goals="\n".join(f"- {line}" for _, line in goals),
    )
