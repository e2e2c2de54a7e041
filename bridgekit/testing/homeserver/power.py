"""Power levels of a room, as its state says them (Client-Server API, m.room.power_levels)."""

import math
from collections.abc import Collection
from typing import Any

from bridgekit.testing.homeserver.refusals import Json, forbidden

ACTIONS = {"ban": 50, "kick": 50, "redact": 50, "invite": 0}


class PowerLevels:
    """A read-only view of one room's levels.

    `content` is the content of m.room.power_levels, or None where the room has none (then the creators have
    100 and state takes 0). `supreme` are the creators of a version 12 room: infinite power (MSC4289).
    """

    def __init__(
        self, content: Json | None, creators: Collection[str], supreme: Collection[str] = ()
    ) -> None:
        self._supreme = frozenset(supreme)
        if content is None:
            content = {"users": dict.fromkeys(creators, 100), "state_default": 0}
        self._content = content
        self._users: dict[str, Any] = _object(content.get("users"))
        self._events: dict[str, Any] = _object(content.get("events"))
        self.users_default = _level(content.get("users_default"), 0)
        self._events_default = _level(content.get("events_default"), 0)
        self._state_default = _level(content.get("state_default"), 50)

    def of(self, user: str) -> float:
        """Return a user's level."""
        if user in self._supreme:
            return math.inf
        return _level(self._users.get(user), self.users_default)

    def to_send(self, type: str, *, state: bool) -> int:
        """Return the level that sending this event type takes."""
        return _level(self._events.get(type), self._state_default if state else self._events_default)

    def to(self, action: str) -> int:
        """Return the level that `ban`, `kick`, `redact` or `invite` takes."""
        return _level(self._content.get(action), ACTIONS[action])

    def check_change(self, user: str, wanted: Json) -> None:
        """Raise `Refused` 403 if `user` may not put `wanted` in place of these levels (auth rules, 9)."""
        mine = self.of(user)
        if self._supreme.intersection(_object(wanted.get("users"))):
            raise forbidden("Creator user must not appear in the power_levels 'users'")
        before: dict[tuple[str, str], Any] = _flat(self._content)
        after = _flat(wanted)
        for key in before.keys() | after.keys():
            old, new = before.get(key), after.get(key)
            if old == new:
                continue
            if any(_level(value, 0) > mine for value in (old, new) if value is not None):
                raise forbidden("You don't have permission to add ops level greater than your own")
            if key[0] == "users" and key[1] != user and old is not None and _level(old, 0) >= mine:
                raise forbidden("You don't have permission to remove ops level equal to your own")


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _level(value: object, default: int) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return default
    return default


def _flat(content: Json) -> dict[tuple[str, str], Any]:
    flat: dict[tuple[str, str], Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat.update({(key, inner): level for inner, level in value.items()})
        else:
            flat[("", key)] = value
    return flat
