"""What one connection knows: itself, its channels, the people in them; fed line by line, without IO."""

from __future__ import annotations

from collections.abc import Callable

from connectors.irc.protocol import modes, people
from connectors.irc.protocol.batches import HISTORY, MULTILINE, Batches
from connectors.irc.protocol.caps import Caps
from connectors.irc.protocol.changes import (
    BatchEnded,
    Came,
    Change,
    Gone,
    MaskChanged,
    ModesAre,
    NamesEnded,
    PrefixChanged,
    Quit,
    Renamed,
    SupportChanged,
    TopicIs,
    UserChanged,
    Welcomed,
    Went,
)
from connectors.irc.protocol.isupport import Support
from connectors.irc.protocol.roll import Channel, Roll, User
from connectors.irc.protocol.wire import Line, need, parts

# What nobody told us is taken at its longest: USERLEN with its "~", HOSTLEN of RFC 2812
_USER_BYTES, _HOST_BYTES = 11, 63

__all__ = ["Channel", "State", "User"]


class State:
    """The state of one connection. `feed` is the only way to change it; it raises PeerMisbehaved alone.

    Not `user` and `host`, but `mask()` is how others see us; both are "" until the server tells.
    """

    def __init__(self, nick: str) -> None:
        self.nick = nick
        self.user = ""
        self.host = ""
        self.account: str | None = None
        self.away = False
        self.registered = False
        self.msgids = False  # the server gives its messages ids
        self.changes = 0  # counts up with every line that may have changed what can be done here
        self.support = Support()
        self.caps = Caps()
        self.batches = Batches()
        self.roll = Roll()
        self._on: dict[str, Callable[[Line], list[Change]]] = {
            "001": self._welcome, "005": self._isupport, "CAP": self._cap, "BATCH": self._batch,
            "JOIN": self._join, "PART": self._part, "KICK": self._kick, "QUIT": self._quit, "NICK": self._nick,
            "MODE": self._mode, "324": self._channel_modes,
            "TOPIC": self._topic, "331": self._no_topic, "332": self._topic_is,
            "353": self._names, "366": self._names_end,
            "367": self._ban_is, "368": self._bans_end,
        }  # fmt: skip

    # What is known ------------------------------------------------------------------------------------------

    @property
    def channels(self) -> dict[str, Channel]:
        """The channels that we are in, by folded name."""
        return self.roll.channels

    @property
    def users(self) -> dict[str, User]:
        """Everybody in them, by folded nick; we too."""
        return self.roll.users

    def fold(self, name: str) -> str:
        """The key of a nick or channel under the server's CASEMAPPING."""
        return self.roll.fold(name)

    def is_me(self, nick: str) -> bool:
        """Whether `nick` is ours now."""
        mine = self.nick  # a server names us as we did: most others are told apart by the length
        return nick == mine or (len(nick) == len(mine) and self.fold(nick) == self.fold(mine))

    def is_channel(self, name: str) -> bool:
        """Whether `name` begins as a channel does here (CHANTYPES)."""
        return name[:1] in self.support.chantypes if name else False

    def channel(self, name: str) -> Channel | None:
        """The channel, if we are in it."""
        return self.roll.channel(name)

    def known(self, nick: str) -> User | None:
        """The user, if we share a channel."""
        return self.roll.known(nick)

    def prefixes(self, channel: str, nick: str) -> str:
        """The mode letters of `nick` in `channel`, the highest first; "" for nobody special or nobody at all."""
        found = self.channel(channel)
        return found.members.get(self.fold(nick), "") if found else ""

    def bare_target(self, target: str) -> str:
        """The channel of a STATUSMSG target (`@#chan`); any other target as it is."""
        bare = target.lstrip(self.support.statusmsg) if self.support.statusmsg else target
        return bare if self.is_channel(bare) else target

    def source_bytes(self) -> int:
        """The length of nick!user@host as others see us; at its longest where the server has not told."""
        user = len(self.user.encode()) if self.user else _USER_BYTES
        host = len(self.host.encode()) if self.host else _HOST_BYTES
        return len(self.nick.encode()) + 1 + user + 1 + host

    def budget(self, command: str, target: str) -> int:
        """How many bytes of text `command target :text` may carry, as the others will see us."""
        around = len(f":  {command} {target} :\r\n".encode()) - 1
        return max(0, self.support.linelen - around - self.source_bytes())

    # What happens -------------------------------------------------------------------------------------------

    def feed(self, line: Line) -> list[Change]:
        """Take one line in; what it changed, in order. Lines of a history change nothing."""
        batch = self.batches.of(line) if "batch" in line.tags else None
        if batch is not None and line.command != "BATCH":
            if batch.kind == MULTILINE:
                self.batches.collect(batch, line)
            if batch.within(HISTORY):
                return []
        if not self.msgids and "msgid" in line.tags:
            self.msgids = True
            self.changes += 1
        changes: list[Change] = []
        if "!" in line.source:
            self._seen(line, changes)
        if (handler := self._on.get(line.command)) is not None:
            self.changes += 1
            changes += handler(line)
        elif (learn := people.LEARN.get(line.command)) is not None:
            self.changes += 1
            changes += learn(self, line)
        return changes

    def _seen(self, line: Line, changes: list[Change]) -> None:
        """Learn from the source and the account tag of any line."""
        nick, user, host = parts(line.source)
        if self.is_me(nick) and user and host and (user, host) != (self.user, self.host):
            self.user, self.host = user, host
            self.changes += 1
        someone = self.known(nick)
        if someone is None:
            return
        if user and host:
            someone.user, someone.host = user, host
        if "account-tag" in self.caps and line.command in ("PRIVMSG", "NOTICE", "TAGMSG"):
            account = line.tags.get("account", "")  # account-tag: no tag means logged out
            if someone.account != account and (account or someone.account):
                someone.account = account
                changes.append(UserChanged(someone, "account"))

    def _welcome(self, line: Line) -> list[Change]:
        self.nick = need(line, 0)
        self.registered = True
        return [Welcomed(self.nick)]

    def _isupport(self, line: Line) -> list[Change]:
        self.support.update(line.params[1:-1])
        self.roll.refold(self.support.casemapping)
        return [SupportChanged()]

    def _cap(self, line: Line) -> list[Change]:
        change = self.caps.feed(line)
        return [change] if change is not None else []

    def _batch(self, line: Line) -> list[Change]:
        ended = self.batches.feed(line)
        return [BatchEnded(ended)] if ended is not None else []

    # Who is where -------------------------------------------------------------------------------------------

    def _join(self, line: Line) -> list[Change]:
        nick = line.nick or self.nick
        changes: list[Change] = []
        for name in need(line, 0).split(","):
            own = self.is_me(nick)
            if own:
                channel, gone = self.roll.open(name)
                changes += map(Gone, gone)
            elif (found := self.channel(name)) is None:
                continue
            else:
                channel = found
            user = self.roll.enter(channel, nick)
            if channel.naming is not None:
                channel.naming[self.fold(nick)] = ""
            user.user, user.host = line.user or user.user, line.host or user.host
            if len(line.params) >= 3:  # extended-join
                user.account = "" if line.param(1) == "*" else line.param(1)
                user.realname = line.param(2)
            changes.append(Came(channel, user, own))
        return changes

    def _part(self, line: Line) -> list[Change]:
        changes: list[Change] = []
        for name in need(line, 0).split(","):
            changes += self._leave(name, line.nick or self.nick, line, kicked=False, reason=line.param(1))
        return changes

    def _kick(self, line: Line) -> list[Change]:
        return self._leave(need(line, 0), need(line, 1), line, kicked=True, reason=line.param(2))

    def _leave(self, name: str, nick: str, line: Line, *, kicked: bool, reason: str) -> list[Change]:
        channel, user = self.channel(name), self.known(nick)
        if channel is None or user is None or self.fold(nick) not in channel.members:
            return []
        own = self.is_me(nick)
        left: list[Change] = [Went(channel, user, own, kicked, line.source, reason)]
        if own:
            return [*left, *map(Gone, self.roll.close(name))]
        gone = self.roll.leave(channel, nick)
        return [*left, Gone(gone)] if gone is not None else left

    def _quit(self, line: Line) -> list[Change]:
        user = self.known(line.nick)
        if self.is_me(line.nick):
            return [Quit(user or User(self.nick), (), line.param(0), own=True)]
        if user is None:
            return []
        return [Quit(user, self.roll.remove(user), line.param(0)), Gone(user.nick)]

    def _nick(self, line: Line) -> list[Change]:
        old, new = line.nick or self.nick, need(line, 0)
        own, user = self.is_me(old), self.known(old)
        changes: list[Change] = []
        if own:
            self.nick = new
        elif user is None:
            return []
        squatter = self.known(new)
        if squatter is not None and squatter is not user:  # we missed how they left
            changes += [Quit(squatter, self.roll.remove(squatter)), Gone(squatter.nick)]
        if user is None:
            return [*changes, Renamed(User(new), old, (), own)]
        self.roll.rename(user, new)
        return [*changes, Renamed(user, old, self.roll.shared(user), own)]

    def _names(self, line: Line) -> list[Change]:
        channel = self.channel(need(line, 2))
        if channel is None:
            return []
        if channel.naming is None:
            channel.naming = {}
        signs = self.support.signs
        for word in line.param(3).split(" "):
            mask = word.lstrip(signs)
            if not mask:
                continue
            letters = self._letters(word[: len(word) - len(mask)])
            nick, _, rest = mask.partition("!")  # userhost-in-names
            user = self.roll.enter(channel, nick, letters)
            channel.naming[self.fold(nick)] = letters
            name, at, host = rest.rpartition("@")
            if at:
                user.user, user.host = name, host
        return []

    def _names_end(self, line: Line) -> list[Change]:
        channel = self.channel(need(line, 1))
        if channel is None:
            return []
        changes: list[Change] = []
        if channel.naming:
            stale = [k for k in channel.members if k not in channel.naming and k != self.fold(self.nick)]
            changes += [Gone(nick) for key in stale if (nick := self.roll.leave(channel, key)) is not None]
        channel.naming, channel.named = None, True
        return [*changes, NamesEnded(channel)]

    def _letters(self, signs: str) -> str:
        return "".join(mode for mode, sign in self.support.prefixes if sign in signs)

    # Modes and topics ---------------------------------------------------------------------------------------

    def _mode(self, line: Line) -> list[Change]:
        channel = self.channel(need(line, 0))
        if channel is None:
            return []
        changes: list[Change] = []
        flags = False
        for change in modes.read(line.param(1), line.params[2:], self.support):
            match change.sort:
                case modes.Sort.PREFIX:
                    changes += self._prefix(channel, change, line.source)
                case modes.Sort.LIST:
                    changes.append(
                        MaskChanged(channel, change.letter, change.param, change.added, line.source)
                    )
                case _:
                    flags = flags | self._flag(channel, change)
        return [*changes, ModesAre(channel, line.source)] if flags else changes

    def _prefix(self, channel: Channel, change: modes.ModeChange, actor: str) -> list[Change]:
        key, order = self.fold(change.param), self.support.prefix_modes
        user = self.roll.users.get(key)
        if user is None or key not in channel.members:
            return []
        letters = set(channel.members[key]) - {change.letter} | ({change.letter} if change.added else set())
        after = "".join(sorted(letters, key=order.find))
        if after == channel.members[key]:
            return []
        channel.members[key] = after
        if channel.naming is not None and key in channel.naming:
            channel.naming[key] = after
        return [PrefixChanged(channel, user, actor)]

    def _flag(self, channel: Channel, change: modes.ModeChange) -> bool:
        if change.letter == "k":
            known = change.param and change.param != "*"
            channel.key = (change.param if known else channel.key) if change.added else ""
        if channel.modes is None:
            return False  # 324 is on its way, and says it all
        if change.added:
            channel.modes[change.letter] = change.param
        else:
            channel.modes.pop(change.letter, None)
        return True

    def _channel_modes(self, line: Line) -> list[Change]:
        channel = self.channel(need(line, 1))
        if channel is None:
            return []
        channel.modes = {}
        for change in modes.read(line.param(2), line.params[3:], self.support):
            if change.sort is not modes.Sort.LIST and change.sort is not modes.Sort.PREFIX:
                self._flag(channel, change)
        return [ModesAre(channel)]

    def _ban_is(self, line: Line) -> list[Change]:
        channel, mask = self.channel(need(line, 1)), line.param(2)
        if channel is not None and mask in channel.bans:
            channel.listed.add(mask)
        return []

    def _bans_end(self, line: Line) -> list[Change]:
        """The list has said which bans stand: the others were lifted while nobody of us was there."""
        channel = self.channel(need(line, 1))
        if channel is None:
            return []
        gone, channel.listed = [mask for mask in channel.bans if mask not in channel.listed], set()
        return [MaskChanged(channel, "b", mask, False) for mask in gone]

    def _topic(self, line: Line) -> list[Change]:
        return self._set_topic(need(line, 0), line.param(1), line.source)

    def _no_topic(self, line: Line) -> list[Change]:
        return self._set_topic(need(line, 1), "", "")

    def _topic_is(self, line: Line) -> list[Change]:
        return self._set_topic(need(line, 1), line.param(2), "")

    def _set_topic(self, name: str, topic: str, actor: str) -> list[Change]:
        channel = self.channel(name)
        if channel is None:
            return []
        if not actor and channel.topic == topic:
            return []
        channel.topic = topic
        return [TopicIs(channel, actor)]
