"""The book of channels and of the people in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridgekit.contract.errors import PeerMisbehaved
from connectors.irc.protocol import casemap

MAX_CHANNELS = 5_000
MAX_MEMBERSHIPS = 300_000
MAX_BANS = 1_000

Hit = tuple[str, str, str]
"""Whom a ban mask hit: the person's id, their nick, and the Matrix user whose own connection that is, or ""."""


def without_owner(hit: tuple[Hit, ...], owner: str) -> tuple[Hit, ...]:
    """Those of them who are nobody of this Matrix user's."""
    return tuple(one for one in hit if one[2] != owner)


@dataclass(slots=True, eq=False)
class User:
    """Somebody we share a channel with. "" and None are unknown; `account` "" is logged out."""

    nick: str
    user: str = ""
    host: str = ""
    account: str | None = None
    realname: str = ""
    away: bool = False
    bot: bool = False
    channels: set[str] = field(default_factory=set)  # folded names

    @property
    def source(self) -> str:
        """nick!user@host, or the nick alone."""
        return f"{self.nick}!{self.user}@{self.host}" if self.user and self.host else self.nick


@dataclass(slots=True, eq=False)
class Channel:
    """A channel that we are in, or were until this line. `modes` and `topic` are None until they are known."""

    name: str
    members: dict[str, str] = field(default_factory=dict)  # folded nick -> mode letters, the highest first
    topic: str | None = None
    modes: dict[str, str] | None = None  # letter -> parameter, "" where there is none
    key: str = ""
    named: bool = False  # NAMES came to its end
    naming: dict[str, str] | None = None  # what NAMES has said so far
    unrelayed: str | None = None  # the mode letters that we had when RELAYMSG was refused here
    bans: dict[str, tuple[Hit, ...]] = field(default_factory=dict)  # mask -> whom it hit
    listed: set[str] = field(default_factory=set)  # those of them that the ban list has named so far
    # (letter, mask) of who may not speak -> whom it hit
    quiets: dict[tuple[str, str], tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def ban(self, mask: str, hit: tuple[Hit, ...]) -> None:
        """Remember whom a ban mask hit; the oldest masks go after a thousand."""
        self.bans.pop(mask, None)
        self.bans[mask] = hit
        if len(self.bans) > MAX_BANS:
            del self.bans[next(iter(self.bans))]

    def quiet(self, letter: str, mask: str, hit: tuple[tuple[str, str], ...]) -> None:
        """The same of a mask that mutes."""
        self.quiets.pop((letter, mask), None)
        self.quiets[letter, mask] = hit
        if len(self.quiets) > MAX_BANS:
            del self.quiets[next(iter(self.quiets))]


class Roll:
    """Channels and users by folded name. A user is in the book exactly while one of the channels has them."""

    def __init__(self) -> None:
        self.mapping = casemap.RFC1459
        self.channels: dict[str, Channel] = {}
        self.users: dict[str, User] = {}
        self._memberships = 0

    def fold(self, name: str) -> str:
        """The key of a nick or a channel."""
        return casemap.fold(name, self.mapping)

    def channel(self, name: str) -> Channel | None:
        """The channel, if we are in it."""
        return self.channels.get(self.fold(name))

    def known(self, nick: str) -> User | None:
        """The user, if we share a channel."""
        return self.users.get(self.fold(nick))

    def shared(self, user: User) -> tuple[Channel, ...]:
        """The channels that we share with the user, in the order of their names."""
        return tuple(self.channels[key] for key in sorted(user.channels) if key in self.channels)

    def open(self, name: str) -> tuple[Channel, list[str]]:
        """We are in the channel from now on; it is new and empty. The nicks are of those who are gone by that."""
        gone = self.close(name)
        if len(self.channels) >= MAX_CHANNELS:
            raise PeerMisbehaved("The server put us into more channels than there can be.")
        channel = self.channels[self.fold(name)] = Channel(name)
        return channel, gone

    def close(self, name: str) -> list[str]:
        """We are out of it; the nicks of those whom we no longer see anywhere."""
        channel = self.channels.get(self.fold(name))
        if channel is None:
            return []
        gone = [nick for key in list(channel.members) if (nick := self.leave(channel, key)) is not None]
        self.channels.pop(self.fold(name), None)
        return gone

    def enter(self, channel: Channel, nick: str, letters: str = "") -> User:
        """The user is in the channel, with these prefix modes."""
        key = self.fold(nick)
        if key not in channel.members:
            if self._memberships >= MAX_MEMBERSHIPS:
                raise PeerMisbehaved("The server names more people than there can be.")
            self._memberships += 1
        user = self.users.get(key)
        if user is None:
            user = self.users[key] = User(nick)
        channel.members[key] = letters
        user.channels.add(self.fold(channel.name))
        return user

    def leave(self, channel: Channel, nick: str) -> str | None:
        """The user is not in the channel; their nick where we see them nowhere any more."""
        key = self.fold(nick)
        if channel.naming is not None:
            channel.naming.pop(key, None)
        if channel.members.pop(key, None) is None:
            return None
        self._memberships -= 1
        user = self.users.get(key)
        if user is None:
            return None
        user.channels.discard(self.fold(channel.name))
        if user.channels:
            return None
        del self.users[key]
        return user.nick

    def remove(self, user: User) -> tuple[Channel, ...]:
        """The user is nowhere any more; where they were."""
        channels = self.shared(user)
        for channel in channels:
            self.leave(channel, user.nick)
        return channels

    def rename(self, user: User, new: str) -> None:
        """The user is called `new`; nobody else may be."""
        old_key, new_key = self.fold(user.nick), self.fold(new)
        user.nick = new
        if old_key == new_key:
            return
        self.users[new_key] = self.users.pop(old_key)
        for channel in self.shared(user):
            channel.members[new_key] = channel.members.pop(old_key, "")
            if channel.naming is not None and old_key in channel.naming:
                channel.naming[new_key] = channel.naming.pop(old_key)

    def refold(self, mapping: str) -> None:
        """Fold by another mapping; names that become one keep the later entry."""
        if mapping == self.mapping:
            return
        channels, users = list(self.channels.values()), self.users
        members = [(c, [(users[key], letters) for key, letters in c.members.items()]) for c in channels]
        self.mapping, self.channels, self.users, self._memberships = mapping, {}, {}, 0
        for user in users.values():
            user.channels.clear()
            self.users[self.fold(user.nick)] = user
        for channel, people in members:
            channel.members, channel.naming = {}, None
            self.channels[self.fold(channel.name)] = channel
            for user, letters in people:
                self.enter(channel, user.nick, letters)
        self.users = {key: user for key, user in self.users.items() if user.channels}
