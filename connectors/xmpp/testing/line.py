"""A TCP line between a bridge and a server that a test can cut."""

from __future__ import annotations

import asyncio
import contextlib


class Line:
    """Listens on 127.0.0.1 and carries bytes to one port. `dead`: whoever connects is cut off at once."""

    def __init__(self) -> None:
        self.dead = False
        self._port = 0
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> int:
        """Begin to carry; the port to connect to."""
        self._port = port
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def cut(self) -> None:
        """Every connection ends without a word."""
        for writer in self._ends:
            writer.transport.abort()

    async def close(self) -> None:
        """End everything."""
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        while self._tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            if self.dead:
                return
            answers, there = await asyncio.open_connection("127.0.0.1", self._port)
            self._ends |= {writer, there}
            await asyncio.gather(_copy(reader, there), _copy(answers, writer))
        finally:
            for one in (writer, there):
                if one is not None:
                    self._ends.discard(one)
                    one.transport.abort()
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
