"""A look at a room: how open it is at this moment, and what the bot may change there."""

from __future__ import annotations

import asyncio

from bridgekit.contract.errors import MatrixForbidden, MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.corrections import (
    JOIN_TYPE,
    POWER_TYPE,
    WATCHED,
    Power,
    Room,
    lets_everybody_in,
    named_rooms,
    power_of,
    room_of,
)
from bridgekit.matrix.calls import Calls

_TYPES = sorted(WATCHED)
MOST = 10
"""Rooms that a restricted one names and that are looked at; more of them count as open."""


async def look(client: Calls, room: ChatId, bot: PersonId) -> tuple[Room, Power]:
    """The room's settings, read from the homeserver, and the bot's power over them. Raises MatrixError."""
    contents, (version, creators), listed = await asyncio.gather(
        asyncio.gather(*(client.state(room, type) for type in _TYPES)),
        client.created(room),
        _listed(client, room),
    )
    state = dict(zip(_TYPES, contents, strict=True))
    closed = await _closed(client, named_rooms(state[JOIN_TYPE]))
    power = power_of(state[POWER_TYPE], bot, created=bot in creators)
    return room_of(state, listed=listed, version=version, closed=closed), power


async def _closed(client: Calls, rooms: tuple[str, ...]) -> frozenset[str]:
    """Those of the rooms that nobody enters who was not let in there, as far as the bot sees it."""
    found = []
    for room in rooms[:MOST]:
        try:
            rules = await client.state(ChatId(room), JOIN_TYPE)
        except MatrixRefused:
            continue  # what nobody can read counts as the most open
        if not lets_everybody_in(rules):
            found.append(room)
    return frozenset(found)


async def _listed(client: Calls, room: ChatId) -> bool:
    try:
        return await client.directory_visibility(room)
    except MatrixForbidden:
        return True  # what nobody can read counts as the most open
