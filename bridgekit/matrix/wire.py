"""A small pool of keep-alive HTTP/1.1 connections to one server, for calls whose answers fit in memory.

Why not aiohttp's client: docs/decisions/0004-http.md has the numbers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from bridgekit.matrix.turns import Turns

MAX_ANSWER = 128 * 1024 * 1024
"""Bytes of one answer; the state of the largest rooms stays well below."""
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
"""A connection unused for longer is not trusted again: Twisted closes its side after 60 s, most proxies later."""


class NotSent(Exception):
    """No byte of the request left this machine: it had no effect."""


class AnswerLost(Exception):
    """The request may have been read, but no whole answer came: it may have had its effect."""


class Answer(NamedTuple):
    """One HTTP answer. Header names and values are as they came."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The first header called `name` (lower case)."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class _Connection(asyncio.Protocol):
    """One connection that carries one exchange at a time (no pipelining)."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._deadline = 0.0  # of the answer that is waited for
        self._timer: asyncio.TimerHandle | None = None  # goes off at the deadline or before it
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._head_done = False
        self._framed = False
        self._answering = False
        self.reusable = False
        self.idle_since = 0.0
        self.lost_unread = False  # closed before one byte of the answer came

    async def exchange(self, request: bytes, seconds: float) -> Answer:
        """Write `request` and return its answer. Raises NotSent, AnswerLost; closes itself when cancelled."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise NotSent("the connection is closed")
        self.reusable = self._answering = False
        self._waiter = waiter = self._loop.create_future()
        self._deadline = deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer(deadline)
        try:
            transport.write(request)
            answer: Answer = await waiter
        except BaseException:
            self.reusable = False
            transport.abort()  # the answer may still come, and nobody may take it for that of the next request
            raise
        finally:
            self._waiter = None
        if self.reusable:
            self.idle_since = self._loop.time()
        else:
            transport.close()
        return answer

    # One timer lasts for all exchanges of a minute: to set and cancel one for each costs more than writing it.

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._deadline > self._loop.time():
            self._set_timer(self._deadline)
        else:
            self._fail("no answer in time")

    def close(self) -> None:
        """Close an idle connection."""
        self.reusable = False
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class has no common base with it

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # words that nobody asked for, such as a 408 before the server hangs up
            self.close()
            return
        self._answering = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not an HTTP answer ({error})")

    def eof_received(self) -> None:
        # RFC 9112 6.3 rule 8: without a length and chunks, the end of the connection ends the answer.
        if self._head_done and not self._framed:
            self._finish(keep=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_unread = not self._answering
        self._fail("the connection was closed before the answer was whole")
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self.reusable = False

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self._head_done = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._size += len(body)
        if self._size > MAX_ANSWER:
            self._fail("the answer is too large")

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # RFC 9110 15.2: interim answers come before the answer
            self._headers, self._framed = [], False
            return
        self._finish(keep=self._parser.should_keep_alive())

    def _finish(self, *, keep: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self.reusable = keep
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._waiter.set_result(Answer(self._parser.get_status_code(), self._headers, body))
        self._headers, self._body, self._size = [], [], 0
        self._head_done = self._framed = False

    def _fail(self, why: str) -> None:
        self.reusable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(AnswerLost(why))


class Pool:
    """Connections to the server of `url` (http or https), at most `limit` at a time."""

    def __init__(self, url: str, *, limit: int = 64, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) address: {url!r}")
        self.prefix = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._host_header = parts.netloc.rpartition("@")[2].encode(
            "idna" if not parts.netloc.isascii() else "ascii"
        )
        self._slots: Turns[None] = Turns(limit)
        self._idle: deque[_Connection] = deque()

    def request(self, method: str, target: str, headers: bytes, body: bytes | None) -> bytes:
        """A request as it is sent. `target` is quoted and starts with "/"; `headers` are whole lines with CRLF."""
        line = f"{method} {self.prefix}{target} HTTP/1.1\r\nHost: ".encode("ascii")
        if line.count(b" ") != 3 or line.count(b"\n") != 1:
            raise ValueError("the target of the request is not quoted")
        length = (
            b"\r\n"
            if body is None
            else b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        return b"".join((line, self._host_header, b"\r\n", headers, length, body or b""))

    async def exchange(self, request: bytes, *, seconds: float) -> Answer:
        """Send a request and return its answer; `seconds` count from the moment it is written.

        Raises NotSent, AnswerLost.
        """
        if not self._slots.at_once(None):
            await self._slots.take(None)
        try:
            if (connection := self._take()) is not None:
                try:
                    return await self._exchange(connection, request, seconds)
                except NotSent:
                    pass  # the server closed it a moment ago
                except AnswerLost:
                    # RFC 9112 9.3.1: it may have been closed as idle; what changes nothing can be asked again.
                    if not request.startswith(b"GET ") or not connection.lost_unread:
                        raise
            return await self._exchange(await self._connect(), request, seconds)
        finally:
            self._slots.give_back(None)

    async def _exchange(self, connection: _Connection, request: bytes, seconds: float) -> Answer:
        answer = await connection.exchange(request, seconds)
        if connection.reusable:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    _Connection,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
                return connection
        except TimeoutError as error:
            raise NotSent("no connection in time") from error
        except (OSError, ssl.SSLError) as error:
            raise NotSent(str(error) or type(error).__name__) from error
