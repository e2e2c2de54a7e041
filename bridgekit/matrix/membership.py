"""Who came, went or is called otherwise: m.room.member events in, facts out (pure)."""

from __future__ import annotations

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import PersonId
from bridgekit.contract.people import File, Person
from bridgekit.matrix import permalinks
from bridgekit.matrix.events import Event, Member, Names, person_of, present, read, unsigned_of
from bridgekit.matrix.words import clean


def membership(event: Event, names: Names) -> Fact | None:
    """What a m.room.member event says of its user; None where nobody came, went or changed."""
    user = PersonId(event.state_key or "")
    if not permalinks.is_user_id(user):
        return None
    now = read(Member, event.content)
    before = _before(event)
    change = _change(before, now, by_themselves=event.sender == user)
    room, at = event.room_id, event.origin_server_ts
    if now.membership == "join" and before is not None and before.membership == "join":
        if (now.displayname, now.avatar_url) == (before.displayname, before.avatar_url):
            return None
        return facts.Profile(
            chat=room, at=at, person=_member_person(user, now), previous=clean(before.displayname)
        )
    if change is None:
        return None
    person = _member_person(user, now)
    if not now.displayname:
        called = names(room, user) or (clean(before.displayname) if before is not None else "")
        person = msgspec.structs.replace(person, name=called or localpart(user))
    actor = person_of(event, names) if event.sender != user else None
    return facts.Membership(
        chat=room,
        at=at,
        private=now.is_direct and change is Change.INVITE,
        person=person,
        change=change,
        actor=msgspec.structs.replace(actor, name=actor.name or localpart(actor.id)) if actor else None,
        reason=clean(now.reason),
    )


def _change(before: Member | None, now: Member, *, by_themselves: bool) -> Change | None:
    """What a member event does; None where it changes nothing that others should know."""
    earlier = before.membership if before is not None else ""
    match now.membership:
        case "join":
            return Change.JOIN
        case "invite":
            return Change.INVITE
        case "ban":
            return Change.BAN if earlier != "ban" else None
        case "leave" if earlier == "ban":
            return Change.UNBAN
        case "leave" if earlier in ("knock", "leave"):
            return None
        case "leave" if by_themselves or earlier == "invite":
            return Change.LEAVE  # an invitation was declined or taken back
        case "leave":
            return Change.KICK
        case _:
            return None


def _before(event: Event) -> Member | None:
    previous = unsigned_of(event).prev_content
    if not present(previous):
        return None
    try:
        return read(Member, previous)
    except PeerMisbehaved:
        return None


def _member_person(user: PersonId, member: Member) -> Person:
    avatar = None
    if member.avatar_url.startswith("mxc://"):
        avatar = File(uri=member.avatar_url, name="avatar")
    return Person(id=user, name=clean(member.displayname) or localpart(user), avatar=avatar)


def localpart(user: str) -> str:
    """`alice` of `@alice:example.org`, for those who have no name."""
    return user[1:].partition(":")[0] or user
