"""Five hundred people in a channel, each a connection of its own, and the road on which the bridge comes to it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

import msgspec

from bridgekit.testing.ledger import find_marker
from connectors.irc.protocol.wire import Line, parse


class Member(asyncio.Protocol):
    """Somebody in the channel. They answer PING, and with `keep` they remember every line that they were sent."""

    def __init__(self, nick: str, port: int, channel: str, *, keep: bool = False) -> None:
        self.nick = nick
        self.lines: list[str] = []
        self._port = port
        self._channel = channel
        self._keep = keep
        self._rest = b""
        self._inside = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    async def come(self) -> None:
        """Connect, register, join; returns when the channel's names were told. Raises OSError, TimeoutError."""
        self._inside.clear()
        self._rest = b""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        self.send(f"NICK {self.nick}", f"USER {self.nick} 0 * :Somebody")
        async with asyncio.timeout(90):
            await self._inside.wait()

    def send(self, *lines: str) -> None:
        """Nothing where there is no connection now."""
        if self._transport is not None:
            self._transport.write("".join(f"{line}\r\n" for line in lines).encode())

    def say(self, words: str) -> bool:
        """False where they are not in the channel now, and so say nothing."""
        if self._transport is None or not self._inside.is_set():
            return False
        self.send(f"PRIVMSG {self._channel} :{words}")
        return True

    def drop(self) -> None:
        """The connection breaks, without a word."""
        self._inside.clear()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def data_received(self, data: bytes) -> None:
        if not self._keep and self._inside.is_set():
            if data.startswith(b"PING") or b"\nPING" in data:
                self._transport_pong(data)
            return
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for raw in lines:
            line = raw.decode(errors="replace")
            if line.startswith("PING "):
                self.send("PONG " + line.removeprefix("PING "))
            elif " 001 " in line and not self._inside.is_set():
                self.send(f"JOIN {self._channel}")
            elif " 366 " in line:
                self._inside.set()
            elif self._keep:
                self.lines.append(line)

    def _transport_pong(self, data: bytes) -> None:
        for token in re.findall(rb"(?:^|\n)PING ([^\r\n]*)", data):
            self.send("PONG " + token.decode())

    def heard(self) -> list[tuple[str, str]]:
        """Who said which marker, in the order in which it was heard."""
        found = []
        for raw in self.lines:
            line = parse(raw.encode())
            if line is not None and line.command == "PRIVMSG" and (said := find_marker(line.param(1))):
                found.append((line.nick, said.id))
        return found


@asynccontextmanager
async def crowd(
    ports: Sequence[int], channel: str, each: int, speakers: int
) -> AsyncIterator[list[list[Member]]]:
    """`each` people on each server, the first of whom remembers what they hear; the next `speakers` will speak."""
    sides = [
        [Member(f"{'ab'[side]}{n}", port, channel, keep=n == 0) for n in range(each)]
        for side, port in enumerate(ports)
    ]
    try:
        for side in sides:
            await side[0].come()  # the channel has its operators before the crowd is there
        await together([member for side in sides for member in side[1:]])
        yield sides
    finally:
        for side in sides:
            for member in side:
                member.drop()


async def together(members: Sequence[Member], at_once: int = 250) -> None:
    """They all come in, so many at a time."""
    turns = asyncio.Semaphore(at_once)

    async def come(member: Member) -> None:
        async with turns:
            await member.come()

    async with asyncio.TaskGroup() as group:
        for member in members:
            group.create_task(come(member))


class Handed(msgspec.Struct, frozen=True):
    """A line that the bridge's own connection was given, not before `at` (ms since the epoch)."""

    connection: int
    at: float
    line: Line


class Road:
    """The one address of a network of two servers: who is called `relay` is led to the first, all others to the two in
    turn, each always to the same. What the relay's connection is given is written down.

    So the test knows exactly what the bridge was told, and when at the earliest: nobody else can know that of a
    connection that is cut.
    """

    def __init__(self, ports: Sequence[int], relay: str) -> None:
        self.handed: list[Handed] = []
        self.side: dict[str, int] = {}
        """On which server somebody is who came this way."""
        self.port = 0
        self._ports = ports
        self._relay = relay
        self._connections = 0
        self._cuts: dict[str, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Take connections while the block lasts."""
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, nick: str) -> None:
        """The connection of that nick breaks. What the bridge was given before, it can still read."""
        self._cuts.pop(nick, lambda: None)()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            first, nick = b"", None
            while nick is None:
                first += (data := await reader.read(65536))
                if not data:
                    return
                nick = re.search(rb"(?:^|\n)NICK :?(\S+)", first)
            name = nick[1].decode()
            side = self.side.setdefault(name, 0 if name == self._relay else len(self.side) % 2)
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._ports[side])
            up_writer.write(first)
            await self._both(name, (reader, writer), (up_reader, up_writer))
        except OSError:
            pass  # one of them hung up
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _both(
        self,
        nick: str,
        bridge: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Carry both ways until one side ends, or the road is cut."""
        is_relay = nick == self._relay
        self._connections += is_relay
        down = asyncio.create_task(
            self._down(server[0], bridge[1], self._connections if is_relay else 0), name=f"down {nick}"
        )
        up = asyncio.create_task(_carry(bridge[0], server[1]), name=f"up {nick}")

        def cut() -> None:
            up.cancel()
            down.cancel()
            server[1].transport.abort()

        self._cuts[nick] = cut
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            server[1].close()
        bridge[1].write_eof()
        async with asyncio.timeout(30):
            while await bridge[0].read(65536):
                pass  # what is sent into a connection that is cut goes nowhere

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        """From the server to the bridge; whole lines alone, so that none is half given."""
        rest = b""
        while data := await reader.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            if not lines:
                continue
            if connection:
                at = time.time() * 1000
                parsed = (parse(raw) for raw in lines)
                self.handed += [Handed(connection, at, line) for line in parsed if line is not None]
            writer.write(b"\n".join(lines) + b"\n")
            await writer.drain()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
