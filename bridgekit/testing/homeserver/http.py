"""HTTP/1.1 for the fake homeserver: an asyncio protocol over httptools, with keep-alive and pipelining."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote

import httptools

from bridgekit.testing.homeserver.tasks import Tasks

HANG_UP = b""
"""The answer that is none: the connection is dropped."""

_OK_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
_END = b"\r\n\r\n"


class Request:
    """One request: `path` is raw (still percent-encoded), `query` decoded."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query_string")

    def __init__(
        self,
        method: str,
        path: str,
        query_string: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        keep: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.body = body
        self.keep_alive = keep

    @property
    def query(self) -> dict[str, str]:
        """The query parameters, the last of each name; not to be changed."""
        return parse_query(self.query_string) if self.query_string else {}

    def header(self, name: bytes) -> bytes:
        """Return a header by its lower-case name, b"" where there is none."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return b""


@lru_cache(maxsize=8192)
def parse_query(query: str) -> dict[str, str]:
    """Decode a query string."""
    return dict(parse_qsl(query, keep_blank_values=True))


@lru_cache(maxsize=16384)
def decode_segment(segment: str) -> str:
    """Decode one path segment."""
    return unquote(segment)


Answer = Callable[[Request], bytes | Awaitable[bytes]]
"""Turn a request into the bytes of a whole response, at once or later; HANG_UP drops the connection."""


def ok(body: bytes) -> bytes:
    """Return a 200 response with a JSON body."""
    return b"%b%d%b%b" % (_OK_JSON, len(body), _END, body)


def respond(
    status: int,
    body: bytes = b"{}",
    *,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Return a response with any status."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1", "replace") + _END + body


class Connection(asyncio.Protocol):
    """One client connection; requests of one connection are answered in order, however late."""

    def __init__(self, answer: Answer, tasks: Tasks, connections: "set[Connection]") -> None:
        self._answer = answer
        self._tasks = tasks
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.write(respond(400, headers={"Connection": "close"}))
                self._transport.close()

    def abort(self) -> None:
        """Drop the connection without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    # httptools

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if any(name.lower() == b"expect" for name, _ in self._headers) and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        body = self._body
        request = Request(
            self._parser.get_method().decode("latin-1"),
            path,
            query,
            self._headers,
            body[0] if len(body) == 1 else b"".join(body),
            self._parser.should_keep_alive(),
        )
        if self._busy:
            self._waiting.append(request)
        else:
            self._serve(request)

    # Answers

    def _serve(self, request: Request) -> None:
        answer = self._answer(request)
        if isinstance(answer, bytes):
            self._reply(request, answer)
        else:
            self._busy = True
            self._tasks.spawn(self._serve_later(request, answer), name="fake-homeserver-answer")

    async def _serve_later(self, request: Request, answer: Awaitable[bytes]) -> None:
        self._reply(request, await answer)
        while self._waiting:
            request = self._waiting.popleft()
            later = self._answer(request)
            self._reply(request, later if isinstance(later, bytes) else await later)
        self._busy = False

    def _reply(self, request: Request, response: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if response is HANG_UP or not response:
            transport.abort()
            return
        transport.write(response)
        if not request.keep_alive:
            transport.close()


class Listener:
    """A listening socket that can be closed, with all its connections, and opened again on the same port."""

    def __init__(self, answer: Answer, tasks: Tasks) -> None:
        self._answer = answer
        self._tasks = tasks
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.port = 0

    async def open(self, host: str, port: int) -> int:
        """Listen; return the port (`port` 0 picks a free one). Raise OSError where it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._answer, self._tasks, self._connections), host, port, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    def close(self) -> None:
        """Stop listening and drop every connection, as a process that is killed would."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop_connections()

    def drop_connections(self) -> None:
        """Drop every connection and go on listening."""
        for connection in list(self._connections):
            connection.abort()
