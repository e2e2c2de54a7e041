"""Rooms that are replaced (m.room.tombstone): the bridge goes along."""

from __future__ import annotations

import asyncio

import structlog

from bridgekit.contract.errors import MatrixForbidden
from bridgekit.contract.ids import ChatId
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.portals import Portals
from bridgekit.runtime.registry import Registry

log = structlog.get_logger(__name__)


class Upgrades:
    """Follows rooms to where they moved."""

    def __init__(self, client: MatrixClient, registry: Registry, portals: Portals) -> None:
        self._client = client.patient
        self._registry = registry
        self._portals = portals

    async def follow(self, old: ChatId, new: ChatId) -> None:
        """A room was replaced (m.room.tombstone): the bridge goes along."""
        if not self._registry.links_of(old) and old not in self._registry.portals:
            return
        for attempt in range(8):
            try:
                await self._client.join(new)
                break
            except MatrixForbidden:
                await asyncio.sleep(min(60.0, 2.0**attempt))
        else:
            await self._portals.say(old, "The bridge is not allowed into the new room: invite it there.")
            return
        await self._registry.move(old, new)
        for link in self._registry.links_of(new):
            await self._portals.describe(link)
        log.info("room_followed")
