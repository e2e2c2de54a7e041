"""A bouncer between us and the network: how it shows, and what it says for itself (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from connectors.irc.protocol.wire import Line

_OFFERS = ("soju.im/", "znc.in/")
_ZNC = "!znc@znc.in"
_LOST = re.compile(r"\bdisconnected from IRC\b|\bnot connected to IRC\b|\breconnecting\b", re.IGNORECASE)


def offers(capabilities: Iterable[str]) -> bool:
    """Whether they are a bouncer's: then the person may speak with the same account from another client too."""
    return any(name.startswith(_OFFERS) for name in capabilities)


def speaks(line: Line) -> bool:
    """Whether ZNC itself says it: `*status` and its other modules, and `***` around a buffer.

    No nick begins so (RFC 2812 2.3.1), thus nobody on the network can be one of them.
    """
    return line.source.startswith("*") and line.source.endswith(_ZNC)


def lost(line: Line) -> bool:
    """Whether ZNC says that it has no connection to the network: what it is given now, it throws away."""
    return speaks(line) and _LOST.search(line.param(1)) is not None
