"""Spaces: one per network that wants one, with the network's shared rooms in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.core.ghosts import Namespace
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.lenient import allowed
from bridgekit.runtime.registry import Registry
from bridgekit.store.rows import Link, Portal


class Spaces:
    """Spaces are made when they are first needed; who links a chat is asked into its network's space.

    Direct chats are in none: a space shows its rooms to everybody who is in it.
    """

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        namespace: Namespace,
        *,
        bot: PersonId,
        label: Callable[[NetworkId], str],
        networks: frozenset[NetworkId],
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._namespace = namespace
        self._bot = bot
        self._label = label
        self._networks = networks
        self._locks: dict[NetworkId, asyncio.Lock] = {}

    def wants(self, link: Link) -> bool:
        """Whether the link's room belongs into a space."""
        return link.key.network in self._networks and link.key.receiver is None

    async def take_in(self, link: Link) -> None:
        """Put the link's room into its network's space. Raises MatrixError."""
        network = link.key.network
        async with self._locks.setdefault(network, asyncio.Lock()):
            space = self._space(network) or await self._make(network)
        via = {"via": [self._bot.partition(":")[2]]}
        await allowed(self._client.put_state(space, "m.space.child", via, state_key=link.room))
        if link.creator != self._bot and not self._namespace.is_ours(link.creator):
            await allowed(self._client.invite(space, link.creator))  # refused where they are in already

    async def let_go(self, network: NetworkId, room: ChatId) -> None:
        """Take a room out of its network's space. Raises MatrixError."""
        if (space := self._space(network)) is not None:
            await allowed(self._client.put_state(space, "m.space.child", {}, state_key=room))

    def _space(self, network: NetworkId) -> ChatId | None:
        portals = self._registry.portals.values()
        return next((p.room for p in portals if p.kind == "space" and p.network == network), None)

    async def _make(self, network: NetworkId) -> ChatId:
        space = await self._client.create_room(
            preset="private_chat",
            visibility="private",
            name=self._label(network),
            creation_content={"type": "m.space"},
        )
        await self._registry.put_portal(
            Portal(room=space, network=network, made=True, kind="space", creator=self._bot)
        )
        return space
