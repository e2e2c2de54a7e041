"""A look at a room: how open it is at this moment, and what the bot may change there."""

from __future__ import annotations

import asyncio

from bridgekit.contract.errors import MatrixForbidden
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.corrections import POWER_TYPE, WATCHED, Power, Room, power_of, room_of
from bridgekit.matrix.calls import Calls

_TYPES = sorted(WATCHED)


async def look(client: Calls, room: ChatId, bot: PersonId) -> tuple[Room, Power]:
    """The room's settings, read from the homeserver, and the bot's power over them. Raises MatrixError."""
    contents, (version, creators), listed = await asyncio.gather(
        asyncio.gather(*(client.state(room, type) for type in _TYPES)),
        client.created(room),
        _listed(client, room),
    )
    state = dict(zip(_TYPES, contents, strict=True))
    power = power_of(state[POWER_TYPE], bot, created=bot in creators)
    return room_of(state, listed=listed, version=version), power


async def _listed(client: Calls, room: ChatId) -> bool:
    try:
        return await client.directory_visibility(room)
    except MatrixForbidden:
        return True  # what nobody can read counts as the most open
