"""The ident server (RFC 1413): it tells an IRC network which of our people stands behind which connection."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Iterator

PATIENCE = 2.0
"""Seconds that a question about a socket which is still opening may wait; servers give up after five or more."""
MAX_QUESTION = 512

_QUESTION = re.compile(rb"\s*(\d{1,5})\s*,\s*(\d{1,5})\s*\r?\n?")


def ident_of(user: str, length: int = 10) -> str:
    """A user name for `user` (a Matrix id): readable, and unique by a part of its hash; `[a-z0-9]{1,length}`."""
    readable = re.sub(r"[^a-z0-9]", "", user.lower().partition(":")[0])[: max(1, length - 5)] or "m"
    return (readable + hashlib.sha256(user.encode()).hexdigest()[:5])[:length]


class IdentServer:
    """Answers for the sockets that were announced to it. `address` is "host:port", IPv6 hosts in brackets.

    "[::]:113" is every address of both families, as with other servers; asyncio would take it for IPv6 alone.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        self._host = None if host in ("", "::") else host
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self._users: dict[tuple[int, int], str] = {}
        self._opening = 0
        self._changed: asyncio.Event = asyncio.Event()
        self._holders = 0
        self._askers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port that it listens on now."""
        return self._server.sockets[0].getsockname()[1] if self._server else self._port

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[IdentServer]:
        """Serve for as long as anybody holds it. Raises OSError if it cannot listen."""
        self._holders += 1
        try:
            if self._server is None:
                self._server = await asyncio.start_server(
                    self._answer, self._host, self._port, limit=MAX_QUESTION
                )
            yield self
        finally:
            self._holders -= 1
            if not self._holders and self._server is not None:
                server, self._server = self._server, None
                server.close()
                for asker in self._askers:
                    asker.close()

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """A socket is about to be opened: questions about unknown ports wait for its announcement."""
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1
            self._wake()

    def announce(self, local_port: int, remote_port: int, user: str) -> None:
        """This connection is `user`'s."""
        self._users[local_port, remote_port] = user
        self._wake()

    def forget(self, local_port: int, remote_port: int) -> None:
        """That connection is gone."""
        self._users.pop((local_port, remote_port), None)

    async def lookup(self, local_port: int, remote_port: int) -> str | None:
        """Who it is; waits up to PATIENCE while a socket is still opening."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (local_port, remote_port) not in self._users and self._opening:
                    await self._changed.wait()
        return self._users.get((local_port, remote_port))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._askers.add(writer)
        try:
            async with asyncio.timeout(30):
                question = await reader.readline()
                writer.write(await self._reply(question))
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass  # a question that never ends, or an asker who left
        finally:
            self._askers.discard(writer)
            writer.close()

    async def _reply(self, question: bytes) -> bytes:
        match = _QUESTION.fullmatch(question)
        if match is None:
            return b"0 , 0 : ERROR : INVALID-PORT\r\n"
        ours, theirs = int(match[1]), int(match[2])
        head = f"{ours} , {theirs} : "
        if not (0 < ours < 65536 and 0 < theirs < 65536):
            return f"{head}ERROR : INVALID-PORT\r\n".encode()
        user = await self.lookup(ours, theirs)
        return f"{head}{f'USERID : UNIX : {user}' if user else 'ERROR : NO-USER'}\r\n".encode()
