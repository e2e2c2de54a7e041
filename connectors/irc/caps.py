"""Which IRCv3 capabilities there are, which are on, and which we want."""

from __future__ import annotations

WANTED: frozenset[str] = frozenset(
    {
        "account-notify",
        "account-tag",
        "away-notify",
        "batch",
        "cap-notify",
        "chghost",
        "draft/chathistory",
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

    def requests(self, exclude: frozenset[str] = frozenset()) -> list[str]:
        """What to put after `CAP REQ`, each within one line: everything wanted, offered and not on yet.

        A server may answer NAK to a whole list: ask again, one by one.
        """
        raise NotImplementedError

    def sasl_mechanisms(self) -> frozenset[str] | None:
        """The mechanisms that `sasl=` names, upper case; None where the server does not say."""
        raise NotImplementedError
