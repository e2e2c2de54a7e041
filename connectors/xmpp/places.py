"""Which Matrix users stand in which rooms under which nicks, on disk: after a restart they are no strangers there."""

from __future__ import annotations

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import Person


class Place(msgspec.Struct, frozen=True):
    """Somebody of another side, and the nick that a room knows them by."""

    speaker: Person
    nick: str


class Places:
    """By room; a place that was never written costs a ghost that goes again, no message."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[str, dict[PersonId, Place]] = {}

    async def of(self, room: str) -> list[Place]:
        """Everybody of ours who was in the room last."""
        if room not in self._known:
            kept = await self._host.get(f"places/{room}")
            found = msgspec.json.decode(kept, type=list[Place]) if kept else []
            self._known.setdefault(room, {place.speaker.id: place for place in found})
        return list(self._known[room].values())

    def put(self, room: str, place: Place) -> None:
        """They are there."""
        known = self._known.setdefault(room, {})
        if known.get(place.speaker.id) != place:
            known[place.speaker.id] = place
            self._keep(room)

    def rename(self, room: str, speaker: PersonId, nick: str) -> None:
        """They are there under another nick."""
        if (place := self._known.get(room, {}).get(speaker)) is not None:
            self.put(room, Place(speaker=place.speaker, nick=nick))

    def remove(self, room: str, speaker: PersonId) -> None:
        """They are not."""
        if self._known.get(room, {}).pop(speaker, None) is not None:
            self._keep(room)

    def forget(self, room: str) -> None:
        """The room is not ours any more."""
        self._known.pop(room, None)
        self._host.put_later(f"places/{room}", None)

    def _keep(self, room: str) -> None:
        known = self._known[room]
        self._host.put_later(f"places/{room}", msgspec.json.encode(list(known.values())) if known else None)
