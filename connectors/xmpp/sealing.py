"""Which chats of one account are encrypted (OMEMO), and messages on their way through that: in order, chat by chat."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from bridgekit.contract import facts
from bridgekit.contract.devices import Device, Trust
from bridgekit.contract.errors import RemoteError, SendRejected
from bridgekit.contract.ids import ChatId
from connectors.xmpp.history import Archived
from connectors.xmpp.reopening import Opened, Reopening, Then
from connectors.xmpp.stanzas import compose, heard, wire
from connectors.xmpp.stanzas.jids import bare
from connectors.xmpp.stanzas.wire import add, children, find, make
from connectors.xmpp.stream import Refused, Stream, new_id
from connectors.xmpp.watch import Watch

if TYPE_CHECKING:
    from connectors.xmpp.session import XmppSession

MISSING = "OMEMO needs the package slixmpp-omemo, which is not installed: pip install 'slixmpp-omemo>=2.2'."
MEMBERS_SECONDS = 60.0
ASKED_SECONDS = 300.0
"""How long it is believed that somebody has no device; whoever says something encrypted has one."""
PAUSE = 10.0
"""Seconds in which nothing is said where encryption has just ended: what is on its way was meant to be encrypted."""


class Members:
    """Who belongs to a room, whether they are there or not (XEP-0045, 9.5 and the lists beside it)."""

    def __init__(self, stream: Stream, me: str) -> None:
        self._stream = stream
        self._me = me
        self._known: dict[str, tuple[float, int, frozenset[str]]] = {}

    async def of(self, watch: Watch) -> frozenset[str]:
        """Bare addresses, without our own."""
        now = asyncio.get_running_loop().time()
        known = self._known.get(watch.room.jid)
        if known is not None and known[0] > now and known[1] == watch.comings:
            return known[2]
        comings = watch.comings
        found = {one.jid for one in watch.room.occupants.values() if one.jid}
        for affiliation in ("owner", "admin", "member"):
            query = make("query", wire.MUC_ADMIN)
            add(query, "item", wire.MUC_ADMIN, affiliation=affiliation)
            with suppress(Refused, TimeoutError):  # a list that is not shown to us
                answer = await self._stream.ask(compose.ask(watch.room.jid, self._me, new_id(), query))
                items = children(find(answer, wire.MUC_ADMIN, "query"), wire.MUC_ADMIN, "item")
                found |= {bare(item.get("jid", "")) for item in items}
        people = frozenset(found - {bare(self._me), ""})
        self._known[watch.room.jid] = now + MEMBERS_SECONDS, comings, people
        return people


class Sealing:
    """The encryption of one session; without a device of its own it lets everything through as it is."""

    def __init__(self, session: XmppSession) -> None:
        self._session = session
        self._possible = False  # its libraries are installed, and this is an account
        self._device: Any = None  # connectors.xmpp.omemo.Omemo, as long as the session is read
        self._ready = asyncio.Event()  # there is a device, or there will be none
        self._members = Members(session.stream, session.jid)
        self._on: dict[str, bool] = {}
        self._ended: dict[str, float] = {}
        self._looking: set[str] = set()
        self._asked: dict[str, float] = {}  # when somebody was found to have no device
        self._queue: asyncio.Queue[tuple[str, Element, Callable[[], str], Then]] = asyncio.Queue()
        self._waiting: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self.reopening = Reopening(session, self.opening)
        self.missing = ""  # why there is no device: a sentence

    # The device ----------------------------------------------------------------------------------------------

    @property
    def _host(self) -> Any:
        return self._session.network.host

    def _key(self, chat: str) -> str:
        return f"sealed/{bare(self._session.jid)}/{chat}"

    async def prepare(self) -> None:
        """Before the first stanza: what was encrypted in the last run still is."""
        if self._session.network.is_component:
            self.missing = "A gateway is nobody's device: an account (mode client) would be one."
            return
        if find_spec("slixmpp_omemo") is None:
            self.missing = MISSING
            self._host.log.info("xmpp_omemo_missing", why=MISSING)
            return
        self._possible = True
        prefix = self._key("")
        self._on = {key.removeprefix(prefix): True for key in await self._host.items(prefix)}

    async def run(self) -> None:
        """Open what is encrypted, one after the other, until cancelled."""
        if not self._possible:
            self._ready.set()
            return
        # It reads schemas for seconds when it is loaded: nobody else waits for that.
        omemo: Any = await asyncio.to_thread(import_module, "connectors.xmpp.omemo")
        self._device = omemo.Omemo(self._session.stream, self._host, self._session.jid)
        try:
            try:
                await self._device.start()
            except RemoteError as lost:
                self.missing = lost.notice
            except Exception as error:  # no PEP there, no answer: the library has many words for that
                self._host.log.warning("xmpp_omemo_not_ready", kind=type(error).__name__)
                self.missing = (
                    "The XMPP server keeps no keys for the bridge's account (PEP): OMEMO is not possible."
                )
            self._ready.set()
            if not self.missing:
                await self.reopening.resume()
            while True:
                await self._next()
        finally:
            await self._device.stop()

    async def _next(self) -> None:
        chat, stanza, sender, then = await self._queue.get()
        try:
            if is_sealed(stanza):
                async with self.opening([(stanza, sender())]) as found:
                    for opened in filter(None, found):
                        self._told(then, opened)
                        if opened.sealed and not self._on.get(chat):
                            self.ask_anew(chat)
                            self._session.spawn(self._look_beside(chat), "xmpp-omemo-look")
                        if opened.again:
                            self.reopening.later(chat, stanza, sender(), then, at=self._session.now())
            else:
                self._told(then, Opened(stanza))
        finally:
            self._waiting[chat] -= 1
            if not self._waiting[chat]:
                del self._waiting[chat]

    def _told(self, then: Then, opened: Opened) -> None:
        try:
            then(opened)
        except Exception as error:  # one stanza that we cannot read must not stop what comes behind it
            self._session.network.troubles.met(error)

    # In --------------------------------------------------------------------------------------------------------

    def take(self, chat: str, stanza: Element, sender: Callable[[], str], then: Then) -> None:
        """Hand a message of `chat` on in clear; what came behind one that is being opened waits for it."""
        if not self._possible or (not is_sealed(stanza) and not self._waiting[chat]):
            then(Opened(stanza))
            return
        self._waiting[chat] += 1
        self._queue.put_nowait((chat, stanza, sender, then))

    @asynccontextmanager
    async def opening(self, messages: list[tuple[Element, str]]) -> AsyncIterator[list[Opened | None]]:
        """Messages with their senders' bare addresses, in clear; None for what only moved keys on.

        What is emitted while the block lasts is on disk before the keys have moved on.
        """
        if not self._possible or not any(is_sealed(stanza) for stanza, _ in messages):
            yield [Opened(stanza) for stanza, _ in messages]
            return
        await self._ready.wait()
        async with self._device.opening():
            yield [await self._opened(stanza, sender) for stanza, sender in messages]

    @asynccontextmanager
    async def page(self, watch: Watch, found: list[Archived]) -> AsyncIterator[list[Archived]]:
        """The same for what a room's archive told; what was handed on before can be opened no more, and stays."""
        new = [one for one in found if watch.is_new(one)]
        senders = [(one.message, watch.sender_of(one.said)) for one in new]
        async with self.opening(senders) as opened:
            clear = {one.id: it for one, it in zip(new, opened, strict=True)}
            for one, it in zip(new, opened, strict=True):
                if it is not None and it.again:
                    self._retry_archived(watch, one)
            yield [
                self._shown(watch.room.jid, one, clear.get(one.id))
                for one in found
                if clear.get(one.id, one) is not None
            ]

    def _retry_archived(self, watch: Watch, one: Archived) -> None:
        def then(opened: Opened) -> None:
            watch.corrected(opened.said(one.said), self._session.now())

        sender = watch.sender_of(one.said)
        self.reopening.later(watch.room.jid, one.message, sender, then, at=one.at, name=one.id)

    def _shown(self, chat: str, one: Archived, opened: Opened | None) -> Archived:
        """An archived message in clear, if it has been opened, and marked if there was nothing to open."""
        if opened is not None:
            one = one._replace(message=opened.stanza, said=opened.said(one.said))
        if (opened is not None and opened.sealed) or not one.said.nick or not self.is_on(chat):
            return one
        return one._replace(said=heard.exposed(one.said))

    async def _opened(self, stanza: Element, sender: str) -> Opened | None:
        from connectors.xmpp.omemo import Unopened

        if not is_sealed(stanza):
            return Opened(stanza)
        try:
            clear = await self._device.open(stanza, sender)
        except Unopened as closed:
            if self.missing:
                return Opened(stanza)
            return Opened(stanza, why=closed.why, again=closed.again)
        return Opened(clear, sealed=True) if clear is not None else None

    # Which chats are encrypted ---------------------------------------------------------------------------------

    def is_on(self, chat: str) -> bool:
        """Whether what is said in `chat` is encrypted, both ways. Who was not asked about yet is asked about now."""
        if chat not in self._on and self._possible and not self._session.network.is_room(chat):
            self._session.spawn(self._look_beside(chat), "xmpp-omemo-look")
        return self._on.get(chat, False)

    async def _look_beside(self, chat: str) -> None:
        if chat not in self._looking:
            self._looking.add(chat)
            try:
                await self.look(chat, self._session.watches.get(chat))
            except SendRejected:
                pass
            finally:
                self._looking.discard(chat)

    async def look(self, chat: str, watch: Watch | None) -> frozenset[str]:
        """Find out whether `chat` is encrypted now, and tell if that is new; whom it is encrypted to.

        A person's is as soon as they have a device. A room is if only members come in, everybody's address is shown
        and each of them has a device; from then on until it is opened or hides addresses.
        """
        if not self._possible:
            return frozenset()
        await self._ready.wait()
        if self.missing:
            return frozenset()
        people: frozenset[str] = frozenset()
        if self._loop.time() - self._asked.get(chat, -ASKED_SECONDS) < ASKED_SECONDS:
            return people
        if watch is None:
            people = frozenset({bare(chat)}) if "/" not in chat else frozenset()
            on = bool(people) and await self._have_devices(people)
        else:
            on = self._fits(watch)
            if on:
                people = await self._members.of(watch)
                on = self._on.get(chat, False) or (bool(people) and await self._have_devices(people))
        if on is not self._on.get(chat, False):
            self._on[chat] = on
            if not on:
                self._ended[chat] = self._loop.time()
            await self._host.put(self._key(chat), b"1" if on else None)
            self._host.log.info("xmpp_omemo", on=on, room=watch is not None)
            if (watch is None and self._session.login is not None) or (
                watch is not None and watch.room.joined
            ):
                name = watch.room.name if watch is not None else chat
                self._session.tell(
                    facts.ChatOpened(
                        chat=ChatId(chat), at=self._session.now(), private=watch is None, name=name
                    )
                )
        self._on.setdefault(chat, on)
        if not on:
            self._asked[chat] = self._loop.time()
        return people if on else frozenset()

    def ask_anew(self, chat: str) -> None:
        """Something has happened that may change whether `chat` is encrypted."""
        self._asked.pop(chat, None)

    def weigh(self, watch: Watch) -> None:
        """A room's people or its configuration have changed."""
        if self._possible and self._fits(watch) is not self._on.get(watch.room.jid, False):
            self.ask_anew(watch.room.jid)
            self._session.spawn(self._look_beside(watch.room.jid), "xmpp-omemo-look")

    @staticmethod
    def _fits(watch: Watch) -> bool:
        """Whether a room lets nobody in unasked, and shows everybody's address (XEP-0384, 6)."""
        return {"muc_membersonly", "muc_nonanonymous"} <= watch.room.about.features

    async def _have_devices(self, people: frozenset[str]) -> bool:
        for person in sorted(people):
            try:
                if not await self._device.has_devices(person):
                    return False
            except RemoteError:
                raise
            except Exception as error:  # their server does not tell, in the library's many words
                self._host.log.info("xmpp_omemo_not_told", kind=type(error).__name__)
                return False
        return True

    # Out -------------------------------------------------------------------------------------------------------

    async def seal(self, chat: str, stanza: Element, watch: Watch | None) -> Element:
        """The message as it goes out. Raises SendRejected where it must not go out as it is."""
        was_on = self._on.get(chat, False)
        people = await self.look(chat, watch)
        if was_on and self.missing:
            raise SendRejected(f"It was not sent, because it cannot be encrypted now. {self.missing}")
        if not people:
            if was_on or self._loop.time() - self._ended.get(chat, -PAUSE) < PAUSE:
                raise SendRejected(
                    f"It was not sent: {chat} is not encrypted any more since a moment ago. Say it again if it may go "
                    "there all the same."
                )
            return stanza
        if find(stanza, wire.REACTIONS, "reactions") is not None:
            raise SendRejected("A reaction cannot be encrypted on XMPP.")
        if wire.core(stanza, "body") is None or find(stanza, wire.RETRACT, "retract") is not None:
            return stanza  # it names a message and says nothing
        sealed: Element = await self._device.seal(stanza, people)
        return sealed

    # For people ------------------------------------------------------------------------------------------------

    async def devices(self, chat: str, watch: Watch | None) -> list[Device]:
        """See `contract.KeepsDevices`."""
        people = await self._people(chat, watch)
        await self.look(chat, watch)
        found: list[Device] = await self._device.devices(people)
        return found

    async def judge(self, chat: str, fingerprint: str, trust: Trust, watch: Watch | None) -> Device | None:
        """See `contract.KeepsDevices`."""
        people = await self._people(chat, watch)
        found: Device | None = await self._device.judge(people, fingerprint, trust)
        return found

    async def _people(self, chat: str, watch: Watch | None) -> frozenset[str]:
        if self._possible:
            await self._ready.wait()
        if self.missing:
            raise SendRejected(self.missing)
        if watch is not None:
            return await self._members.of(watch)
        return frozenset({bare(chat)}) if "/" not in chat else frozenset()


def is_sealed(stanza: Element) -> bool:
    """Whether a message is encrypted with OMEMO."""
    return any(find(stanza, xmlns, "encrypted") is not None for xmlns in wire.OMEMO)
