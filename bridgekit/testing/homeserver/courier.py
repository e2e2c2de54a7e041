"""A small HTTP/1.1 client: how the fake homeserver calls the appservice."""

import asyncio
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools


class Answered(NamedTuple):
    """What came back: the status and the body."""

    status: int
    body: bytes


class Courier:
    """One keep-alive connection to one origin, one request at a time; a lost connection is opened anew."""

    def __init__(self, base_url: str, token: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"the fake homeserver speaks plain http only, not {base_url!r}")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._head = (
            f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nUser-Agent: bridgekit-fake-homeserver\r\n"
        ).encode()
        self._line: _Line | None = None
        self._one_at_a_time = asyncio.Lock()

    async def request(self, method: str, path: str, body: bytes = b"", *, timeout: float = 30.0) -> Answered:
        """Make one call. Raise OSError where the connection fails and TimeoutError past `timeout` seconds."""
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(timeout):
                    line = await self._connected()
                    return await line.exchange(self._frame(method, path, body))
            except BaseException:
                self.hang_up()
                raise

    async def send_only(self, method: str, path: str, body: bytes = b"") -> None:
        """Make a call and lose its answer: return when the other side has answered, without looking at it."""
        try:
            await self.request(method, path, body)
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Drop the connection; a call under way raises ConnectionResetError."""
        if self._line is not None:
            self._line.abort()
            self._line = None

    async def _connected(self) -> "_Line":
        if self._line is None or self._line.lost:
            loop = asyncio.get_running_loop()
            _, self._line = await loop.create_connection(_Line, self._host, self._port)
        return self._line

    def _frame(self, method: str, path: str, body: bytes) -> bytes:
        start = f"{method} {self._prefix}{path} HTTP/1.1\r\n".encode()
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (start, self._head, len(body), body)


class _Line(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._answer: asyncio.Future[Answered] | None = None

    def exchange(self, frame: bytes) -> "asyncio.Future[Answered]":
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self.lost:
            self._answer.set_exception(ConnectionResetError("the connection is gone"))
        else:
            self._transport.write(frame)
        return self._answer

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the appservice hung up"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(
                    ConnectionAbortedError(f"the appservice does not speak HTTP: {error}")
                )
            self.abort()

    def on_message_begin(self) -> None:
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.lost = True
            self.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answered(self._parser.get_status_code(), b"".join(self._body)))
