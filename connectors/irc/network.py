"""What the sessions of one IRC network share: who is who, who of ours is there, where we were, who may connect."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence

import msgspec

from bridgekit.contract.connector import Host, OwnAccounts
from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected
from bridgekit.contract.facts import Edit, Fact, Message, Reaction, Receipt, Retraction, Typing, Unreaction
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Login
from bridgekit.contract.verbs import Ban, Invite, Kick, SetRole, Unban, Verb
from connectors.irc import puppets
from connectors.irc.config import NICK, IrcConfig, PuppetMode, Server, read_secret
from connectors.irc.connection import opened
from connectors.irc.ident import IdentServer
from connectors.irc.memory import Memory
from connectors.irc.protocol.roll import Channel, without_owner
from connectors.irc.protocol.state import State
from connectors.irc.registering import REJECTED_SECONDS, NoSignIn, Papers, TooMany, register
from connectors.irc.services import Plea
from connectors.irc.session import IrcSession
from connectors.irc.words.compose import OutLine, Settings
from connectors.irc.words.explain import Closing, closing
from connectors.irc.words.faces import is_service
from connectors.irc.words.format import decode
from connectors.irc.words.identity import Identity
from connectors.irc.words.translate import Reader, Reading

MAX_EARLY = 200
KILLED_AGAIN = 600.0
"""An operator who ends a connection twice within so many seconds means it."""
FEWER_FOR = 3600.0
OUTLAWED_SECONDS = 1800.0
"""Seconds until a puppet asks again whether the network has taken back its ban of the bridge."""
SERVICES_AWAY = "The IRC network offers no sign-in for now: its services are away. Signing in is required."
SERVICES_MISSING = (
    "The IRC network offers no sign-in, and signing in is required: its services are away, or it has none."
)
SERVICES_LATER = 60.0
FORGOTTEN_BAN = (
    "A ban in {channel} on IRC that hit them stands. When it is lifted, the room is not told any more: its own ban is "
    "for its moderators to lift."
)

_ACCOUNTS = frozenset({"account-notify", "account-tag", "extended-join", "sasl"})
"""Who offers one of these knows of accounts, so there are services, and their nicks are kept for them."""

_CHANNEL = re.compile(r"[^\s\x00-\x20,\x07]{2,200}")


class IrcNetwork:
    """`contract.Network`, and the sessions' common ground."""

    def __init__(self, config: IrcConfig, host: Host, ident: IdentServer | None) -> None:
        self.config = config
        self.host = host
        self.identity = Identity()
        self.relay: IrcSession | None = None
        self.puppets: dict[LoginId, IrcSession] = {}
        self._called: dict[str, IrcSession] = {}  # puppets by folded nick
        self._said: dict[LoginId, deque[tuple[str, str]]] = {}
        self._ident = ident
        self.memory = Memory(host, self.identity)
        self._server = 0
        self._next_connect = 0.0
        self._connecting: set[LoginId] = set()
        self._killed: dict[LoginId | None, float] = {}
        self._ban = ""  # why the relay is not let in: until it is, none of us goes there
        self._ceiling: tuple[int, float] = (config.puppets.max_connections, 0.0)

    # -- contract

    @property
    def asks_first(self) -> bool:
        """Whoever knows a nick writes to it."""
        return False

    @property
    def retells(self) -> bool:
        """What is not in a history comes once."""
        return False

    @property
    def own_accounts(self) -> OwnAccounts:
        """As the config has it."""
        match self.config.puppets.mode:
            case PuppetMode.OFF:
                return OwnAccounts.OFF
            case PuppetMode.ON_REQUEST:
                return OwnAccounts.ON_REQUEST
            case PuppetMode.AUTO:
                return OwnAccounts.AUTOMATIC

    @contextlib.asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[IrcSession]:
        """Open a session; it is registered, and signed in where that was required, when it is entered."""
        await self.memory.load()
        papers = self._papers(login)
        async with contextlib.AsyncExitStack() as stack:
            if login is not None:
                if self._ban:
                    raise Disconnected(self._ban, retry_after=OUTLAWED_SECONDS)
                await stack.enter_async_context(self._turn(login))
            ident = await self._hold_ident(stack)
            server = self.config.servers[self._server % len(self.config.servers)]
            try:
                session = await stack.enter_async_context(self._session(server, login, papers, ident))
            except Disconnected as error:
                self._server += 1
                self.host.log.info("irc_connect_failed", server=server.address, reason=error.notice)
                raise
            except LoginBanned as error:
                self._outlawed(login, error)
                raise
            yield session

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        """`#chan` is shared, a nick is private."""
        name = name.strip()
        if name[:1] in self._chantypes:
            if not _CHANNEL.fullmatch(name):
                return None
            if self.relay is None or self.relay.state.channel(name) is None:
                self.identity.learn(name)  # as it is meant, until the network says how it is written
            return self.identity.chat(name), False
        if not NICK.fullmatch(name):
            return None
        person = self.relay.people.peek(name) if self.relay is not None else None
        return ChatId(person or self.identity.fold(name)), True

    def chat_name(self, chat: ChatId) -> str:
        """A channel as it writes itself; a person's present nick."""
        name = self.identity.channel(chat)
        if self.relay is not None:
            if (channel := self.relay.state.channel(name)) is not None:
                return channel.name
            if (
                chat[:1] not in self._chantypes
                and (nick := self.relay.people.nick(PersonId(chat))) is not None
            ):
                return nick
        return name if chat[:1] in self._chantypes else chat.partition("~")[0] or chat

    def whereabouts(self, chat: ChatId) -> str:
        """By the name that the network gives itself (RPL_ISUPPORT NETWORK); by the server where it gives none."""
        named = self.relay.state.support.network if self.relay is not None else ""
        server = self.config.servers[0]
        return (
            f"irc:{named or f'{server.host}:{server.port}'}/{self.identity.fold(self.identity.channel(chat))}"
        )

    def direct(self, person: PersonId) -> ChatId | None:
        """The conversation with a person has the person's id."""
        return ChatId(person)

    def is_service(self, person: PersonId) -> bool:
        """NickServ and its kind have nicks that networks keep for them, where there are services at all: where nothing
        says so, anybody may be called NickServ."""
        if self.config.nickserv is not None and person == self.config.nickserv.service.lower():
            return True
        sessions = [self.relay, *self.puppets.values()]
        accounts = any(s is not None and not _ACCOUNTS.isdisjoint(s.state.caps.offered) for s in sessions)
        return accounts and is_service(person)

    # -- what the sessions ask

    def settings(self, secure: bool, login: Login | None) -> Settings:
        """For translation."""
        return Settings(max_lines=self.config.max_lines, relays=login is None, tls=secure)

    async def channels_of(self, session: IrcSession) -> list[tuple[str, str]]:
        """Where the session should be: (channel, key)."""
        if session.login is None:
            chats: Sequence[str] = [chat for chat in await self.host.chats() if chat[:1] in self._chantypes]
            for chat in chats:
                self.identity.keep(chat)
        else:
            chats = self.memory.channels(session.login.id)
        names = [self.identity.channel(chat) for chat in chats]
        return [(name, self.memory.key(name)) for name in names]

    def plea(self, session: IrcSession, *, secure: bool) -> Plea | None:
        """Whom to tell what, to be identified after the welcome; None where nobody is to be told."""
        if session.login is not None:  # signed in by SASL, or the server has none
            fields = session.login.fields
            password = fields.get("password", "")
            if not password or not session.owes or "sasl" in session.state.caps.offered or not secure:
                return None
            account = fields.get("account") or fields.get("nick") or session.state.nick
            return Plea("NickServ", f"IDENTIFY {account} {password}", password)
        nickserv = self.config.nickserv
        if nickserv is None:
            return None
        password = read_secret(nickserv.password)
        # Without an account it is the present nick's; not all services take one, so only where that is another nick
        known_as = "" if session.state.is_me(self.config.nick) else f"{self.config.nick} "
        return Plea(nickserv.service, f"IDENTIFY {known_as}{password}", password) if password else None

    def spoke(self, session: IrcSession, lines: Sequence[OutLine]) -> None:
        """A puppet is about to say this, in case the relay must tell it from what its person says elsewhere."""
        if session.login is None:
            return
        self.memory.keep_spoken(session.login.id, int(self.host.now() * 1000))
        if not session.elsewhere:
            return
        said = self._said.setdefault(session.login.id, deque(maxlen=200))
        for line in lines:
            if line.command in ("PRIVMSG", "NOTICE") and len(line.params) > 1:
                said.append((self.identity.chat(line.params[0]), _words(line.params[1])))

    def from_relay(self, fact: Fact) -> Fact | None:
        """What the relay heard, unless one of our own puppets said it through us."""
        if not isinstance(fact, Message | Edit | Reaction | Unreaction | Retraction | Typing | Receipt):
            return fact
        puppet = self._called.get(self.identity.fold(fact.sender.name))
        if puppet is None or puppet.login is None:
            return fact
        if not puppet.elsewhere or not isinstance(fact, Message):
            return None
        said = self._said.get(puppet.login.id)
        words = (str(fact.chat), fact.content.text.body)
        if said is not None and words in said:
            said.remove(words)
            return None
        return msgspec.structs.replace(fact, own=puppet.login.id)

    def acquaint(self, session: IrcSession, verb: Verb) -> None:
        """Tell a session whom the verb means, where only another one has seen them."""
        wanted = [PersonId(verb.chat)] if not session.state.is_channel(verb.chat) else []
        if isinstance(verb, Invite | Kick | Ban | Unban | SetRole):
            wanted.append(verb.person.id)
        for person in wanted:
            if session.people.nick(person) is None and (nick := self._nick_of(person)) is not None:
                session.people.person(nick, stranger=session.state.known(nick) is None)

    def _nick_of(self, person: PersonId) -> str | None:
        for session in (self.relay, *self.puppets.values()):
            if session is not None:
                nick = session.people.nick(person)
                if nick is not None and session.people.peek(nick) == person:
                    return nick
        return None

    def renamed(self, session: IrcSession) -> None:
        """One of our own has a new nick."""
        if session.login is not None:
            self._called = {nick: s for nick, s in self._called.items() if s is not session}
            self._called[self.identity.fold(session.state.nick)] = session

    def banned(self, channel: Channel, mask: str) -> None:
        """A ban came or went: which people of ours it hit is known for as long as it stands, by whatever connection."""
        if mask in channel.bans:
            channel.bans[mask] = tuple(
                (id, nick, owner or self._owner(nick)) for id, nick, owner in channel.bans[mask]
            )
        ours = tuple(hit for hit in channel.bans.get(mask, ()) if hit[2])
        self.memory.keep_ban(channel.name, mask, ours)

    async def take_leave(self, login: Login) -> None:
        """Nothing is kept of where the account was; of a ban that hit it, the room is to hear when it is lifted."""
        await self.memory.load()
        self.memory.forget_account(login.id)
        await self.host.put_all({})

    async def forget_owner(self, owner: PersonId) -> list[str]:
        """The Matrix user is named in no memory any more; the channels' bans stand."""
        await self.memory.load()
        banned = self.memory.forget_owner(owner)
        for channel in self.relay.state.channels.values() if self.relay is not None else ():
            for mask, hit in channel.bans.items():
                channel.bans[mask] = without_owner(hit, owner)
        await self.host.put_all({})
        return [FORGOTTEN_BAN.format(channel=name) for name in banned]

    def _owner(self, nick: str) -> str:
        puppet = self._called.get(self.identity.fold(nick))
        return str(puppet.login.owner) if puppet is not None and puppet.login is not None else ""

    def ended(
        self, session: IrcSession, error: Disconnected | LoginRejected, words: str
    ) -> Disconnected | LoginRejected:
        """The server closed a session with an ERROR: what that means in the light of what went before."""
        who = session.login.id if session.login else None
        now = self.host.now()
        self._outlawed(session.login, error)
        match closing(words):
            case Closing.KILLED:
                before, self._killed[who] = self._killed.get(who, 0.0), now
                if now - before < KILLED_AGAIN:
                    words = f"IRC operators ended the connection twice; the bridge stays away. {error.notice}"
                    return LoginRejected(words, retry_after=REJECTED_SECONDS)
            case Closing.TOO_MANY:
                self._ceiling = (max(1, len(self.puppets) - 1), now + FEWER_FOR)
            case _:
                pass
        return error

    def _outlawed(self, login: Login | None, error: Disconnected | LoginRejected) -> None:
        if login is None and isinstance(error, LoginBanned):
            self._ban = error.notice

    def tick(self) -> None:
        """Write down what changed, every now and then."""
        if self.relay is not None:
            for channel in self.relay.state.channels.values():
                if channel.key:
                    self.memory.keep_key(channel.name, channel.key)
        for session in (self.relay, *self.puppets.values()):
            if session is not None:
                self.memory.keep_own(session.state.nick, session.login)
        self.memory.tick()

    # -- inside

    @property
    def _chantypes(self) -> str:
        return self.relay.state.support.chantypes if self.relay is not None else "#&"

    def _papers(self, login: Login | None) -> Papers:
        if login is None:
            return puppets.relay_papers(self.config)
        if self.config.puppets.mode is PuppetMode.OFF:
            raise LoginRejected(
                "The administrator does not allow people's own connections to this IRC network."
            )
        password = read_secret(self.config.password)
        services = not self.memory.signs_in  # else it has SASL, and its services are only away
        return puppets.papers_of(login, self.config.puppets, password, services=services)

    @contextlib.asynccontextmanager
    async def _turn(self, login: Login) -> AsyncIterator[None]:
        """A place among the puppets, and the time to connect."""
        most, until = self._ceiling
        if self.host.now() > until:
            most = self.config.puppets.max_connections
        busy = (self.puppets.keys() | self._connecting) - {login.id}
        if len(busy) >= most:
            raise Disconnected(
                "Too many people of this bridge are connected to IRC already.", retry_after=300.0
            )
        self._connecting.add(login.id)
        try:
            loop = asyncio.get_running_loop()
            start = max(loop.time(), self._next_connect)
            self._next_connect = start + 1.0 / self.config.puppets.connects_per_second
            await asyncio.sleep(start - loop.time())
            yield
        finally:
            self._connecting.discard(login.id)

    async def _hold_ident(self, stack: contextlib.AsyncExitStack) -> IdentServer | None:
        if self._ident is None:
            return None
        try:
            return await stack.enter_async_context(self._ident.held())
        except OSError as error:
            self.host.log.error(
                "irc_ident_cannot_listen", address=self.config.ident_listen, reason=error.strerror
            )
            return None

    @contextlib.asynccontextmanager
    async def _session(
        self, server: Server, login: Login | None, papers: Papers, ident: IdentServer | None
    ) -> AsyncIterator[IrcSession]:
        local = puppets.own_address(self.config.puppets, login.owner) if login is not None else None
        name = f"login/{login.id}" if login is not None else "relay"
        async with opened(
            server, encoding=self.config.encoding, local=local, ident=ident, user=papers.username
        ) as connection:
            state = State(papers.nick)
            state.support.nicklen = self.memory.nicklen
            view = self.identity.view(name)
            session: IrcSession | None = None
            try:
                reader = Reader(state, view, login=login.id if login is not None else None)
                early: deque[Reading] = deque(maxlen=MAX_EARLY)
                try:
                    unread, owed = await register(connection, reader, papers, early.append)
                except NoSignIn as error:
                    if not self.memory.signs_in and not state.caps.listed:
                        raise  # a server without capabilities has never had any
                    why = SERVICES_AWAY if self.memory.signs_in else SERVICES_MISSING
                    raise Disconnected(why, retry_after=SERVICES_LATER) from error
                except TooMany:
                    self._ceiling = (max(1, len(self.puppets) - (login is None)), self.host.now() + FEWER_FOR)
                    raise
                session = IrcSession(
                    self, connection, reader, papers, login=login, unread=unread, early=list(early), owed=owed
                )
                self._enter(session)
                yield session
            finally:
                if session is not None:
                    self._leave(session)
                    session.lost()
                    await connection.close(session.farewell())
                self.identity.drop(name)
                self.memory.save()

    def _enter(self, session: IrcSession) -> None:
        self.memory.nicklen = session.state.support.nicklen
        self.memory.keep_own(session.state.nick, session.login)
        if session.state.account and "sasl" in session.state.caps:
            self.memory.keep_signed_in()
        self.memory.save()  # before anything is said under that nick
        if session.login is None:
            self.relay, self._ban = session, ""
        else:
            self.puppets[session.login.id] = session
            self.renamed(session)
        self.host.log.info(
            "irc_connected", nick=session.state.nick, login=session.login.id if session.login else None
        )

    def _leave(self, session: IrcSession) -> None:
        if session.login is None:
            self.relay = None if self.relay is session else self.relay
            return
        if self.puppets.get(session.login.id) is session:
            del self.puppets[session.login.id]
        self._called = {nick: s for nick, s in self._called.items() if s is not session}


def _words(text: str) -> str:
    if text.startswith("\x01ACTION "):
        text = text[8:].rstrip("\x01")
    return decode(text).body
