"""Succession: the bot has another name than at the last start, and takes over the rooms of the one before it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from bridgekit.contract.errors import BridgeError, MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.roles import number
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.lenient import allowed
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.store.rows import Link, Portal

log = structlog.get_logger(__name__)

NAMESPACE = "bridge.self"
"""Where the bridge keeps what it knows of itself; no network is called so."""
_BOT = "bot"
HELPERS = 5
"""So many ghosts of a room are asked to let the new bot in, or to give it the old one's power."""


async def bot_before(store: Store, bot: PersonId) -> PersonId | None:
    """Who the bot was at the last start, where that was somebody else."""
    kept = await store.kv.get(NAMESPACE, _BOT)
    return PersonId(kept.decode()) if kept is not None and kept.decode() != bot else None


class Succession:
    """Follows where the homeserver lets it; who linked a room that it cannot follow into is told what to do.

    The old bot cannot help: it stands in no namespace of the registration, so nobody can act as it any more. Ghosts
    can, where their room lets them.
    """

    def __init__(
        self,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        ghosts: Ghosts,
        *,
        bot: PersonId,
        describe: Callable[[Link], Awaitable[None]],
        tell: Callable[[PersonId, str], Awaitable[None]],
    ) -> None:
        self._describe = describe
        self._itself = client
        self._client = client.patient
        self._store = store
        self._registry = registry
        self._ghosts = ghosts
        self._bot = bot
        self._tell = tell

    async def follow(self) -> None:
        """Take the rooms over, if the bot is another. Cut off in the middle, the next start does it again."""
        before = await bot_before(self._store, self._bot)
        if before is not None:
            me = await self._itself.whoami()
            if me.user_id != self._bot:
                log.error("bot_refused", homeserver_has=me.user_id, config_has=self._bot)
                return  # the registration there is still the old one: the next start looks again
            log.warning("bot_changed", before=before, now=self._bot, rooms=len(self._registry.portals))
            left: dict[PersonId, list[ChatId]] = {}
            for portal in list(self._registry.portals.values()):
                if not await self._take_over(portal, before):
                    left.setdefault(portal.creator, []).append(portal.room)
            for owner, rooms in left.items():
                await self._say_what_to_do(owner, before, rooms)
        await self._store.commit(self._store.kv.put(NAMESPACE, _BOT, self._bot.encode()))

    async def _take_over(self, portal: Portal, before: PersonId) -> bool:
        """Be in the room with the power of the bot before; False where people have to see to that."""
        room = portal.room
        if portal.kind in (
            "management",
            "space",
        ):  # nobody is there who could help; another is made when needed
            await self._registry.remove_portal(room)
            return True
        try:
            done = await self._enter(room) and await self._inherit(room, before)
        except BridgeError as error:
            log.warning("room_not_taken_over", reason=error.notice)
            return False
        for link in self._registry.links_of(room):
            await self._describe(link)
        return done

    async def _enter(self, room: ChatId) -> bool:
        if await allowed(self._client.join(room)):
            return True
        for ghost in self._helpers(room):
            if await allowed(self._client.invite(room, self._bot, user=ghost)):
                return await allowed(self._client.join(room))
        return False

    async def _inherit(self, room: ChatId, before: PersonId) -> bool:
        """Have the power level that the bot before had."""
        content: dict[str, Any] = await self._client.state(room, "m.room.power_levels") or {}
        users = content.get("users", {})
        wanted, have = number(users.get(before), 0), number(users.get(self._bot), 0)
        if have >= wanted:
            return True
        raised = {**content, "users": {**users, self._bot: wanted}}
        for ghost in self._helpers(room):
            if number(users.get(ghost), 0) < wanted:
                continue
            try:
                await self._client.put_state(room, "m.room.power_levels", raised, user=ghost)
            except MatrixRefused:
                continue
            return True
        return False

    def _helpers(self, room: ChatId) -> list[PersonId]:
        return sorted(self._ghosts.present(room))[:HELPERS]

    async def _say_what_to_do(self, owner: PersonId, before: PersonId, rooms: list[ChatId]) -> None:
        log.error("rooms_need_the_bot", rooms=rooms, bot=self._bot)
        if owner in (before, self._bot) or self._ghosts.is_one(owner):
            return
        words = (
            f"This bridge's bot was {before} and is {self._bot} now. Please ask me into these rooms and give me the "
            f"power level that {before} has there, or I can neither explain anything nor let people in: "
            f"{', '.join(rooms)}"
        )
        try:
            await self._tell(owner, words)
        except BridgeError as error:
            log.warning("owner_not_told", reason=error.notice)
