"""Management rooms: where one Matrix user is alone with the bot, and is told what concerns only them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.lenient import allowed
from bridgekit.runtime.registry import Registry
from bridgekit.store.rows import Portal

log = structlog.get_logger(__name__)


class ManagementRooms:
    """At most one per user is made; `say` puts words into a room."""

    def __init__(
        self, client: MatrixClient, registry: Registry, say: Callable[[ChatId, str], Awaitable[None]]
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._say = say
        self._lock = asyncio.Lock()

    async def tell(self, owner: PersonId, words: str) -> None:
        """Say it to a user in their room, which is made if there is none. Raises MatrixError."""
        async with self._lock:
            room = self._of(owner)
            if room is None:
                room = await self._make(owner)
            else:
                await allowed(
                    self._client.invite(room, owner)
                )  # they may have left; refused where they are in
        await self._say(room, words)

    async def tell_all(self, owners: Collection[PersonId], words: str) -> None:
        """Say it to each of them. Raises BridgeError where none could be told."""
        problem: BridgeError | None = None
        told = 0
        for owner in owners:
            try:
                await self.tell(owner, words)
            except BridgeError as error:
                log.info("admin_not_told", reason=error.notice)
                problem = error
            else:
                told += 1
        if problem is not None and not told:
            raise problem

    async def keep(self, room: ChatId, owner: PersonId, *, made: bool) -> None:
        """From now on this is a room of `owner` and the bot."""
        await self._registry.put_portal(
            Portal(room=room, network=None, made=made, kind="management", creator=owner)
        )

    def _of(self, owner: PersonId) -> ChatId | None:
        portals = self._registry.portals.values()
        return next((p.room for p in portals if p.kind == "management" and p.creator == owner), None)

    async def _make(self, owner: PersonId) -> ChatId:
        room = await self._client.create_room(
            preset="trusted_private_chat", is_direct=True, invite=[owner], name="bridgekit"
        )
        await self.keep(room, owner, made=True)
        return room
