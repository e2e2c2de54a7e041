"""What the server can do: the tokens of RPL_ISUPPORT (005)."""

from __future__ import annotations

from collections.abc import Sequence


class Support:
    """ISUPPORT as it stands; every property has the default of RFC 1459 where the server is silent or wrong."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self.casemapping = "rfc1459"
        self.chantypes = "#&"
        self.statusmsg = ""
        self.prefixes: tuple[tuple[str, str], ...] = (
            ("o", "@"),
            ("v", "+"),
        )  # (mode, sign), the highest first
        self.chanmodes: tuple[str, str, str, str] = ("beIq", "k", "l", "imnpst")
        self.nicklen = 9
        self.topiclen = 307
        self.kicklen = 255
        self.channellen = 200
        self.linelen = 512
        self.modes = 3  # mode changes in one MODE command
        self.network = ""
        self.bot = ""  # the user mode (and WHO flag) that marks bots
        self.whox = False
        self.utf8only = False
        self.chathistory = 0  # the most messages of one CHATHISTORY; 0 where there is none

    def update(self, tokens: Sequence[str]) -> None:
        """Take the tokens of one 005 line in (without our nick and the closing words)."""
        raise NotImplementedError

    def targets(self, command: str) -> int:
        """TARGMAX: how many targets one `command` may name; 1 where nothing is said."""
        raise NotImplementedError

    def may_send_tag(self, name: str) -> bool:
        """CLIENTTAGDENY: whether the client-only tag `+name` passes."""
        raise NotImplementedError
