"""Who of a network is shown in a room: modes, comparison after a reconnect, leaving, and the retirement of the idle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum

import msgspec

from bridgekit.contract.ids import ChatId, PersonId, PortalKey
from bridgekit.contract.people import Member, Person, Role


class Mode(StrEnum):
    """Whose ghosts are in the room of a link."""

    ACTIVE = "active"  # who has spoken
    GRADUAL = "gradual"  # who speaks at once, all others little by little
    FULL = "full"  # all, before anything else
    NONE = "none"  # a ghost is there to speak and no longer: nobody's coming and going is shown


class Urgency(IntEnum):
    """In which order ghosts are let in; the lowest first."""

    SPEAKER = 0  # somebody said something: not queued at all, the message waits for it
    OPERATOR = 1  # who can be asked to moderate should be seen
    VOICED = 2
    RECENT = 3  # has spoken before
    REST = 4


def urgency(role: Role, *, spoke: bool) -> Urgency:
    """How soon a person's ghost should be in the room, where the mode wants it there."""
    if role >= Role.HALF_MODERATOR:
        return Urgency.OPERATOR
    if role >= Role.VOICE:
        return Urgency.VOICED
    return Urgency.RECENT if spoke else Urgency.REST


def wanted(mode: Mode, *, speaks: bool) -> bool:
    """Whether somebody who is in the chat should have a ghost in the room. `speaks`: says something now, or did."""
    match mode:
        case Mode.GRADUAL | Mode.FULL:
            return True
        case Mode.ACTIVE | Mode.NONE:
            return speaks


def shows_departures(mode: Mode) -> bool:
    """Whether a ghost leaves when its person does. In NONE it stays, silent: nothing is shown either way."""
    return mode is not Mode.NONE


# After a reconnect ------------------------------------------------------------------------------------------


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What changed while nobody looked. Nobody who is in both is touched: no leaving and rejoining."""

    came: tuple[Member, ...] = ()
    went: tuple[PersonId, ...] = ()
    renamed: tuple[Person, ...] = ()
    roles: tuple[Member, ...] = ()


def compare(stored: Mapping[PersonId, Member], roster: Iterable[Member]) -> Difference:
    """What the stored members of one chat and its roster, read anew, differ in."""
    now = {member.person.id: member for member in roster}
    came, renamed, roles = [], [], []
    for person, member in now.items():
        old = stored.get(person)
        if old is None:
            came.append(member)
            continue
        if old.person.name != member.person.name or old.person.avatar != member.person.avatar:
            renamed.append(member.person)
        if old.role != member.role:
            roles.append(member)
    return Difference(
        came=tuple(came),
        went=tuple(person for person in stored if person not in now),
        renamed=tuple(renamed),
        roles=tuple(roles),
    )


class Attendance:
    """In which of a room's linked chats each person is: a ghost leaves when its person is in none of them.

    Persons of different networks have different ghosts, so a person is looked for on the same network's links only.
    """

    def __init__(self) -> None:
        self._chats: dict[ChatId, dict[PortalKey, dict[PersonId, Member]]] = {}

    def members(self, room: ChatId, link: PortalKey) -> Mapping[PersonId, Member]:
        """Who is in the chat, as last told."""
        return self._chats.get(room, {}).get(link, {})

    def came(self, room: ChatId, link: PortalKey, member: Member) -> None:
        """Somebody is in the chat, or is otherwise called or ranked there."""
        self._chats.setdefault(room, {}).setdefault(link, {})[member.person.id] = member

    def went(self, room: ChatId, link: PortalKey, person: PersonId) -> bool:
        """Somebody is not in the chat any more; True where their ghost should leave the room."""
        self._chats.get(room, {}).get(link, {}).pop(person, None)
        return not self.is_anywhere(room, link, person)

    def is_anywhere(self, room: ChatId, link: PortalKey, person: PersonId) -> bool:
        """Whether the person is in any of the room's chats on the link's network."""
        return any(
            person in people
            for other, people in self._chats.get(room, {}).items()
            if other.network == link.network
        )

    def read(
        self, room: ChatId, link: PortalKey, roster: Iterable[Member]
    ) -> tuple[Difference, tuple[PersonId, ...]]:
        """A roster was read: what has changed, and whose ghosts should leave the room."""
        roster = list(roster)
        difference = compare(self.members(room, link), roster)
        self._chats.setdefault(room, {})[link] = {member.person.id: member for member in roster}
        gone = tuple(p for p in difference.went if not self.is_anywhere(room, link, p))
        return difference, gone

    def unlinked(self, room: ChatId, link: PortalKey) -> tuple[PersonId, ...]:
        """The link is gone; whose ghosts should leave the room."""
        people = self._chats.get(room, {}).pop(link, {})
        if not self._chats.get(room):
            self._chats.pop(room, None)
        return tuple(person for person in people if not self.is_anywhere(room, link, person))


def idle(
    last_seen: Mapping[PersonId, int], now: int, days: int, *, keep: Iterable[PersonId] = ()
) -> list[PersonId]:
    """Whose ghosts may be retired: silent for `days` (0: nobody ever is). The longest silent first.

    `last_seen` is when (ms) each last spoke or was let in; `keep` are those who stay in any case (operators).
    """
    if days <= 0:
        return []
    before = now - days * 86_400_000
    kept = set(keep)
    found = [(at, person) for person, at in last_seen.items() if at < before and person not in kept]
    return [person for _, person in sorted(found)]
