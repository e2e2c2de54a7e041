"""Sending an event so that it is there once: a txn id, and a look at the room where that is not enough.

Synapse keeps an appservice's transaction ids in memory, for 30 to 60 minutes and per path and appservice. So after a
lost answer the event may be there while its txn id is forgotten (the homeserver went down in between); and while
the homeserver lives, the txn id answers for a request that is still being worked on. Both together leave no gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import msgspec

from bridgekit.contract.errors import MatrixForbidden
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.transport import Homeserver, quoted, quoted_once

SOURCE = "org.bridgekit.source"
"""The key in an event's content that holds the id of what it is a copy of."""
PUPPET = "org.bridgekit.puppet"
"""The key that tells, of what the bridge says as somebody's own user, in which room: its echo goes no further."""
SLACK_MS = 5 * 60 * 1000
PAGE = 100
LARGE_PAGE = 500
"""After the first: what is looked for is mostly at the top, and what is not there takes the whole way back."""
MOST_UNKNOWN = 500
MOST_SINCE = 50_000
"""Events of one look: a room where more than this was said since the first try is given up, and may hear it twice."""
KEEP_SECONDS = 300.0


class _SourceOnly(msgspec.Struct, rename={"source": SOURCE}):
    source: str | None = None


class _Seen(msgspec.Struct):
    event_id: MessageId
    origin_server_ts: int = 0
    content: msgspec.Raw = msgspec.Raw(b"{}")


class _Page(msgspec.Struct):
    chunk: list[_Seen] = []
    end: str | None = None


class _EventId(msgspec.Struct):
    event_id: MessageId


_page = msgspec.json.Decoder(_Page).decode
_source = msgspec.json.Decoder(_SourceOnly).decode
_event_id = msgspec.json.Decoder(_EventId).decode


class _Scan:
    """What one look at one room found."""

    def __init__(self, started: float, since: int) -> None:
        self.started = started
        self.since = since
        self.found: dict[str, MessageId] = {}


class Sending:
    """The sends of one bridge to one homeserver."""

    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver
        self._scans: dict[ChatId, _Scan] = {}
        self._locks: dict[ChatId, asyncio.Lock] = {}

    async def send(
        self,
        room: ChatId,
        type: str,
        content: bytes,
        *,
        txn: str,
        user: PersonId | None,
        at: int | None,
        source: str | None,
        since: int,
        recovering: bool,
        device: str | None,
        patient: bool,
        after: Callable[[], Awaitable[None]] | None,
        still: Callable[[], bool] | None,
    ) -> MessageId:
        """See MatrixClient.send; `content` is JSON. Raises Outdated where `still` says so before it is sent."""
        look = None
        if source is not None:
            if recovering:
                # Any look of this process began after the try that may have arrived.
                found = await self._recall(room, source, since, user, started=0.0)
                if found is not None:
                    return found

            async def look(failed: float) -> _EventId | None:
                found = await self._recall(room, source, since, user, started=failed)
                return None if found is None else _EventId(found)

        answer = await self._homeserver.request(
            "PUT",
            f"/_matrix/client/v3/rooms/{quoted(room)}/send/{quoted(type)}/{quoted_once(txn)}",
            decode=_event_id,
            user=user,
            device=device,
            body=content,
            query=None if at is None else {"ts": at},
            patient=patient,
            look=look,
            call="send",
            room=room,
            after=after,
            still=still,
        )
        return answer.event_id

    async def find(
        self, room: ChatId, sources: Collection[str], since: int, *, user: PersonId | None
    ) -> dict[str, MessageId]:
        """See MatrixClient.find_sent."""
        scan = await self._scan(room, since, user, started=asyncio.get_running_loop().time())
        return {source: scan.found[source] for source in sources if source in scan.found}

    async def _recall(
        self, room: ChatId, source: str, since: int, user: PersonId | None, *, started: float
    ) -> MessageId | None:
        return (await self._scan(room, since, user, started=started)).found.get(source)

    async def _scan(self, room: ChatId, since: int, user: PersonId | None, *, started: float) -> _Scan:
        """A look that began at `started` or later and goes back to `since`: one for all who need it."""
        lock = self._locks.setdefault(room, asyncio.Lock())
        try:
            async with lock:
                scan = self._scans.get(room)
                if scan is None or scan.started < started or not _covers(scan.since, since):
                    scan = await self._look(room, since, user)
                    self._forget_old()
                    self._scans[room] = scan
                return scan
        finally:
            if not lock.locked() and not lock._waiters:
                self._locks.pop(room, None)

    async def _look(self, room: ChatId, since: int, user: PersonId | None) -> _Scan:
        try:
            return await self._read_back(room, since, None)
        except MatrixForbidden:  # a direct chat without the bot
            try:
                return await self._read_back(room, since, user)
            except MatrixForbidden:  # who may not read may not have sent
                return _Scan(asyncio.get_running_loop().time(), since)

    async def _read_back(self, room: ChatId, since: int, user: PersonId | None) -> _Scan:
        scan = _Scan(asyncio.get_running_loop().time(), since)
        query: dict[str, str | int] = {"dir": "b", "limit": PAGE}
        left = MOST_SINCE if since else MOST_UNKNOWN
        while left > 0:
            page = await self._homeserver.request(
                "GET",
                f"/_matrix/client/v3/rooms/{quoted(room)}/messages",
                decode=_page,
                user=user,
                query=query,
                patient=True,
                call="messages",
            )
            newest = _take(page, scan.found)
            if page.end is None or not page.chunk or (newest is not None and newest < since - SLACK_MS):
                break
            left -= len(page.chunk)
            query["from"] = page.end
            query["limit"] = min(left, LARGE_PAGE)
        return scan

    def _forget_old(self) -> None:
        oldest = asyncio.get_running_loop().time() - KEEP_SECONDS
        self._scans = {room: scan for room, scan in self._scans.items() if scan.started > oldest}


def _covers(have: int, want: int) -> bool:
    """Whether a look back to `have` (0: as far as is sensible) also answers for `want`."""
    return have == want or 0 < have <= want


def _take(page: _Page, found: dict[str, MessageId]) -> int | None:
    """Note the sources on a page; returns the time of its newest event that is not ours, if there is one.

    Ours may bear the time at which they were said elsewhere, so they tell nothing of how far back we are.
    """
    newest: int | None = None
    for event in page.chunk:
        source = None
        if SOURCE.encode() in memoryview(event.content).tobytes():
            try:
                source = _source(event.content).source
            except msgspec.MsgspecError:
                source = None
        if source is not None:
            found.setdefault(source, event.event_id)
        elif newest is None or event.origin_server_ts > newest:
            newest = event.origin_server_ts
    return newest
