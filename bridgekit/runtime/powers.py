"""Power levels of ghosts, as their roles say: what changes within a second becomes one event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Role
from bridgekit.matrix.client import MatrixClient

log = structlog.get_logger(__name__)

DELAY = 1.0
"""Seconds: a mode flood costs one write."""


class Powers:
    """Each room's levels are read before they are written, so that nobody else's change is undone."""

    def __init__(
        self, client: MatrixClient, *, bot: PersonId, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._client = client.patient
        self._bot = bot
        self._spawn = spawn
        self._wanted: dict[ChatId, dict[PersonId, int]] = {}
        self._named: dict[ChatId, frozenset[str]] = {}  # who had a level of their own at the last look

    def give(self, room: ChatId, user: PersonId, role: Role) -> None:
        """Let the user have the role's level soon; Role.NONE takes it away. The bot lifts nobody up to itself."""
        named = self._named.get(room)
        if role is Role.NONE and named is not None and user not in named and user not in self._asked(room):
            return
        if room not in self._wanted:
            self._wanted[room] = {}
            self._spawn(self._write(room))
        self._wanted[room][user] = int(role)

    def _asked(self, room: ChatId) -> dict[PersonId, int]:
        return self._wanted.get(room, {})

    def changed(self, room: ChatId, content: dict[str, Any]) -> None:
        """Somebody changed the room's levels."""
        self._named[room] = frozenset(_users(content))

    async def _write(self, room: ChatId) -> None:
        await asyncio.sleep(DELAY)
        wanted = self._wanted.pop(room)
        try:
            content = await self._client.state(room, "m.room.power_levels") or {}
            before = _users(content)
            # Whoever is in no list and may write all the same made the room: no level is above theirs (MSC4289).
            ceiling = before.get(self._bot, 100) - 1
            default = _level(content.get("users_default"))
            users = dict(before)
            for user, level in wanted.items():
                level = min(level, ceiling)
                if before.get(user, default) > ceiling:
                    continue
                if level <= default:
                    users.pop(user, None)
                else:
                    users[user] = level
            if users != before:
                await self._client.put_state(room, "m.room.power_levels", {**content, "users": users})
            self._named[room] = frozenset(users)
        except MatrixRefused as error:
            log.warning("power_levels_refused", errcode=error.errcode)


def _users(content: dict[str, Any]) -> dict[str, int]:
    found = content.get("users")
    return {user: _level(level) for user, level in found.items()} if isinstance(found, dict) else {}


def _level(value: object) -> int:
    return value if isinstance(value, int) else 0
