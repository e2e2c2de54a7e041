"""Roles of a network and power levels of a room: the table, and what m.room.power_levels has to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Role

LEVELS: dict[Role, int] = {
    Role.MUTED: -1,
    Role.NONE: 0,
    Role.VOICE: 10,
    Role.HALF_MODERATOR: 40,
    Role.MODERATOR: 50,
    Role.ADMIN: 75,
    Role.OWNER: 100,
}
"""The power level of each role; the bot's own level less one is the most that anybody gets."""

GUARDED = (
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.guest_access",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.power_levels",
    "m.room.server_acl",
    "m.room.tombstone",
    "m.bridge",
    "uk.half-shot.bridge",
)
"""What a role on a network never gives: to change who may read, or what the bridge says of the room."""


def level_of(role: Role, bot: int = 100) -> int:
    """The power level that a role gives in a room where the bot has the level `bot`."""
    return min(LEVELS[role], max(0, bot - 1))


def role_of(level: int) -> Role:
    """The highest role whose level somebody with this power level has."""
    return max((role for role, needed in LEVELS.items() if needed <= level), default=Role.MUTED)


def number(value: object, otherwise: int) -> int:
    """A power level as servers have read it: an integer, or (old rooms) a string with one."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return otherwise
    try:
        return int(value)
    except ValueError:
        return otherwise


def powers(
    content: Mapping[str, Any],
    bot: PersonId,
    wanted: Mapping[PersonId, Role],
    *,
    moderated: bool | None = None,
    guarded: bool = False,
    created: bool = False,
    given: Mapping[PersonId, int | None] | None = None,
) -> dict[str, Any] | None:
    """m.room.power_levels with the roles in `wanted`; None where nothing would change, or the bot may not change it.

    Many changes are one write. Nobody is lifted to the bot's own level or above, nobody who is there already is
    touched, and the bot's own entry never changes. `moderated` (None: leave it) sets what it takes to speak.
    `guarded` puts all of `GUARDED` out of reach of the roles: for rooms that the bridge made. `created`: the bot
    stands above all levels and may not be named (room version 12). `given`: people whose level is their own
    business, with the level that the bridge gave them last (None: none): what others made of it stays.
    """
    before = content.get("users")
    users: dict[str, Any] = dict(before) if isinstance(before, dict) else {}
    default = number(content.get("users_default"), 0)
    own = 2**53 if created else number(users.get(bot), default)
    events = dict(content["events"]) if isinstance(content.get("events"), dict) else {}
    state_default = number(content.get("state_default"), 50)
    if own < number(events.get("m.room.power_levels"), state_default):
        return None
    for person, role in wanted.items():
        if person == bot or number(users.get(person), default) >= own:
            continue
        if given is not None and person in given:
            last = given[person]
            if number(users.get(person), default) != (default if last is None else last):
                continue
        level = level_of(role, min(own, 100))
        level = default if role is Role.NONE else max(level, default) if role > Role.NONE else level
        if level == default:
            users.pop(person, None)
        else:
            users[person] = level
    changed: dict[str, Any] = {**content, "users": users}
    if moderated is not None:
        speak = LEVELS[Role.VOICE] if moderated else 0
        if number(content.get("events_default"), 0) != speak and own >= speak:
            changed["events_default"] = speak
    if guarded:
        wall = min(own, 100)
        for type in GUARDED:
            if number(events.get(type), state_default) < wall:
                events[type] = wall
        changed["events"] = events
        if number(changed.get("state_default"), 50) < LEVELS[Role.MODERATOR]:
            changed["state_default"] = LEVELS[Role.MODERATOR]
    return changed if changed != dict(content) else None


def speaks(content: Mapping[str, Any], person: PersonId, type: str = "m.room.message") -> bool:
    """Whether somebody may send messages in the room (muted people and a moderated room's silent ones may not)."""
    users = content.get("users")
    level = number(
        users.get(person) if isinstance(users, dict) else None, number(content.get("users_default"), 0)
    )
    events = content.get("events")
    default = number(content.get("events_default"), 0)
    need = number(events.get(type), default) if isinstance(events, dict) else default
    return level >= need


def shifts(
    before: Mapping[str, Any], after: Mapping[str, Any], concerned: Callable[[PersonId], bool]
) -> list[tuple[PersonId, Role, Role]]:
    """Whose level a change of m.room.power_levels changed so that it means another role: who, before, after.

    Only those of whom `concerned` says yes, and only those who have, or had, a level of their own.
    """

    def roles(content: Mapping[str, Any]) -> dict[PersonId, Role]:
        users = content.get("users")
        default = number(content.get("users_default"), 0)
        named = users if isinstance(users, dict) else {}
        return {PersonId(who): _meant(number(level, default), default) for who, level in named.items()}

    old, new = roles(before), roles(after)
    return [
        (who, was, now)
        for who in {**old, **new}
        if (was := old.get(who, Role.NONE)) != (now := new.get(who, Role.NONE)) and concerned(who)
    ]


def _meant(level: int, default: int) -> Role:
    """What a level means in a room where everybody else has `default`: less than they have is to be muted."""
    if level == default:
        return Role.NONE
    return Role.MUTED if level < default else role_of(max(level, 0))
