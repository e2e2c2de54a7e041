"""What one connection knows: itself, its channels, the people in them; fed line by line, without IO."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.irc.caps import Caps
from connectors.irc.changes import Change
from connectors.irc.isupport import Support
from connectors.irc.wire import Line


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


@dataclass(slots=True, eq=False)
class Channel:
    """A channel that we are in. `modes` is None until MODE is known, `topic` None until it is."""

    name: str
    members: dict[str, str] = field(default_factory=dict)  # folded nick -> mode letters, the highest first
    topic: str | None = None
    modes: dict[str, str] | None = None  # letter -> parameter, "" where there is none
    key: str = ""
    named: bool = False  # NAMES came to its end
    joined: bool = True


class State:
    """The state of one connection. `feed` is the only way to change it; it raises PeerMisbehaved alone."""

    def __init__(self, nick: str) -> None:
        self.nick = nick
        self.user = ""
        self.host = ""
        self.account: str | None = None
        self.registered = False
        self.support = Support()
        self.caps = Caps()
        self.channels: dict[str, Channel] = {}
        self.users: dict[str, User] = {}
        self.msgids = False  # the server gives its messages ids

    def feed(self, line: Line) -> list[Change]:
        """Take one line in; what it changed, in order."""
        raise NotImplementedError

    def fold(self, name: str) -> str:
        """The key of a nick or channel under the server's CASEMAPPING."""
        raise NotImplementedError

    def is_me(self, nick: str) -> bool:
        """Whether `nick` is ours now."""
        raise NotImplementedError

    def is_channel(self, name: str) -> bool:
        """Whether `name` begins as a channel does here (CHANTYPES)."""
        raise NotImplementedError

    def channel(self, name: str) -> Channel | None:
        """The channel, if we are in it."""
        raise NotImplementedError

    def known(self, nick: str) -> User | None:
        """The user, if we share a channel."""
        raise NotImplementedError

    def budget(self, command: str, target: str) -> int:
        """How many bytes of text `command target :text` may carry, as the others will see us."""
        raise NotImplementedError
