"""How many verbs of one side may be under way at once: the one place where order is traded for speed.

Strict order within a room costs one round trip a message. While the room keeps up nobody notices; when a
backlog shows that the round trip is the limit, order is kept for each sender only, and many senders' messages
travel side by side.
"""

from __future__ import annotations

STRICT = 1
WIDE = 32
BACKLOG = 8
"""This many verbs waiting in a strict lane are a backlog: at 10 ms a round trip, 80 ms of delay."""


def width(current: int, waiting: int, running: int) -> int:
    """The lane's next width, given how many verbs wait and how many are under way.

    It widens at a backlog and becomes strict again only when everything is done, so that it does not flutter.
    """
    if current == STRICT:
        return WIDE if waiting >= BACKLOG else STRICT
    return STRICT if waiting == 0 and running == 0 else current
