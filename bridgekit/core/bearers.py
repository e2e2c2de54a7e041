"""Who bears a name of a network: whether that is still whoever gave their word under it, with or without an account."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.contract.people import Person

InSight = Callable[[NetworkId, PersonId], bool]
"""Whether somebody is in a chat that the bridge sees."""


class Bearers:
    """Who has been in sight ever since they gave their word: whatever account they sign in to, it is them."""

    def __init__(self) -> None:
        self._near: set[tuple[NetworkId, PersonId]] = set()

    def gave(self, network: NetworkId, person: PersonId) -> None:
        """Somebody has given their word just now."""
        self._near.add((network, person))

    def took_back(self, network: NetworkId, person: PersonId) -> None:
        """Nothing that they said holds any more."""
        self._near.discard((network, person))

    def hear(self, network: NetworkId, fact: Fact, in_sight: InSight) -> None:
        """Whoever has gone may come back as somebody else. `in_sight` is how it is after the fact."""
        match fact:
            case facts.Roster() | facts.ChatClosed():
                self._near = {one for one in self._near if one[0] != network or in_sight(*one)}
            case facts.Membership(person=person) | facts.Message(sender=person):
                # Who was in no chat when they said so would be gone without a word.
                if (network, person.id) in self._near and not in_sight(network, person.id):
                    self._near.discard((network, person.id))
            case _:
                pass

    def lost(self, network: NetworkId) -> None:
        """The connection to a network is gone: nobody is in sight."""
        self._near = {one for one in self._near if one[0] != network}

    def is_same(self, network: NetworkId, person: PersonId) -> bool:
        """Whether whoever bears the name now is who gave their word, whatever account they have."""
        return (network, person) in self._near


def is_namesake(account: str, person: PersonId) -> bool:
    """Whether that is the account of this very name, which whoever gave their word without one most likely has."""
    return account.lower() == person.lower()


def seen_with(fact: Fact) -> Iterable[Person]:
    """Whose account a fact tells as it is now."""
    match fact:
        case facts.Message(replayed=False, own=None, sender=person):
            return (person,)
        case facts.Membership(change=facts.Change.JOIN, person=person):
            return (person,)
        case facts.Profile(person=person) | facts.RoleChange(person=person):
            return (person,)
        case facts.Roster(members=members):
            return (member.person for member in members)
        case _:
            return ()
