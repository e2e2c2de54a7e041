"""Who speaks for one chat: its operators as the network shows them, and what they have answered."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bridgekit.contract.ids import PersonId, PortalKey
from bridgekit.contract.people import Member, Person, Role
from bridgekit.core.questions import Ask, Drop, Keep
from bridgekit.core.scopes import Consent, Scope
from bridgekit.core.wording import ERASED


class Seat(msgspec.Struct, frozen=True):
    """An operator as the network shows them now."""

    person: Person
    role: Role

    @property
    def account(self) -> str:
        """What the network vouches for; "" where it vouches for nobody."""
        return self.person.account or ""

    def is_same(self, person: Person) -> bool:
        """Whether who speaks now is this operator, and not somebody else under the same name."""
        return self.person.id == person.id and self.account == (person.account or "")


class ChatFile:
    """What the desk knows of one chat."""

    def __init__(self, side: PortalKey, *, name: str, room: str, by: str, operator: Role) -> None:
        self.side = side
        self.name = name
        self.room = room
        self.by = by
        self.wanted: frozenset[Scope] = frozenset()
        self.consents: dict[int, Consent] = {}
        self.asks: dict[int, Ask] = {}
        self.lost: dict[int, int] = {}  # consent id -> since when its operator is without the role
        self.told_nobody = False
        self.unanswered = 0  # questions that ran out
        self.overflow = 0  # ms: questions were held back since then
        self.shown: frozenset[Scope] | None = None  # the scopes that were told last
        self._operator = operator
        self._seats: dict[PersonId, Seat] = {}
        self.seen = False  # a roster was read since the start

    def seat_of(self, person: PersonId) -> Seat | None:
        """The operator who has this id now."""
        return self._seats.get(person)

    def free(self) -> list[Seat]:
        """The operators who can be asked now; those whom the network vouches for first, then by role."""
        waiting = {a.person for a in self.asks.values()}
        found = [s for s in self._seats.values() if s.person.id not in waiting and not s.person.bot]
        return sorted(found, key=lambda s: (not s.account, -s.role, s.person.id))

    def roster(self, members: Iterable[Member]) -> list[Drop]:
        """These are all who are there."""
        before, self._seats = self._seats, {}
        self.seen = True
        for member in members:
            if member.role >= self._operator:
                self._seats[member.person.id] = Seat(member.person, member.role)
        out: list[Drop] = []
        for ask in list(self.asks.values()):
            old, new = before.get(ask.person), self._seats.get(ask.person)
            # Without an account there is no telling who came back: the question holds only as long as it was seen.
            if new is None or new.account != ask.account or (old is None and not ask.account):
                out += self.void(ask.person)
        return out

    def seat(self, person: Person, role: Role) -> list[Drop]:
        """Somebody has a role; a question dies with the role, or when another account has the name."""
        before = self._seats.get(person.id)
        if role < self._operator:
            return self.gone(person.id)
        self._seats[person.id] = Seat(person, role)
        if before is not None and before.account != (person.account or ""):
            return self.void(person.id)
        return []

    def gone(self, person: PersonId) -> list[Drop]:
        """Somebody is no operator, or not there."""
        self._seats.pop(person, None)
        return self.void(person)

    def void(self, person: PersonId | None = None) -> list[Drop]:
        """The questions to that person (None: to everybody) hold no more."""
        gone = [a.id for a in self.asks.values() if person is None or a.person == person]
        for id in gone:
            del self.asks[id]
        return [Drop(id) for id in gone]

    def unnamed(self, person: PersonId) -> list[Keep]:
        """The open questions without a word of the Matrix user for whom they were asked: they would be part of what is
        agreed to."""
        named = [ask for ask in self.asks.values() if person in ask.wording]
        for ask in named:
            words = ask.wording.replace(person, ERASED)
            self.asks[ask.id] = msgspec.structs.replace(ask, wording=words)
        return [Keep(self.asks[ask.id]) for ask in named]

    def keep(self, consent: Consent) -> Keep:
        """Remember an answer, and have it written down."""
        self.consents[consent.id] = consent
        return Keep(consent)

    def count_lost(self, now: int) -> None:
        """Note who is without the role: in memory, because a mode may flip ten thousand times a minute."""
        if not self.seen:
            return
        for consent in self.consents.values():
            if self._is_backed(consent):
                self.lost.pop(consent.id, None)
            else:
                self.lost.setdefault(consent.id, now)

    def _is_backed(self, consent: Consent) -> bool:
        """Whether who agreed is an operator now: the same account, or the same person where there is none."""
        if consent.account:
            return any(seat.account == consent.account for seat in self._seats.values())
        seat = self._seats.get(consent.person)
        return seat is not None and not seat.account

    @property
    def withheld(self) -> bool:
        """Whether Matrix's side has taken the link back, and nobody there wants it anew."""
        return any(c.withholds() for c in self.consents.values())

    def wanted_anew(self, now: int) -> list[Keep]:
        """Somebody on Matrix wants the link: what their side said against it holds no more."""
        ended = [
            msgspec.structs.replace(c, ended=now, ended_by="wanted anew")
            for c in self.consents.values()
            if c.withholds()
        ]
        return [self.keep(c) for c in ended]

    def refused(self, now: int, lasting: int) -> frozenset[Scope]:
        """The scopes about which the last answer was a no, and not longer than `lasting` (ms) ago."""
        newest: dict[Scope, Consent] = {}
        for consent in sorted(self.consents.values(), key=lambda c: (c.at, c.id)):
            if not consent.ended:
                newest |= dict.fromkeys(consent.scopes, consent)
        return frozenset(s for s, c in newest.items() if not c.granted and now - c.at < lasting)
