"""One login's connection at work: it reads, performs, keeps its nick and its channels, and notices when it is dead."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import msgspec

from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit
from bridgekit.contract.errors import (
    Disconnected,
    PeerMisbehaved,
    RateLimited,
    RemoteError,
    SendRejected,
)
from bridgekit.contract.facts import Fact, Invitation, Message
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Login, Person
from bridgekit.contract.verbs import FetchHistory, Join, Leave, MarkRead, Sent, SetTyping, ShowProfile, Verb
from connectors.irc import services, upkeep
from connectors.irc.catchup import CatchUp
from connectors.irc.connection import Connection
from connectors.irc.deliveries import Deliveries
from connectors.irc.flights import NotRelayed
from connectors.irc.flood import Flood, Priority
from connectors.irc.history import History
from connectors.irc.joining import Joining
from connectors.irc.protocol import bouncer
from connectors.irc.protocol.changes import (
    Came,
    CapsChanged,
    CapsListed,
    Change,
    MaskChanged,
    NamesEnded,
    Quit,
    Renamed,
    Went,
)
from connectors.irc.protocol.nicks import wanted_nick
from connectors.irc.protocol.roll import Channel
from connectors.irc.protocol.wire import Line, build, parse
from connectors.irc.registering import Papers, closed, refused
from connectors.irc.services import Services
from connectors.irc.signing_in import Credentials, Outcome, SignIn
from connectors.irc.upkeep import Pulse, Sign, WantedNick, idles
from connectors.irc.words import compose
from connectors.irc.words.saying import unrelayed
from connectors.irc.words.translate import LARGE, Reader, Reading

if TYPE_CHECKING:
    from connectors.irc.network import IrcNetwork

PIPELINE = 64
ANSWER_EVERY = 2.0
"""Seconds between two CTCP answers."""
WHO_LATER = 1.0
"""Seconds after which it is asked who those are who were named in a large channel ..."""
WHO_OVERDUE = 30.0
"""... and after which their list is told without that."""
UNRELAYED = "The bridge may not speak in others' names there: it says who speaks instead."
SOON = 0.01
"""Seconds until something is to be said in another way."""
HEAR_OUT = 1.0
"""Seconds in which a server answers a QUIT; one that does not is dead."""
PLAYBACK_MS = 60_000
"""A bouncer's message that is older than the connection by more than this, and comes soon, is from its buffer."""


class IrcSession:
    """`contract.Session` over one registered connection."""

    def __init__(
        self,
        network: IrcNetwork,
        connection: Connection,
        reader: Reader,
        papers: Papers,
        *,
        login: Login | None,
        unread: list[bytes],
        early: list[Reading],
        owed: Credentials | None = None,
    ) -> None:
        self.login = login
        self.state = reader.state
        self.network = network
        self._connection = connection
        self._reader = reader
        self.people = reader.people
        self._unread = unread
        self._early = early
        self._log = network.host.log.bind(login=str(login.id) if login else None)
        self._loop = asyncio.get_running_loop()
        self._flood = Flood(network.config.flood.limits())
        self._deliveries = Deliveries(self.state, self._flood, connection.write, lambda: connection.alive)
        self._joining = Joining(self.state, self._flood, connection.write)
        self._history = History(self.state, self._deliveries)
        self._catching_up = CatchUp(
            self.state, self._history, network.memory, connection,
            limit=network.config.history_limit, bouncer=lambda: self.elsewhere, log=self._log, offer=self._offer,
            chat=self.people.chat, now=lambda: int(network.host.now() * 1000),
        )  # fmt: skip
        self._tasks: asyncio.TaskGroup | None = None
        self._told: dict[ChatId, Capabilities] = {}  # what can be done, as of `_told_at`
        self._told_at = -1
        self._settings = network.settings(connection.secure, login)
        self._emit: Emit = lambda fact: None
        self._doom: RemoteError | None = None
        self._parting = False
        wanted = wanted_nick(papers.nick, reader.state, suffix=papers.suffix)
        self._wanted = WantedNick(wanted, self.state, partial(self._send, Priority.MODERATION))
        self._pulse = Pulse()
        self._answered = 0.0
        self._since = int(network.host.now() * 1000)
        self._services = Services(partial(self._send, Priority.URGENT), self._log)
        self._owed = owed  # how to sign in as soon as there is somebody to take it
        self._sasl_came = asyncio.Event()
        self._renamed = asyncio.Event()  # to what we want to be called

    # -- contract

    @property
    def me(self) -> Person:
        """The account that this session speaks as, today."""
        nick = self.state.nick
        return Person(
            id=self.people.person(nick), name=nick, account=self.state.account or None, bot=self.login is None
        )

    @property
    def elsewhere(self) -> bool:
        """Whether the person may speak with this account from another client too: there is a bouncer between."""
        return bouncer.offers(self.state.caps.offered)

    @property
    def owes(self) -> bool:
        """Whether nobody took its credentials by SASL yet.

        Whom soju has let in so is not signed in to the network by that, and may find no SASL offered any more: the
        password is the bouncer's, and no business of the network's services.
        """
        return self._owed is not None

    def capabilities(self, chat: ChatId) -> Capabilities:
        """What can be done in `chat` now."""
        if self._told_at != self.state.changes:
            self._told_at = self.state.changes
            self._told.clear()
        found = self._told.get(chat)
        if found is None:  # each verb asks several times: before it is made, and the moment before it goes
            found = compose.capabilities(self.state, chat, self._settings)
            found = msgspec.structs.replace(found, pipeline=PIPELINE)
            self._told[chat] = found
        return found

    async def run(self, emit: Emit) -> None:
        """Read until cancelled; the first thing is to get into the channels."""
        self._emit = emit
        try:
            async with asyncio.TaskGroup() as self._tasks:
                tending = self._tasks.create_task(self._tend(), name="irc-tend")
                starting = self._tasks.create_task(self._start(), name="irc-start")
                try:
                    await self._read()
                finally:
                    self._keep_present()
                    tending.cancel()
                    starting.cancel()
        except BaseExceptionGroup as failed:
            raise _first(failed) from None
        except asyncio.CancelledError:
            self._tasks = None
            await self._hear_out()
            raise
        finally:
            self._tasks = None
            self.lost()

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb; several at once keep their order on the wire."""
        if (name := self.network.identity.channel(verb.chat)) != verb.chat:
            verb = msgspec.structs.replace(verb, chat=ChatId(name))
        match verb:
            case FetchHistory():
                return await self._fetch(verb)
            case Join():
                return await self._join(verb)
        if self.state.is_channel(verb.chat) and self.state.channel(verb.chat) is None:
            match verb:
                case Leave():
                    self._joining.leave(verb.chat)
                    return None
                case SetTyping() | MarkRead() | ShowProfile():
                    return None  # nobody goes into a channel for that
                case _:
                    await self._present(verb.chat)
        if getattr(verb, "speaker", None) is not None and unrelayed(self.state, verb.chat):
            raise RateLimited(UNRELAYED, retry_after=SOON)
        self.network.acquaint(self, verb)
        lines = compose.lines(verb, self.state, self.people, self._settings)
        match verb:
            case Leave():
                self._joining.leave(verb.chat)
            case _ if self.login is not None:
                self.network.spoke(self, lines)
            case _:
                pass
        try:
            return await self._deliveries.deliver(lines)
        except NotRelayed as error:
            if (channel := self.state.channel(verb.chat)) is None:
                raise
            channel.unrelayed = self.state.prefixes(verb.chat, self.state.nick)
            self._told.clear()
            self._log.info("irc_not_relayed", channel=channel.name)
            raise RateLimited(error.notice, retry_after=SOON) from None

    def lost(self) -> None:
        """The connection is gone, or going: every verb that waits gets its fate. May be called twice."""
        self._deliveries.lost()
        self._joining.lost()

    def farewell(self) -> bytes:
        """The last line; nothing where it was said already."""
        if self._parting:
            return b""
        self._parting = True
        return build("QUIT", self.network.config.quit_message)

    # -- reading

    async def _read(self) -> NoReturn:
        for reading in self._early:
            self._take(None, reading)
        self._early = []
        lines = self._unread
        now, parse_line, read, deliveries = self.network.host.now, parse, self._reader.read, self._deliveries
        while True:
            at = int(now() * 1000)
            for raw in lines:
                try:
                    line = parse_line(raw)
                    if line is None or (self.login is not None and self._is_chatter(line)):
                        continue
                    reading = read(line, at)
                except PeerMisbehaved as error:
                    self._log.warning("irc_line_skipped", reason=error.notice)
                    continue
                except Exception:  # one line that we cannot read must not take a thousand channels down
                    self._log.exception("irc_line_broke_us")
                    continue
                ours = deliveries.busy and deliveries.read(line, reading)
                self._take(line, reading, ours=ours)
            await asyncio.sleep(0)
            try:
                lines = await self._connection.lines()
            except Disconnected:
                if self._doom is not None:
                    raise self._doom from None
                raise

    async def _hear_out(self) -> None:
        """Say goodbye and read on until the server hangs up: what people said until then was said to us."""
        self._connection.write(self.farewell())
        with contextlib.suppress(TimeoutError, RemoteError):
            async with asyncio.timeout(HEAR_OUT):
                while True:
                    for raw in await self._connection.lines():
                        with contextlib.suppress(PeerMisbehaved):
                            line = parse(raw)
                            if line is None or line.command == "ERROR" or self.state.is_me(line.nick):
                                continue
                            if self.login is None or not self._is_chatter(line):
                                self._take(line, self._reader.read(line, int(self.network.host.now() * 1000)))

    def _is_chatter(self, line: Line) -> bool:
        """What others say in channels is the relay's to read; a puppet does not even translate it."""
        return (
            line.command in ("PRIVMSG", "NOTICE", "TAGMSG")
            and self.state.is_channel(line.param(0))
            and not self.state.is_me(line.nick)
        )

    def _take(self, line: Line | None, reading: Reading, *, ours: bool = False) -> None:
        facts, past = reading.facts, reading.past
        for echo in reading.echoes if self.login is None else ():
            self._catching_up.echoed(echo, past=past)
        if facts and reading.echoes and (ours or self.login is None):
            for fact in facts if self.login is None else ():
                self._catching_up.passed(fact)
            facts = ()  # the relay speaks for others, and nobody speaks as the relay elsewhere
        if line is not None:
            match line.command:
                case "PING":
                    self._send(Priority.URGENT, build("PONG", *line.params))
                case "ERROR":
                    raise self.network.ended(self, closed(line.param(0)), line.param(0))
                case "FAIL" if line.param(0) == "CHATHISTORY":
                    self._history.refused(line)
                case "PRIVMSG" | "BOUNCER" if bouncer.lost(line, self.state.support.netid):
                    raise Disconnected("The bouncer has lost its own connection to IRC.")
                case "INVITE" if self.state.is_me(line.param(0)):
                    self._joining.invited(line.param(1))
                case "AUTHENTICATE" | "NOTICE" | "900" | "902" | "903" | "904" | "905" | "906" | "907":
                    self._services.read(line)
                case _ if (
                    len(line.command) == 3 and line.command[0] in "45" and not self._joining.refused(line)
                ):
                    facts = ()  # a door that was closed before is still closed
                case _:
                    pass
        for change in reading.changes:
            self._changed(change)
        if reading.history is not None:
            self._history.ended(reading.history)
        for answer in reading.answers:
            if self._loop.time() - self._answered >= ANSWER_EVERY:
                self._answered = self._loop.time()
                self._send(Priority.BACKGROUND, answer.encode())
        for fact in facts:
            told = self._catching_up.turn(fact, past=past)
            if told is not None and self._offer(told) and past and isinstance(told, Message):
                self._history.told(past)

    def _offer(self, fact: Fact) -> bool:
        """Emit it, if it is this session's to tell; says whether it was."""
        if self.login is not None:
            if not fact.private and not isinstance(fact, Invitation):
                return False
        elif self.network.puppets:
            kept = self.network.from_relay(fact)
            if kept is None:
                self._catching_up.passed(fact)
                return False
            fact = kept
        if isinstance(fact, Message) and self._is_playback(fact):
            fact = msgspec.structs.replace(fact, replayed=True)
        if self.login is not None or not isinstance(fact, Message) or fact.private:
            self._emit(fact)
            return True
        is_new = not fact.replayed or not self.network.memory.was_own(fact.sender.name, fact.at)
        if is_new:
            self._emit(fact)
        self.network.memory.keep_seen(fact.chat, fact.at)  # after the fact: what is on disk later says more
        return is_new

    def _is_playback(self, message: Message) -> bool:
        """Whether a bouncer tells what it kept while we were away, with no batch to say so."""
        return (
            message.at < self._since - PLAYBACK_MS
            and not message.replayed
            and self.elsewhere
            and int(self.network.host.now() * 1000) < self._since + 2 * PLAYBACK_MS
        )

    def _changed(self, change: Change) -> None:
        match change:
            case Came(channel=channel, own=True):
                if not self._joining.came(channel.name):
                    self._joining.leave(channel.name)
                    self._send(Priority.MODERATION, build("PART", channel.name, "Sent on to here unasked"))
                    return
                self.network.identity.learn(channel.name)
                if self.login is not None:
                    self.network.memory.keep_channels(self.login.id, came=channel.name)
                elif kept := self.network.memory.bans(channel.name):
                    channel.bans.update(kept)
                    self._send(Priority.BACKGROUND, build("MODE", channel.name, "b"))
                for line in compose.after_join(self.state, channel.name) if self.login is None else ():
                    self._send(Priority(int(line.urgency)), line.encode())
                if (
                    self.login is None
                    and self._tasks is not None
                    and (missed := self._catching_up.came(channel.name, self.people.chat(channel.name)))
                ):
                    self._tasks.create_task(missed, name="irc-history")
            case MaskChanged(channel=channel, letter="b", mask=mask) if self.login is None:
                self.network.banned(channel, mask)
            case NamesEnded(channel=channel) if self.login is None:
                if len(channel.members) <= LARGE or self._tasks is None:
                    self._ask_who(channel)
                else:
                    self._tasks.create_task(self._ask_who_of_many(channel), name="irc-who")
            case Went(channel=channel, own=True):
                self._joining.went(
                    channel.name, f"The bridge is not in {channel.name} on IRC any more.", again=False
                )
                if self.login is not None:
                    self.network.memory.keep_channels(self.login.id, left=channel.name)
            case Renamed(own=True):
                self.network.memory.keep_own(self.state.nick, self.login)
                self.network.renamed(self)
                self._wanted.notice(change)
                if self._wanted.is_ours:
                    self._renamed.set()
            case Quit(own=True, reason=reason):
                # Whoever keeps the socket open behind it (a bouncer, say) has nobody on the network for us.
                raise self.network.ended(self, closed(reason), reason)
            case Renamed() | Quit():
                self._wanted.notice(change)
            case CapsListed() if "sasl" in self.state.caps.offered and "sasl" not in self.state.caps:
                self._connection.write(build("CAP", "REQ", "sasl"))
            case CapsChanged(enabled=enabled) if "sasl" in enabled:
                self._sasl_came.set()
            case CapsChanged(offered=offered) if offered:
                for name in sorted(offered):  # one by one: a NAK is for all that were asked for together
                    self._connection.write(build("CAP", "REQ", name))
            case _:
                pass

    def _ask_who(self, channel: Channel) -> None:
        if self.state.channel(channel.name) is channel:
            for line in compose.after_names(self.state, channel.name):
                self._send(Priority(int(line.urgency)), line.encode())

    async def _ask_who_of_many(self, channel: Channel) -> None:
        """Thousands of answers, and what follows from them, do not come between people and their first words. A server
        may refuse WHO, or take for ever: then it has to do without."""
        await asyncio.sleep(WHO_LATER)
        self._ask_who(channel)
        await asyncio.sleep(WHO_OVERDUE)
        for fact in self._reader.overdue(channel, int(self.network.host.now() * 1000)):
            self._offer(fact)

    def _send(self, priority: Priority, data: bytes) -> None:
        self._flood.submit(partial(self._connection.write, data), priority)

    # -- keeping things as they should be

    async def _start(self) -> None:
        self._sasl_came.clear()  # what came before the welcome was tried there
        answered = await self._identify()
        channels = await self.network.channels_of(self)
        self._joining.want(channels)
        while True:
            while not answered:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(services.AGAIN):
                        await self._sasl_came.wait()
                self._sasl_came.clear()
                answered = await (self._sign_in() if "sasl" in self.state.caps else self._identify())
            if self.state.account:
                self._wanted.identified()
            self._joining.identified()
            await self._renamed.wait()
            self._renamed.clear()
            answered = await self._identify()

    async def _identify(self) -> bool:
        """False where the services are away."""
        if self.state.account:
            return True
        if (plea := self.network.plea(self, secure=self._connection.secure)) is not None:
            return await self._services.identify(plea)
        if (
            self._owed is not None and "sasl" not in self.state.caps
        ):  # not every server says by itself that its services are back
            self._send(Priority.BACKGROUND, build("CAP", "LS", "302"))
        return self._owed is None

    async def _sign_in(self) -> bool:
        """False where the services are away. Raises LoginRejected where that was required, and refused."""
        if self._owed is None or self.state.account:
            return await self._identify()
        attempt = SignIn(
            self._owed, self.state.nick, self.state, secure=self._connection.secure,
            send=lambda *words: self._send(Priority.URGENT, build(*words)),
        )  # fmt: skip
        match outcome := await self._services.sign_in(attempt):
            case Outcome.AWAY:
                return False
            case Outcome.SIGNED_IN:
                self._log.info("irc_identified", service="SASL")
                self.network.memory.keep_signed_in()
            case _:
                self._log.warning("irc_not_identified", service="SASL", answer=outcome.value)
                if self._owed.required:
                    raise refused(outcome, self._owed)
        self._owed = None
        return True

    async def _tend(self) -> None:
        settles_at = self._loop.time() + upkeep.SETTLED
        while True:
            await asyncio.sleep(upkeep.TICK)
            now = self._loop.time()
            match self._pulse.feel(now, self._connection.heard_at):
                case Sign.DEAD:
                    self._doom = Disconnected("The IRC server went silent.")
                    await self._connection.close()
                    return
                case Sign.ASK:
                    self._send(Priority.URGENT, build("PING", "alive"))
                case Sign.ALIVE:
                    pass
            if now > settles_at:
                settles_at = float("inf")
                self.people.settle()
            self._wanted.tick()
            self._joining.tick()
            self._part_if_idle()
            self._keep_present()
            self.network.tick()

    def _keep_present(self) -> None:
        if self.login is None:
            ago = self._loop.time() - self._connection.heard_at
            self.network.memory.keep_present(int((self.network.host.now() - ago) * 1000))

    def _part_if_idle(self) -> None:
        """A puppet that is let go does not leave its owner reading unseen."""
        config, now = self.network.config.puppets, int(self.network.host.now() * 1000)
        if self.login is None or not idles(config, self.network.memory.spoken(self.login.id), now):
            return
        for channel in list(self.state.channels.values()):
            self._joining.leave(channel.name)
            self._send(
                Priority.BACKGROUND, build("PART", channel.name, f"Silent for {config.idle_days} days")
            )

    # -- verbs that are more than lines

    async def _join(self, verb: Join) -> Sent | None:
        if self.login is None:
            await self._joining.begun()
        key = verb.secret or self.network.memory.key(verb.chat)
        line = compose.lines(verb, self.state, self.people, self._settings, key=key)[0]
        await self._joining.join(line.params[0], key)
        if verb.secret:
            self.network.memory.keep_key(verb.chat, verb.secret)
        return None

    async def _present(self, chat: ChatId) -> None:
        """Be in the channel: the relay waits for a join that is under way, a puppet goes there by itself."""
        if self.login is None:
            await self._joining.ready(chat)
        else:
            await self._joining.join(chat, self.network.memory.key(chat))

    async def _fetch(self, verb: FetchHistory) -> Sent:
        target: str | None = verb.chat
        if not self.state.is_channel(verb.chat):
            target = self.people.nick(verb.chat)  # type: ignore[arg-type]
        if target is None:
            raise SendRejected("Nobody on IRC is called that now.")
        if (
            self.state.channel(verb.chat) is not None
        ):  # who asks for the past may have missed who came and went too
            self._send(Priority.BACKGROUND, build("NAMES", target))
        fetched = await self._history.fetch(target, since=verb.since, limit=verb.limit)
        return Sent(note=f"{fetched.told} messages")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The expected failure among several, else the first bug."""
    leaves = [_first(e) if isinstance(e, BaseExceptionGroup) else e for e in group.exceptions]
    return next((e for e in leaves if isinstance(e, RemoteError)), leaves[0])
