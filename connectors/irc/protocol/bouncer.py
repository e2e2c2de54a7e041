"""A bouncer between us and the network: how it shows, and what it says for itself (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from connectors.irc.protocol.wire import Line

_OFFERS = ("soju.im/", "znc.in/")
NOTIFIES = "soju.im/bouncer-networks-notify"
_ZNC = "!znc@znc.in"
_SOJU = "BouncerServ!BouncerServ@BouncerServ"
_LOST = re.compile(r"\bdisconnected from IRC\b|\bnot connected to IRC\b|\breconnecting\b", re.IGNORECASE)


def offers(capabilities: Iterable[str]) -> bool:
    """Whether they are a bouncer's: then the person may speak with the same account from another client too."""
    return any(name.startswith(_OFFERS) for name in capabilities)


def speaks(line: Line) -> bool:
    """Whether the bouncer tells how it is by itself: ZNC's `*status` and its other modules, and `***` around a buffer;
    soju's service, where it was asked nothing.

    No nick begins with a star (RFC 2812 2.3.1), and no network gives out soju's mask: nobody there can be one of them.
    """
    if line.source == _SOJU:
        return line.command == "NOTICE"
    return line.source.startswith("*") and line.source.endswith(_ZNC)


def lost(line: Line, netid: str = "") -> bool:
    """Whether the bouncer says that it has no connection to the network: what it is given now, it throws away.

    ZNC says so in English; soju where it was asked to (`has_network`).
    """
    return has_network(line, netid) is False or (speaks(line) and _LOST.search(line.param(1)) is not None)


def has_network(line: Line, netid: str) -> bool | None:
    """Whether soju says that it is connected to the network `netid` (ISUPPORT BOUNCER_NETID, "" where there is none).

    None where the line says nothing of that. soju.im/bouncer-networks: `BOUNCER NETWORK netid attributes`, which are
    written as tags are, and hold what has changed; `*` where the network was taken away.
    """
    if line.command != "BOUNCER" or line.param(0).upper() != "NETWORK" or line.param(1) != netid or not netid:
        return None
    if line.param(2) == "*":
        return False
    states = [item[6:] for item in line.param(2).split(";") if item.startswith("state=")]
    return states[-1] == "connected" if states else None
