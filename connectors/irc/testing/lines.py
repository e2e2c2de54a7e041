"""A bare client: it sends lines, reads lines, answers PING, and waits for a line of a given shape."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class ConnectionEnded(Exception):
    """The server closed the connection; the message holds the last lines it sent."""


class LineClient:
    """One connection. `seen` holds every line that came in, without its CR LF, PING left out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen: list[str] = []
        self._reader = reader
        self._writer = writer
        self._read_up_to = 0

    async def send(self, line: str) -> None:
        """Send one line. Raises ValueError where it holds CR, LF or NUL."""
        if re.search(r"[\r\n\0]", line):
            raise ValueError("a line holds no CR, LF or NUL")
        self._writer.write(line.encode() + b"\r\n")
        await self._writer.drain()

    async def register(
        self, nick: str, *, user: str = "tester", real: str = "A tester", caps: str = ""
    ) -> None:
        """Say who we are, ask for the capabilities (space-separated; they must all be granted), await the 001."""
        if caps:
            await self.send("CAP LS 302")
            await self.send(f"CAP REQ :{caps}")
            await self.expect(r" CAP \S+ ACK ")
            await self.send("CAP END")
        await self.send(f"NICK {nick}")
        await self.send(f"USER {user} 0 * :{real}")
        await self.expect(rf" 001 {re.escape(nick)} ")

    async def expect(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """The next line that the regular expression finds a match in, and no line before it again.

        Raises TimeoutError (with the last lines that came) where none comes in time, ConnectionEnded where none can
        come any more.
        """
        shape = re.compile(pattern)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    while self._read_up_to < len(self.seen):
                        self._read_up_to += 1
                        if found := shape.search(self.seen[self._read_up_to - 1]):
                            return found
                    await self._read_line()
        except TimeoutError:
            last = "\n".join(self.seen[-5:])
            raise TimeoutError(f"no line like {pattern!r} in {seconds:g} s; the last were:\n{last}") from None

    async def _read_line(self) -> None:
        raw = await self._reader.readline()
        if not raw:
            raise ConnectionEnded("; ".join(self.seen[-5:]))
        line = raw.decode(errors="replace").rstrip("\r\n")
        if line.startswith("PING "):
            await self.send("PONG " + line.removeprefix("PING "))
        else:
            self.seen.append(line)

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            await self.send("QUIT :bye")
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@asynccontextmanager
async def line_client(
    port: int, *, trust: Path | None = None, show: tuple[Path, Path] | None = None
) -> AsyncIterator[LineClient]:
    """Connect to 127.0.0.1:port: in clear, or by TLS where `trust` names the server's certificate file.

    `show` is our own certificate and key, for SASL EXTERNAL. Ends with QUIT.
    """
    context = None
    if trust is not None:
        context = ssl.create_default_context(cafile=str(trust))
        if show is not None:
            context.load_cert_chain(*show)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    client = LineClient(reader, writer)
    try:
        yield client
    finally:
        await client.close()
