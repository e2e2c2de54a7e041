"""`python -m bridgekit.testing.homeserver`: the fake homeserver in a process of its own, with a control endpoint."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from bridgekit.testing.homeserver.control import Control
from bridgekit.testing.homeserver.http import Listener
from bridgekit.testing.homeserver.selfbench import selfbench
from bridgekit.testing.homeserver.server import FakeHomeserver
from bridgekit.testing.homeserver.tasks import Tasks


def main() -> None:
    """Read the command line and run until SIGTERM or SIGINT. The first line on stdout says where it listens."""
    parser = argparse.ArgumentParser(prog="python -m bridgekit.testing.homeserver", description=__doc__)
    parser.add_argument("--registration", action="append", default=[], help="YAML file; may be repeated")
    parser.add_argument("--server-name", default="hs.test")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8008, help="0 picks a free one")
    parser.add_argument("--control", type=int, help="port of the control endpoint, 0 picks a free one")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--batch", type=int, default=100, help="most events in a transaction")
    parser.add_argument("--retry", type=float, nargs=2, default=(0.02, 1.0), metavar=("FIRST", "LONGEST"))
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started it"
    )
    parser.add_argument(
        "--selfbench", action="store_true", help="measure the speed of either direction, and end"
    )
    words = parser.parse_args()
    _run(selfbench() if words.selfbench else _serve(words))


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)


async def _serve(words: argparse.Namespace) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    hs = FakeHomeserver(
        *words.registration,
        server_name=words.server_name,
        host=words.host,
        port=words.port,
        seed=words.seed,
        retry=tuple(words.retry),
        batch=words.batch,
    )
    tasks = Tasks()
    control = Listener(Control(hs), tasks)
    async with hs:
        where: dict[str, str] = {"url": hs.url}
        if words.control is not None:
            where["control"] = f"http://{words.host}:{await control.open(words.host, words.control)}/"
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        if words.until_stdin_closes:
            tasks.spawn(_watch_stdin(ended), name="watch-stdin")
        await ended.wait()
        control.close()
        await tasks.aclose()


async def _watch_stdin(ended: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    ended.set()


if __name__ == "__main__":
    main()
