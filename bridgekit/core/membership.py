"""Who of a network is shown in a room: modes, who is in which of its chats, and the retirement of the idle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum

from bridgekit.contract.ids import ChatId, PersonId, PortalKey
from bridgekit.contract.people import Member, Role


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


# Who is where ------------------------------------------------------------------------------------------------


class Attendance:
    """In which of a room's linked chats each person is: a ghost leaves when its person is in none of them.

    Persons of different networks have different ghosts, so a person is looked for on the same network's links only.
    """

    def __init__(self) -> None:
        self._chats: dict[ChatId, dict[PortalKey, dict[PersonId, Member]]] = {}
        self._read: set[PortalKey] = set()  # the links of which a roster was read

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

    def is_in(self, room: ChatId, link: PortalKey, person: PersonId) -> bool:
        """Whether the person is in this chat, as last told."""
        return person in self.members(room, link)

    def is_anywhere(self, room: ChatId, link: PortalKey, person: PersonId) -> bool:
        """Whether the person is in any of the room's chats on the link's network."""
        return any(
            person in people
            for other, people in self._chats.get(room, {}).items()
            if other.network == link.network
        )

    def read(self, room: ChatId, link: PortalKey, roster: Iterable[Member]) -> None:
        """A roster was read: these are in the chat, and nobody else is."""
        self._read.add(link)
        self._chats.setdefault(room, {})[link] = {member.person.id: member for member in roster}

    def may_be_elsewhere(
        self, room: ChatId, link: PortalKey, person: PersonId, others: Iterable[PortalKey]
    ) -> bool:
        """Whether somebody whom the roster of `link` does not name may be in one of the room's `others`: a chat of
        which no roster was read yet may hold anybody."""
        return any(
            other.network == link.network
            and other != link
            and (other not in self._read or person in self.members(room, other))
            for other in others
        )

    def moved(self, old: ChatId, new: ChatId) -> None:
        """The room was replaced by another."""
        if (chats := self._chats.pop(old, None)) is not None:
            self._chats.setdefault(new, {}).update(chats)

    def unlinked(self, room: ChatId, link: PortalKey) -> tuple[PersonId, ...]:
        """The link is gone; whose ghosts should leave the room."""
        self._read.discard(link)
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
