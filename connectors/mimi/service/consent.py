"""Who may fetch whose key packages (draft-ietf-mimi-protocol-06 5.7 and 8). Without IO."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bridgekit.contract.errors import NotAllowed
from connectors.mimi import uris
from connectors.mimi.uris import Thing
from connectors.mimi.wire.users import ConsentEntry, ConsentOperation, UserCode

MAX_ENTRIES = 1000
"""Of one user: a stranger who asks under ever new names fills nobody's memory."""
MAX_WAITING = 100
"""Of one provider's users, with one user of ours: so that it does not take the place of others who ask."""


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """`room` is None for any room."""

    requester: str
    room: str | None


class Consents(msgspec.Struct, frozen=True):
    """What one user has agreed to: True granted, False revoked, and None where somebody asked and waits."""

    user: str
    entries: tuple[tuple[Scope, bool | None], ...] = ()

    def take(self, entry: ConsentEntry) -> Consents:
        """With a request or its cancellation, a grant or a revocation. Raises NotAllowed past the bound."""
        scope = Scope(entry.requester, entry.room)
        known = dict(self.entries)
        match entry.operation:
            case ConsentOperation.REQUEST:
                if scope not in known and self._waiting_of(entry.requester) >= MAX_WAITING:
                    raise NotAllowed("Too many of that provider have asked already.")
                known.setdefault(scope, None)
            case ConsentOperation.CANCEL:
                if known.get(scope, True) is None:
                    del known[scope]
            case ConsentOperation.GRANT:
                known[scope] = True
            case ConsentOperation.REVOKE:
                known[scope] = False
        if len(known) > MAX_ENTRIES:
            raise NotAllowed("Too many have asked already.")
        return Consents(self.user, tuple(known.items()))

    def _waiting_of(self, requester: str) -> int:
        domain = uris.parse(requester).domain
        return sum(uris.parse(scope.requester).domain == domain for scope in self.waiting)

    def verdict(self, requester: str, room: str) -> UserCode:
        """Whether `requester` may fetch key packages for `room` (empty: for any). The narrower entry counts first."""
        known = dict(self.entries)
        special = known.get(Scope(requester, room)) if room else None
        general = known.get(Scope(requester, None))
        if special is not None:
            return UserCode.SUCCESS if special else UserCode.NO_CONSENT_FOR_THIS_ROOM
        return UserCode.SUCCESS if general else UserCode.NO_CONSENT

    @property
    def waiting(self) -> list[Scope]:
        """Who has asked and not been answered."""
        return [scope for scope, answer in self.entries if answer is None]


def check_origin(entry: ConsentEntry, *, asked: bool, source: str, ours: str) -> None:
    """Who may say what (5.7): `asked` is True at requestConsent, False at updateConsent. Raises NotAllowed."""
    operations = (
        (ConsentOperation.REQUEST, ConsentOperation.CANCEL)
        if asked
        else (ConsentOperation.GRANT, ConsentOperation.REVOKE)
    )
    if entry.operation not in operations:
        raise NotAllowed("That consent operation goes to the other endpoint.")
    requester = uris.parse(entry.requester, Thing.USER).domain
    target = uris.parse(entry.target, Thing.USER).domain
    mine, theirs = (target, requester) if asked else (requester, target)
    if theirs != source:
        raise NotAllowed("A provider speaks for its own users only.")
    if mine != ours:
        raise NotAllowed("That user is not of this provider.")


def read_all(raw: Mapping[str, bytes]) -> dict[str, Consents]:
    """The stored consents of all users, by user."""
    found = (msgspec.msgpack.decode(value, type=Consents) for value in raw.values())
    return {consents.user: consents for consents in found}
