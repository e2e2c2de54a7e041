"""From lines to facts: the reading half of the connector's translation."""

from __future__ import annotations

import re
from typing import assert_never

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact, Membership
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Member, Person, Role
from bridgekit.contract.policy import Visibility
from connectors.irc.protocol import changes
from connectors.irc.protocol.batches import HISTORY, MULTILINE, SPLITS, Batch
from connectors.irc.protocol.changes import Change
from connectors.irc.protocol.masks import muted, singled_out
from connectors.irc.protocol.outline import OutLine
from connectors.irc.protocol.roll import Channel
from connectors.irc.protocol.stamps import when
from connectors.irc.protocol.standing import role, visibility
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import Line
from connectors.irc.words.explain import cannot_join, explain
from connectors.irc.words.faces import Faces
from connectors.irc.words.format import decode
from connectors.irc.words.hearing import NOTHING, Echo, Heard, Hearing
from connectors.irc.words.identity import View

__all__ = ["Echo", "HistoryEnd", "Reader", "Reading"]

LARGE = 1000
"""Members from which on a channel's list is told once only, after WHO: what is said meanwhile does not wait for it."""
SETTLED = 10 * 60_000
"""So long after a connection's first line (ms) whoever was not seen again is gone, and their names are free."""
# "irc.one.example irc.two.example": what a server says for everybody who was behind the other. People cannot say
# it: servers put "Quit: " before their words.
_SPLIT = re.compile(r"(?=\S*\.)[\w*.:-]+ (?=\S*\.)[\w*.:-]+")


class HistoryEnd(msgspec.Struct, frozen=True, kw_only=True):
    """A chathistory batch is over: how many events it had, and the server-time and the msgid of its last one."""

    target: str
    count: int
    last: str = ""
    last_id: str = ""
    label: str = ""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one line meant. `answers` are CTCP replies to send, rate limited and never urgent.

    `past` is the target whose history this is a part of, "" where it happens now.
    Words of our own come as an echo *and*, if they were not relayed for somebody, as a Message (`own` is the
    login): who sent them through the bridge resolves the echo first, so that the Message is known by its id.
    """

    facts: tuple[Fact, ...] = ()
    answers: tuple[OutLine, ...] = ()
    echoes: tuple[Echo, ...] = ()
    history: HistoryEnd | None = None
    past: str = ""
    changes: tuple[Change, ...] = ()


class Reader:
    """Feeds `state` and `people` line by line and says what happened.

    `login` is whose account this is (None: the relay), which marks own words as `Message.own`. `version` answers
    CTCP VERSION. The session's own comings and goings are no Membership: they open and close the chat.
    """

    def __init__(
        self, state: State, people: View, *, login: LoginId | None = None, version: str = "bridgekit"
    ) -> None:
        self.state = state
        self.people = people
        self.faces = Faces(state, people)
        self.hearing = Hearing(self.faces, login=login, version=version)
        self._started = 0  # when the first line came; -1 once people are settled
        self._open: dict[ChatId, Visibility] = {}  # what was said of the chats that are open
        self._rosters: dict[ChatId, tuple[Member, ...]] = {}  # told after NAMES, until WHO has ended
        self._untold: set[ChatId] = set()  # large ones, whose list was not told since they were named

    def read(self, line: Line, at: int) -> Reading:
        """Take `line` in, received at `at` (ms since the epoch). Raises PeerMisbehaved alone; go on after it."""
        if self._started >= 0:
            self._settle(at)
        batch = self.state.batches.of(line) if "batch" in line.tags else None
        happened = self.state.feed(line)
        told: list[Fact] = []
        heard = NOTHING
        history: HistoryEnd | None = None
        split = batch is not None and batch.within(SPLITS) is not None
        past = batch.within(HISTORY) if batch is not None else None
        for change in happened:
            if isinstance(change, changes.BatchEnded):
                heard, history = self._ended(change.batch, at)
                past = change.batch.within(HISTORY)
            else:
                told += [
                    fact for fact in self._changed(change, when(line, at), split=split) if fact not in told
                ]
        if batch is None or batch.kind != MULTILINE:
            match line.command:
                case "PRIVMSG" | "NOTICE":
                    heard = self.hearing.said(line, at, batch)
                case "TAGMSG":
                    heard = self.hearing.tagged(line, at, batch)
                case "REDACT":
                    heard = self.hearing.redacted(line, at, batch)
                case "INVITE" if past is None:
                    told += self._invite(line, when(line, at))
                case command if command.isdigit():
                    told += self._refused(line, when(line, at))
                case _:
                    pass
        self._count(line, batch)
        if heard.fact is not None:
            told.append(heard.fact)
        return Reading(
            facts=tuple(told),
            answers=(heard.answer,) if heard.answer is not None else (),
            echoes=(heard.echo,) if heard.echo is not None else (),
            history=history,
            past=past.head.param(2) if past is not None else "",
            changes=tuple(happened),
        )

    def is_open(self, chat: ChatId) -> bool:
        """Whether ChatOpened was said of the channel on this connection."""
        return chat in self._open

    def _settle(self, at: int) -> None:
        self._started = self._started or at
        if at - self._started > SETTLED:
            self.people.settle()
            self._started = -1

    # Batches ------------------------------------------------------------------------------------------------

    def _ended(self, batch: Batch, at: int) -> tuple[Heard, HistoryEnd | None]:
        if batch.kind == MULTILINE:
            return self.hearing.multiline(batch, at), None
        if batch.kind in HISTORY:
            end = HistoryEnd(
                target=batch.head.param(2),
                count=batch.count,
                last=batch.last,
                last_id=batch.last_id,
                label=batch.label,
            )
            return NOTHING, end
        return NOTHING, None

    def _count(self, line: Line, batch: Batch | None) -> None:
        """Count an event of a history, as its pages are counted; a message of several lines is one."""
        if batch is not None and batch.kind in HISTORY and line.param(0)[:1] != "-":
            batch.count += 1
            batch.last = line.tags.get("time", batch.last)
            batch.last_id = line.tags.get("msgid", "")

    # Changes ------------------------------------------------------------------------------------------------

    def _changed(self, change: Change, at: int, *, split: bool) -> list[Fact]:
        match change:
            case changes.SupportChanged():
                if "CASEMAPPING" in self.state.support.tokens:  # not every server says it in its first line
                    self.people.set_casemapping(self.state.support.casemapping)
            case changes.Came():
                if change.own:
                    self._open.pop(self._chat(change.channel), None)
                    return []
                person = self.faces.of(change.user)
                return [self._member(change.channel, at, person, facts.Change.JOIN, split=split)]
            case changes.Went():
                return self._went(change, at, split=split)
            case changes.Quit(own=True):
                return []  # the session ends with it
            case changes.Quit():
                person, lost = self.faces.of(change.user), split or bool(_SPLIT.fullmatch(change.reason))
                return [
                    self._member(c, at, person, facts.Change.LEAVE, reason=change.reason, split=lost)
                    for c in change.channels
                ]
            case changes.Renamed():
                self.people.rename(change.old, change.user.nick)
                if change.own:
                    return []
                if not change.channels:
                    return []
                person = self.faces.of(change.user)
                return [
                    facts.Profile(chat=self._chat(c), at=at, person=person, previous=change.old)
                    for c in change.channels
                ]
            case changes.UserChanged():
                person = self.faces.of(change.user)
                if change.what != "account" or self.state.is_me(change.user.nick):
                    return []
                shared = self.state.roll.shared(change.user)
                return [facts.Profile(chat=self._chat(c), at=at, person=person) for c in shared]
            case changes.TopicIs():
                return self._topic(change, at)
            case changes.PrefixChanged():
                return self._role(change, at)
            case changes.MaskChanged():
                return self._mask(change, at)
            case changes.ModesAre():
                return self._modes(change.channel, at)
            case changes.NamesEnded():
                return self._named(change.channel, at)
            case changes.WhoEnded():
                return self._whoed(change.channel, at)
            case changes.Gone():
                self.people.forget(change.nick)
            case changes.Welcomed() | changes.CapsListed() | changes.CapsChanged() | changes.BatchEnded():
                pass
            case _:
                assert_never(change)
        return []

    def _chat(self, channel: Channel) -> ChatId:
        return self.faces.channel(channel.name)

    def _member(
        self, channel: Channel, at: int, person: Person, change: facts.Change, *,
        actor: Person | None = None, reason: str = "", split: bool = False,
    ) -> Membership:  # fmt: skip
        words = decode(reason).body
        return Membership(
            chat=self._chat(channel),
            at=at,
            person=person,
            change=change,
            actor=actor,
            reason=words,
            split=split,
        )

    def _went(self, change: changes.Went, at: int, *, split: bool) -> list[Fact]:
        channel = change.channel
        actor = self.faces.actor(change.actor) if change.kicked else None
        if not change.own:
            how = facts.Change.KICK if change.kicked else facts.Change.LEAVE
            person = self.faces.of(change.user)
            return [self._member(channel, at, person, how, actor=actor, reason=change.reason, split=split)]
        chat = self._chat(channel)
        self._open.pop(chat, None)
        self._rosters.pop(chat, None)
        words = decode(change.reason).body
        if change.kicked:
            by = f" by {actor.name}" if actor is not None else ""
            why = f": {words}" if words and (actor is None or words != actor.name) else ""
            reason = f"{self.state.nick} was put out of {channel.name}{by}{why}"
        else:
            reason = f"{self.state.nick} left {channel.name}."
        return [facts.ChatClosed(chat=chat, at=at, reason=reason, final=not change.kicked)]

    def _topic(self, change: changes.TopicIs, at: int) -> list[Fact]:
        chat = self._chat(change.channel)
        if chat not in self._open:
            return []  # ChatOpened will say it
        actor = self.faces.actor(change.actor) if change.actor else None
        return [facts.Topic(chat=chat, at=at, topic=decode(change.channel.topic or "").body, actor=actor)]

    def _role(self, change: changes.PrefixChanged, at: int) -> list[Fact]:
        channel, user = change.channel, change.user
        if not channel.named or self.state.is_me(user.nick):
            return []
        letters = channel.members.get(self.state.fold(user.nick), "")
        person = self.faces.of(user)
        return [
            facts.RoleChange(
                chat=self._chat(channel),
                at=at,
                person=person,
                role=role(letters),
                actor=self.faces.actor(change.actor),
            )
        ]

    def _mask(self, change: changes.MaskChanged, at: int) -> list[Fact]:
        """A ban is shown as a ban of those present whom its mask singles out, and taken back with the mask."""
        channel = change.channel
        actor = self.faces.actor(change.actor)
        if (quiet := muted(change.letter, change.mask)) is not None:
            return self._quiet(change, quiet, at, actor)
        if change.letter != "b":
            return []
        if not change.added:
            hit = channel.bans.pop(change.mask, ())
            return [
                Membership(
                    chat=self._chat(channel),
                    at=at,
                    person=Person(id=PersonId(id), name=name),
                    change=facts.Change.UNBAN,
                    actor=actor,
                    stands_for=PersonId(owner) if owner else None,
                )
                for id, name, owner in hit
            ]
        users = singled_out(change.mask, channel, self.state)
        persons = [self.faces.of(user) for user in users]
        channel.ban(change.mask, tuple((p.id, p.name, "") for p in persons))
        return [self._member(channel, at, p, facts.Change.BAN, actor=actor) for p in persons]

    def _quiet(self, change: changes.MaskChanged, mask: str, at: int, actor: Person | None) -> list[Fact]:
        """A mask that mutes is shown as the role of those present whom it singles out."""
        channel, key = change.channel, (change.letter, change.mask)
        if change.added:
            persons = [self.faces.of(user) for user in singled_out(mask, channel, self.state)]
            channel.quiet(*key, tuple((p.id, p.name) for p in persons))
            roles = [(person, Role.MUTED) for person in persons]
        else:
            hit = channel.quiets.pop(key, ())
            roles = [
                (Person(id=PersonId(id), name=name), role(channel.members.get(self.state.fold(name), "")))
                for id, name in hit
            ]
        return [
            facts.RoleChange(chat=self._chat(channel), at=at, person=person, role=which, actor=actor)
            for person, which in roles
        ]

    # Opening ------------------------------------------------------------------------------------------------

    def _modes(self, channel: Channel, at: int) -> list[Fact]:
        chat, seen = self._chat(channel), visibility(channel, self.state.support)
        if chat not in self._open:
            return self._opened(channel, at)
        if self._open[chat] == seen:
            return []
        self._open[chat] = seen
        return [facts.ChatVisibility(chat=chat, at=at, visibility=seen)]

    def _opened(self, channel: Channel, at: int, *, without_modes: bool = False) -> list[Fact]:
        """The chat opens once names, topic and modes are known, so that nobody is shown more than they say."""
        chat = self._chat(channel)
        if chat in self._open or not channel.named or (channel.modes is None and not without_modes):
            return []
        seen = self._open[chat] = visibility(channel, self.state.support)
        topic = decode(channel.topic or "").body
        return [
            facts.ChatOpened(chat=chat, at=at, name=channel.name, topic=topic),
            facts.ChatVisibility(chat=chat, at=at, visibility=seen),
        ]

    def _named(self, channel: Channel, at: int) -> list[Fact]:
        if channel.topic is None:
            channel.topic = ""  # RFC 2812 3.2.1: a topic comes before the names; none is not said
        opened = self._opened(channel, at)
        nicks = [
            user.nick for key in channel.members if (user := self.state.users.get(key)) and not user.host
        ]
        if any(self.people.doubtful(nick) for nick in nicks):
            return opened  # WHO brings the proof
        if len(channel.members) > LARGE:
            self._untold.add(self._chat(channel))
            return opened
        roster = self._roster(channel, at)
        self._rosters[roster.chat] = roster.members
        return [*opened, roster]

    def _whoed(self, channel: Channel, at: int) -> list[Fact]:
        opened = self._opened(channel, at, without_modes=True)
        roster = self._roster(channel, at)
        self._untold.discard(roster.chat)
        if self._rosters.pop(roster.chat, None) == roster.members:
            return opened
        return [*opened, roster]

    def overdue(self, channel: Channel, at: int) -> list[Fact]:
        """The list of a large channel, where WHO has not come to an end."""
        if self._chat(channel) not in self._untold or self.state.channel(channel.name) is not channel:
            return []
        return self._whoed(channel, at)

    def _roster(self, channel: Channel, at: int) -> facts.Roster:
        members = tuple(
            Member(person=self.faces.of(user), role=role(letters))
            for key, letters in channel.members.items()
            if (user := self.state.users.get(key)) is not None and not self.state.is_me(user.nick)
        )
        return facts.Roster(chat=self._chat(channel), at=at, members=members)

    # Invitations and refusals -------------------------------------------------------------------------------

    def _invite(self, line: Line, at: int) -> list[Fact]:
        nick, name = line.param(0), line.param(1)
        actor = self.faces.actor(line.source)
        if not nick or not self.state.is_channel(name) or actor is None:
            return []
        chat = self.faces.channel(name)
        if self.state.is_me(nick):
            return [facts.Invitation(chat=chat, at=at, sender=actor, name=name)]
        person = self.faces.person(nick)  # invite-notify
        return [Membership(chat=chat, at=at, person=person, change=facts.Change.INVITE, actor=actor)]

    def _refused(self, line: Line, at: int) -> list[Fact]:
        """A channel that we asked for, are not in, and may not enter."""
        name, final = line.param(1), cannot_join(line)
        if final is None or not self.state.is_channel(name) or self.state.channel(name) is not None:
            return []
        return [
            facts.ChatClosed(chat=self.faces.channel(name), at=at, reason=explain(line, name), final=final)
        ]
