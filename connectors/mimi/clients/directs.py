"""Direct rooms: which room two people talk in, and who of them is of this provider.

To the bridge a private chat is called by the other's URI; its room has one of its own, at the provider of who asked.
"""

from __future__ import annotations

import secrets

import msgspec

from bridgekit.contract.connector import Host
from connectors.mimi import uris
from connectors.mimi.service.room import Room
from connectors.mimi.uris import Thing

PREFIX = "direct/"


class Direct(msgspec.Struct, frozen=True, array_like=True):
    """`user` is of this provider, `other` of another."""

    room: str
    user: str
    other: str


class Directs:
    """All of them, on disk and in memory."""

    def __init__(self, domain: str, host: Host) -> None:
        self._domain = domain
        self._host = host
        self._rooms: dict[str, Direct] = {}

    async def load(self) -> None:
        """Take up what is stored."""
        for raw in (await self._host.items(PREFIX)).values():
            direct = msgspec.msgpack.decode(raw, type=Direct)
            self._rooms[direct.room] = direct

    def of(self, room: str) -> Direct | None:
        """What is known of a room, if it is a direct one."""
        return self._rooms.get(room)

    def of_user(self, user: str) -> list[Direct]:
        """All direct rooms of a user of ours."""
        return [direct for direct in self._rooms.values() if direct.user == user]

    def between(self, user: str, other: str) -> list[Direct]:
        """The rooms of these two. More than one where each asked the other at the same time."""
        return [direct for direct in self.of_user(user) if direct.other == other]

    async def make(self, user: str, other: str) -> Direct:
        """A room of ours, which nobody has entered yet."""
        room = str(uris.Uri(self._domain, Thing.ROOM, f"direct-{secrets.token_hex(16)}"))
        direct = Direct(room, user, other)
        await self._host.put_all(self.take(direct))
        return direct

    async def forget(self, room: str) -> None:
        """Nobody here talks there any more."""
        self._rooms.pop(room, None)
        await self._host.put(f"{PREFIX}{room}", None)

    def take(self, direct: Direct) -> dict[str, bytes | None]:
        """From now on it is known: what is to be stored."""
        self._rooms[direct.room] = direct
        return {f"{PREFIX}{direct.room}": msgspec.msgpack.encode(direct)}


def found_in(state: Room, room: str, user: str) -> Direct | None:
    """What `user` was brought into, if it is a direct room: two people, and nobody else can come."""
    if not state.base.fixed_membership:
        return None
    others = [one for one in state.takes_part if one != user]
    mine, theirs = uris.parse(user).domain, [uris.parse(one).domain for one in others]
    return Direct(room, user, others[0]) if len(others) == 1 and theirs[0] != mine else None
