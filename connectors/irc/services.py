"""Services: being identified by NickServ after the welcome, and what became of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from bridgekit.contract.errors import LoginRejected
from connectors.irc.protocol.wire import Line, build, clean
from connectors.irc.signing_in import Outcome, SignIn
from connectors.irc.words.format import decode

SECONDS = 5.0
"""Services that take longer are not there."""
SASL_SECONDS = 15.0
"""An agent of theirs that takes longer is not there either."""
AGAIN = 60.0
"""Seconds until services that were not there are told once more."""


class Plea(msgspec.Struct, frozen=True):
    """Which service is told what. `secret` is the part of the words that nobody else may read."""

    service: str
    words: str
    secret: str

    def __repr__(self) -> str:
        return f"Plea({self.service!r})"


class Services:
    """Asks until there is an answer, whatever it is: services ban whoever tries a wrong password often."""

    def __init__(self, send: Callable[[bytes], None], log: structlog.typing.FilteringBoundLogger) -> None:
        self._send = send
        self._log = log
        self._plea: Plea | None = None
        self._answer = ""
        self._missed = False
        self._signed_in = asyncio.Event()
        self._sign_in: SignIn | None = None
        self._outcome: asyncio.Future[Outcome] | None = None

    async def identify(self, plea: Plea) -> bool:
        """Return when we are signed in, or will not be; then what the service said stands in the log.

        False: nobody answered, so the services are away, and may be asked once more.
        """
        self._plea, self._answer = plea, ""
        self._send(build("PRIVMSG", plea.service, plea.words))
        try:
            async with asyncio.timeout(SECONDS):
                await self._signed_in.wait()
        except TimeoutError:
            if self._answer or not self._missed:
                answer = self._answer.replace(plea.secret, "[password]") or "no answer"
                self._log.warning("irc_not_identified", service=plea.service, answer=answer)
            self._missed = not self._answer
        else:
            if self._missed:
                self._log.info("irc_identified", service=plea.service)
            self._missed = False
        finally:
            self._plea = None
        return not self._missed

    async def sign_in(self, attempt: SignIn) -> Outcome:
        """Sign in with SASL behind the welcome. Raises LoginRejected as `SignIn` does."""
        self._sign_in = attempt
        self._outcome = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(SASL_SECONDS):
                return attempt.begin() or await self._outcome
        except TimeoutError:
            attempt.abandon()
            return Outcome.AWAY
        finally:
            self._sign_in = None

    def read(self, line: Line) -> None:
        """Take in a line that may be an answer."""
        if self._sign_in is not None and self._outcome is not None and not self._outcome.done():
            try:
                outcome = self._sign_in.read(line)
            except LoginRejected as error:
                self._outcome.set_exception(error)
            else:
                if outcome is not None:
                    self._outcome.set_result(outcome)
        if self._plea is None:
            return
        if line.command == "900":
            self._signed_in.set()
        elif line.command == "NOTICE" and line.nick.lower() == self._plea.service.lower():
            self._answer = decode(clean(line.param(1))).body
