"""What the people of a chat have agreed to: scopes, and the consents that are kept of it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from bridgekit.contract.ids import MATRIX, NetworkId, PersonId, PortalKey
from bridgekit.core.wording import ERASED


class Scope(StrEnum):
    """One thing that a chat's operators can agree to. Nothing holds without BRIDGE."""

    BRIDGE = "bridge"  # the chat may be linked at all
    HISTORY = "history"  # who comes later may read what was said before
    PUBLIC = "public"  # everybody in the world may read it, and the room may be listed
    MEDIA = "media"  # files are passed on and kept by the homeserver


class Policy(StrEnum):
    """How much a network's chats are asked before they are linked."""

    REQUIRED = "required"  # an operator of the chat has to agree
    ANNOUNCED = "announced"  # the chat is told; what goes beyond reading along has to be agreed to
    OFF = "off"  # the chats are the admin's own


IMPLIED: dict[Policy, frozenset[Scope]] = {
    Policy.REQUIRED: frozenset(),
    Policy.ANNOUNCED: frozenset({Scope.BRIDGE, Scope.MEDIA}),
    Policy.OFF: frozenset({Scope.BRIDGE, Scope.MEDIA, Scope.HISTORY}),
}
"""What holds without being asked. PUBLIC is never implied: the world is nobody's own chat."""


class Consent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one operator answered, once; or Matrix's own side, against a link. All times are milliseconds since the
    epoch.

    `account` is what the network vouched for, "" where it vouches for nobody. `wording` is the very text of the
    question. `lost`: since when the operator is without the role (0: has it). `until`: when it stops to count
    (0: never). `ended`, `ended_by`: when and by whom it was taken back. `granted` is False for a refusal of these
    scopes, which is kept so that the same chat is not asked again and again. `by_matrix`: the no is of Matrix's side,
    and nothing holds against it until somebody there wants the link anew.
    """

    id: int
    side: PortalKey
    scopes: frozenset[Scope]
    person: PersonId
    name: str
    account: str = ""
    at: int
    wording: str
    lost: int = 0
    until: int = 0
    ended: int = 0
    ended_by: str = ""
    granted: bool = True
    by_matrix: bool = False

    def counts(self, now: int) -> bool:
        """Whether it holds at `now`."""
        return self.granted and not self.ended and (not self.until or now < self.until)

    def refuses(self) -> bool:
        """Whether it is a no that stands."""
        return not self.granted and not self.ended

    def withholds(self) -> bool:
        """Whether it is a no of Matrix's side that stands."""
        return self.refuses() and self.by_matrix


def without_person(consent: Consent, network: NetworkId, person: PersonId) -> Consent:
    """The consent without a word of somebody who is erased, of its network or of Matrix: that the chat has agreed, when
    and to what, stays for who asks later."""
    if network != MATRIX and network != consent.side.network:
        return consent
    if network == MATRIX:
        by = ERASED if consent.ended_by == person else consent.ended_by
        kept = msgspec.structs.replace(consent, ended_by=by, wording=consent.wording.replace(person, ERASED))
        if consent.by_matrix and consent.person == person:
            kept = msgspec.structs.replace(kept, person=PersonId(""), name=ERASED)
        return kept
    if consent.person != person:
        return consent
    by = ERASED if consent.ended_by == consent.name else consent.ended_by
    return msgspec.structs.replace(consent, person=PersonId(""), name=ERASED, account="", ended_by=by)


def agreed_since(consents: Iterable[Consent], now: int) -> int:
    """Since when (ms) a chat may be linked without a break by the consents that hold at `now`, and by those before
    them up to whose end they reach; 0 where none holds."""
    given = [c for c in consents if c.granted and Scope.BRIDGE in c.scopes]
    since = min((c.at for c in given if c.counts(now)), default=0)
    for consent in sorted(given, key=lambda c: c.at, reverse=True):
        ends = min(end for end in (consent.ended, consent.until, now) if end)
        if consent.at < since <= ends:
            since = consent.at
    return since


def in_force(policy: Policy, consents: Iterable[Consent], now: int) -> frozenset[Scope]:
    """The scopes that hold for a chat at `now`; empty where it may not be linked at all."""
    consents = list(consents)
    if policy is not Policy.OFF and any(c.withholds() for c in consents):
        return frozenset()
    implied = IMPLIED[policy]
    if policy is not Policy.OFF and any(Scope.BRIDGE in c.scopes for c in consents if c.refuses()):
        implied = frozenset()
    scopes = implied.union(*(c.scopes for c in consents if c.counts(now)))
    return scopes if Scope.BRIDGE in scopes else frozenset()
