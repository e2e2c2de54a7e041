"""Words that came in while a room was more open than its chats allow are taken back, after a crash as well."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.policy import Exposure
from bridgekit.core import wording
from bridgekit.core.exposed import Exposed, LookBack
from bridgekit.core.exposure import Allowed
from bridgekit.matrix.calls import Calls
from bridgekit.store import Store

log = structlog.get_logger(__name__)

EXPOSED = "bridge.exposed"
"""Where it is kept which rooms are to be looked through; no network is called so."""
PAGES = 20
"""Pages of a hundred events that are looked through at most."""


class TakingBack:
    """Putting a history visibility back does not cover what was sent before that: this does. `network_of` says whose
    ghost a user is, "" for nobody's."""

    def __init__(self, client: Calls, store: Store, *, network_of: Callable[[PersonId], NetworkId]) -> None:
        self._client = client
        self._store = store
        self._network_of = network_of
        self._marked: dict[ChatId, Exposure] = {}
        self._known: set[ChatId] = set()  # rooms of which it was read what the last run left

    async def mark(self, room: ChatId, left: Exposure) -> None:
        """Somebody opened the room further than the bridge had `left` it, and it is about to be closed: on disk when
        this returns, because a crash must not forget the rest."""
        self._marked[room] = min(left, self._marked.get(room, left))
        await self._store.commit(self._store.kv.put(EXPOSED, room, left.name.encode()))

    async def is_marked(self, room: ChatId) -> bool:
        """Whether the room is to be looked through, by what this run or the last one has seen."""
        if room not in self._known:
            self._known.add(room)
            if (kept := await self._store.kv.get(EXPOSED, room)) is not None:
                self._marked[room] = Exposure[kept.decode()]
        return room in self._marked

    async def look(self, room: ChatId, allowed: Allowed) -> int:
        """Redact what more people could read than its chat allows, where the room is marked; how much that was."""
        if not await self.is_marked(room):
            return 0
        found = await self._said_while_open(room, allowed, self._marked[room])
        gone = sum([await self._redacted(room, one) for one in found])
        del self._marked[room]
        await self._store.commit(self._store.kv.put(EXPOSED, room, None))
        if found:
            log.warning("words_taken_back", found=len(found), gone=gone)
        return gone

    async def _said_while_open(self, room: ChatId, allowed: Allowed, left: Exposure) -> list[Exposed]:
        histories: dict[NetworkId, Exposure] = {}
        for standing in allowed.standing:
            network, history = standing.link.key.network, standing.bound.history
            histories[network] = max(left, min(history, histories.get(network, history)))
        look_back = LookBack(left, lambda who: histories.get(self._network_of(who)))
        start: str | None = None
        for _ in range(PAGES):
            page = await self._client.messages(room, start=start)
            look_back.read(page.chunk)
            if look_back.done or page.end is None:
                break
            start = page.end
        if not look_back.done:
            look_back.end()
        return look_back.found

    async def _redacted(self, room: ChatId, one: Exposed) -> bool:
        txn = f"bk.exposed.{one.event}"
        try:
            await self._client.redact(room, one.event, txn=txn, reason=wording.EXPOSED, user=one.sender)
        except MatrixRefused as error:
            log.warning("word_not_taken_back", errcode=error.errcode)
            return False
        return True
