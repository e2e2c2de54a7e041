"""The spam shield of one link: how fast people may speak and come in, and the quarantine of strangers.

Whatever it does not pass at once is held, with a reason, or refused, with a reason: nothing is dropped.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bridgekit.contract.ids import MATRIX, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person, Role
from bridgekit.core import wording
from bridgekit.core.rates import Bucket, Buckets, Rate


class Quarantine(StrEnum):
    """Whose first messages wait for a nod."""

    OFF = "off"
    STRANGERS = "strangers"  # without a role and without an account, and never nodded to
    EVERYBODY = "everybody"  # without a role, and never nodded to


class ShieldRules(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one link. A burst is passed on, a flood is slowed down, and beyond `patience` it is refused."""

    person: Rate = Rate(20, 10_000)
    link: Rate = Rate(200, 10_000)
    joins: Rate = Rate(60, 60_000)
    patience: int = 60_000  # ms: what would have to wait longer is refused
    first: int = 20  # messages of one stranger that wait for the nod; what comes on top is refused
    tell: Rate = Rate(1, 60_000)  # how often one person is told
    quarantine: Quarantine = Quarantine.OFF


class Nod(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decided about a stranger in one chat, `at` (ms). `by` is who: their id on their own side."""

    side: PortalKey
    person: PersonId
    name: str
    accepted: bool
    by: str
    at: int


def without_nodder(nod: Nod, network: NetworkId, person: PersonId) -> Nod:
    """What was decided, without a word of who decided it where that is somebody who is erased, of the chat's network or
    of Matrix."""
    if network not in (MATRIX, nod.side.network) or nod.by != person:
        return nod
    return msgspec.structs.replace(nod, by=wording.ERASED)


class Pass(msgspec.Struct, frozen=True):
    """It goes on at once."""


class Wait(msgspec.Struct, frozen=True):
    """It goes on at `until` (ms), in its order. `tell` is for the sender, "" where they were told already."""

    until: int
    why: str
    tell: str = ""


class Quarantined(msgspec.Struct, frozen=True):
    """It waits for a nod. `ask` is for the room's moderators and `tell` for the sender, "" where they know already."""

    why: str
    ask: str = ""
    tell: str = ""


class Refused(msgspec.Struct, frozen=True):
    """It is not passed on. `why` is its fate; `tell` is for the room, once in a while, and says how many there were."""

    why: str
    tell: str = ""


Ruling = Pass | Wait | Quarantined | Refused
PASS = Pass()
MOST = 1000
"""People whose floods are counted apart; the others are counted together."""


class Shield:
    """The shield of one link. All times are milliseconds."""

    def __init__(self, rules: ShieldRules, *, name: str, now: int) -> None:
        self.rules = rules
        self._name = name
        self._people: Buckets[PersonId] = Buckets(rules.person)
        self._link = Bucket(rules.link, now)
        self._joins = Bucket(rules.joins, now)
        self._tell: Buckets[PersonId] = Buckets(rules.tell)
        self._until: dict[PersonId, int] = {}  # what of a person waits ends then
        self._refused: dict[str, int] = {}  # by name, since the room was told last
        self._known: set[PersonId] = set()
        self._vouched: dict[
            PersonId, int
        ] = {}  # until when what was said under a name is somebody's who is trusted
        self._barred: set[PersonId] = set()
        self._asked: set[PersonId] = set()
        self._full: set[PersonId] = set()

    def message(self, person: Person, role: Role, now: int, *, waiting: int = 0) -> Ruling:
        """Somebody of the network says something (or edits, or reacts), of whom `waiting` facts are held already."""
        if (ruling := self.stranger(person, role, now)) is not PASS:
            if isinstance(ruling, Quarantined) and waiting >= self.rules.first:
                return self._enough(person)
            return ruling
        if role >= Role.HALF_MODERATOR:
            return PASS  # who keeps order is not slowed down
        return self.speed(person, now)

    def speed(self, person: Person, now: int) -> Ruling:
        """Whether it comes too fast, whoever it is."""
        own = self._people.of(person.id, now)
        wait = max(own.wait(now), self._link.wait(now), self._until.get(person.id, 0) - now)
        if wait > self.rules.patience:
            return self._refuse(person, now)
        own.owe(now)
        self._link.owe(now)
        if wait <= 0:
            self._until.pop(person.id, None)
            return PASS
        if len(self._until) > 5000:
            self._until = {p: until for p, until in self._until.items() if until > now}
        self._until[person.id] = now + wait
        seconds = -(-wait // 1000)
        tell = wording.too_fast(seconds) if self._tell.take(person.id, now) else ""
        return Wait(now + wait, wording.too_fast(seconds), tell)

    def stranger(self, person: Person, role: Role, at: int) -> Ruling:
        """Whether what came `at` may be heard at all: what does not depend on how much they say."""
        if person.id in self._barred:
            return Refused(wording.REJECTED)
        if not self._is_stranger(person, role) or at <= self._vouched.get(person.id, -1):
            return PASS
        first = person.id not in self._asked
        self._asked.add(person.id)
        return Quarantined(
            wording.STRANGER_WAITS,
            ask=wording.quarantined(person.name, self._name) if first else "",
            tell=wording.STRANGER_WAITS if first else "",
        )

    def _enough(self, person: Person) -> Refused:
        if person.id in self._full:
            return Refused(wording.ENOUGH_WAITS)
        self._full.add(person.id)
        return Refused(
            wording.ENOUGH_WAITS, wording.only_the_first(person.name, self._name, self.rules.first)
        )

    def _refuse(self, person: Person, now: int) -> Refused:
        name = person.name if person.name in self._refused or len(self._refused) < MOST else "others"
        count = self._refused[name] = self._refused.get(name, 0) + 1
        if not self._tell.take(person.id, now):
            return Refused(wording.FLOOD)
        del self._refused[name]
        return Refused(wording.FLOOD, wording.flooded(name, count))

    def rest(self) -> list[str]:
        """For the room, once a minute or at the end: floods that were refused and not told yet."""
        told = [wording.flooded(name, count) for name, count in self._refused.items()]
        self._refused.clear()
        return told

    def joined(self, now: int) -> int:
        """Somebody came in: milliseconds by which their ghost should come later. Nobody's words wait for that."""
        return self._joins.owe(now)

    # Strangers -------------------------------------------------------------------------------------------------

    def _is_stranger(self, person: Person, role: Role) -> bool:
        match self.rules.quarantine:
            case Quarantine.OFF:
                return False
            case Quarantine.STRANGERS if person.account:
                return False
            case _:
                return role < Role.VOICE and person.id not in self._known

    def accept(self, person: PersonId) -> None:
        """An operator nodded: what is held of the person goes on, and so does all that follows."""
        self._known.add(person)
        self._barred.discard(person)
        self._asked.discard(person)
        self._full.discard(person)

    def vouch(self, person: PersonId, until: int) -> None:
        """They have a voice or an account now: what they said before goes on. Whoever bears the name later and has
        neither is a stranger."""
        self._vouched[person] = until
        self._asked.discard(person)
        self._full.discard(person)

    def is_free(self, person: PersonId, since: int) -> bool:
        """Whether what waits `since` then need not wait any more: an operator nodded, or it was of no stranger."""
        return person in self._known or since <= self._vouched.get(person, -1)

    def reject(self, person: PersonId) -> None:
        """An operator does not want it: what is held is refused, and so is all that follows."""
        self._barred.add(person)
        self._known.discard(person)
        self._asked.discard(person)
        self._full.discard(person)
