"""Ghosts of whom a room is to show none any more leave it, be it after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.runtime.lenient import quiet
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import WAITING, Registry
from bridgekit.store import Store
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

CLEARING = "bridge.clearing"
"""Where it is kept which rooms the ghosts of which network have yet to leave; no network is called so."""
AFTERWARDS = 3.0
"""Seconds after which nothing that was under way when a link was taken apart can still let a ghost in."""
AGAIN = (60.0, 600.0, 3600.0)
"""Seconds before each further try, where the homeserver was away."""


class Clearing:
    """Takes the ghosts of a network out of a room, until they are out or a chat of theirs is shown there again.

    `shows` says of a link whether its people are shown in its room at this moment.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        ghosts: Ghosts,
        *,
        shows: Callable[[PortalKey], bool],
        spawn: Spawn,
    ) -> None:
        self._kv = store.kv
        self._commit = store.commit
        self._registry = registry
        self._ghosts = ghosts
        self._shows = shows
        self._spawn = spawn
        self._left: dict[tuple[ChatId, NetworkId], str] = {}  # by an earlier run, and why

    async def load(self) -> None:
        """Read what an earlier run did not finish; called once, before `resume`."""
        for key, reason in (await self._kv.items(CLEARING)).items():
            network, _, room = key.partition(" ")
            self._left[ChatId(room), NetworkId(network)] = reason.decode()

    @property
    def rooms(self) -> list[ChatId]:
        """The rooms in which an earlier run left ghosts."""
        return [room for room, _ in self._left]

    @property
    def networks(self) -> list[NetworkId]:
        """Whose ghosts those are."""
        return [network for _, network in self._left]

    def resume(self) -> None:
        """Go on with what an earlier run did not finish."""
        for (room, network), reason in self._left.items():
            linked = any(link.state != WAITING for link in self._links(room, network))
            self._spawn(self._done(room, network) if linked else self.clear(room, network, reason))
        self._left = {}

    async def promise(self, room: ChatId, network: NetworkId, reason: str) -> None:
        """The ghosts of the network will leave the room; that is on disk when this returns."""
        await self._commit(self._kv.put(CLEARING, f"{network} {room}", reason.encode()))

    async def clear(self, room: ChatId, network: NetworkId, reason: str) -> None:
        """Let them leave, one after the other: it is no hurry. And once more those who were on their way in."""
        await self.promise(room, network, reason)
        for pause in (0.0, AFTERWARDS, *AGAIN):
            await asyncio.sleep(pause)
            ghosts = self._present(room, network)
            await self.let_go(room, ghosts, reason, lambda: self._is_shown(room, network))
            if self._is_shown(room, network) or (pause and not self._present(room, network)):
                await self._done(room, network)
                return

    async def let_go(
        self, room: ChatId, ghosts: list[PersonId], reason: str, wanted: Callable[[], bool]
    ) -> None:
        """Let these leave the room, unless they are `wanted` there again."""
        for ghost in ghosts:
            if wanted():
                return
            await quiet(self._ghosts.leave, ghost, room, reason)

    async def _done(self, room: ChatId, network: NetworkId) -> None:
        await self._commit(self._kv.put(CLEARING, f"{network} {room}", None))

    def _present(self, room: ChatId, network: NetworkId) -> list[PersonId]:
        found = [(ghost, self._ghosts.row(ghost)) for ghost in sorted(self._ghosts.present(room))]
        return [ghost for ghost, row in found if row is not None and row.network == network]

    def _links(self, room: ChatId, network: NetworkId) -> list[Link]:
        return [link for link in self._registry.links_of(room) if link.key.network == network]

    def _is_shown(self, room: ChatId, network: NetworkId) -> bool:
        return any(self._shows(link.key) for link in self._links(room, network))
