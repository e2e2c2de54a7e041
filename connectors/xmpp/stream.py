"""One connection, by slixmpp: opened, read, written to, asked, closed without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import slixmpp
import structlog

from bridgekit.contract.errors import Disconnected, LoginRejected, SendUncertain
from connectors.xmpp import scram, tls
from connectors.xmpp.announce import GATEWAY, ROBOT, Announcement
from connectors.xmpp.stanzas import wire

# What slixmpp says in its log holds whole stanzas; what matters of it comes as events.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL)

CONNECT_SECONDS = 20.0
ASK_SECONDS = 20.0
RESUME_SECONDS = 30.0
UNKNOWN_SECONDS = 300.0
"""After so long, a server that does not know the component may: its admin writes it down, or sets the secret right."""
REFUSED_SECONDS = 3600.0
"""The same of an account: passwords are set right, and blocks end."""
LOST = "The connection to the XMPP server was lost."
MOST_EARLY = 20_000
"""Stanzas that may wait until somebody reads."""

Log = structlog.typing.FilteringBoundLogger


class Refused(Exception):
    """An IQ was answered with an error; `stanza` is the answer."""

    def __init__(self, stanza: Element) -> None:
        super().__init__("an IQ was refused")
        self.stanza = stanza


def new_id() -> str:
    """An id that nobody can guess (RFC 6120, 8.1.3)."""
    return uuid.uuid4().hex


class Stream:
    """A connection that is up. `lost` becomes true, with a sentence, when it is not any more."""

    def __init__(self, xmpp: Any, announced: Announcement, *, secure: bool) -> None:
        self._xmpp = xmpp
        self._away: asyncio.Task[None] | None = None
        self._late: list[Any] = []  # what was said before the connection broke, and slixmpp had not written
        self._held: list[Any] = []  # what is said while the connection is being resumed
        self._closing = False
        self.secure = secure
        self.signs: list[Callable[[Element], None]] = [announced.sign]  # what goes into presences of ours
        self.resumed = 0  # how often the connection broke and was taken up again
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.heard_at = self._loop.time()
        self._asked: dict[tuple[str, str], asyncio.Future[Element]] = {}
        self._early: deque[Element] = deque(maxlen=MOST_EARLY)
        self._take: Callable[[Element], None] | None = None
        self._overhear: Callable[[Element], None] = lambda iq: None
        xmpp.add_filter("in", self._came)
        xmpp.add_filter("out", self._goes)
        xmpp.add_event_handler("disconnected", self._gone)

    @property
    def jid(self) -> str:
        """Our own full address, or a component's domain."""
        return str(self._xmpp.boundjid)

    def plugins(self, names: tuple[str, ...], **configs: dict[str, Any]) -> Any:
        """More of slixmpp's plugins on this stream; they are had by name from what comes back."""
        for name in names:
            self._xmpp.register_plugin(name, configs.get(name))
        return self._xmpp.plugin

    def read(self, take: Callable[[Element], None], overhear: Callable[[Element], None]) -> None:
        """From now on `take` gets every message and presence; first what came before. `overhear` gets what others ask
        us to do, which slixmpp answers."""
        self._take, self._overhear = take, overhear
        while self._early:
            take(self._early.popleft())

    def send(self, stanza: Element) -> None:
        """Write a stanza, in order. Raises Disconnected where there is no connection."""
        if self.lost.done():
            raise Disconnected(self.lost.result())
        kind = {"message": slixmpp.Message, "presence": slixmpp.Presence, "iq": slixmpp.Iq}[
            wire.local(stanza)
        ]
        if wire.local(stanza) == "presence":
            for sign in self.signs:
                sign(stanza)
        wire.in_namespace(stanza, self._xmpp.default_ns)
        made = kind(self._xmpp, stanza, True)
        if self._away is None:
            self._xmpp.send(made)
        else:
            self._held.append(made)

    async def ask(self, iq: Element, seconds: float = ASK_SECONDS) -> Element:
        """Send an IQ; its result. Raises Refused, Disconnected, TimeoutError."""
        key = iq.get("id", ""), iq.get("to", "")
        answer: asyncio.Future[Element] = self._loop.create_future()
        self._asked[key] = answer
        try:
            self.send(iq)
            async with asyncio.timeout(seconds):
                return await answer
        finally:
            del self._asked[key]

    def _came(self, stanza: Any) -> Any:
        """Every stanza, before slixmpp does anything with it; what is left to it are other people's questions."""
        self.heard_at = self._loop.time()
        element: Element = stanza.xml
        name = wire.local(element)
        if name == "iq":
            if element.get("type") not in ("result", "error"):
                if element.get("type") == "set":
                    self._overhear(element)
                return stanza
            waiting = self._asked.get((element.get("id", ""), self._sender(element)))
            if waiting is None:
                return stanza
            if not waiting.done():
                if element.get("type") == "error":
                    waiting.set_exception(Refused(element))
                else:
                    waiting.set_result(element)
            return None
        if name not in ("message", "presence"):
            return stanza
        element.set("from", self._sender(element))
        if self._take is None:
            self._early.append(element)
        else:
            self._take(element)
        # Plugins live on these (XEP-0060, 7.1.2.1): what has changed at somebody's.
        return stanza if wire.find(element, wire.PUBSUB_EVENT, "event") is not None else None

    def _goes(self, stanza: Any) -> Any:
        """Every stanza before it is written. One that slixmpp still had in its queue when the connection broke would be
        written nowhere and counted by nobody (XEP-0198, 5): it is kept until the session is taken up again."""
        if self._away is None or not isinstance(stanza, slixmpp.Message | slixmpp.Presence | slixmpp.Iq):
            return stanza
        if not getattr(self._xmpp.plugin.get("xep_0198", None), "enabled_out", False):
            self._late.append(
                stanza
            )  # otherwise it was counted just now, and slixmpp sends it with the others
        return None

    def _sender(self, element: Element) -> str:
        """Who it is from; RFC 6120, 8.1.2.1: what says nothing is from one's own account."""
        own = "" if self._xmpp.is_component else self._xmpp.boundjid.bare
        return element.get("from") or str(own)

    def _gone(self, reason: Any) -> None:
        """The TCP connection is over. Where the server keeps the session (XEP-0198, 5), it is taken up again."""
        if self._away is not None or self.lost.done():
            return
        management = self._xmpp.plugin.get("xep_0198", None)
        if self._closing or management is None or not getattr(management, "sm_id", None):
            self.end(LOST)
            return
        self._away = self._loop.create_task(self._resume(), name="xmpp-resume")

    async def _resume(self) -> None:
        """Connect once more; what neither side has acknowledged is sent again by both (XEP-0198, 5)."""
        xmpp = self._xmpp
        happened: asyncio.Queue[bool | None] = asyncio.Queue()
        handlers = {
            "session_resumed": lambda _: happened.put_nowait(True),
            "session_start": lambda _: happened.put_nowait(False),  # the server has forgotten the session
            "sm_failed": lambda _: happened.put_nowait(False),
            "failed_all_auth": lambda _: happened.put_nowait(False),
            "stream_error": lambda _: happened.put_nowait(False),
            "disconnected": lambda _: happened.put_nowait(None),  # it broke again before that was clear
        }
        for name, handler in handlers.items():
            xmpp.add_event_handler(name, handler)
        resumed: bool | None = None
        try:
            async with asyncio.timeout(RESUME_SECONDS):
                while resumed is None:
                    xmpp.connect(*(xmpp.custom_address or (None, None)))
                    resumed = await happened.get()
                    if resumed is None:
                        await asyncio.sleep(1.0)
        except TimeoutError:
            xmpp.cancel_connection_attempt()
        finally:
            for name, handler in handlers.items():
                xmpp.del_event_handler(name, handler)
            self._away = None
        if not resumed:
            self.end(LOST)
            return
        self.resumed += 1
        self.heard_at = self._loop.time()
        # Behind what slixmpp has sent again by now: the order stays.
        held, self._late, self._held = [*self._late, *self._held], [], []
        for stanza in held:
            xmpp.send(stanza)

    def suspect(self, why: str) -> None:
        """The server is silent: the connection is dropped, and resumed where that is possible."""
        if self._xmpp.transport is not None and getattr(
            self._xmpp.plugin.get("xep_0198", None), "sm_id", None
        ):
            self._xmpp.transport.abort()
        else:
            self.end(why)

    def end(self, why: str) -> None:
        """The connection is over; what is under way is in doubt."""
        if not self.lost.done():
            self.lost.set_result(why)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(SendUncertain("The connection was lost before the answer came."))
                answer.exception()  # whoever waits reads it; nobody has to

    async def close(self) -> None:
        """End it, politely if it still is there."""
        self._closing = True
        if self._away is not None:
            self._away.cancel()
            await asyncio.gather(self._away, return_exceptions=True)
        with contextlib.suppress(Exception):
            if not self.lost.done():
                await asyncio.sleep(0)  # what was written goes out first
                self._xmpp.send_raw(self._xmpp.stream_footer)
        await _drop(self._xmpp)
        self.end("The connection was closed.")


async def _drop(xmpp: Any) -> None:
    """Close the socket and end what slixmpp keeps running."""
    xmpp.cancel_connection_attempt()
    if xmpp.transport is not None:
        xmpp.transport.close()
        for _ in range(20):
            if xmpp.transport is None:
                break
            await asyncio.sleep(0.005)
        else:
            xmpp.abort()
    for name in list(xmpp.scheduled_events):
        xmpp.cancel_schedule(name)
    if (filters := xmpp._run_out_filters) is not None:
        filters.cancel()
        await asyncio.gather(filters, return_exceptions=True)


@contextlib.asynccontextmanager
async def component(domain: str, secret: str, host: str, port: int) -> AsyncIterator[Stream]:
    """A component's stream (XEP-0114). Raises Disconnected or LoginRejected."""
    xmpp = slixmpp.ComponentXMPP(domain, secret, host, port)
    for plugin in ("xep_0030", "xep_0092", "xep_0115", "xep_0199"):
        xmpp.register_plugin(plugin)
    near = host in ("127.0.0.1", "::1", "localhost")
    async with _opened(xmpp, host, port, secure=near, announced=Announcement(xmpp, GATEWAY)) as stream:
        yield stream


@contextlib.asynccontextmanager
async def client(
    jid: str, password: str, *, host: str, port: int, direct: bool, ca_file: Path | None
) -> AsyncIterator[Stream]:
    """An account's stream: TLS with a checked certificate, then SASL. Raises Disconnected or LoginRejected."""
    xmpp = slixmpp.ClientXMPP(jid, password, ssl_context=tls.context(ca_file))
    xmpp.enable_direct_tls = direct
    xmpp.enable_starttls = not direct
    xmpp.enable_plaintext = False
    for plugin in ("xep_0030", "xep_0092", "xep_0115", "xep_0198", "xep_0199"):
        xmpp.register_plugin(plugin)
    # Credentials go over TLS alone; slixmpp takes the strongest SCRAM that both sides know.
    scram.install()
    xmpp.plugin["feature_mechanisms"].unencrypted_scram = False
    announced = Announcement(xmpp, ROBOT)
    async with _opened(xmpp, host or None, port or None, secure=True, announced=announced) as stream:
        yield stream


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


@contextlib.asynccontextmanager
async def _opened(
    xmpp: Any, host: str | None, port: int | None, *, secure: bool, announced: Announcement
) -> AsyncIterator[Stream]:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def fail(error: Exception) -> None:
        if not ready.done():
            ready.set_exception(error)

    def failed(reason: Any) -> None:
        if isinstance(reason, ssl.SSLCertVerificationError):
            fail(Disconnected("The XMPP server's certificate is not to be trusted.", retry_after=300.0))
        elif host:
            fail(Disconnected("The XMPP server cannot be reached."))

    def stream_error(error: Any) -> None:
        match error["condition"]:
            case "not-authorized":
                words = "The XMPP server does not know this component, or the secret is wrong."
                fail(LoginRejected(words, retry_after=UNKNOWN_SECONDS))
            case "conflict":
                fail(Disconnected("Somebody else is connected to the XMPP server under this address."))
            case other:
                fail(Disconnected(f"The XMPP server ended the connection ({str(other).replace('-', ' ')})."))

    # A client is ready when stream management has been agreed on, too.
    usable = "session_start" if xmpp.is_component else "stream_negotiated"
    xmpp.add_event_handler(usable, lambda _: _resolve(ready))
    xmpp.add_event_handler("connection_failed", failed)
    xmpp.add_event_handler("stream_error", stream_error)
    refused = LoginRejected(
        "The XMPP server refused the address or the password.", retry_after=REFUSED_SECONDS
    )
    xmpp.add_event_handler("failed_all_auth", lambda _: fail(refused))
    xmpp.add_event_handler(
        "ssl_invalid_chain",
        lambda _: fail(
            Disconnected("The XMPP server's certificate is not to be trusted.", retry_after=300.0)
        ),
    )
    stream = Stream(xmpp, announced, secure=secure)
    stream.lost.add_done_callback(lambda lost: fail(Disconnected(lost.result())))
    try:
        xmpp.connect(host, port)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await ready
        except TimeoutError:
            raise Disconnected("The XMPP server does not answer.") from None
        yield stream
    finally:
        await stream.close()
        if ready.done() and not ready.cancelled():
            ready.exception()  # seen
