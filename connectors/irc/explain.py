"""What the server's refusals mean, in sentences that say what to do."""

from __future__ import annotations

from enum import StrEnum

from connectors.irc.wire import Line


class Closing(StrEnum):
    """Why a server ends a connection."""

    THROTTLED = "throttled"  # wait longer
    BANNED = "banned"  # stop, tell the user and the admin
    TOO_MANY = "too_many"  # fewer connections at a time
    KILLED = "killed"  # somebody wanted it so: wait, and stop if it happens again
    OTHER = "other"


def explain(line: Line, channel: str = "") -> str:
    """A whole sentence for the person concerned, for a numeric error or a FAIL; never only the number."""
    raise NotImplementedError


def closing(reason: str) -> Closing:
    """What an ERROR line, or a numeric 463-466, says about the next connection."""
    raise NotImplementedError
