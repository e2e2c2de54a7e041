"""Services: being identified by NickServ after the welcome, and what became of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from connectors.irc.format import decode
from connectors.irc.wire import Line, build, clean

SECONDS = 5.0
"""Services that take longer are not there."""


class Plea(msgspec.Struct, frozen=True):
    """Which service is told what. `secret` is the part of the words that nobody else may read."""

    service: str
    words: str
    secret: str

    def __repr__(self) -> str:
        return f"Plea({self.service!r})"


class Services:
    """Asks once per connection, and waits for the answer."""

    def __init__(self, send: Callable[[bytes], None], log: structlog.typing.FilteringBoundLogger) -> None:
        self._send = send
        self._log = log
        self._plea: Plea | None = None
        self._answer = ""
        self._signed_in = asyncio.Event()

    async def identify(self, plea: Plea) -> None:
        """Return when we are signed in, or will not be; then what the service said stands in the log."""
        self._plea = plea
        self._send(build("PRIVMSG", plea.service, plea.words))
        try:
            async with asyncio.timeout(SECONDS):
                await self._signed_in.wait()
        except TimeoutError:
            answer = self._answer.replace(plea.secret, "[password]") or "no answer"
            self._log.warning("irc_not_identified", service=plea.service, answer=answer)
        finally:
            self._plea = None

    def read(self, line: Line) -> None:
        """Take in a line that may be an answer."""
        if self._plea is None:
            return
        if line.command == "900":
            self._signed_in.set()
        elif line.command == "NOTICE" and line.nick.lower() == self._plea.service.lower():
            self._answer = decode(clean(line.param(1))).body
