"""Withdrawn: what a room's people took back while the bridge was down, before it says what it still has of theirs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.rereading import MARGIN_MS, read_since
from bridgekit.matrix.translate import is_redacted

log = structlog.get_logger(__name__)

SECONDS = 10.0
"""How long a room is asked before what was said in it is said on, for better or worse."""
AT_ONCE = 4
"""Rooms that are read at the same time."""


class Withdrawn:
    """Reads a room once in each run, and only where words of an earlier run wait to be said.

    The transaction that brings a redaction may come seconds after the start, or never (Overdue); what the room itself
    shows of the message is certain.
    """

    def __init__(self, client: MatrixClient, *, ghost_in: Callable[[ChatId], PersonId | None]) -> None:
        """`ghost_in` is somebody of ours who can read a room that the bot is not in."""
        self._client = client
        self._ghost_in = ghost_in
        self._read: dict[ChatId, frozenset[MessageId]] = {}
        self._turns: defaultdict[ChatId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._silent = False  # the homeserver let a room wait in vain: the others do not wait for it, too

    async def of(self, room: ChatId, since: int) -> frozenset[MessageId]:
        """The room's events since then (ms) that were taken back; none where the homeserver does not tell."""
        if room not in self._read:
            async with self._turns[room]:
                if room not in self._read:
                    async with self._places:
                        self._read[room] = await self._look(room, since - MARGIN_MS)
        return self._read[room]

    async def _look(self, room: ChatId, since: int) -> frozenset[MessageId]:
        try:
            async with asyncio.timeout(0 if self._silent else SECONDS):
                for reader in (self._client.bot, self._ghost_in(room)):
                    if reader is None:
                        continue
                    try:
                        events = await read_since(self._client.patient, room, since, reader)
                    except BridgeError:
                        continue
                    return frozenset(event.event_id for event in events if is_redacted(event.raw))
        except TimeoutError:
            self._silent = True
        log.warning("room_does_not_tell_what_was_withdrawn", room=room)
        return frozenset()
