"""Power levels in rooms, as the roles of the networks say: what changes within a second becomes one event."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import structlog

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Role
from bridgekit.core.ghosts import Namespace
from bridgekit.core.roles import number, powers
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.store.statements import Write
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

DELAY = 1.0
"""Seconds: a mode flood costs one write."""
GIVEN = "bridge.powers"
"""Where it is kept which levels Matrix users have for their roles on a network; no network is called so."""


class Powers:
    """Each room's levels are read before they are written, so that nobody else's change is undone."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        store: Store,
        namespace: Namespace,
        *,
        bot: PersonId,
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._store = store
        self._namespace = namespace
        self._bot = bot
        self._spawn = spawn
        self._wanted: dict[ChatId, dict[PersonId, Role]] = {}
        self._writing: dict[ChatId, set[asyncio.Future[None]]] = {}  # rooms whose levels change in a moment
        self._writes: Counter[ChatId] = Counter()
        self._seen: dict[ChatId, dict[str, Any]] = {}  # each room's levels at the last look

    def give(self, room: ChatId, user: PersonId, role: Role) -> None:
        """Let the user have the role's level soon; Role.NONE takes it away. The bot lifts nobody up to itself."""
        seen = self._seen.get(room)
        settled = room not in self._writing  # what was seen last is how it is
        if role is Role.NONE and settled and seen is not None and user not in seen.get("users", {}):
            return
        self._soon(room)[user] = role

    def weigh(self, room: ChatId) -> None:
        """One of the room's chats says anew who may speak there."""
        if self._is_chats(room):
            self._soon(room)

    def writes(self, room: ChatId) -> int:
        """How often the room's levels were written."""
        return self._writes[room]

    async def written(self, room: ChatId, since: int) -> bool:
        """Return when what is to change of the room's levels has changed; False where nothing was to, and nothing has
        since there were `since` writes."""
        if writing := self._writing.get(room):
            await asyncio.wait(writing)
        return self._writes[room] != since

    def _soon(self, room: ChatId) -> dict[PersonId, Role]:
        if room not in self._wanted:
            self._wanted[room] = {}
            over = asyncio.get_running_loop().create_future()
            self._writing.setdefault(room, set()).add(over)
            self._spawn(self._write(room, over))
        return self._wanted[room]

    def changed(self, room: ChatId, content: dict[str, Any]) -> dict[str, Any] | None:
        """Somebody changed the room's levels; what they were before, where that is known."""
        before, self._seen[room] = self._seen.get(room), content
        return before

    def _is_chats(self, room: ChatId) -> bool:
        """Whether the room was made for a chat, which then says who may do what in it."""
        portal = self._registry.portals.get(room)
        return portal is not None and portal.made and portal.kind == "channel"

    def _is_moderated(self, room: ChatId) -> bool:
        seen = (self._registry.visibility.get(link.key) for link in self._registry.links_of(room))
        return any(found is not None and found.moderated for found in seen)

    async def _write(self, room: ChatId, over: asyncio.Future[None]) -> None:
        try:
            await asyncio.sleep(DELAY)
            await self._change(room, self._wanted.pop(room))
        finally:
            self._writes[room] += 1
            over.set_result(None)
            self._writing[room].discard(over)
            if not self._writing[room]:
                del self._writing[room]

    async def _change(self, room: ChatId, wanted: dict[PersonId, Role]) -> None:
        chats = self._is_chats(room)
        users = [user for user in wanted if not self._namespace.is_ours(user) and user != self._bot]
        try:
            content = await self._client.state(room, "m.room.power_levels") or {}
            named = content.get("users")
            created = not (isinstance(named, dict) and self._bot in named) and (
                self._bot in await self._client.creators(room)
            )
            changed = powers(
                content,
                self._bot,
                wanted,
                moderated=self._is_moderated(room) if chats else None,
                guarded=chats,
                created=created,
                given={user: await self._given(room, user) for user in users},
            )
            if changed is not None:
                await self._client.put_state(room, "m.room.power_levels", changed)
                self._keep(room, users, content, changed)
            self._seen[room] = changed or content
        except MatrixRefused as error:
            log.warning("power_levels_refused", errcode=error.errcode)

    async def _given(self, room: ChatId, user: PersonId) -> int | None:
        kept = await self._store.kv.get(GIVEN, f"{room} {user}")
        return int(kept) if kept is not None else None

    def _keep(
        self, room: ChatId, users: list[PersonId], before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        """Remember what was given, so that what others gave is theirs to take."""
        writes: list[Write] = []
        default = number(after.get("users_default"), 0)
        for user in users:
            old, new = (
                number(content["users"].get(user), default) if "users" in content else default
                for content in (before, after)
            )
            if old != new:
                value = str(new).encode() if new != default else None
                writes.append(self._store.kv.put(GIVEN, f"{room} {user}", value))
        if writes:
            self._store.commit(*writes)
