"""What the sessions of one XMPP network share: who of ours is where, what was read last, who may come in when."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host, OwnAccounts
from bridgekit.contract.errors import Disconnected, LoginRejected, MatrixError, RemoteError, SendRejected
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import File, Login, Person
from connectors.xmpp import stream
from connectors.xmpp.config import Mode, Tls, XmppConfig
from connectors.xmpp.contacts import Contacts
from connectors.xmpp.faces import Wanted
from connectors.xmpp.gateway import Gateway
from connectors.xmpp.guests import Guest
from connectors.xmpp.marks import Marks
from connectors.xmpp.places import Place, Places
from connectors.xmpp.portraits import Portraits
from connectors.xmpp.session import XmppSession
from connectors.xmpp.stanzas import bits, compose, explain, wire
from connectors.xmpp.stanzas.heard import Heard
from connectors.xmpp.stanzas.index import Index
from connectors.xmpp.stanzas.jids import bare, domain, local_of, normal
from connectors.xmpp.stanzas.rooms import Presence, Room
from connectors.xmpp.stanzas.wire import make
from connectors.xmpp.stickers import Stickers
from connectors.xmpp.troubles import Troubles
from connectors.xmpp.voices import Voice
from connectors.xmpp.watch import Watch

_ROOM_LABELS = (
    "conference.",
    "muc.",
    "rooms.",
    "chat.",
    "room.",
    "groups.",
    "mix.",
    "channels.",
    "chatrooms.",
)
"""By convention; what is none of them is a room where it was linked, or where the config names its service."""
RELAY_SECONDS = 20.0
PUT_OUT_SECONDS = 3600.0
TOLD_SECONDS = 60.0
"""Who was put out of a room, in the last hour, says nothing there until they have read that, and a minute longer."""
_Sets = list[tuple[MessageId, PersonId, list[str]]]
NO_LOGIN = (
    "To speak on XMPP with an account of your own, give its address and password: "
    "login with jid= and password=."
)


class _Out(msgspec.Struct):
    """One of ours whom a moderator has put out: when, as they read it, and when they read it; seconds of the loop."""

    at: float
    why: str
    told: float | None = None


class XmppNetwork:
    """`contract.Network`, and the sessions' common ground."""

    def __init__(self, config: XmppConfig, host: Host) -> None:
        self.config = config
        self.host = host
        self.marks = Marks(b"")
        self.troubles = Troubles(host.log)
        self.relay: XmppSession | None = None
        self._up = asyncio.Event()
        self.contacts = Contacts(self)
        self.gateway = Gateway(host, config.jid)
        self.stickers = Stickers()
        self.portraits = Portraits(host, self._matrix_user)
        host.opens_files(self._opened_file)
        self._guests: dict[str, Guest] = {}
        self._addresses: dict[str, PersonId] = {}
        self._out: dict[tuple[str, str], _Out] = {}
        self._people: dict[str, Person] = {}
        self._ours: dict[str, dict[str, str]] = {}
        self._coming: dict[str, dict[str, int]] = {}
        self._sessions: set[XmppSession] = set()
        self.places_of_guests = Places(host)
        self._rooms: set[str] = set()
        self._next = 0.0
        self._loaded = False

    # -- contract

    @property
    def asks_first(self) -> bool:
        """What is said to an address arrives there, also without a subscription (RFC 6121, 5.1)."""
        return False

    @property
    def retells(self) -> bool:
        """What comes again bears the time of its delay (XEP-0203), and is a replay."""
        return False

    @property
    def own_accounts(self) -> OwnAccounts:
        """On request: who logs in, or starts a conversation."""
        return OwnAccounts.ON_REQUEST if self.config.own_accounts else OwnAccounts.OFF

    @contextlib.asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[XmppSession | Guest]:
        """Open a session."""
        await self._load()
        if login is not None and not self.config.own_accounts:
            raise LoginRejected(
                "The administrator does not allow accounts of people's own on this XMPP network."
            )
        if self.is_component:
            async with self._guest(login) if login is not None else self._component() as session:
                yield session
            return
        async with self._client(login) as session:
            yield session

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        """`room@conference.example.org` is shared, an address is private; so is somebody in a room: `room@.../nick`."""
        name = name.strip().removeprefix("xmpp:").removesuffix("?join")
        address, slash, nick = name.partition("/")
        if "@" not in address and self.config.rooms and not slash:
            address = f"{address}@{self.config.rooms}"
        jid = normal(address)
        if jid is None or "@" not in jid:
            return None
        if not slash:
            return ChatId(jid), not self.is_room(jid)
        if not self.is_room(jid) or not nick or not nick.isprintable() or len(nick) > 200:
            return None
        watch = self.relay.watches.get(jid) if self.relay is not None else None
        there = watch.room.occupants.get(nick) if watch is not None else None
        return ChatId(there.person if there is not None else f"{jid}/{nick}"), True

    def chat_name(self, chat: ChatId) -> str:
        """The address; somebody in a room by their present nick."""
        room, slash, _ = chat.partition("/")
        if slash and self.relay is not None and (watch := self.relay.watches.get(room)) is not None:
            nick = watch.room.nick_of(PersonId(chat))
            if nick is not None:
                return f"{room}/{nick}"
        return chat

    def whereabouts(self, chat: ChatId) -> str:
        """RFC 5122."""
        return f"xmpp:{chat}"

    def direct(self, person: PersonId) -> ChatId | None:
        """The conversation with a person has the person's id."""
        return ChatId(person)

    def is_service(self, person: PersonId) -> bool:
        """Our server and what is attached to it have addresses without a localpart (RFC 7622, 3.3); so have those of
        strangers, which speak for nobody here."""
        return "@" not in person and f".{person}".endswith(f".{self.server}")

    # -- what the sessions ask

    @property
    def is_component(self) -> bool:
        return self.config.mode is Mode.COMPONENT

    @property
    def server(self) -> str:
        """Who can be asked whether the connection is alive."""
        own = domain(self.config.jid)
        return own.partition(".")[2] or own if self.is_component else own

    def is_room(self, chat: str) -> bool:
        """Whether an address is a room's."""
        if "/" in chat or "@" not in chat:
            return False
        service = domain(chat)
        if self.config.rooms and service == self.config.rooms:
            return True
        return chat in self._rooms or service.startswith(_ROOM_LABELS)

    def address(self, speaker: Person) -> str:
        """The full address under which somebody of another side speaks."""
        self._people.setdefault(speaker.id, speaker)
        address = f"{local_of(speaker.id, speaker.name)}@{domain(self.config.jid)}"
        self._addresses[address] = speaker.id
        return f"{address}/bridge"

    def known(self, owner: PersonId) -> Person:
        """A Matrix user by the name that we last saw."""
        name = owner[1:].partition(":")[0] if owner.startswith("@") else owner
        return self._people.get(owner) or Person(id=owner, name=name)

    def remember(self, room: str, speaker: Person) -> str:
        """The name to show of somebody who speaks in a room."""
        known = self._people.get(speaker.id)
        guest = next((g for g in self._guests.values() if g.login.owner == speaker.id), None)
        if known is None or guest is None or speaker.name != self.known(speaker.id).name:
            self._people[speaker.id] = speaker
        return speaker.name

    def forget(self, room: str) -> None:
        """The room is not ours any more."""
        self.places_of_guests.forget(room)
        self.host.put_later(f"reactions/{room}", None)
        self.host.put_later(f"last/{room}", None)
        self.host.put_later(f"name/{room}", None)

    def guest(self, address: str) -> Guest | None:
        """Who is here under one of a component's addresses."""
        return self._guests.get(address)

    def ours(self, room: str) -> dict[str, str]:
        """Nicks of all our accounts in a room: none of them is a stranger."""
        self._rooms.add(room)
        return self._ours.setdefault(room, {})

    def coming(self, room: str) -> dict[str, int]:
        """Nicks that our accounts ask a room for now, and how many do."""
        return self._coming.setdefault(room, {})

    async def pace(self) -> None:
        """Wait for the time to enter a room."""
        loop = asyncio.get_running_loop()
        start = max(loop.time(), self._next)
        self._next = start + 1.0 / self.config.joins_per_second
        if start > loop.time():
            await asyncio.sleep(start - loop.time())

    async def linked(self) -> list[ChatId]:
        """The rooms that the bridge wants to be in."""
        return await self.host.chats()

    async def places(self, session: XmppSession) -> list[str]:
        """Where a session should be when it starts."""
        if session.login is not None:
            return []
        found = [chat for chat in await self.host.chats() if "/" not in chat]
        self._rooms.update(found)
        return list(found)

    def greet(self, session: XmppSession) -> None:
        """What a new connection does first."""
        if not self.is_component:
            session.stream.send(make("presence", wire.CLIENT))

    async def return_guests(self, session: XmppSession, watch: Watch) -> None:
        """Everybody of ours who was in the room comes back, at a bounded rate."""
        if session.login is not None or not self.is_component:
            return
        room = watch.room
        for place in await self.places_of_guests.of(room.jid):
            speaker, jid = place.speaker, self.address(place.speaker)
            try:
                if not room.joined:
                    continue
                await self.pace()
                self.refuse_who_is_out(room.jid, jid)
                secret = await self.secret(room.jid)
                voice = await session.voices.enter(room, jid, speaker.name, password=secret)
                self.placed(voice, speaker)
            except RemoteError as error:
                self.host.log.info("xmpp_guest_not_back", reason=error.notice)
            finally:
                room.expected.discard(place.nick)
                self.agreed(room.jid, place.nick)

    async def expect_guests(self, room: Room) -> None:
        """Who of ours was in the room when the connection was lost may stand there still, and is no stranger."""
        room.expected = {place.nick for place in await self.places_of_guests.of(room.jid)}

    def placed(self, voice: Voice, speaker: Person) -> None:
        """Somebody of ours is in a room, and comes back into it after an outage, or a restart."""
        self.places_of_guests.put(voice.room.jid, Place(speaker=speaker, nick=voice.nick))
        voice.photo = self.portraits.digest(speaker.id) or ""
        self.portray(voice)

    def renamed(self, voice: Voice) -> None:
        """Somebody of ours has another nick in a room; they come back under that."""
        if (speaker := self._addresses.get(bare(voice.jid))) is not None:
            self.places_of_guests.rename(voice.room.jid, speaker, voice.nick)

    # -- how they look

    def _matrix_user(self, address: str) -> PersonId | None:
        """Who on Matrix speaks under one of a component's addresses."""
        person = self._addresses.get(address)
        return person if person is not None and person.startswith("@") else None

    def portray(self, voice: Voice) -> None:
        """Show how somebody of ours looks now."""
        owner = self._matrix_user(bare(voice.jid))
        if owner is not None and self.relay is not None:
            self.relay.spawn(self._portray(self.relay, voice, owner), "xmpp-portrait")

    async def _portray(self, session: XmppSession, voice: Voice, owner: PersonId) -> None:
        try:
            digest = (await self.portraits.look(owner, again=True)).digest
        except MatrixError as error:
            self.host.log.info("xmpp_portrait_not_had", kind=type(error).__name__)
            return
        if voice.joined and digest != voice.photo:
            voice.photo = digest
            session.stream.send(compose.present(voice.room.jid, voice.asked or voice.nick, voice.jid))

    def left(self, room: str, jid: str) -> None:
        """Somebody of ours is not in the room any more, and does not come back by themselves."""
        if (speaker := self._addresses.get(bare(jid))) is not None:
            self.places_of_guests.remove(room, speaker)

    def agreed(self, room: str, nick: str) -> None:
        """A room has said whether a nick is one of ours."""
        for session in list(self._sessions):
            if (watch := session.watches.get(room)) is not None:
                for fact in watch.room.agreed(nick, session.now()):
                    session.tell(self.named(fact))

    def named(self, fact: Fact) -> Fact:
        """Where it is about one of our own, for whom they speak."""
        if isinstance(fact, facts.Membership) and self.is_component:
            speaker = self._addresses.get(str(fact.person.id))
            return msgspec.structs.replace(fact, stands_for=speaker) if speaker is not None else fact
        return fact

    def fetched_here(self, fact: Fact) -> Fact:
        """Where its file has no address that anybody could open: with who can."""
        if not isinstance(fact, facts.Message | facts.Edit) or fact.content.file is None:
            return fact
        if not fact.content.file.uri.startswith(bits.SCHEME):
            return fact
        file = msgspec.structs.replace(fact.content.file, via=self.host.network)
        return msgspec.structs.replace(fact, content=msgspec.structs.replace(fact.content, file=file))

    @contextlib.asynccontextmanager
    async def _opened_file(self, file: File) -> AsyncIterator[AsyncIterator[bytes]]:
        _, _, reader = bits.asked(file)
        session = self._hearing(reader)
        data = await self.stickers.bytes_of(file, session.stream if session is not None else None)
        yield _whole(data)

    def _hearing(self, address: str) -> XmppSession | None:
        """Whose connection carries one of our addresses."""
        if self.is_component:
            return self.relay
        return next((one for one in self._sessions if bare(one.jid) == bare(address)), None)

    # -- who was put out

    def put_out(self, room: str, jid: str, presence: Presence) -> None:
        """A moderator has put one of ours out: no word that was on its way brings them back."""
        now = asyncio.get_running_loop().time()
        self._out = {key: out for key, out in self._out.items() if now - out.at < PUT_OUT_SECONDS}
        self._out[room, bare(jid)] = _Out(now, explain.put_out(room, presence.actor, presence.reason))
        self.left(room, jid)

    def let_in(self, room: str, jid: str) -> None:
        """They want in themselves."""
        self._out.pop((room, bare(jid)), None)

    def refuse_who_is_out(self, room: str, jid: str) -> None:
        """Raises SendRejected with who put them out, and why.

        Who has read that and speaks a minute later wants in again, and the room decides.
        """
        out, now = self._out.get((room, bare(jid))), asyncio.get_running_loop().time()
        if out is None or now - out.at > PUT_OUT_SECONDS:
            return
        told, out.told = out.told, now if out.told is None else out.told
        if told is None or now - told < TOLD_SECONDS:
            raise SendRejected(out.why)
        del self._out[room, bare(jid)]

    async def recall_place(self, watch: Watch) -> None:
        """How far a room was read before."""
        kept = (await self.host.get(f"last/{watch.room.jid}") or b"").decode("utf-8", "replace")
        at, _, id = kept.partition(" ")
        if at.isdigit():
            watch.placed, watch.last = True, id
            watch.last_at = min(int(at), int(self.host.now() * 1000))

    def keep_places(self, session: XmppSession) -> None:
        """Write down how far rooms were read; a place that is a little old costs nothing but a second look."""
        for room, watch in session.watches.items():
            if watch.moved and session.login is None and (watch.placed or not watch.room.about.archived):
                watch.moved = False
                self.host.put_later(f"last/{room}", f"{watch.last_at} {watch.last}".encode())

    async def recall_reactions(self, chat: str, index: Index) -> None:
        """XEP-0444, 3: who adds one says the others again; a restart must not take those away."""
        if not index.recalled:
            kept = await self.host.get(f"reactions/{chat}")
            index.recall(msgspec.json.decode(kept, type=_Sets) if kept else [])

    def keep_reactions(self, chat: str, index: Index) -> None:
        """Write them down."""
        sets = index.own_sets()
        self.host.put_later(f"reactions/{chat}", msgspec.json.encode(sets) if sets else None)

    async def name_of(self, room: str) -> str:
        """What the room was called when it was last looked at; "" where it never was."""
        return (await self.host.get(f"name/{room}") or b"").decode("utf-8", "replace")

    async def keep_name(self, room: str, name: str) -> None:
        await self.host.put(f"name/{room}", name.encode("utf-8", "replace"))

    async def secret(self, room: str) -> str:
        """The room's password, if it was given one."""
        return (await self.host.get(f"secret/{room}") or b"").decode("utf-8", "replace")

    async def keep_secret(self, room: str, secret: str) -> None:
        await self.host.put(f"secret/{room}", secret.encode())

    def ended(self, session: XmppSession, why: str) -> RemoteError:
        """What the loss of a connection means."""
        return Disconnected(why)

    def route(self, session: XmppSession, chat: ChatId) -> str:
        """Where to write for a private chat. Raises SendRejected."""
        room, slash, _ = chat.partition("/")
        if not slash:
            if normal(chat) is None:
                raise SendRejected("That is no address on XMPP.")
            return chat
        watch = session.watches.get(room)
        found = watch.room.nick_of(PersonId(chat)) if watch is not None else None
        if found is None:
            raise SendRejected("Nobody of that name is in the room now.")
        return f"{room}/{found}"

    # -- what is said to somebody alone

    def private(self, session: XmppSession, said: Heard, watch: Watch | None, *, again: bool = False) -> None:
        """A message to one of our addresses, from a person or from somebody in a room."""
        guest = self._guests.get(bare(said.to)) if self.is_component else None
        relayed = guest is None and (not self.is_component or bare(said.to) == bare(session.jid))
        if said.invites_to:
            invited = facts.Invitation(
                chat=ChatId(said.invites_to),
                at=int(self.host.now() * 1000),
                sender=Person(id=PersonId(said.invited_by), name=said.invited_by.partition("@")[0]),
                name=said.invites_to,
            )
            if guest is not None:
                guest.tell(invited)
            elif relayed:
                session.tell(invited)
            return
        if watch is not None:
            if not said.nick or said.nick in watch.room.ours:
                return
            person = watch.room.person(said)
        else:
            jid = normal(bare(said.sender))
            if jid is None or "@" not in jid or (domain(jid) == domain(session.jid) and self.is_component):
                return
            person = Person(id=PersonId(jid), name=jid.partition("@")[0], account=jid)
        if guest is None and not relayed:
            if said.text is not None:
                session.stream.send(_nobody(said))
            return
        tell = guest.tell if guest is not None else session.tell
        for fact in session.private(said, person, to=said.to, again=again):
            tell(fact)
        if not again and (guest is None or guest.is_heard):
            session.acknowledge(said, said.to)
        if watch is None and said.text is not None:
            session.faces.look(Wanted(ChatId(person.id), person, str(person.id), said.to, "", True, tell))

    # -- inside

    async def _load(self) -> None:
        """The secret under which our messages are known again after a restart, and what is linked."""
        if not self._loaded:
            kept = await self.host.get("marks")
            if kept is None:
                kept = secrets.token_bytes(32)
                await self.host.put("marks", kept)
            self.marks = Marks(kept)
            self._rooms.update(chat for chat in await self.host.chats() if "/" not in chat)
            await self.gateway.load()
            self._loaded = True

    @contextlib.asynccontextmanager
    async def _component(self) -> AsyncIterator[XmppSession]:
        config = self.config
        host, port = config.host or "127.0.0.1", config.port or 5347
        async with stream.component(config.jid, self.config.read_secret(), host, port) as opened:
            self.gateway.serve(opened)
            self.portraits.serve(opened)
            session = XmppSession(self, opened, None, jid=f"bridge@{domain(config.jid)}/bridge")
            await session.sealing.prepare()
            async with self._registered(session):
                yield session

    @contextlib.asynccontextmanager
    async def _client(self, login: Login | None) -> AsyncIterator[XmppSession]:
        config = self.config
        if login is None:
            jid, password, host, port = config.jid, self.config.read_secret(), config.host, config.port
        else:
            fields = login.fields
            jid, password = normal(fields.get("jid", "")) or "", fields.get("password", "")
            if not jid or not password or "@" not in jid:
                raise LoginRejected(NO_LOGIN)
            # The config's address is the config's server: other people's servers are found as DNS says.
            same = domain(jid) == domain(config.jid)
            host, port = (config.host, config.port) if same else ("", 0)
            host = fields.get("server") or host
        direct = config.tls is Tls.DIRECT
        port = port or (5223 if direct else 5222) if host else 0
        opening = stream.client(
            jid, password, host=host, port=port, direct=direct, ca_file=config.tls_ca_file
        )
        async with opening as opened:
            session = XmppSession(self, opened, login, jid=opened.jid)
            await session.sealing.prepare()
            async with self._registered(session):
                yield session

    @contextlib.asynccontextmanager
    async def _registered(self, session: XmppSession) -> AsyncIterator[None]:
        if session.login is None:
            self.relay = session
            self._up.set()
        self._sessions.add(session)
        try:
            yield
        finally:
            self._sessions.discard(session)
            session.lost()
            if self.relay is session:
                self.relay = None
                self._up.clear()

    @contextlib.asynccontextmanager
    async def _guest(self, login: Login) -> AsyncIterator[Guest]:
        try:
            async with asyncio.timeout(RELAY_SECONDS):
                await self._up.wait()
        except TimeoutError:
            raise Disconnected("The bridge is not connected to the XMPP server now.") from None
        if self.relay is None:
            raise Disconnected("The bridge is not connected to the XMPP server now.")
        relay = self.relay
        guest = Guest(self, relay, login)
        address = bare(guest.jid)
        self._guests[address] = guest
        try:
            await self.contacts.appear(relay, guest)
            yield guest
        finally:
            if self._guests.get(address) is guest:
                del self._guests[address]
                await self.contacts.disappear(relay, guest)


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _nobody(said: Heard) -> Element:
    """An address of ours under which nobody is (RFC 6121, 8.5.1)."""
    stanza = make("message", wire.CLIENT, to=said.sender, from_=said.to, id=said.id, type="error")
    error = wire.add(stanza, "error", wire.CLIENT, type="cancel")
    wire.add(error, "service-unavailable", wire.STANZAS)
    return stanza
