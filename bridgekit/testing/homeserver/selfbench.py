"""How fast the fake homeserver is by itself: sends taken, events delivered; the other side is another process."""

import asyncio
import functools
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import quote

import httptools

from bridgekit.testing.homeserver.http import Listener, ok
from bridgekit.testing.homeserver.registration import Namespace, Namespaces, Registration
from bridgekit.testing.homeserver.server import FakeHomeserver
from bridgekit.testing.homeserver.tasks import Tasks

GHOSTS = 10
PIPELINED = 2
"""Requests under way on each of the connections, of which every ghost has one."""

_SINK = "from bridgekit.testing.homeserver.selfbench import sink; sink()"
_CLIENT = "from bridgekit.testing.homeserver.selfbench import client; client()"


async def selfbench(sends: int = 60_000) -> None:
    """Measure and print: sends per second as seen by the client, and the server's CPU per 1,000 sends."""
    rate, cpu = await measure(sends)
    sys.stdout.write(f"sends: {rate:,.0f}/s, {cpu:.3f} s of CPU per 1,000\n")
    rate, cpu = await measure_delivery(sends)
    sys.stdout.write(f"events said by people and delivered: {rate:,.0f}/s, {cpu:.3f} s of CPU per 1,000\n")


async def measure(sends: int) -> tuple[float, float]:
    """Return (sends per second, server CPU seconds per 1,000 sends) for `sends` messages of ten ghosts."""
    async with FakeHomeserver(_registration()) as hs:
        room = hs.world.create_room("@bot:hs.test", {"preset": "public_chat"})
        for number in range(GHOSTS):
            ghost = f"@_bk_{number}:hs.test"
            hs.world.register(ghost)
            hs.world.set_membership(ghost, room.room_id, ghost, {"membership": "join"})
        before = hs.position
        cpu = _cpu()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CLIENT, str(hs.port), room.room_id, str(sends), stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        spent = _cpu() - cpu
        if process.returncode != 0 or hs.position - before != sends:
            raise RuntimeError(f"the client failed: {hs.position - before} of {sends} sends arrived")
        return sends / float(output), spent / sends * 1000


async def measure_delivery(count: int) -> tuple[float, float]:
    """Return (events per second, CPU seconds per 1,000) for messages of people to an appservice that says 200."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SINK, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(await process.stdout.readline())}"
        async with FakeHomeserver(_registration(url)) as hs:
            room = await hs.user("alice").create_room(preset="public_chat", invite=["@bot:hs.test"])
            hs.world.set_membership("@bot:hs.test", room, "@bot:hs.test", {"membership": "join"})
            await hs.settled()
            cpu, began = _cpu(), time.monotonic()
            await hs.chatter(room, ["alice"], count)
            await hs.settled()
            return count / (time.monotonic() - began), (_cpu() - cpu) / count * 1000
    finally:
        await process.communicate(b"")  # which closes its stdin, and it ends


def sink() -> None:
    """Be an appservice that answers 200 to everything, until stdin closes; print the port."""
    asyncio.run(_sink())


async def _sink() -> None:
    tasks = Tasks()
    listener = Listener(lambda request: ok(b"{}"), tasks)
    sys.stdout.write(f"{await listener.open('127.0.0.1', 0)}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    listener.close()
    await tasks.aclose()


def _registration(url: str | None = None) -> Registration:
    return Registration(
        id="bench",
        url=url,
        as_token="as",
        hs_token="hs",
        sender_localpart="bot",
        namespaces=Namespaces(users=(Namespace(regex="@_bk_.*"),)),
    )


def client() -> None:
    """Be the client process: send, print the seconds it took."""
    port, room_id, sends = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    sys.stdout.write(f"{asyncio.run(_send_all(port, room_id, sends)):.6f}")


async def _send_all(port: int, room_id: str, sends: int) -> float:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    began = time.monotonic()
    share, rest = divmod(sends, GHOSTS)
    left = [GHOSTS]

    def finished() -> None:
        left[0] -= 1
        if not left[0]:
            done.set_result(None)

    for number in range(GHOSTS):
        count = share + (number < rest)
        path = f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/send/m.room.message/{number}-"
        await loop.create_connection(
            functools.partial(_Sender, path, number, count, finished), "127.0.0.1", port
        )
    async with asyncio.timeout(100):
        await done
    return time.monotonic() - began


class _Sender(asyncio.Protocol):
    def __init__(self, path: str, number: int, count: int, finished: Callable[[], None]) -> None:
        self._path = path
        self._query = f"?user_id=%40_bk_{number}%3Ahs.test"
        self._left = self._unsent = count
        self._number = 0
        self._finished = finished
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._fill(PIPELINED)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self._transport.abort()
            return
        self._left -= 1
        if not self._left:
            self._finished()
        self._fill(1)

    def _fill(self, count: int) -> None:
        for _ in range(min(count, self._unsent)):
            self._unsent -= 1
            self._number += 1
            body = b'{"msgtype":"m.text","body":"s%02d-%06d hello there, how are you?"}' % (1, self._number)
            head = (
                f"PUT {self._path}{self._number}{self._query} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Authorization: Bearer as\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self._transport.write(head.encode() + body)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
