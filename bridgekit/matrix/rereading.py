"""A room read back: what was said and changed in it since a moment, as a transaction would have brought it."""

from __future__ import annotations

import msgspec
import structlog

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.calls import Calls
from bridgekit.matrix.transactions import RawEvent, parse

log = structlog.get_logger(__name__)

PAGE = 100
MOST_PAGES = 100
MARGIN_MS = 300_000
"""How far the clocks of homeserver and bridge may be apart: so much earlier is to be read from."""


class _Member(msgspec.Struct, frozen=True):
    membership: str = ""


class _Before(msgspec.Struct, frozen=True):
    prev_content: _Member = _Member()


class _Membership(msgspec.Struct):
    content: _Member = _Member()
    unsigned: _Before = _Before()


_membership = msgspec.json.Decoder(_Membership).decode


async def read_since(calls: Calls, room: ChatId, since: int, reader: PersonId) -> list[RawEvent]:
    """The room's events that bear a time of `since` (ms) or later, oldest first; raises MatrixError.

    Nothing from before the `reader` (whom the call is made as) came in: that was not said to us. A room with more
    than 10,000 events is not read further back, and the log says so.
    """
    found: list[RawEvent] = []
    start: str | None = None
    user = None if reader == calls.bot else reader
    for _ in range(MOST_PAGES):
        page = await calls.raw_messages(room, start=start, limit=PAGE, user=user)
        # Anybody may lie about the time of one event; a whole page of early ones is the past.
        over = True
        for event in parse(b'{"events":[%b]}' % b",".join(page.chunk)).events:
            if event.origin_server_ts >= since:
                over = False
                found.append(event)
            if _enters(event, reader):
                over = True
                break
        if over or page.end is None:
            break
        start = page.end
    else:
        log.warning("room_not_read_whole", room=room, events=len(found))
    found.reverse()
    return found


def _enters(event: RawEvent, user: PersonId) -> bool:
    """Whether the user was not in the room before."""
    if event.type != "m.room.member" or event.state_key != user:
        return False
    try:
        told = _membership(event.raw)
    except msgspec.MsgspecError:
        return True
    return told.content.membership == "join" and told.unsigned.prev_content.membership != "join"
