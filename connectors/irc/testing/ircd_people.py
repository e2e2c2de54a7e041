"""The people and the channels of the scripted ircd."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from connectors.irc.testing.ircd_line import Out, fold

if TYPE_CHECKING:
    from connectors.irc.testing.ircd import Ircd
    from connectors.irc.testing.ircd_client import Client


class User:
    """Somebody on the server: with a socket behind them (`client`) or made up by a test."""

    def __init__(
        self, ircd: Ircd, nick: str, *, user: str = "", host: str = "user.example", account: str = ""
    ) -> None:
        self.ircd = ircd
        self.nick = nick
        self.user = user or re.sub(r"[^a-z0-9]", "", nick.lower())[:9] or "u"
        self.host = host
        self.account = account
        self.realname = nick
        self.away = ""
        self.service = False
        self.channels: dict[str, Channel] = {}
        self.client: Client | None = None
        self.heard: deque[Out] = deque(maxlen=1000)

    @property
    def mask(self) -> str:
        """nick!user@host."""
        return f"{self.nick}!{self.user}@{self.host}"

    def join(self, *channels: str, prefix: str = "") -> User:
        """Enter channels; `prefix` is the mode letters that come with it: "o"."""
        for name in channels:
            channel = self.ircd.channel(name)
            if self in channel.members:
                continue
            channel.members[self] = set(prefix)
            self.channels[fold(name)] = channel
            if channel.sockets:
                params = (channel.name, self.account or "*", self.realname)
                self.ircd.to_channel(channel, Out(self.mask, "JOIN", params, user=self), extended_join=True)
                if prefix:
                    letters = (self.nick,) * len(prefix)
                    self.ircd.to_channel(
                        channel, Out(self.ircd.name, "MODE", (channel.name, f"+{prefix}", *letters))
                    )
        return self

    def say(
        self, target: str, text: str, *, command: str = "PRIVMSG", tags: dict[str, str] | None = None
    ) -> str:
        """Say it to a channel or a nick; its msgid comes back."""
        return self.ircd.message(self, command, target, text, tags or {})

    def notice(self, target: str, text: str) -> str:
        """Say it as a machine."""
        return self.say(target, text, command="NOTICE")

    def act(self, target: str, text: str) -> str:
        """`/me text`."""
        return self.say(target, f"\x01ACTION {text}\x01")

    def tagmsg(self, target: str, **tags: str) -> str:
        """A message of tags only; `__` in a name is a slash, a leading `_` the "+": `_draft__react="x"`."""
        named = {("+" + k[1:] if k.startswith("_") else k).replace("__", "/"): v for k, v in tags.items()}
        return self.ircd.message(self, "TAGMSG", target, None, named)

    def part(self, channel: str, reason: str = "") -> None:
        """Leave."""
        self.ircd.part(
            self, self.ircd.channel(channel), "PART", self.mask, (channel, *([reason] if reason else []))
        )

    def kick(self, channel: str, nick: str, reason: str = "out") -> None:
        """Put somebody out."""
        self.ircd.part(
            self.ircd.find(nick), self.ircd.channel(channel), "KICK", self.mask, (channel, nick, reason)
        )

    def mode(self, channel: str, *change: str) -> None:
        """Change modes: `mode("#c", "+o", "alice")`; whoever asks may."""
        self.ircd.mode(self.mask, self.ircd.channel(channel), change)

    def topic(self, channel: str, text: str) -> None:
        """Set the topic."""
        self.ircd.topic(self.mask, self.ircd.channel(channel), text)

    def change_nick(self, nick: str) -> None:
        """Be called otherwise."""
        self.ircd.rename(self, nick)

    def invite(self, nick: str, channel: str) -> None:
        """Ask somebody in."""
        self.ircd.send_to(self.ircd.find(nick), Out(self.mask, "INVITE", (nick, channel), user=self))

    def quit(self, reason: str = "Quit: bye") -> None:
        """Leave the server; whoever has a socket loses it."""
        if self.client is not None:
            self.client.fail(reason)
        else:
            self.ircd.quit(self, reason)


class Channel:
    """One channel. `refuse` is a numeric that answers every JOIN, `mute` one that answers every message.

    `forward` is the channel to which everybody is sent on who would join this one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[User, set[str]] = {}
        self.sockets: dict[User, Client] = {}
        self.topic = ""
        self.modes: dict[str, str] = {"n": "", "t": ""}
        self.bans: list[str] = []
        self.refuse = ""
        self.forward = ""
        self.mute = ""
        self.history: deque[Out] = deque(maxlen=5000)
