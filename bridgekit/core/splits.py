"""Netsplits: who was cut off keeps their ghost for a while, and the gate still knows that they are not there."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bridgekit.contract.ids import PersonId, PortalKey

HOLD = 600_000
"""Milliseconds for which a ghost stays after its person was cut off."""
SPREAD = 120_000
"""So many milliseconds the ends of the holds are spread over, so that a split that does not heal is no storm."""


class Away(msgspec.Struct, frozen=True):
    """Somebody who was cut off, and until when (ms) their ghost stays. `reason` is what the network said."""

    link: PortalKey
    person: PersonId
    until: int
    reason: str


class Splits:
    """Who is cut off where. Their ghosts are still in the room; they themselves read nothing."""

    def __init__(self) -> None:
        self._away: dict[tuple[PortalKey, PersonId], Away] = {}

    def __len__(self) -> int:
        return len(self._away)

    def lost(self, link: PortalKey, person: PersonId, now: int, jitter: float, reason: str = "") -> int:
        """Somebody was cut off; return until when (ms) their ghost stays. `jitter` is a throw of dice in [0, 1)."""
        key = link, person
        if (old := self._away.get(key)) is not None:
            return old.until
        until = now + HOLD + int(jitter * SPREAD)
        self._away[key] = Away(link, person, until, reason)
        return until

    def back(self, link: PortalKey, person: PersonId) -> bool:
        """Somebody was seen: rejoined, named in a roster, or heard. True where that ends a hold."""
        return self._away.pop((link, person), None) is not None

    def gone(self, link: PortalKey, person: PersonId) -> bool:
        """Somebody left in earnest, or was put out, while cut off. True where they were held."""
        return self._away.pop((link, person), None) is not None

    def is_away(self, link: PortalKey, person: PersonId) -> bool:
        """Whether somebody is cut off now: the gate asks this of the Matrix users' own accounts."""
        return (link, person) in self._away

    def present(self, link: PortalKey, shown: Iterable[PersonId]) -> frozenset[PersonId]:
        """Those of `shown` who are really there."""
        return frozenset(person for person in shown if (link, person) not in self._away)

    def read(self, link: PortalKey, present: Iterable[PersonId]) -> tuple[PersonId, ...]:
        """A roster was read: who is named is back; return them. Who is not named is waited for until their time."""
        return tuple(person for person in present if self.back(link, person))

    def due(self, now: int) -> list[Away]:
        """Whose time is over at `now`: their ghosts leave. They are forgotten here."""
        over = [away for away in self._away.values() if away.until <= now]
        for away in over:
            del self._away[away.link, away.person]
        return over

    def next(self) -> int | None:
        """When (ms) the next hold ends; None where there is none."""
        return min((away.until for away in self._away.values()), default=None)

    def unlinked(self, link: PortalKey) -> None:
        """The link is gone."""
        for key in [key for key in self._away if key[0] == link]:
            del self._away[key]
