"""What the server can do: the tokens of RPL_ISUPPORT (005)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from connectors.irc.protocol import casemap

MAX_TOKENS = 400
_PREFIX = re.compile(r"\(([A-Za-z]*)\)(\S*)")
_NUMBER = re.compile(r"[0-9]{1,9}")
_HEX = re.compile(r"\\x([0-9A-Fa-f]{2})")


class Support:
    """ISUPPORT as it stands; every property has the default of RFC 1459 where the server is silent or wrong."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}
        self._read()

    def update(self, tokens: Sequence[str]) -> None:
        """Take the tokens of one 005 line in (without our nick and the closing words)."""
        for token in tokens:
            name, _, value = token.partition("=")
            if name.startswith("-"):
                self.tokens.pop(name[1:].upper(), None)
            elif name and (len(self.tokens) < MAX_TOKENS or name.upper() in self.tokens):
                self.tokens[name.upper()] = _HEX.sub(lambda m: chr(int(m[1], 16)), value)
        self._read()

    def targets(self, command: str) -> int:
        """TARGMAX: how many targets one `command` may name; 1 where nothing is said."""
        for item in self.tokens.get("TARGMAX", "").split(","):
            name, _, count = item.partition(":")
            if name.upper() == command.upper():
                return _number(count, 20)  # no number is no limit: 20 fit into a line
        return 1

    def may_send_tag(self, name: str) -> bool:
        """CLIENTTAGDENY: whether the client-only tag `+name` passes."""
        denied = self.tokens.get("CLIENTTAGDENY", "").split(",")
        return f"-{name}" in denied if "*" in denied else name not in denied

    @property
    def signs(self) -> str:
        """The signs of PREFIX, the highest first: "@+"."""
        return "".join(sign for _, sign in self.prefixes)

    @property
    def prefix_modes(self) -> str:
        """The modes of PREFIX, the highest first: "ov"."""
        return "".join(mode for mode, _ in self.prefixes)

    def _read(self) -> None:
        get = self.tokens.get
        # Ergo names the mapping for all names in UTF8MAPPING, and in CASEMAPPING what is true of ASCII
        wide = get("UTF8MAPPING", "").lower() == casemap.RFC8265
        self.casemapping = (
            casemap.RFC8265 if wide else casemap.known(get("CASEMAPPING", casemap.RFC1459).lower())
        )
        self.chantypes = get("CHANTYPES", "#&")
        prefix = _PREFIX.fullmatch(get("PREFIX", "(ov)@+"))
        pairs = tuple(zip(prefix[1], prefix[2], strict=False)) if prefix else ()
        # (mode, sign), the highest first; "PREFIX=" means that there are none
        self.prefixes: tuple[tuple[str, str], ...] = (
            pairs if prefix or get("PREFIX") == "" else (("o", "@"), ("v", "+"))
        )
        self.statusmsg = "".join(sign for sign in get("STATUSMSG", "") if sign not in self.chantypes)
        kinds = get("CHANMODES", "beIq,k,l,imnpst").split(",")
        kinds = kinds if len(kinds) >= 4 else ["beIq", "k", "l", "imnpst"]
        self.chanmodes: tuple[str, str, str, str] = (kinds[0], kinds[1], kinds[2], kinds[3])
        self.nicklen = max(1, _number(get("NICKLEN", ""), 9))
        self.topiclen = max(1, _number(get("TOPICLEN", ""), 307))
        self.kicklen = max(1, _number(get("KICKLEN", ""), 255))
        self.linelen = min(max(512, _number(get("LINELEN", ""), 512)), 8192)
        self.modes = max(1, _number(get("MODES", ""), 3))
        self.network = get("NETWORK", "")
        self.netid = get(
            "BOUNCER_NETID", ""
        )  # a bouncer's own name for the network that we are on through it
        self.bot = get("BOT", "")[:1]  # the user mode, and the flag in WHO, that marks bots
        self.whox = "WHOX" in self.tokens
        self.utf8only = "UTF8ONLY" in self.tokens
        # The most messages of one CHATHISTORY (0: as many as one likes), None where there is no such command
        self.chathistory = _history(get("CHATHISTORY", get("DRAFT/CHATHISTORY")))
        self.msgids = "msgid" in get("MSGREFTYPES", "")  # what history can be asked for by


def _number(text: str, default: int) -> int:
    return int(text) if _NUMBER.fullmatch(text) else default


def _history(value: str | None) -> int | None:
    return None if value is None else _number(value, 0)
