"""From a fresh connection to a usable one: CAP, SASL, a nick, and the server's welcome."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, PeerMisbehaved
from connectors.irc.connection import Connection
from connectors.irc.protocol import bouncer
from connectors.irc.protocol.changes import CapsChanged, CapsListed
from connectors.irc.protocol.nicks import next_nick, wanted_nick
from connectors.irc.protocol.wire import Line, build, clean, parse
from connectors.irc.signing_in import Credentials, Outcome, SignIn
from connectors.irc.words.explain import Closing, closing, explain
from connectors.irc.words.translate import Reader, Reading

SECONDS = 60.0
"""A server that takes longer to welcome us is no use."""
SIGN_IN_SECONDS = 15.0
"""So long services may take to answer who comes in without them as well."""

REJECTED_SECONDS = 3600.0
"""After this long, whoever has turned us away may think otherwise: most bans pass, and passwords are set right."""

WHY_SECONDS = 2.0
"""So long a server that has banned us may take to say why."""

BOUNCER_ALONE = "The bouncer has no connection to IRC."

RFC_NICKLEN = 9
"""RFC 1459, 1.2: so long a nick may be everywhere."""
_TOO_LONG = re.compile(r"too long(?:\D*(\d{1,3}))?", re.IGNORECASE)
"""ngircd: "Nickname too long, max. 9 characters"."""
_MOTD_ENDS = {"376", "422"}
_NICK_REFUSED = {"432", "433", "436", "437"}


class TooMany(Disconnected):
    """The server lets in no more connections of ours."""


class NoSignIn(LoginRejected):
    """Signing in is required, and the server has nobody to do it: ever, or while its services are away."""


@dataclass(frozen=True, slots=True)
class Papers:
    """Who we say that we are. `suffix` ends the nick; `webirc` is (password, gateway, host name, address)."""

    nick: str
    username: str
    realname: str
    suffix: str = ""
    password: str = field(default="", repr=False)
    sasl: Credentials | None = None
    webirc: tuple[str, str, str, str] | None = field(default=None, repr=False)


async def register(
    connection: Connection, reader: Reader, papers: Papers, note: Callable[[Reading], None]
) -> tuple[list[bytes], Credentials | None]:
    """Sign on. `note` sees all that was read.

    Returns the lines that came behind the welcome, unread, and the credentials that nobody was there to take. Raises
    LoginRejected (bans, passwords, failed required SASL; NoSignIn where none is offered) and Disconnected (everything
    that may pass).
    """
    registering = _Registering(connection, reader, papers, note)
    try:
        async with asyncio.timeout(SECONDS):
            return await registering.run(), registering.owed
    except TimeoutError as error:
        raise Disconnected(registering.silence, retry_after=30.0) from error
    finally:
        registering.rest()


class _Registering:
    def __init__(
        self, connection: Connection, reader: Reader, papers: Papers, note: Callable[[Reading], None]
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._state = reader.state
        self._papers = papers
        self._note = note
        self._wanted = wanted_nick(papers.nick, reader.state, suffix=papers.suffix)
        self._tried = [self._wanted]
        self._asked: set[str] = set()
        self._banned = ""
        self._sign_in: SignIn | None = None
        self._owed = papers.sasl
        self._ended = False
        self._patience: asyncio.TimerHandle | None = None
        self._greeted = False
        self._has_network = False
        self.silence = "The IRC server took the connection and did not welcome us."

    async def run(self) -> list[bytes]:
        papers = self._papers
        username = clean(papers.username, middle=True) or "bridge"
        first = [
            build("WEBIRC", *papers.webirc) if papers.webirc else b"",
            build("PASS", clean(papers.password)) if papers.password else b"",
            build("CAP", "LS", "302"),
            build("NICK", self._wanted),
            build("USER", username, "0", "*", clean(papers.realname) or "-"),
        ]
        # In one piece: a server that turns us away at once says why, and a second write would lose that
        self._connection.write(b"".join(first))
        while True:
            try:
                async with asyncio.timeout(WHY_SECONDS if self._banned else None):
                    lines = await self._connection.lines()
            except (Disconnected, TimeoutError):
                if self._banned:
                    raise self._closed() from None
                raise
            for i, raw in enumerate(lines):
                try:
                    line = parse(raw)
                    if line is None:
                        continue
                    reading = self._reader.read(line, time.time_ns() // 1_000_000)
                except PeerMisbehaved:
                    continue
                self._note(reading)
                if self._take(line, reading):
                    return lines[i + 1 :]

    def _closed(self, words: str = "") -> Disconnected | LoginRejected:
        """What the server's last words say, with what it said of a ban before."""
        if not self._banned:
            return closed(words)
        return closed(f"{self._banned} {words}", Closing.BANNED)

    @property
    def owed(self) -> Credentials | None:
        """The credentials that nobody was there to take."""
        return None if self._state.account else self._owed

    def rest(self) -> None:
        """Nothing more is waited for."""
        if self._patience is not None:
            self._patience.cancel()

    def _send(self, command: str, *params: str) -> None:
        self._connection.write(build(command, *params))

    def _take(self, line: Line, reading: Reading) -> bool:
        """True when we are in."""
        for change in reading.changes:
            match change:
                case CapsListed():
                    self._request(self._state.caps.requests(exclude=self._unwanted))
                case CapsChanged(enabled=enabled, refused=refused) if not self._ended:
                    self._asked -= enabled | refused
                    if len(refused) > 1:  # a NAK names the whole list: one bad name spoils the others
                        for name in refused:
                            self._request([name])
                    elif not self._asked:
                        self._start_sasl()
                case _:
                    pass
        match line.command:
            case "PING":
                self._send("PONG", *line.params)
            case "001":
                self._welcome()
            case "AUTHENTICATE" | "902" | "903" | "904" | "905" | "906" | "907" if self._sign_in is not None:
                self._conclude(self._sign_in.read(line))
            case command if command in _NICK_REFUSED and not self._state.registered:
                if command == "432" and (long := _TOO_LONG.search(line.param(-1))):
                    self._shorten(int(long[1]) if long[1] else RFC_NICKLEN)
                self._wanted_is_taken()
            case "464":
                raise LoginRejected(explain(line), retry_after=REJECTED_SECONDS)
            case "465" | "466":
                self._banned = line.param(
                    -1
                )  # InspIRCd tells why, and that it passes, in the ERROR behind it
            case "PRIVMSG" if bouncer.lost(line):  # the welcome comes when it is back
                self.silence = BOUNCER_ALONE
            case "BOUNCER":
                return self._bounced(line)
            case "ERROR":
                raise self._closed(line.param(0))
            case command if command in _MOTD_ENDS and self._state.registered:
                self._greeted = True
                return self._is_in
            case _:
                pass
        return False

    def _bounced(self, line: Line) -> bool:
        """soju welcomes us with or without a network behind it; True when we are in."""
        there = bouncer.has_network(line, self._state.support.netid)
        if there is None:
            return False
        self._has_network = there
        if not there:
            self.silence = BOUNCER_ALONE
        return self._is_in

    @property
    def _is_in(self) -> bool:
        """Welcomed, and a bouncer that tells such things has its network."""
        tells = bouncer.NOTIFIES in self._state.caps and bool(self._state.support.netid)
        return self._greeted and (self._has_network or not tells)

    def _welcome(self) -> None:
        """Without capabilities, nobody has asked us to sign in yet."""
        if self.owed is not None and self.owed.required and not self._by_services:
            words = "This IRC server offers no sign-in that the bridge can use, and signing in is required."
            raise NoSignIn(words)

    def _shorten(self, limit: int) -> None:
        """NICKLEN is told behind the welcome only; where a nick is refused for its length, it is shorter than ours."""
        support = self._state.support
        support.nicklen = max(1, min(limit, support.nicklen))

    def _wanted_is_taken(self) -> None:
        nick = next_nick(self._wanted, self._tried, self._state)
        if nick in self._tried or len(self._tried) > 20:
            raise Disconnected("The IRC server accepts none of the nicks that were tried.", retry_after=60.0)
        self._tried.append(nick)
        self._send("NICK", nick)

    # -- capabilities

    def _request(self, requests: list[str]) -> None:
        for names in requests:
            self._asked |= set(names.split())
            self._send("CAP", "REQ", names)
        if not self._asked:
            self._start_sasl()

    @property
    def _unwanted(self) -> frozenset[str]:
        """soju plays back to a person what was said to them meanwhile, unless their client says that it will ask."""
        asks = self._reader.hearing.login is None or not bouncer.offers(self._state.caps.offered)
        return frozenset() if asks else frozenset({"draft/chathistory"})

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._send("CAP", "END")

    # -- SASL

    def _start_sasl(self) -> None:
        if self._ended or self._sign_in is not None:
            return
        credentials = self._papers.sasl
        if credentials is None or "sasl" not in self._state.caps:
            self._conclude(Outcome.AWAY)
            return
        self.silence = "The IRC network's services did not answer the sign-in."
        self._sign_in = SignIn(
            credentials, self._papers.nick, self._state, secure=self._connection.secure, send=self._send
        )
        if not credentials.required:
            self._patience = asyncio.get_running_loop().call_later(SIGN_IN_SECONDS, self._go_without)
        self._conclude(self._sign_in.begin())

    def _go_without(self) -> None:
        """Nobody answers, and signing in is not required."""
        if self._sign_in is not None and not self._ended:
            self._sign_in.abandon()
            self._end()

    def _conclude(self, outcome: Outcome | None) -> None:
        """Go on, or away, once it is known what became of the sign-in."""
        credentials = self._papers.sasl
        match outcome:
            case None:
                return
            case Outcome.SIGNED_IN:
                self._owed = None
            case Outcome.AWAY if credentials is not None and credentials.required and not self._by_services:
                self._send("QUIT")
                raise NoSignIn("The IRC server has nobody who could sign us in now, and that is required.")
            case Outcome.REFUSED | Outcome.UNUSABLE if credentials is not None and credentials.required:
                self._send("QUIT")
                raise refused(outcome, credentials)
            case Outcome.REFUSED | Outcome.UNUSABLE:
                self._owed = None  # services ban whoever tries a wrong password often
            case Outcome.AWAY:
                pass
            case _:
                assert_never(outcome)
        self._end()

    @property
    def _by_services(self) -> bool:
        credentials = self._papers.sasl
        offered = "sasl" in self._state.caps.offered
        return credentials is not None and credentials.services and self._connection.secure and not offered


def refused(outcome: Outcome, credentials: Credentials) -> LoginRejected:
    """What to tell whom the server did not let sign in."""
    unusable = outcome is Outcome.UNUSABLE
    why = "offers no SASL mechanism that can be used" if unusable else "refused the account's sign-in"
    check = "check the account and password"
    if credentials.certificate and not credentials.password:
        check = "the account has to know our certificate, and a renewed one anew (NickServ CERT ADD)"
    words = f"The IRC server {why}, and signing in is required: {check}."
    return LoginRejected(words, retry_after=REJECTED_SECONDS)


def closed(reason: str, otherwise: Closing = Closing.OTHER) -> Disconnected | LoginRejected:
    """What follows from the server's last word; `otherwise` is what it means where its reason says nothing."""
    words = clean(reason).strip() or "no reason given"
    why = closing(reason)
    match otherwise if why is Closing.OTHER else why:
        case Closing.BANNED:
            notice = f"The IRC network has banned this connection: {words}"
            return LoginBanned(notice, retry_after=REJECTED_SECONDS)
        case Closing.THROTTLED:
            return Disconnected(f"The IRC server asks to connect less often: {words}", retry_after=120.0)
        case Closing.TOO_MANY:
            return TooMany(f"The IRC server has too many connections from here: {words}", retry_after=300.0)
        case Closing.KILLED:
            return Disconnected(f"An IRC operator ended the connection: {words}", retry_after=300.0)
        case Closing.OTHER:
            return Disconnected(f"The IRC server ended the connection: {words}")
