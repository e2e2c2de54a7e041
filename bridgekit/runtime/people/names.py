"""What Matrix users are called in each room: learnt from the room, then kept up with its member events."""

from __future__ import annotations

import asyncio

from bridgekit.contract import facts
from bridgekit.contract.errors import MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.client import MatrixClient


class Names:
    """Display names per room; a room is read once, when somebody in it first speaks."""

    def __init__(self, client: MatrixClient) -> None:
        self._client = client
        self._rooms: dict[ChatId, dict[PersonId, str]] = {}
        self._locks: dict[ChatId, asyncio.Lock] = {}

    def of(self, room: ChatId, user: PersonId) -> str:
        """The user's name in the room; empty while it is not known."""
        return self._rooms.get(room, {}).get(user, "")

    def learn(self, room: ChatId, user: PersonId, name: str) -> None:
        """A member event told the name."""
        if room in self._rooms:
            self._rooms[room][user] = name or localpart(user)

    def notice(self, room: ChatId, fact: facts.Profile | facts.Membership) -> None:
        """A member event was read."""
        if isinstance(fact, facts.Profile) or fact.change is facts.Change.JOIN:
            self.learn(room, fact.person.id, fact.person.name)

    async def find(self, room: ChatId, user: PersonId) -> str:
        """The user's name, read from the room if need be; never empty."""
        if room not in self._rooms:
            async with self._locks.setdefault(room, asyncio.Lock()):
                if room not in self._rooms:
                    await self._read(room)
        return self.of(room, user) or localpart(user)

    async def _read(self, room: ChatId) -> None:
        try:
            members = await self._client.patient.joined_members(room)
        except MatrixRefused:
            return  # the bot is not in the room: nobody's name is to be had
        self._rooms[room] = {
            user: str(profile.get("display_name") or localpart(user)) for user, profile in members.items()
        }

    def members(self, room: ChatId) -> set[PersonId]:
        """Who was seen in the room, as far as it was read."""
        return set(self._rooms.get(room, ()))


def localpart(user: str) -> str:
    """`alice` of `@alice:example.org`."""
    return user[1:].partition(":")[0] if user.startswith("@") else user
