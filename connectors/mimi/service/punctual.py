"""Connections that a peer opens and does not use: a request begins in time, and nobody has more of them than they need.

aiohttp waits for headers as long as they trickle in; a slow-loris peer would hold our sockets for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

HEADERS_WITHIN = 30.0
"""Seconds from a connection's start, or the last answer on it, to the next request's whole headers."""
AT_ONCE = 64
"""Connections under one certificate."""


class Punctual:
    """Watches the connections of one server: `middleware` in its application, `protocol` around aiohttp's own."""

    def __init__(self, within: float = HEADERS_WITHIN, at_once: int = AT_ONCE) -> None:
        self._within = within
        self._at_once = at_once
        self._timers: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}
        self._open: Counter[bytes] = Counter()

    @property
    def waiting(self) -> int:
        """Connections on which no request is being answered."""
        return len(self._timers)

    def protocol(self, made: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """A protocol that does what `made` makes, under watch."""
        return _Watched(made(), self)

    @property
    def middleware(self) -> Middleware:
        """Tells when a request's headers are there, and when it is answered."""

        @web.middleware
        async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
            transport = request.transport
            if transport is not None:
                self._calm(transport)
            try:
                return await handler(request)
            finally:
                if transport is not None and not transport.is_closing():
                    self._expect(transport)

        return watched

    def opened(self, transport: asyncio.Transport, owner: bytes) -> None:
        self._open[owner] += 1
        if self._open[owner] > self._at_once:
            transport.abort()
        else:
            self._expect(transport)

    def closed(self, transport: asyncio.BaseTransport, owner: bytes) -> None:
        self._calm(transport)
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]

    def _expect(self, transport: asyncio.Transport) -> None:
        self._calm(transport)
        loop = asyncio.get_running_loop()
        self._timers[transport] = loop.call_later(self._within, self._late, transport)

    def _calm(self, transport: asyncio.BaseTransport) -> None:
        timer = self._timers.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _late(self, transport: asyncio.Transport) -> None:
        self._timers.pop(transport, None)
        transport.abort()


class _Watched(asyncio.Protocol):
    def __init__(self, inner: asyncio.Protocol, punctual: Punctual) -> None:
        self._inner = inner
        self._punctual = punctual
        self._transport: asyncio.Transport
        self._owner = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        self._owner = tls.getpeercert(binary_form=True) or b"" if tls is not None else b""
        self._inner.connection_made(transport)
        self._punctual.opened(self._transport, self._owner)

    def connection_lost(self, problem: Exception | None) -> None:
        self._punctual.closed(self._transport, self._owner)
        self._inner.connection_lost(problem)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
