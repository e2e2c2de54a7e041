"""Who is who, and which chat a channel is: nicks and casemappings change, persons and chats do not. One `Identity` for
a network, one `View` of it for each connection."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from bridgekit.contract.ids import ChatId, PersonId
from connectors.irc.protocol import casemap

MAX_REMEMBERED = 10_000
MAX_STRANGERS = 1_000
MAX_CHANNELS = 10_000


class Trace(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What is known of a person: the nick as they write it, and what can prove that it is them."""

    nick: str
    user: str = ""
    host: str = ""
    account: str = ""

    def agrees(self, other: Trace) -> bool:
        """Whether it is the same person beyond the nick: by the account, or by user@host if no account denies it."""
        if self.account and other.account:
            return self.account == other.account
        return bool(self.host) and (self.user, self.host) == (other.user, other.host)


class _Memory(msgspec.Struct, array_like=True):
    people: dict[str, Trace]
    channels: dict[str, str] = {}
    mapping: str = casemap.RFC1459


class Identity:
    """The persons of one network, shared by its connections.

    A person's id is the folded nick at first sight, with `~2`, `~3` ... where that id is in use by somebody else.
    "In use" is what a connection maps now, or a nick that was taken over by a person of another name before a
    connection was lost and may come back with proof.

    A chat's id is its channel's name as it was folded at first, too. Where that depends on the casemapping, the name is
    remembered: a network that folds otherwise now means the same channel.
    """

    def __init__(self) -> None:
        self.mapping = casemap.RFC1459
        self.version = 0  # grows when an export would say something new that matters
        self._views: dict[str, View] = {}
        self._traces: dict[PersonId, Trace] = {}
        self._uses: dict[PersonId, int] = {}  # in how many views
        self._lost: OrderedDict[PersonId, Trace] = OrderedDict()  # remembered, and to be proved
        self._lost_nicks: dict[str, PersonId] = {}
        self._lost_by: dict[PersonId, str] = {}  # the view that had them; "" is an earlier process
        self._channels: dict[str, str] = {}  # chat -> its channel's name, where casemappings differ about it
        self._chats: dict[str, str] = {}  # folded name -> chat, of the same

    def view(self, name: str) -> View:
        """The view of the connection called `name` (unique), a new and empty one each time."""
        self.drop(name)
        view = self._views[name] = View(self, name)
        return view

    def drop(self, name: str) -> None:
        """That connection is lost: what only it saw is remembered, and holds again only with proof."""
        view = self._views.pop(name, None)
        if view is not None:
            for key in list(view._persons):
                view._unmap(key, lost_by=name)

    def chat(self, name: str) -> ChatId:
        """The chat of the channel called `name`."""
        key = self.fold(name)
        known = self._chats.get(key)
        if known is None:
            known = f"{key}~2" if key in self._channels else key  # that id is another channel's
        return ChatId(known)

    def channel(self, chat: str) -> str:
        """The name of a chat's channel, for whoever means it before the network."""
        return self._channels.get(chat, chat)

    def learn(self, name: str) -> None:
        """The network has, or somebody means, a channel that is written so."""
        chat = self.chat(name)
        if chat in self._channels or chat != self.fold(name) or not casemap.is_plain(name):
            if self._channels.get(chat) == name:
                return
            self._channels[chat] = name
            while len(self._channels) > MAX_CHANNELS:
                del self._channels[next(iter(self._channels))]
            self._index()
            self.version += 1

    def keep(self, chat: str) -> None:
        """That chat is there already, and may have been named by another casemapping than today's."""
        if chat not in self._channels and chat != self.fold(chat):
            self._channels[chat] = chat
            self._index()
            self.version += 1

    def _index(self) -> None:
        self._chats = {}
        for chat, name in self._channels.items():
            self._chats.setdefault(self.fold(name), chat)

    def export(self) -> bytes:
        """Everything that must outlive the process, for `Host.put`; bounded in size."""
        people = {str(p): t for p, t in self._lost.items()}
        people |= {str(p): t for p, t in self._traces.items() if self._worth(p, t)}
        kept = dict(list(people.items())[-MAX_REMEMBERED:])
        return msgspec.msgpack.encode(_Memory(kept, self._channels, self.mapping))

    def restore(self, data: bytes) -> None:
        """Take an export back in; one that cannot be read is nothing."""
        try:
            memory = msgspec.msgpack.decode(data, type=_Memory)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._channels = memory.channels | self._channels
        self._index()
        self.set_casemapping(memory.mapping)
        for person, trace in memory.people.items():
            if PersonId(person) not in self._uses:
                self._remember(PersonId(person), trace, "")

    def set_casemapping(self, mapping: str) -> None:
        """Fold by `mapping` from now on, in every view. After rfc8265, ascii is nothing new: a server tells each
        connection ascii first, and the wider one some lines later."""
        mapping = casemap.known(mapping)
        if mapping == self.mapping or (mapping, self.mapping) == (casemap.ASCII, casemap.RFC8265):
            return
        self.mapping = mapping
        self.version += 1
        self._index()
        for view in self._views.values():
            view._refold()
        self._lost_nicks = {self.fold(trace.nick): person for person, trace in self._lost.items()}

    def fold(self, nick: str) -> str:
        """The key of a nick."""
        return casemap.fold(nick, self.mapping)

    def _worth(self, person: PersonId, trace: Trace) -> bool:
        # Somebody under their first name is found again without a memory, unless the account finds them elsewhere
        return person != self.fold(trace.nick) or bool(trace.account) or not casemap.is_plain(trace.nick)

    def _remember(self, person: PersonId, trace: Trace, by: str) -> None:
        if not self._worth(person, trace):
            return
        self._lost_by[person] = by
        self._lost[person] = trace
        self._lost_nicks[self.fold(trace.nick)] = person
        while len(self._lost) > MAX_REMEMBERED:
            self._forget_lost(next(iter(self._lost)))

    def _forget_lost(self, person: PersonId) -> None:
        trace = self._lost.pop(person, None)
        self._lost_by.pop(person, None)
        if trace is not None and self._lost_nicks.get(self.fold(trace.nick)) == person:
            del self._lost_nicks[self.fold(trace.nick)]

    def _recognise(self, key: str, seen: Trace) -> PersonId | None:
        """Whom we lost that proves to be this one: under this nick, or under another with the same account."""
        person = self._lost_nicks.get(key)
        if person is not None and self._lost[person].agrees(seen):
            return person
        if seen.account:
            same = [p for p, trace in self._lost.items() if trace.account == seen.account]
            if len(same) == 1 and same[0] not in self._uses:
                return same[0]
        return None

    def _fresh(self, key: str) -> PersonId:
        """An id for somebody new: the key, or the key with the smallest number that is free."""
        number, person = 1, PersonId(key)
        while person in self._uses or self._reserved(person, key):
            number += 1
            person = PersonId(f"{key}~{number}")
        return person

    def _reserved(self, person: PersonId, key: str) -> bool:
        trace = self._lost.get(person)
        return trace is not None and self.fold(trace.nick) != key


class View:
    """What one connection has seen, as it saw it. Nicks and persons are one to one at every moment."""

    def __init__(self, identity: Identity, name: str) -> None:
        self._identity = identity
        self._name = name
        self._persons: dict[str, PersonId] = {}  # folded nick -> person
        self._nicks: dict[PersonId, str] = {}  # person -> folded nick
        self._strangers: OrderedDict[str, None] = OrderedDict()

    def person(
        self, nick: str, *, user: str = "", host: str = "", account: str | None = None, stranger: bool = False
    ) -> PersonId:
        """Who `nick` is; somebody new at first sight. What is known beside the nick is kept as proof.

        `stranger`: we share no channel, so nobody will tell us when they leave; they are forgotten after a
        thousand others.
        """
        key, whole = self._identity.fold(nick), self._identity
        person = self._persons.get(key)
        seen = Trace(nick, user, host, account or "")
        if person is None:
            person = self._resolve(key, seen)
            self._map(key, person, seen)
        else:
            trace = whole._traces[person]
            if account is None:
                seen = Trace(nick, user or trace.user, host or trace.host, trace.account)
            if seen != trace:
                whole._traces[person] = Trace(nick, user or trace.user, host or trace.host, seen.account)
        if stranger:
            self._strangers[key] = None
            self._strangers.move_to_end(key)
            if len(self._strangers) > MAX_STRANGERS:
                self._unmap(next(iter(self._strangers)))
        elif key in self._strangers:
            del self._strangers[key]
        return person

    def peek(self, nick: str) -> PersonId | None:
        """Who `nick` is, if they have been seen."""
        return self._persons.get(self._identity.fold(nick))

    def past(self, nick: str, *, user: str = "", host: str = "", account: str = "") -> PersonId:
        """Who was called `nick` when something was said that is told again now; nothing is mapped by it.

        The present owner of the nick, unless the accounts say otherwise; else whoever proves to have had it.
        """
        whole, key = self._identity, self._identity.fold(nick)
        seen = Trace(nick, user, host, account)
        person = self._persons.get(key)
        if person is not None:
            now = whole._traces[person].account
            if not now or not account or now == account:
                return person
        first = whole._traces.get(PersonId(key))
        if first is not None and first.agrees(seen):
            return PersonId(key)
        return whole._recognise(key, seen) or whole._fresh(key)

    def doubtful(self, nick: str) -> bool:
        """Whether the nick was a renamed person's before the connection was lost: only proof says who it is."""
        whole, key = self._identity, self._identity.fold(nick)
        return key not in self._persons and key in whole._lost_nicks

    def rename(self, old: str, new: str) -> PersonId:
        """The person called `old` is called `new`. Whoever was called `new` is forgotten."""
        old_key, new_key = self._identity.fold(old), self._identity.fold(new)
        person = self.person(old)
        trace = self._identity._traces[person]
        self._identity._traces[person] = Trace(new, trace.user, trace.host, trace.account)
        if old_key != new_key:
            self._unmap(new_key)
            del self._persons[old_key]
            self._persons[new_key], self._nicks[person] = person, new_key
            self._identity.version += 1
            if old_key in self._strangers:
                del self._strangers[old_key]
                self._strangers[new_key] = None
        return person

    def forget(self, nick: str) -> None:
        """`nick` left all that we share: the name means nothing any more."""
        self._unmap(self._identity.fold(nick))

    def nick(self, person: PersonId) -> str | None:
        """What the person is called now, as they write it.

        What another connection of ours sees counts. A person never seen is called by their id. None where that
        name is somebody else's now, or where the id cannot be a name, so that nothing passes to a stranger.
        """
        whole = self._identity
        seen = whole._traces.get(person)
        if seen is not None:  # by this connection, or by another that knows better
            taken = person not in self._nicks and whole.fold(seen.nick) in self._persons
            return None if taken else seen.nick
        key = whole.fold(person)
        if key != person or "~" in person or not person or key in self._persons:
            return None
        lost = whole._lost.get(person)
        if lost is not None and whole.fold(lost.nick) != key:
            return None  # when last seen, they had another name
        return str(person)

    def chat(self, name: str) -> ChatId:
        """The chat of a channel."""
        return self._identity.chat(name)

    def set_casemapping(self, mapping: str) -> None:
        """Fold by `mapping` from now on; it is the network's, so in every view."""
        self._identity.set_casemapping(mapping)

    def settle(self) -> None:
        """Everything was read after a reconnect: whoever this connection lost, or an earlier process, and who has
        not come back by now, is forgotten; their names are free."""
        for person, by in list(self._identity._lost_by.items()):
            if by in ("", self._name):
                self._identity._forget_lost(person)

    def _resolve(self, key: str, seen: Trace) -> PersonId:
        whole = self._identity
        for other in whole._views.values():
            person = other._persons.get(key)
            if person is not None and other is not self and person not in self._nicks:
                return person  # a nick is one person's at a time, whoever of us sees it
        known = whole._recognise(key, seen)
        return known if known is not None and known not in self._nicks else whole._fresh(key)

    def _map(self, key: str, person: PersonId, seen: Trace) -> None:
        whole = self._identity
        self._persons[key], self._nicks[person] = person, key
        whole._uses[person] = whole._uses.get(person, 0) + 1
        was = whole._traces.get(person) or whole._lost.get(person) or seen
        whole._traces[person] = Trace(
            seen.nick, seen.user or was.user, seen.host or was.host, seen.account or was.account
        )
        whole._forget_lost(person)
        if person != key:
            whole.version += 1

    def _unmap(self, key: str, *, lost_by: str | None = None) -> None:
        whole = self._identity
        person = self._persons.pop(key, None)
        self._strangers.pop(key, None)
        if person is None:
            return
        del self._nicks[person]
        whole._uses[person] -= 1
        if not whole._uses[person]:
            del whole._uses[person]
            trace = whole._traces.pop(person)
            if lost_by is not None:
                whole._remember(person, trace, lost_by)

    def _refold(self) -> None:
        for person, key in list(self._nicks.items()):
            new = self._identity.fold(self._identity._traces[person].nick)
            if new == key:
                continue
            self._unmap_if_other(new, person)
            self._persons.pop(key, None)
            self._persons[new], self._nicks[person] = person, new
            if key in self._strangers:
                del self._strangers[key]
                self._strangers[new] = None

    def _unmap_if_other(self, key: str, person: PersonId) -> None:
        if self._persons.get(key, person) != person:
            self._unmap(key)
