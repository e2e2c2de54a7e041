"""Encrypted messages that could not be opened when they came: tried again, also after the connection was lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, fromstring, tostring

import msgspec

from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Person
from connectors.xmpp.stanzas import heard, translate
from connectors.xmpp.stanzas.heard import Heard
from connectors.xmpp.stanzas.jids import bare

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession

TRIES = (10.0, 60.0, 300.0)
"""Seconds after which a message that could not be opened yet is tried again; a new connection begins a pause anew."""
NEVER = (
    "An encrypted message was said here that the bridge could not open, though it tried: ask its sender to say it "
    "again."
)
MOST = 200
"""Messages of one account that wait for another try over a reconnect; what is more is tried on this one alone."""


class Opened(msgspec.Struct, frozen=True):
    """A message as it can be read. `sealed`: it was encrypted, and is not any more; `why` it still is."""

    stanza: Element
    sealed: bool = False
    why: str = ""
    again: bool = False  # it is tried once more, by itself
    retried: bool = False  # what was told of it before is replaced

    def said(self, first: Heard) -> Heard:
        """What it says; `first` is what it said before: only what has been opened is read anew."""
        if not self.sealed and not self.why:
            return first
        read = heard.read(self.stanza, stamp=first.stamp, sealed=self.sealed, why=self.why)
        return msgspec.structs.replace(read, real=first.real)


Then = Callable[[Opened], None]
Opening = Callable[[list[tuple[Element, str]]], AbstractAsyncContextManager[list[Opened | None]]]


class Closed(msgspec.Struct, frozen=True):
    """A message that waits for another try: what was told of it is `target`, said by `sender` (a bare address)."""

    chat: ChatId
    sender: str
    nick: str
    target: MessageId
    stanza: str
    private: bool
    tried: int = 0


class Reopening:
    """Those of one session; what they are is on disk, as it came, until each has its end."""

    def __init__(self, session: XmppSession, opening: Opening) -> None:
        self._session = session
        self._opening = opening
        self._waiting: set[str] = set()

    def later(self, chat: str, stanza: Element, sender: str, then: Then, *, at: int, name: str = "") -> None:
        """Try it again by itself, and tell `then` what came of it. `at`: when it was said (ms); `name`: what the
        archive calls it."""
        session = self._session
        watch = session.watches.get(chat)
        index = watch.index if watch is not None else session.talk(chat)
        said = heard.read(stanza)
        target = MessageId(name) or index.name(said, PersonId(sender), at)
        raw = tostring(stanza, encoding="unicode")
        closed = Closed(ChatId(chat), sender, said.nick, target, raw, watch is None)
        key = f"{self._prefix}{hashlib.sha256(f'{chat} {target}'.encode()).hexdigest()[:32]}"
        self._keep(key, closed)
        self._session.spawn(self._try(key, closed, then), "xmpp-omemo-retry")

    async def resume(self) -> None:
        """Go on with those whose tries were cut short by the end of a connection, or of the bridge."""
        for key, kept in (await self._session.network.host.items(self._prefix)).items():
            closed = msgspec.json.decode(kept, type=Closed)
            self._waiting.add(key)
            self._session.spawn(self._try(key, closed, self._retelling(closed)), "xmpp-omemo-retry")

    @property
    def _prefix(self) -> str:
        return f"unopened/{bare(self._session.jid)}/"

    def _keep(self, key: str, closed: Closed) -> None:
        if key in self._waiting or len(self._waiting) < MOST:
            self._waiting.add(key)
            self._session.network.host.put_later(key, msgspec.json.encode(closed))

    async def _try(self, key: str, closed: Closed, then: Then) -> None:
        """What was told of it is replaced: by what it says, or by that it stays closed."""
        stanza = fromstring(closed.stanza)
        for tried, seconds in enumerate(TRIES[closed.tried :], closed.tried + 1):
            await asyncio.sleep(seconds)
            async with self._opening([(stanza, closed.sender)]) as found:
                (opened,) = found
                if opened is None or not opened.again:
                    self._end(key, opened, then)
                    return
            self._keep(key, msgspec.structs.replace(closed, tried=tried))
        self._end(key, Opened(stanza, why=NEVER), then)

    def _end(self, key: str, opened: Opened | None, then: Then) -> None:
        try:
            if opened is not None:
                then(msgspec.structs.replace(opened, retried=True))
        except Exception as error:  # what it says is a stranger's
            self._session.network.troubles.met(error)
        self._waiting.discard(key)
        self._session.network.host.put_later(key, None)  # behind what was told

    def _retelling(self, closed: Closed) -> Then:
        """For a session that has not heard it: who said it, and what was told of it, is known from the disk."""
        session = self._session

        def retold(opened: Opened) -> None:
            said = heard.read(opened.stanza, sealed=opened.sealed, why=opened.why)
            mine = closed.sender == bare(session.jid)
            name = closed.nick if not closed.private else closed.sender.partition("@")[0]
            person = session.me if mine else Person(id=PersonId(closed.sender), name=name)
            for fact in translate.reopened(
                said, closed.chat, closed.target, person, session.now(), private=closed.private
            ):
                session.tell(fact)

        return retold
