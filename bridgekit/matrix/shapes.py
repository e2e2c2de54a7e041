"""The shapes of the homeserver's answers, as far as the bridge reads them (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from bridgekit.contract.ids import ChatId, MessageId, PersonId

Json = dict[str, Any]


class Page(msgspec.Struct, frozen=True):
    """One page of a room's timeline; `end` is where the next one starts, None at the end of what there is."""

    chunk: list[Json] = []
    start: str = ""
    end: str | None = None


class RawPage(msgspec.Struct, frozen=True):
    """The same, with each event as its JSON."""

    chunk: list[msgspec.Raw] = []
    end: str | None = None


class Versions(msgspec.Struct, frozen=True):
    """What the homeserver says it can do."""

    versions: list[str] = []
    unstable_features: dict[str, bool] = {}

    def at_least(self, major: int, minor: int) -> bool:
        """Whether any version of the spec that it names is `major.minor` or later."""
        return any(
            (int(a), int(b)) >= (major, minor)
            for version in self.versions
            if version.startswith("v")
            for a, _, b in [version[1:].partition(".")]
            if a.isdecimal() and b.isdecimal()
        )


class Identity(msgspec.Struct, frozen=True):
    """Who a token speaks for."""

    user_id: PersonId
    device_id: str | None = None


class EventId(msgspec.Struct):
    """The answer to what makes an event."""

    event_id: MessageId


class RoomId(msgspec.Struct):
    """The answer to what makes or joins a room."""

    room_id: ChatId


class Aliases(msgspec.Struct):
    """A room's aliases on its member's homeserver."""

    aliases: list[str]


class Alias(msgspec.Struct):
    """What an alias points at, and the servers that know the room."""

    room_id: ChatId
    servers: list[str] = []


class JoinedRooms(msgspec.Struct):
    """The rooms of one user."""

    joined_rooms: list[ChatId]


class JoinedMembers(msgspec.Struct):
    """The members of one room."""

    joined: dict[PersonId, dict[str, str | None]]


class Chunk(msgspec.Struct):
    """A list of events."""

    chunk: list[Json] = []


class Ping(msgspec.Struct):
    """How long a ping took."""

    duration_ms: int = 0
