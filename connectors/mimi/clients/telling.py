"""What the clients hosted here hear, as facts of the bridge. Pure.

Our own users are people of other sides: what they do, the bridge knows already.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.facts import Change, Fact, Membership
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import Member, Person
from connectors.mimi import uris
from connectors.mimi.messages import attachment
from connectors.mimi.service import room as state_of
from connectors.mimi.service.room import BANNED, NOBODY, Room
from connectors.mimi.wire.components import RoomMetadata


class Home(msgspec.Struct, frozen=True):
    """Who we are: the network as the bridge calls it, our domain, and what the addresses of our files begin with."""

    network: NetworkId
    domain: str
    files: str

    def shows(self, metadata: RoomMetadata) -> bool:
        """Whether a room's picture is one that we gave it."""
        return metadata.avatar.startswith(self.files)


def person(user: str) -> Person:
    """Somebody of another provider."""
    try:
        name = uris.parse(user).name
    except PeerMisbehaved:
        name = user
    return Person(id=PersonId(user), name=name.rpartition("/")[2] or user)


def is_of(user: str, domain: str) -> bool:
    """Whether a user is of that provider."""
    return user.startswith(f"mimi://{domain}/")


def opened(state: Room, room: str, *, at: int, home: Home) -> list[Fact]:
    """What a room is, for one who comes into it. `at` in ms."""
    chat, metadata = ChatId(room), state.metadata or RoomMetadata(room)
    members = tuple(
        Member(person=person(p.user), role=state_of.standing(state.roles.get(p.role)))
        for p in state.participants
        if p.role not in (NOBODY, BANNED) and not is_of(p.user, home.domain)
    )
    found: list[Fact] = [
        facts.ChatOpened(chat=chat, at=at, name=metadata.name, topic=metadata.subject),
        facts.ChatVisibility(chat=chat, at=at, visibility=state_of.visibility(state)),
        facts.Roster(chat=chat, at=at, members=members),
    ]
    if metadata.avatar and not home.shows(metadata):
        found.append(_avatar(metadata, chat, at=at, home=home))
    return found


def changes(
    old: Room,
    new: Room,
    room: str,
    *,
    at: int,
    home: Home,
    by: str,
    seated: Set[str] = frozenset(),
    showing: str | None = None,
) -> list[Fact]:
    """What became of a room by a commit of the user `by`, "" for ours.

    `seated` are the users of ours with a seat there: whoever left has none any more, and was not put out. `showing` is
    the picture that we are giving the room just now, if we are.
    """
    chat, found = ChatId(room), list[Fact]()
    before = {p.user: p.role for p in old.participants if not is_of(p.user, home.domain)}
    after = {p.user: p.role for p in new.participants if not is_of(p.user, home.domain)}
    for user in sorted(before.keys() | after.keys()):
        was, now = before.get(user, NOBODY), after.get(user, NOBODY)
        if was == now:
            continue
        who = person(user)
        if (change := _change(was, now)) is not None:
            found.append(Membership(chat=chat, at=at, person=who, change=change))
        if now not in (NOBODY, BANNED):
            role = state_of.standing(new.roles.get(now))
            found.append(facts.RoleChange(chat=chat, at=at, person=who, role=role))
    if by and not is_of(by, home.domain):
        found += _ours(old, new, chat, at=at, home=home, by=by, seated=seated)
    was_said, is_said = old.metadata or RoomMetadata(room), new.metadata or RoomMetadata(room)
    if was_said.name != is_said.name:
        found.append(facts.ChatName(chat=chat, at=at, name=is_said.name))
    if was_said.subject != is_said.subject:
        found.append(facts.Topic(chat=chat, at=at, topic=is_said.subject))
    if was_said.avatar != is_said.avatar and is_said.avatar != showing and not home.shows(is_said):
        found.append(_avatar(is_said, chat, at=at, home=home))
    seen = state_of.visibility(new)
    if seen != state_of.visibility(old):
        found.append(facts.ChatVisibility(chat=chat, at=at, visibility=seen))
    return found


def _ours(
    old: Room, new: Room, chat: ChatId, *, at: int, home: Home, by: str, seated: Set[str]
) -> Iterator[Fact]:
    """What others did with users of ours: people of Matrix, for whom their clients here stand."""
    actor = person(by)
    for user in sorted(
        {p.user for p in (*old.participants, *new.participants) if is_of(p.user, home.domain)}
    ):
        was, now = old.role_of(user), new.role_of(user)
        owner = uris.hosts(user)
        if was == now or owner is None:
            continue
        who, stands_for = person(user), PersonId(owner)
        change = _change(was, now)
        if change is None:
            role = state_of.standing(new.roles.get(now))
            yield facts.RoleChange(
                chat=chat, at=at, person=who, role=role, actor=actor, stands_for=stands_for
            )
        elif change is not Change.JOIN and (change is not Change.LEAVE or user in seated):
            done = Change.KICK if change is Change.LEAVE else change
            yield Membership(chat=chat, at=at, person=who, change=done, actor=actor, stands_for=stands_for)


def _avatar(metadata: RoomMetadata, chat: ChatId, *, at: int, home: Home) -> facts.ChatAvatar:
    """By the room's hub, as all files (5.10): what is at that address learns nothing of who looks at it."""
    avatar = None
    if metadata.avatar:
        hub = uris.parse(chat).domain
        avatar = attachment.by_way_of(attachment.in_clear(metadata.avatar, "avatar"), home.network, hub)
    return facts.ChatAvatar(chat=chat, at=at, avatar=avatar)


def _change(was: int, now: int) -> Change | None:
    if now == BANNED:
        return Change.BAN
    if was == BANNED and now == NOBODY:
        return Change.UNBAN
    if was in (NOBODY, BANNED):
        return Change.JOIN
    return Change.LEAVE if now == NOBODY else None
