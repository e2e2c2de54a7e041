"""Signing in with SASL, mechanism after mechanism: before the welcome, or behind it (IRCv3 SASL 3.2)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from bridgekit.contract.errors import LoginRejected, PeerMisbehaved
from connectors.irc.config import Mechanism
from connectors.irc.protocol import sasl
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import Line

_DONE = {"903", "907"}
_FAILED = {"902", "904", "905", "906"}
_ABORTED = "906"
"""From a server, it says that nobody is there to ask (Solanum, say)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to sign in; `certificate` says that the connection has a client certificate. No account: the nick's.

    `services`: where the network has no SASL at all, and nobody can listen in, NickServ is told instead.
    """

    mechanism: Mechanism = Mechanism.AUTO
    account: str = ""
    password: str = field(default="", repr=False)
    certificate: bool = False
    required: bool = True
    services: bool = False


class Outcome(Enum):
    """What became of a sign-in."""

    SIGNED_IN = "signed in"
    REFUSED = "refused"
    AWAY = "away"  # nobody was there to ask: another time
    UNUSABLE = "unusable"  # no mechanism that both sides know and may use


class SignIn:
    """One sign-in. `begin` and `read` say how it ended, None while it goes on; what is sent goes through `send`.

    Both raise LoginRejected where the server does not prove what it has to, and where the account or the password
    can be none.
    """

    def __init__(
        self, credentials: Credentials, nick: str, state: State, *, secure: bool, send: Callable[..., None]
    ) -> None:
        offered = state.caps.sasl_mechanisms()
        exchanges = _exchanges(credentials, nick, secure=secure)
        self._exchanges = iter([e for e in exchanges if not offered or e.mechanism in offered])
        self._exchange: sasl.Exchange | None = None
        self._assembler = sasl.Assembler()
        self._send = send
        self._outcome = Outcome.UNUSABLE

    def begin(self) -> Outcome | None:
        """Try the strongest mechanism, or the next one."""
        self._exchange = next(self._exchanges, None)
        if self._exchange is None:
            return self._outcome
        self._assembler = sasl.Assembler()
        self._send("AUTHENTICATE", self._exchange.mechanism)
        return None

    def read(self, line: Line) -> Outcome | None:
        """Take in a line of the server."""
        if self._exchange is None:
            return None
        if line.command == "AUTHENTICATE":
            self._answer(self._exchange, line.param(0))
        elif line.command in _FAILED:
            self._outcome = Outcome.AWAY if line.command == _ABORTED else Outcome.REFUSED
            return self.begin()
        elif line.command in _DONE:
            if not self._exchange.complete:
                raise LoginRejected("The IRC server did not prove that it knows the account's password.")
            return Outcome.SIGNED_IN
        return None

    def abandon(self) -> None:
        """Nobody answers."""
        self._exchange = None
        self._send("AUTHENTICATE", "*")

    def _answer(self, exchange: sasl.Exchange, chunk: str) -> None:
        try:
            message = self._assembler.feed(chunk)
            if message is not None:
                for part in sasl.chunks(exchange.respond(message)):
                    self._send("AUTHENTICATE", part)
        except PeerMisbehaved as error:
            raise LoginRejected(f"Signing in was stopped. {error.notice}.") from error


def _exchanges(credentials: Credentials, nick: str, *, secure: bool) -> Iterator[sasl.Exchange]:
    """What to try, the strongest first. A password never goes over a connection in the clear."""
    wanted = credentials.mechanism
    if credentials.certificate and wanted in (Mechanism.AUTO, Mechanism.EXTERNAL):
        yield sasl.External(credentials.account)
    if not credentials.password:
        return
    account = credentials.account or nick
    try:
        if wanted in (Mechanism.AUTO, Mechanism.SCRAM):
            yield sasl.ScramSha256(account, credentials.password, secrets.token_urlsafe(18))
        if secure and wanted in (Mechanism.AUTO, Mechanism.PLAIN):
            yield sasl.Plain(account, credentials.password)
    except ValueError as error:
        raise LoginRejected(f"The account or its password cannot be used: it holds {error}.") from error
