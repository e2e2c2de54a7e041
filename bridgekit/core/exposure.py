"""The lattice of exposure: how open a room may be, as the meet over its Matrix side and all its links."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import msgspec

from bridgekit.contract.ids import PortalKey
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.core import wording
from bridgekit.core.scopes import Consent, Policy, Scope, in_force


class JoinRule(IntEnum):
    """Who gets into a room without being asked in; each step lets more people in (m.room.join_rules)."""

    INVITE = 0
    KNOCK = 1
    RESTRICTED = 2  # the members of certain rooms: MSC3083
    PUBLIC = 3


HISTORY: dict[Exposure, str] = {
    Exposure.PRESENT: "joined",  # and nobody reads unseen: the presence gate
    Exposure.JOINED: "joined",
    Exposure.INVITED: "invited",
    Exposure.SHARED: "shared",
    Exposure.WORLD_READABLE: "world_readable",
}
"""m.room.history_visibility for each exposure (Client-Server API, "Room History Visibility")."""

_DOORS = {Entry.INVITE: JoinRule.INVITE, Entry.KNOCK: JoinRule.KNOCK, Entry.OPEN: JoinRule.PUBLIC}


class Bound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How open a room may be at most: a product of chains, so that the meet is taken field by field."""

    history: Exposure = Exposure.PRESENT
    join: JoinRule = JoinRule.INVITE
    guests: bool = False
    listed: bool = False  # in a public room directory
    findable: bool = False  # by an alias, or in a space
    media: bool = False

    def meet(self, other: Bound) -> Bound:
        """The most open bound that both allow."""
        return Bound(
            history=min(self.history, other.history),
            join=min(self.join, other.join),
            guests=self.guests and other.guests,
            listed=self.listed and other.listed,
            findable=self.findable and other.findable,
            media=self.media and other.media,
        )

    def union(self, other: Bound) -> Bound:
        """The least open bound that allows what either allows."""
        return Bound(
            history=max(self.history, other.history),
            join=max(self.join, other.join),
            guests=self.guests or other.guests,
            listed=self.listed or other.listed,
            findable=self.findable or other.findable,
            media=self.media or other.media,
        )

    def allows(self, other: Bound) -> bool:
        """Whether `other` is nowhere more open."""
        return self.meet(other) == other


SECRET = Bound()
"""The bottom: what is allowed while nothing is known."""
OPEN = Bound(
    history=Exposure.WORLD_READABLE, join=JoinRule.PUBLIC, guests=True, listed=True, findable=True, media=True
)
"""The top: what a side allows that sets no bound."""
CEILING = Bound(
    history=Exposure.SHARED, join=JoinRule.PUBLIC, guests=True, listed=True, findable=True, media=True
)
"""The admin's bound where the config says nothing: the whole world reads nothing by default."""


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """All that the lattice knows of one link. `ceiling` is the meet of the admin's bounds for network and link."""

    key: PortalKey
    name: str
    label: str  # what people call the network
    visibility: Visibility = Visibility()
    policy: Policy = Policy.REQUIRED
    consents: tuple[Consent, ...] = ()
    ceiling: Bound = CEILING


class Closed(msgspec.Struct, frozen=True):
    """A link from and to which nothing may pass. `reason` is a sentence for people."""

    link: PortalKey
    reason: str


class Standing(msgspec.Struct, frozen=True):
    """A link that may be open, and the bound that it puts on the room."""

    link: LinkView
    bound: Bound


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """How open a room may be now.

    `bound` is the meet; `standing` the links behind it, each with its own bound; `closed` those that have no
    consent; `through` is how open the rooms may be whose members may enter, whatever the links say. The properties are
    the settings in Matrix's own words.
    """

    bound: Bound
    standing: tuple[Standing, ...] = ()
    closed: tuple[Closed, ...] = ()
    through: JoinRule = JoinRule.PUBLIC

    @property
    def history_visibility(self) -> str:
        """m.room.history_visibility, at most."""
        return HISTORY[self.bound.history]

    @property
    def join_rule(self) -> str:
        """m.room.join_rules, at most: "invite", "knock", "restricted" or "public"."""
        return self.bound.join.name.lower()

    @property
    def guest_access(self) -> str:
        """m.room.guest_access, at most."""
        return "can_join" if self.bound.guests else "forbidden"

    @property
    def listed(self) -> bool:
        """Whether the room may stand in a public room directory."""
        return self.bound.listed

    @property
    def alias(self) -> bool:
        """Whether the room may have a canonical alias, and a place in a space that others see."""
        return self.bound.findable

    @property
    def media(self) -> bool:
        """Whether files may be passed on."""
        return self.bound.media

    def may_pass(self, link: PortalKey) -> bool:
        """Whether anything may pass from and to the link at all."""
        return any(standing.link.key == link for standing in self.standing)


def bound_of(link: LinkView, now: int) -> Bound | None:
    """What one link allows at `now` (ms); None where it may not be open at all, for want of consent."""
    if link.key.receiver is not None:  # one person's own conversation: nobody is asked, nobody else gets in
        # Guests come by invitation only, like everybody else; who is asked in later may be shown what was said.
        return Bound(history=Exposure.SHARED, guests=True, media=link.ceiling.media)
    scopes = in_force(link.policy, link.consents, now)
    if Scope.BRIDGE not in scopes:
        return None
    seen = link.visibility if link.visibility.known else Visibility()
    agreed = Exposure.JOINED
    if Scope.PUBLIC in scopes:
        agreed = Exposure.WORLD_READABLE
    elif Scope.HISTORY in scopes:
        agreed = Exposure.SHARED
    history = min(seen.exposure, agreed)
    # A room that anybody may knock at or enter shows its name and topic to the world (MSC3266), so what its
    # network hides is for the invited.
    join = _DOORS[seen.entry] if seen.listed else JoinRule.INVITE
    return Bound(
        history=history,
        join=join,
        guests=join is JoinRule.PUBLIC and history is Exposure.WORLD_READABLE,
        listed=seen.listed and Scope.PUBLIC in scopes,
        findable=seen.listed,
        media=Scope.MEDIA in scopes,
    ).meet(link.ceiling)


def why_closed(name: str, label: str, consents: Iterable[Consent]) -> str:
    """What a link without consent waits for, for people."""
    if any(consent.withholds() for consent in consents):
        return wording.waits_for_a_wish(name, label)
    return wording.waits_for_consent(name, label)


def allowed(matrix: Bound, links: Iterable[LinkView], now: int, *, made: bool) -> Allowed:
    """How open the room may be: the meet of the Matrix side and of every link that has consent.

    `matrix` is what the room's own people want (OPEN for a room that the bridge `made`). A link without consent
    puts no bound on the room, because nothing of it is in there; a made room without any other link is secret.
    """
    standing: list[Standing] = []
    closed: list[Closed] = []
    bound = matrix
    for link in links:
        if (own := bound_of(link, now)) is None:
            closed.append(Closed(link.key, why_closed(link.name, link.label, link.consents)))
        else:
            standing.append(Standing(link, own))
            bound = bound.meet(own)
    if made and not standing:
        bound = SECRET
    return Allowed(bound=bound, standing=tuple(standing), closed=tuple(closed))


def until_heard(decided: Allowed, left: Bound, through: JoinRule) -> Allowed:
    """The same, while it is not known what all its chats allow: no more open than the room was `left`, also to who goes
    `through` the rooms that it names. (Of files a room's settings say nothing.)"""
    kept = msgspec.structs.replace(left, media=True)
    return msgspec.structs.replace(decided, bound=decided.bound.meet(kept), through=through)


def limits(links: Iterable[Standing]) -> Bound:
    """The meet of the links alone: what the room's own people may choose from."""
    bound = OPEN
    for standing in links:
        bound = bound.meet(standing.bound)
    return bound
