"""Whose client here reads a room for all of us: the bridge's own, a direct room's user, or who was asked in alone."""

from __future__ import annotations

from bridgekit.contract.connector import Host
from connectors.mimi.clients.directs import Directs
from connectors.mimi.clients.seat import Seat
from connectors.mimi.clients.seats import Seats

PREFIX = "guest/"
"""Who of ours reads a room for all of us, because they were invited and the bridge was not."""


class Readers:
    """Known for every room; `bridge` is the URI of the bridge's own user."""

    def __init__(self, bridge: str, host: Host, directs: Directs, seats: Seats) -> None:
        self.bridge = bridge
        self._host = host
        self._directs = directs
        self._seats = seats
        self._guests: dict[str, str] = {}

    async def load(self) -> None:
        """Take up what is stored."""
        for key, raw in (await self._host.items(PREFIX)).items():
            self._guests[key.removeprefix(PREFIX)] = raw.decode()

    def of(self, room: str) -> str:
        """Whose client here reads the room and makes its commits: the bridge's own, else that of who was invited.

        In a direct room that is its user.
        """
        direct = self._directs.of(room)
        if direct is not None:
            return direct.user
        if room in self._guests and self._seats.get(self.bridge, room) is None:
            return self._guests[room]
        return self.bridge

    def seat(self, room: str) -> Seat | None:
        """The reader's seat, if it is taken."""
        return self._seats.get(self.of(room), room)

    def is_unread(self, room: str, user: str) -> bool:
        """Whether a user here was brought into a shared room that nobody here reads."""
        return (
            self._directs.of(room) is None
            and self.seat(room) is None
            and self._seats.get(user, room) is not None
        )

    async def read_by(self, room: str, user: str) -> None:
        """From now on a user's own client reads the room, where the bridge's is not: they said so."""
        await self._host.put(f"{PREFIX}{room}", user.encode())
        self._guests[room] = user

    async def forget(self, room: str) -> None:
        """Nobody here reads the room any more."""
        if self._guests.pop(room, None) is not None:
            await self._host.put(f"{PREFIX}{room}", None)
