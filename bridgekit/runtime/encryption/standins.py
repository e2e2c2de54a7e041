"""Ghosts that stand in for somebody's own user in encrypted rooms: who is meant is told why, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.store import Store
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

KEPT = "bridge.stand-ins"
"""Where it is kept who was told; no network is called so."""
WHY = (
    "What you say from elsewhere carries your own name in Matrix, but not in encrypted rooms: there your ghost says "
    "it. Others' clients warn of what comes from a device that your identity has not signed, or do not show it. Say "
    "`!bridge puppet on` to me, and you get a device here that you can verify from your own client."
)
GONE = (
    "The device with which the bridge spoke for you in encrypted rooms was signed out, and its keys are forgotten: "
    "from now on your ghost says there what you say from elsewhere. `!bridge puppet on` makes another device."
)


class StandIns:
    """Tells people of their stand-ins (docs/decisions/0016-double-puppets.md)."""

    def __init__(
        self,
        store: Store,
        *,
        is_encrypted: Callable[[ChatId], bool],
        tell: Callable[[PersonId, str], Awaitable[None]],
        spawn: Spawn,
    ) -> None:
        self._store = store
        self._is_encrypted = is_encrypted
        self._tell = tell
        self._spawn = spawn
        self._told: set[PersonId] = set()

    def spoke(self, room: ChatId, owner: PersonId) -> None:
        """The ghost has spoken in the room in place of `owner`."""
        if owner not in self._told and self._is_encrypted(room):
            self._told.add(owner)
            self._spawn(self._say(owner))

    def signed_out(self, owner: PersonId) -> None:
        """The device of `owner`'s own user is gone: they, or an admin of the homeserver, have signed it out."""
        self._spawn(self._say_gone(owner))

    async def _say_gone(self, owner: PersonId) -> None:
        try:
            await self._tell(owner, GONE)
        except BridgeError as error:
            log.warning("stand_in_not_told", reason=error.notice)

    async def _say(self, owner: PersonId) -> None:
        if await self._store.kv.get(KEPT, owner) is not None:
            return
        try:
            await self._tell(owner, WHY)
        except BridgeError as error:
            log.warning("stand_in_not_told", reason=error.notice)
            return
        await self._store.commit(self._store.kv.put(KEPT, owner, b"told"))
