"""Crowds: who is in each chat at this moment, as its network tells it; never what somebody once wrote down."""

from __future__ import annotations

from collections.abc import Iterator

from bridgekit.contract import facts
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Member, Role
from bridgekit.core.gate import Seen

_LEFT = (Change.LEAVE, Change.KICK, Change.BAN)


class Crowd:
    """The people of one chat. `known` is False until a roster was read: until then nobody counts as seen.

    Somebody whom a netsplit took away is remembered as being on its other side until they come back, or until the
    next roster.
    """

    __slots__ = ("_members", "_roles", "_split", "known")

    def __init__(self) -> None:
        self.known = False
        self._members: dict[PersonId, Member] = {}
        self._split: set[PersonId] = set()
        self._roles: dict[
            PersonId, Role
        ] = {}  # of people who are not seen: a role says nothing of where they are

    def __contains__(self, person: PersonId) -> bool:
        return person in self._members

    def members(self) -> tuple[Member, ...]:
        """Everybody who is there."""
        return tuple(self._members.values())

    def role(self, person: PersonId) -> Role:
        """What somebody may do there, as far as it was told."""
        member = self._members.get(person)
        return member.role if member is not None else self._roles.get(person, Role.NONE)

    def account(self, person: PersonId) -> str:
        """The account that somebody is signed in to, as far as it was told."""
        member = self._members.get(person)
        return (member.person.account or "") if member is not None else ""

    def seen(self, person: PersonId) -> Seen:
        """Where somebody is."""
        if person in self._members:
            return Seen.PRESENT
        return Seen.SPLIT if person in self._split else Seen.ABSENT

    def hear(self, fact: Fact) -> frozenset[PersonId] | None:
        """Take a fact of the chat in; who has come or gone with it, None where that may be anybody."""
        match fact:
            case facts.Roster(members=members):
                self._members = {m.person.id: m for m in members}
                self._split.clear()
                self._roles.clear()
                self.known = True
                return None
            case facts.Membership(person=person, change=Change.JOIN):
                role = self._roles.pop(person.id, Role.NONE)
                self._members.setdefault(person.id, Member(person=person, role=role))
                self._split.discard(person.id)
                return frozenset({person.id})
            case facts.Membership(person=person, change=change) if change in _LEFT:
                was = self._members.pop(person.id, None)
                self._roles.pop(person.id, None)
                if was is not None and fact.split:
                    self._split.add(person.id)
                else:
                    self._split.discard(person.id)
                return frozenset({person.id}) if was is not None else _NOBODY
            case facts.RoleChange(person=person, role=role) if person.id in self._members:
                self._members[person.id] = Member(person=person, role=role)
            case facts.RoleChange(person=person, role=role):
                self._roles[person.id] = role
            case facts.Profile(person=person) if person.id in self._members:
                self._members[person.id] = Member(person=person, role=self._members[person.id].role)
            case facts.ChatClosed():
                self.known = False
                self._members.clear()
                self._split.clear()
                self._roles.clear()
                return None
            case _:
                pass
        return _NOBODY


_NOBODY: frozenset[PersonId] = frozenset()


class Crowds:
    """The crowds of all shared chats that the bridge is in."""

    def __init__(self) -> None:
        self._of: dict[PortalKey, Crowd] = {}

    def of(self, side: PortalKey) -> Crowd:
        """The chat's crowd."""
        crowd = self._of.get(side)
        if crowd is None:
            crowd = self._of[side] = Crowd()
        return crowd

    def lost(self, network: NetworkId) -> list[PortalKey]:
        """The connection that reads a network is gone: nobody is seen until it is back. Which chats that concerns."""
        gone = [side for side in self._of if side.network == network]
        for side in gone:
            del self._of[side]
        return gone

    def forget(self, side: PortalKey) -> None:
        """The bridge is not in the chat any more."""
        self._of.pop(side, None)

    def account(self, network: NetworkId, person: PersonId) -> str:
        """The account that somebody is signed in to, as far as a chat tells; "" where none does."""
        found = (self._of[side].account(person) for side in self.where(network, person))
        return next(filter(None, found), "")

    def where(self, network: NetworkId, person: PersonId) -> Iterator[PortalKey]:
        """The chats in which somebody is."""
        return (side for side, crowd in self._of.items() if side.network == network and person in crowd)
