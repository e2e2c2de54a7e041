"""Which IRCv3 capabilities there are, which are on, and which we want."""

from __future__ import annotations

from connectors.irc.protocol.changes import CapsChanged, CapsListed
from connectors.irc.protocol.wire import Line

MAX_CAPS = 500
_REQUEST_BYTES = 400  # of one CAP REQ, well within 512 bytes

WANTED: frozenset[str] = frozenset(
    {
        "account-notify",
        "account-tag",
        "away-notify",
        "batch",
        "cap-notify",
        "chghost",
        "draft/chathistory",
        "draft/event-playback",
        "draft/message-redaction",
        "draft/multiline",
        "draft/relaymsg",
        "echo-message",
        "extended-join",
        "invite-notify",
        "labeled-response",
        "message-tags",
        "multi-prefix",
        "sasl",
        "server-time",
        "setname",
        "soju.im/bouncer-networks",
        "soju.im/bouncer-networks-notify",
        "standard-replies",
        "userhost-in-names",
        "znc.in/playback",
        "znc.in/self-message",
    }
)


class Caps:
    """`offered`: name -> value of CAP LS 302 and NEW; `enabled`: what is on; `listed`: LS has come to its end."""

    def __init__(self) -> None:
        self.offered: dict[str, str] = {}
        self.enabled: set[str] = set()
        self.listed = False

    def __contains__(self, name: str) -> bool:
        """Whether the capability is on."""
        return name in self.enabled

    def value(self, name: str) -> str:
        """The value of an offered capability, "" where it has none."""
        return self.offered.get(name, "")

    def fields(self, name: str) -> dict[str, str]:
        """The value as the usual list `key=value,key`: {"max-bytes": "4096"}."""
        return dict(_split(item) for item in self.value(name).split(",") if item)

    def requests(self, exclude: frozenset[str] = frozenset()) -> list[str]:
        """What to put after `CAP REQ`, each within one line: everything wanted, offered and not on yet.

        A server may answer NAK to a whole list: ask again, one by one.
        """
        asks: list[str] = []
        for name in sorted((WANTED & self.offered.keys()) - self.enabled - exclude):
            if asks and len(asks[-1]) + 1 + len(name) <= _REQUEST_BYTES:
                asks[-1] += f" {name}"
            else:
                asks.append(name)
        return asks

    def sasl_mechanisms(self) -> frozenset[str] | None:
        """The mechanisms that `sasl=` names, upper case; None where the server does not say."""
        value = self.value("sasl")
        return frozenset(value.upper().split(",")) if value else None

    def feed(self, line: Line) -> CapsListed | CapsChanged | None:
        """Take one CAP line in; what it changed, None where there is more to come or nothing to do."""
        verb = line.param(1).upper()
        last = line.param(-1) if len(line.params) > 2 else ""
        words = [word for word in last.split(" ") if word]
        match verb:
            case "LS":
                if self.listed:
                    self.offered.clear()
                    self.listed = False
                self._offer(words)
                if (
                    line.param(2) == "*" and len(line.params) > 3
                ):  # capability negotiation 302: more lines follow
                    return None
                self.listed = True
                return CapsListed()
            case "NEW":
                return CapsChanged(offered=self._offer(words) & WANTED - self.enabled)
            case "DEL":
                gone = {_split(word)[0] for word in words}
                for name in gone:
                    self.offered.pop(name, None)
                disabled = frozenset(gone & self.enabled)
                self.enabled -= gone
                return CapsChanged(disabled=disabled)
            case "ACK":
                names = {_split(word.lstrip("~="))[0] for word in words}  # "~" and "=" are of an old draft
                off = {name[1:] for name in names if name.startswith("-")}
                on = {name for name in names if not name.startswith("-")} - off
                on = {name for name in on if name in self.offered or name in WANTED}
                self.enabled = (self.enabled | on) - off
                return CapsChanged(enabled=frozenset(on), disabled=frozenset(off))
            case "NAK":
                return CapsChanged(refused=frozenset(word.lstrip("-") for word in words))
            case _:
                return None

    def _offer(self, words: list[str]) -> frozenset[str]:
        names: set[str] = set()
        for word in words:
            name, value = _split(word)
            if len(self.offered) < MAX_CAPS or name in self.offered:
                self.offered[name] = value
                names.add(name)
        return frozenset(names)


def _split(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value
