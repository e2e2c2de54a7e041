"""A room as it is, compared with what is allowed: what to take back, what may be opened, which links have to pause."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import msgspec

from bridgekit.contract.ids import PortalKey
from bridgekit.contract.policy import Exposure
from bridgekit.core import wording
from bridgekit.core.exposure import HISTORY, OPEN, Allowed, Bound, JoinRule, limits
from bridgekit.core.roles import number

HISTORY_TYPE = "m.room.history_visibility"
JOIN_TYPE = "m.room.join_rules"
GUEST_TYPE = "m.room.guest_access"
ALIAS_TYPE = "m.room.canonical_alias"
POWER_TYPE = "m.room.power_levels"
WATCHED = frozenset({HISTORY_TYPE, JOIN_TYPE, GUEST_TYPE, ALIAS_TYPE, POWER_TYPE})
"""A change of one of these makes the room worth comparing anew."""

_HISTORIES = {
    "joined": Exposure.JOINED,
    "invited": Exposure.INVITED,
    "shared": Exposure.SHARED,
    "world_readable": Exposure.WORLD_READABLE,
}
_JOINS = {
    "private": JoinRule.INVITE,
    "invite": JoinRule.INVITE,
    "knock": JoinRule.KNOCK,
    "restricted": JoinRule.RESTRICTED,
    "knock_restricted": JoinRule.RESTRICTED,
    "public": JoinRule.PUBLIC,
}


class Room(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The settings of a Matrix room as they are. What nobody can read counts as the most open."""

    history: Exposure = Exposure.SHARED  # where no event says anything, the specification says "shared"
    join: JoinRule = JoinRule.INVITE
    guests: bool = False
    listed: bool = False
    alias: bool = False
    allow: tuple[str, ...] = ()  # rooms whose members may enter a restricted one
    ajar: tuple[str, ...] = ()  # those of them that anybody may enter, or of which nobody knows
    knocking: bool = True  # this room's version knows the join rule "knock" (7 and later)

    @property
    def shown(self) -> Bound:
        """How open the room is."""
        return Bound(
            history=self.history,
            join=self.join,
            guests=self.guests,
            listed=self.listed,
            findable=self.alias,
        )

    @property
    def exposed(self) -> Bound:
        """How open the room is to who goes through the rooms that it names."""
        if self.join is JoinRule.RESTRICTED and self.ajar:
            return msgspec.structs.replace(self.shown, join=JoinRule.PUBLIC)
        return self.shown


def named_rooms(rules: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The rooms whose members may enter a restricted one (MSC3083), from m.room.join_rules. Raises nothing."""
    allow = (rules or {}).get("allow")
    return tuple(
        one["room_id"]
        for one in (allow if isinstance(allow, list) else ())
        if isinstance(one, dict) and isinstance(one.get("room_id"), str)
    )


def lets_everybody_in(rules: Mapping[str, Any] | None) -> bool:
    """Whether a room with these m.room.join_rules may be entered by who was not let in by anybody there. One for the
    members of yet other rooms counts so, too: those are not followed any further."""
    return room_of({JOIN_TYPE: rules}, listed=False).join >= JoinRule.RESTRICTED


def room_of(
    state: Mapping[str, Mapping[str, Any] | None],
    *,
    listed: bool,
    version: str = "10",
    closed: Container[str] = (),
) -> Room:
    """Read the contents of the `WATCHED` state events (None or missing: there is none). Raises nothing.

    The homeserver was asked for `listed` (room directory), for the room's `version` (m.room.create), and which of the
    rooms that it names are `closed` to who was not let in there.
    """
    history = (state.get(HISTORY_TYPE) or {}).get("history_visibility", "shared")
    rules = state.get(JOIN_TYPE) or {}
    rule = rules.get("join_rule", "invite")
    guest = (state.get(GUEST_TYPE) or {}).get("guest_access", "forbidden")
    alias = state.get(ALIAS_TYPE) or {}
    allow = named_rooms(rules)
    return Room(
        history=_HISTORIES.get(history, Exposure.WORLD_READABLE)
        if isinstance(history, str)
        else Exposure.WORLD_READABLE,
        join=_JOINS.get(rule, JoinRule.PUBLIC) if isinstance(rule, str) else JoinRule.PUBLIC,
        guests=guest != "forbidden",
        listed=listed,
        alias=bool(alias.get("alias") or alias.get("alt_aliases")),
        allow=allow,
        ajar=tuple(one for one in allow if one not in closed),
        knocking=not (version.isdecimal() and int(version) < 7),
    )


def exceeds(type: str, content: Mapping[str, Any], bound: Bound) -> bool:
    """Whether a room in whose state this stands (one of the `WATCHED` types) is more open than `bound`."""
    room = room_of({type: content}, listed=False)
    match type:
        case "m.room.history_visibility":
            return room.history > max(bound.history, Exposure.JOINED)
        case "m.room.join_rules":
            return room.exposed.join > bound.join
        case "m.room.guest_access":
            return room.guests and not bound.guests
        case "m.room.canonical_alias":
            return room.alias and not bound.findable
        case _:
            return False


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """What the bot may do in a room: its own level, and what each type of state event takes."""

    level: int = 100
    needs: Mapping[str, int] = {}
    default: int = 50

    def may(self, type: str) -> bool:
        """Whether the bot may set state of this type."""
        return self.level >= self.needs.get(type, self.default)


def power_of(content: Mapping[str, Any] | None, bot: str, *, created: bool = False) -> Power:
    """Read m.room.power_levels (None: there is none). `created`: in this room version the bot, who made the room,
    stands above all levels (version 12). Raises nothing; what is malformed counts as no power."""
    if created:
        return Power(level=2**53)
    if content is None:  # then only the creator has power, and this is a room that somebody else made
        return Power(level=0)
    users = content.get("users")
    level = users.get(bot) if isinstance(users, dict) else None
    if level is None:
        level = content.get("users_default", 0)
    events = content.get("events")
    needs = {k: number(v, 2**53) for k, v in events.items()} if isinstance(events, dict) else {}
    return Power(level=number(level, 0), needs=needs, default=number(content.get("state_default", 50), 2**53))


# What follows -----------------------------------------------------------------------------------------------


class SetState(msgspec.Struct, frozen=True):
    """Put this content into the room's state, with an empty state key."""

    type: str
    content: dict[str, Any]


class List(msgspec.Struct, frozen=True):
    """Put the room into the public directory, or take it out."""

    public: bool


class Pause(msgspec.Struct, frozen=True):
    """Stop to pass anything on from this link until the room is mended. Both are whole sentences for people."""

    link: PortalKey
    reason: str
    mend: str


Change = SetState | List


def corrections(
    room: Room, allowed: Allowed, power: Power, *, refused: frozenset[str] = frozenset()
) -> tuple[Change | Pause, ...]:
    """What brings the room down to what is allowed, for each setting that is above it.

    Where the bot has no power for it (or the homeserver `refused` that type, "" for the directory), every link
    that the setting exposes has to pause instead: no other link suffers. Empty where nothing is above.
    """
    found: list[Change | Pause] = []
    over: list[
        tuple[Bound, str, str]
    ] = []  # a bound that shows one setting alone, in words, and how to mend it
    bound = allowed.bound
    most = min(limits(allowed.standing).join, allowed.through)

    def lower(type: str, change: Change, shown: Bound, words: str, mend: str) -> None:
        if type not in refused and power.may(type or ALIAS_TYPE):
            found.append(change)
        else:
            over.append((shown, words, mend))

    if room.history > max(bound.history, Exposure.JOINED):
        lower(
            HISTORY_TYPE,
            SetState(HISTORY_TYPE, {"history_visibility": allowed.history_visibility}),
            Bound(history=room.history),
            wording.HISTORY_IS[room.history],
            wording.mend(HISTORY_TYPE, allowed.history_visibility),
        )
    if room.join > bound.join or room.exposed.join > most:
        allow = _allowing(room, most)
        target = _rule(bound.join, room, allow)
        lower(
            JOIN_TYPE,
            SetState(JOIN_TYPE, _join_content(target, allow)),
            Bound(join=room.exposed.join),
            wording.JOIN_IS[room.exposed.join],
            wording.mend(JOIN_TYPE, target.name.lower()),
        )
    if room.guests and not bound.guests:
        lower(
            GUEST_TYPE,
            SetState(GUEST_TYPE, {"guest_access": "forbidden"}),
            Bound(guests=True),
            wording.GUESTS_MAY,
            wording.mend(GUEST_TYPE, "forbidden"),
        )
    if room.listed and not bound.listed:
        lower("", List(public=False), Bound(listed=True), wording.IS_LISTED, wording.UNLIST)
    if room.alias and not bound.findable:
        lower(
            ALIAS_TYPE,
            SetState(ALIAS_TYPE, {}),
            Bound(findable=True),
            wording.HAS_ALIAS,
            wording.UNALIAS,
        )
    for standing in allowed.standing:
        own = standing.bound
        # PRESENT is guarded by the gate: in Matrix's words it is "joined" as well.
        own = msgspec.structs.replace(own, history=max(own.history, Exposure.JOINED))
        exposing = [(words, mend) for shown, words, mend in over if not own.allows(shown)]
        if exposing:
            link = standing.link
            reason = wording.paused(link.name, link.label, [words for words, _ in exposing])
            found.append(Pause(link.key, reason, wording.how_to_mend([mend for _, mend in exposing])))
    return tuple(found)


def openings(
    room: Room, allowed: Allowed, power: Power, *, refused: frozenset[str] = frozenset()
) -> tuple[Change, ...]:
    """What brings the room up to what is allowed: of use only where the Matrix side's bound is its people's wish.

    An alias is never put back, because the bridge does not know which. Never above what is allowed.
    """
    found: list[Change] = []
    bound = allowed.bound
    history = max(bound.history, Exposure.JOINED)
    if room.history < history and _may(power, HISTORY_TYPE, refused):
        found.append(SetState(HISTORY_TYPE, {"history_visibility": HISTORY[history]}))
    allow = _allowing(room, limits(allowed.standing).join)
    target = _rule(bound.join, room, allow)
    if room.join < target and _may(power, JOIN_TYPE, refused):
        found.append(SetState(JOIN_TYPE, _join_content(target, allow)))
    if bound.guests and not room.guests and _may(power, GUEST_TYPE, refused):
        found.append(SetState(GUEST_TYPE, {"guest_access": "can_join"}))
    if bound.listed and not room.listed and "" not in refused and power.may(ALIAS_TYPE):
        found.append(List(public=True))
    return tuple(found)


def _may(power: Power, type: str, refused: frozenset[str]) -> bool:
    return type not in refused and power.may(type)


def heeded(wish: Bound, shown: Bound, allowed: Allowed) -> Bound:
    """What the room's own people want, after they set the room as it is `shown`: kept as far as the links allow it.

    What they may not have is forgotten, so that it does not come true by itself when a link opens up. A room that
    the bridge made wants OPEN until its people choose less.
    """
    within = limits(allowed.standing) if allowed.standing else OPEN
    # Media is nothing that a room's state speaks of.
    return msgspec.structs.replace(shown.meet(within), media=wish.media)


def may_open(room: Room, allowed: Allowed, link: PortalKey) -> bool:
    """Whether words from `link` may go into the room as it is: checked before a link opens, and after a restart."""
    for standing in allowed.standing:
        if standing.link.key == link:
            own = standing.bound
            history = max(own.history, Exposure.JOINED)
            return msgspec.structs.replace(own, history=history).allows(room.exposed)
    return False


def _allowing(room: Room, most: JoinRule) -> tuple[str, ...]:
    """The rooms whose members may enter, where a room's links allow a join rule of `most`."""
    return tuple(one for one in room.allow if most is JoinRule.PUBLIC or one not in room.ajar)


def _rule(bound: JoinRule, room: Room, allow: Sequence[str]) -> JoinRule:
    """The most open join rule that this room can have within the bound."""
    rule = bound
    if rule is JoinRule.RESTRICTED and not allow:
        rule = JoinRule.KNOCK
    if rule is JoinRule.KNOCK and not room.knocking:
        rule = JoinRule.INVITE
    return rule


def _join_content(rule: JoinRule, allow: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {"join_rule": rule.name.lower()}
    if rule is JoinRule.RESTRICTED:
        content["allow"] = [{"type": "m.room_membership", "room_id": room} for room in allow]
    return content
