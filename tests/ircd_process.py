"""The scripted IRC server in a process of its own, and orders to it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

_LIMIT = 1 << 26  # bytes of one answer: every line of a long test


class OrderFailed(Exception):
    """The server could not do it; the message is what it says."""


class RemoteIrcd:
    """What `connectors.irc.testing.ircd_control.Control` can do, across a socket; one order at a time."""

    def __init__(
        self, port: int, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.port = port
        self.pid = pid
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def spawn(cls, *, full: bool = False) -> AsyncIterator[RemoteIrcd]:
        """Run one as long as the block lasts: as plain as 1993, or with every IRCv3 extension (`full`)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "connectors.irc.testing.ircd", "--bench-control", *(["--full"] if full else [])),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                where = msgspec.json.decode(await process.stdout.readline(), type=dict[str, int])
                reader, writer = await asyncio.open_connection("127.0.0.1", where["control"], limit=_LIMIT)
            try:
                yield cls(where["port"], process.pid, reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def order(self, do: str, **how: Any) -> dict[str, Any]:
        """Have one thing done; the answer's keys. Raises OrderFailed."""
        async with self._turn:
            self._writer.write(msgspec.json.encode({"do": do, **how}) + b"\n")
            answer = msgspec.json.decode(await self._reader.readline(), type=dict[str, Any])
        if not answer["ok"]:
            raise OrderFailed(answer["error"])
        return answer
