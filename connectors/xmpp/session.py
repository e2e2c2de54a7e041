"""One connection at work: it reads what rooms and people say, and notices when it is dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NoReturn
from xml.etree.ElementTree import Element

from bridgekit.contract import facts
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit
from bridgekit.contract.devices import Device, Trust
from bridgekit.contract.errors import Disconnected, RemoteError
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Login, Person
from bridgekit.contract.verbs import Sent, Verb
from connectors.xmpp.account import Account
from connectors.xmpp.deliveries import Deliveries
from connectors.xmpp.faces import Faces, Wanted
from connectors.xmpp.history import History
from connectors.xmpp.reopening import Opened
from connectors.xmpp.saying import Saying
from connectors.xmpp.sealing import Sealing
from connectors.xmpp.stanzas import compose, explain, heard, offers, translate, wire
from connectors.xmpp.stanzas import rooms as muc
from connectors.xmpp.stanzas.heard import Heard
from connectors.xmpp.stanzas.index import Index
from connectors.xmpp.stanzas.jids import bare, domain, resource, unescape
from connectors.xmpp.stanzas.wire import make
from connectors.xmpp.staying import Staying
from connectors.xmpp.stream import Refused, Stream, new_id
from connectors.xmpp.upload import Upload
from connectors.xmpp.voices import Voice, Voices
from connectors.xmpp.watch import Watch

if TYPE_CHECKING:
    from connectors.xmpp.network import XmppNetwork

TICK = 5.0
SILENT = 60.0
"""Seconds without a stanza after which the server, or a room, is asked whether we are still there."""
_CHANGED = frozenset({104, 170, 171, 172, 173, 174})
"""XEP-0045, 10.2.1: what the room is has changed."""


class XmppSession:
    """`contract.Session` over one stream; as a component's relay it also carries the guests."""

    def __init__(self, network: XmppNetwork, stream: Stream, login: Login | None, *, jid: str) -> None:
        self.network = network
        self.login = login
        self.stream = stream
        self.jid = jid  # the full address that reads
        self.deliveries = Deliveries()
        self.voices = Voices(stream.send, network.agreed)
        self.history = History(stream, self.now)
        ours = domain(jid) == domain(network.config.jid)
        self.upload = Upload(
            stream, network.host, trusted=login is None or ours, ca_file=network.config.tls_ca_file
        )
        self.faces = Faces(stream, network.host)
        self.watches: dict[str, Watch] = {}
        self.talks: dict[tuple[str, str], Index] = {}
        self.account = Account(self, login) if login is not None else None
        self.sealing = Sealing(self)
        self.rooms = Staying(self)
        self._saying = Saying(self)
        self._log = network.host.log.bind(login=str(login.id) if login else None)
        self._loop = asyncio.get_running_loop()
        self._emit: Emit = lambda fact: None
        self._tasks: asyncio.TaskGroup | None = None
        self._ending = False

    # -- contract

    @property
    def me(self) -> Person:
        """The account that this session speaks as."""
        name = self.network.config.nick if self.login is None else unescape(self.jid.partition("@")[0])
        return Person(id=PersonId(bare(self.jid)), name=name, account=bare(self.jid), bot=self.login is None)

    def capabilities(self, chat: ChatId) -> Capabilities:
        """What can be done in `chat` now."""
        return self.capabilities_for(chat, own=self.login is not None)

    def capabilities_for(self, chat: ChatId, *, own: bool) -> Capabilities:
        watch = self.watches.get(chat)
        sealed = self.sealing.is_on(chat)
        return compose.capabilities(
            room=self.network.is_room(chat),
            owned=watch is not None and watch.room.is_owned,
            speakers=self.network.is_component and not own,
            archived=watch is not None and watch.room.about.archived and not watch.unreadable,
            certain=watch is not None and watch.is_certain and self.login is None,
            files=bool(self.upload.service) and (own or self.network.is_component or sealed),
            tls=self.stream.secure,
            sealed=sealed,
            own=own,
        )

    async def run(self, emit: Emit) -> None:
        """Read until cancelled; the first thing is to get into the rooms."""
        self._emit = emit
        try:
            async with asyncio.TaskGroup() as self._tasks:
                others = [
                    self._tasks.create_task(self._tend(), name="xmpp-tend"),
                    self._tasks.create_task(self.faces.run(), name="xmpp-faces"),
                    self._tasks.create_task(self.sealing.run(), name="xmpp-sealing"),
                    self._tasks.create_task(self._start(), name="xmpp-start"),
                ]
                try:
                    self.stream.read(self.took, self.asked)
                    why = await asyncio.shield(self.stream.lost)
                    raise self.network.ended(self, why)
                finally:
                    for task in others:
                        task.cancel()
        except BaseExceptionGroup as failed:
            first = _first(failed)
            if isinstance(first, RemoteError) and self.stream.lost.done():
                first = self.network.ended(self, self.stream.lost.result())
            raise first from None
        finally:
            self._tasks = None
            self.lost()

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb; several at once keep their order within a chat."""
        return await self._saying.perform(verb)

    async def devices(self, chat: ChatId) -> list[Device]:
        """The bridge's own device, and those of the people in `chat`. Raises SendRejected."""
        return await self.sealing.devices(chat, self.watches.get(chat))

    async def judge(self, chat: ChatId, fingerprint: str, trust: Trust) -> Device | None:
        """Trust a device of somebody in `chat`, or not. Raises SendRejected."""
        return await self.sealing.judge(chat, fingerprint, trust, self.watches.get(chat))

    @property
    def is_ending(self) -> bool:
        """Whether the connection is gone, or given up."""
        return self._ending or self.stream.lost.done()

    def lost(self) -> None:
        """Nothing more will come. May be called twice."""
        self._ending = True
        self.deliveries.lost()
        self.voices.lost()
        for watch in self.watches.values():
            watch.settled.set()  # who waits for it looks at the connection first
            if watch.entering is not None:
                watch.entering.cancel()
        self.network.keep_places(self)
        if self.account is not None:
            self.account.keep()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Something that goes on beside; it ends with the session."""
        if self._tasks is None:
            work.close()
            return None
        beside = self._beside(work)
        try:
            task = self._tasks.create_task(beside, name=name)
        except RuntimeError:  # it is ending this moment
            beside.close()
            work.close()
            return None
        task.add_done_callback(
            lambda _: work.close()
        )  # a task that is cancelled before it begins begins nothing
        return task

    async def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Most of what goes on beside begins with a stranger's stanza: what breaks in it is its own end alone."""
        try:
            await work
        except RemoteError:
            raise
        except Exception as error:
            self.network.troubles.met(error)

    # -- reading

    def took(self, stanza: Element) -> None:
        """A stanza from the server."""
        try:
            if wire.local(stanza) == "presence":
                self._presence(stanza)
            else:
                self._message(stanza)
        except Exception as error:  # one stanza that we cannot read must not take a thousand rooms down
            self.network.troubles.met(error)

    def asked(self, iq: Element) -> None:
        """Somebody asks us to do something; what a person should know of it is told."""
        try:
            if (offered := offers.read(iq)) is not None:
                self.network.private(self, offered, self.watches.get(bare(offered.sender)))
        except Exception as error:
            self.network.troubles.met(error)

    def _presence(self, stanza: Element) -> None:
        where = bare(stanza.get("from", ""))
        watch = self.watches.get(where)
        if watch is None:
            self.network.contacts.presence(self, stanza)
            return
        presence = muc.read(stanza)
        if presence.said not in ("", "unavailable", "error"):
            return
        voice = self.voices.read(presence, stanza, where)
        if voice is not None and voice.joined:
            self.network.renamed(voice)
        out = voice is not None and not voice.joined and muc.is_put_out(presence)
        if out and voice is not None and (self.login is not None or voice.jid != self.jid):
            self.network.put_out(where, voice.jid, presence)
        if (
            presence.to != self.jid
            or presence.error
            or (201 in presence.codes and voice is not None and not voice.joined)
        ):
            return
        watch.heard_at = self._loop.time()
        watch.comings += 1
        was_in = watch.room.joined
        for fact in watch.room.read_presence(presence, self.now()):
            if isinstance(fact, facts.ChatOpened):
                self.tell(self.rooms.visibility(watch))
            self.tell(self.network.named(fact))
        if watch.room.joined and not was_in:
            self.spawn(self.rooms.settle(watch), "xmpp-settle")
        elif was_in and watch.room.joined:
            self.sealing.weigh(watch)
        elif was_in and voice is not None:
            # A person's own account does not walk back into a room that has put it out.
            final = 301 in presence.codes or presence.destroyed or (out and self.login is not None)
            self.rooms.fell_out(watch, final=final)

    def _message(self, stanza: Element) -> None:
        self.network.stickers.took(stanza)
        if self.history.took(stanza):
            return
        if (
            self.account is not None
            and stanza.get("type") not in ("groupchat", "error")
            and bare(stanza.get("from", "")) not in self.watches
            and self.account.holds(stanza)
        ):
            return
        if self.account is not None and (copied := self.account.carbon(stanza)) is not None:
            self.account.took(copied)
            return
        where = bare(stanza.get("from", ""))
        if stanza.get("type") == "error":
            if not self.deliveries.refused(stanza, where):
                self._log.info("xmpp_error", condition=explain.condition(stanza)[0])
            return
        watch = self.watches.get(where)
        if stanza.get("type") == "groupchat":
            # Every occupant gets a copy; one of ours reads. Of a room that nobody watches (any more), nobody does.
            if watch is not None and stanza.get("to", "") in (self.jid, ""):
                self._room_sent(watch, stanza)
            return
        if watch is not None and not resource(stanza.get("from", "")):
            said = heard.read(stanza)
            if said.codes & _CHANGED:
                self.rooms.look_at(watch)
                return
        sender = bare(stanza.get("from", "")) if watch is None else ""
        self.sealing.take(where, stanza, lambda: sender, lambda opened: self._told_alone(opened, watch))

    def _told_alone(self, opened: Opened, watch: Watch | None) -> None:
        said = heard.read(opened.stanza, sealed=opened.sealed, why=opened.why)
        if said.broken:
            self.network.troubles.met(said.broken)
        if watch is None and not opened.sealed and self.sealing.is_on(bare(said.sender)):
            said = heard.exposed(said)
        self.network.private(self, said, watch, again=opened.retried)

    def _room_sent(self, watch: Watch, stanza: Element) -> None:
        """A room's message: ours is known by its id, what others say may have to be opened first."""
        watch.heard_at = self._loop.time()
        said = watch.dated(heard.read(stanza), self.now())
        if said.codes & _CHANGED and not said.nick:
            self.rooms.look_at(watch)
            return
        if said.nick and watch.is_ours(said):
            name = watch.echoed(said, self.now())
            self.deliveries.arrived(watch.room.jid, said.id or said.origin_id, name)
            return
        self.sealing.take(
            watch.room.jid,
            stanza,
            lambda: watch.sender_of(said),
            lambda opened: self._room_said(watch, opened, opened.said(said)),
        )

    def _room_said(self, watch: Watch, opened: Opened, said: Heard) -> None:
        if said.broken:
            self.network.troubles.met(said.broken)
        if not opened.sealed and said.nick and self.sealing.is_on(watch.room.jid):
            said = heard.exposed(said)
        if opened.retried:
            watch.corrected(said, self.now())
            return
        watch.live(said, self.now())
        there = watch.room.occupants.get(said.nick)
        if there is not None and there.photo and said.text is not None and self.login is None:
            person = Person(id=there.person, name=said.nick)
            self.faces.look(
                Wanted(watch.room.chat, person, said.sender, self.jid, there.photo, False, self.tell)
            )

    def private(
        self, said: Heard, person: Person, *, to: str, own: LoginId | None = None, again: bool = False
    ) -> list[Fact]:
        """What a person said to one of our addresses. `again`: what was told of it is replaced."""
        chat = ChatId(person.id)
        said = heard.dated(said, (bare(self.jid), domain(self.jid)), self.now())
        index = self.talk(chat, ours=bare(to))
        if again:
            return translate.replaced(said, chat, index, person, self.now(), private=True)
        known = index.has(said, person.id, said.stamp or self.now())
        if self.account is not None:
            self.account.noted(said)
        return [] if known else translate.private(said, chat, index, person, self.now(), own=own)

    def talk(self, chat: str, *, ours: str = "") -> Index:
        """What is known of the messages of a conversation with one of our addresses (this session's own)."""
        return self.talks.setdefault((ours or bare(self.jid), ChatId(chat)), Index())

    def acknowledge(self, said: Heard, to: str) -> None:
        """XEP-0184, 5.2: the receipt that was asked for. Called when what was said has been told."""
        if said.wants_receipt and said.id and said.text is not None:
            self.spawn(self._received(said, to), "xmpp-receipt")

    async def _received(self, said: Heard, to: str) -> None:
        await self.network.host.put_all({})  # in order with the facts: they are on disk
        with contextlib.suppress(Disconnected):
            self.stream.send(compose.received(said.sender, to, new_id(), said.id))

    # -- telling

    def tell(self, fact: Fact) -> None:
        """Emit it, if it is this session's to tell: what happens in rooms is the relay's."""
        if self.login is None or fact.private or isinstance(fact, facts.Invitation):
            self._emit(self.network.fetched_here(fact))

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.network.host.now() * 1000)

    async def _start(self) -> None:
        self.network.greet(self)
        self.spawn(self.upload.find(self.jid, self.network.server), "xmpp-upload")
        if self.account is not None:
            self.spawn(self.account.start(), "xmpp-account")
        for chat in await self.network.places(self):
            await self.network.pace()
            self.spawn(self.rooms.enter_at_start(chat), "xmpp-enter")

    # -- keeping things as they should be

    async def _tend(self) -> NoReturn:
        while True:
            await asyncio.sleep(TICK)
            now = self._loop.time()
            if now - self.stream.heard_at > SILENT:
                await self._is_there()
            for watch in list(self.watches.values()):
                if watch.room.joined and now - watch.heard_at > SILENT * 5:
                    await self.rooms.ask_room(watch)
            self._let_go(now)
            self.network.keep_places(self)
            if self.account is not None:
                self.account.keep()

    async def _is_there(self) -> None:
        server = self.network.server
        try:
            ping = compose.ask(server, self.jid, new_id(), make("ping", wire.PING))
            await self.stream.ask(ping, seconds=30.0)
        except Refused:
            pass
        except TimeoutError:
            self.stream.suspect("The XMPP server went silent.")

    def _let_go(self, now: float) -> None:
        """Nobody of ours reads unseen: who was silent for long leaves, and says so."""
        limit = self.network.config.idle_hours * 3600
        for voice in self.voices.all():
            if voice.joined and voice.jid != self.jid and voice.used and now - voice.used > limit:
                self.network.left(voice.room.jid, voice.jid)
                self.voices.leave(voice, "silent for long")

    def reader(self, room: str) -> Voice | None:
        """Our occupant who reads."""
        return self.voices.get(room, self.jid)

    @property
    def domain(self) -> str:
        return domain(self.jid)

    @property
    def resource(self) -> str:
        return resource(self.jid)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The expected failure among several, else the first bug."""
    leaves = [_first(e) if isinstance(e, BaseExceptionGroup) else e for e in group.exceptions]
    return next((e for e in leaves if isinstance(e, RemoteError)), leaves[0])
