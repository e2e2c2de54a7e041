"""What linked rooms are called, for people of a network: they know a room by its name and address, never by its id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId
from bridgekit.core import wording
from bridgekit.core.corrections import ALIAS_TYPE
from bridgekit.matrix.client import MatrixClient
from bridgekit.tasks import Spawn

NAME_TYPE = "m.room.name"
TITLE_TYPES = frozenset({NAME_TYPE, ALIAS_TYPE})
SECONDS = 5.0
"""How long a room's name is waited for before its id has to do."""


class Titles:
    """The titles of rooms that somebody was told of. `changed` hears of a title that is not what it was."""

    def __init__(
        self,
        client: MatrixClient,
        *,
        changed: Callable[[ChatId, str], None],
        spawn: Spawn,
    ) -> None:
        self._client = client
        self._changed = changed
        self._spawn = spawn
        self._known: dict[ChatId, str] = {}

    def of(self, room: ChatId) -> str:
        """What the room is called as far as that was read; else its id."""
        return self._known.get(room, room)

    async def read(self, room: ChatId) -> str:
        """The room's title as the homeserver has it now; what is known already where it does not answer."""
        try:
            async with asyncio.timeout(SECONDS):
                name, alias = await asyncio.gather(
                    self._client.patient.state(room, NAME_TYPE), self._client.patient.state(room, ALIAS_TYPE)
                )
        except (BridgeError, TimeoutError):
            return self.of(room)
        title = wording.room_title(room, (name or {}).get("name"), (alias or {}).get("alias"))
        before, self._known[room] = self.of(room), title
        if title != before:
            self._changed(room, title)
        return title

    def heard(self, room: ChatId, type: str) -> None:
        """A piece of the room's state has changed."""
        if type in TITLE_TYPES and room in self._known:
            self._spawn(self._again(room))

    async def _again(self, room: ChatId) -> None:
        await self.read(room)
