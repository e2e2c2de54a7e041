"""Rooms that are replaced (m.room.tombstone): the bridge goes along, with its ghosts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.joins import Joins
from bridgekit.runtime.members import Members
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.registry import Registry

log = structlog.get_logger(__name__)

TRIES = (1.0, 2.0, 4.0)
"""Seconds between the tries to enter: the tombstone may come before the new room lets anybody in."""


class Upgrades:
    """Follows rooms to where they moved."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        joins: Joins,
        members: Members,
        portals: Portals,
        *,
        moved: Callable[[ChatId], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._joins = joins
        self._members = members
        self._portals = portals
        self._moved = moved
        self._spawn = spawn
        self._asked: set[ChatId] = set()

    def follow(self, old: ChatId, new: ChatId) -> None:
        """Go from `old` to `new`, in the background; where the bridge is not let in, it asks in the old room."""
        if self._is_ours(old):
            self._spawn(self._follow(old, new))

    def awaits(self, room: ChatId) -> bool:
        """Whether the bridge has asked to be let into the room, which replaced one of its own."""
        return room in self._asked

    async def entered(self, room: ChatId) -> bool:
        """The bot was invited into a room and is in it now; says whether that replaced one of the bridge's rooms."""
        old = await self._client.predecessor(room)
        # Anybody can say that their room replaced another: the old one must say so too.
        if old is None or not self._is_ours(old) or await self._client.successor(old) != room:
            return False
        await self._move(old, room)
        return True

    def _is_ours(self, room: ChatId) -> bool:
        return bool(self._registry.links_of(room)) or room in self._registry.portals

    async def _follow(self, old: ChatId, new: ChatId) -> None:
        for wait in (*TRIES, None):
            try:
                await self._client.join(new)
            except MatrixRefused:
                if wait is None:
                    break
                await asyncio.sleep(wait)
            else:
                if self._is_ours(old):
                    await self._move(old, new)
                return
        self._asked.add(new)
        log.warning("room_not_followed")
        await self._portals.say(old, "The bridge is not let into the new room: invite it there.")

    async def _move(self, old: ChatId, new: ChatId) -> None:
        await self._registry.move(old, new)
        self._asked.discard(new)
        self._moved(new)
        self._members.moved(old, new)
        self._joins.move(old, new)
        log.info("room_followed")
