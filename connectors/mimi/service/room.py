"""The state of a room as its group holds it: participants, roles, metadata, policy (draft-ietf-mimi-protocol-06 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import cached_property
from typing import Any

import msgspec

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.people import Role as Standing
from bridgekit.contract.policy import Entry, Exposure, Visibility
from connectors.mimi.wire import components, policies
from connectors.mimi.wire.components import Component, Participant, ParticipantUpdate, RoomMetadata
from connectors.mimi.wire.policies import BaseRoomPolicy, Forbidden, Preauthorization, Role
from connectors.mimi.wire.tls import Codec

NOBODY = 0
BANNED = 1
BANNED_NAME = "banned"  # draft-ietf-mimi-room-policy 8.1.3: the role 1 bans only where it is called so
MAX_PARTICIPANTS = 10_000  # ours, so that a list stays something that can be held


class Capability(IntEnum):
    """What a role allows (draft-ietf-mimi-room-policy 10.2), as far as a hub or a bridge can act on it."""

    ADD_PARTICIPANT = 0x0000
    REMOVE_PARTICIPANT = 0x0001
    ADD_OWN_CLIENT = 0x0002
    REMOVE_OWN_CLIENT = 0x0003
    OPEN_JOIN = 0x0004
    JOIN_IF_PREAUTHORIZED = 0x0005
    REMOVE_SELF = 0x0006
    USE_JOIN_CODE = 0x0009
    BAN = 0x000A
    UNBAN = 0x000B
    KICK = 0x000C
    CHANGE_USER_ROLE = 0x000F
    CHANGE_OWN_ROLE = 0x0010
    SEND_MESSAGE = 0x0100
    RECEIVE_MESSAGE = 0x0101
    DELETE_OTHER_REACTION = 0x0108
    DELETE_OTHER_MESSAGE = 0x010B
    CHANGE_NAME = 0x0300
    CHANGE_DESCRIPTION = 0x0301
    CHANGE_AVATAR = 0x0302
    CHANGE_SUBJECT = 0x0303
    CHANGE_MOOD = 0x0304
    DESTROY_ROOM = 0x0501
    CHANGE_MEMBERSHIP_STYLE = 0x0502
    CHANGE_ROLES = 0x0503
    CHANGE_PREAUTHORIZED = 0x0504
    CHANGE_OTHER_POLICY = 0x0505
    REINIT = 0x0601


class Room(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What the group's app data say. What is not there is None, empty, or the draft's default."""

    participants: tuple[Participant, ...] = ()
    roles: Mapping[int, Role] = {}
    base: BaseRoomPolicy = BaseRoomPolicy()
    preauthorized: tuple[Preauthorization, ...] = ()
    metadata: RoomMetadata | None = None
    shares_history: bool = False

    def role_of(self, user: str) -> int:
        """The user's role, 0 where they are no participant."""
        return self._roles_of.get(user, NOBODY)

    @cached_property
    def _roles_of(self) -> Mapping[str, int]:
        return {p.user: p.role for p in reversed(self.participants)}

    def may(self, user: str, capability: Capability) -> bool:
        """Whether the user's role has `capability`."""
        role = self.roles.get(self.role_of(user))
        return role is not None and capability in role.capabilities

    @property
    def takes_part(self) -> list[str]:
        """Participants who are not banned."""
        return [p.user for p in self.participants if p.role not in (NOBODY, BANNED)]


def read(app_data: Mapping[int, bytes]) -> Room:
    """Read a group's app data. Raises PeerMisbehaved for what is not as the drafts say."""

    def part(component: Component, codec: Codec[Any], otherwise: Any) -> Any:
        raw = app_data.get(component)
        return otherwise if raw is None else codec.decode(raw)

    roles: tuple[Role, ...] = part(Component.ROLES_LIST, policies.ROLES, ())
    by_index = {role.index: role for role in roles}
    if len(by_index) != len(roles):
        raise PeerMisbehaved("The other side describes one role twice.")
    participants: tuple[Participant, ...] = part(Component.PARTICIPANT_LIST, components.PARTICIPANT_LIST, ())
    _check_participants(participants)
    history = part(Component.CHAT_HISTORY_POLICY, policies.HISTORY_POLICY, Forbidden())
    return Room(
        participants=participants,
        roles=by_index,
        base=part(Component.BASE_ROOM_POLICY, policies.BASE_ROOM_POLICY, BaseRoomPolicy()),
        preauthorized=part(Component.PREAUTH_LIST, policies.PREAUTHORIZATIONS, ()),
        metadata=part(Component.ROOM_METADATA, components.ROOM_METADATA, None),
        shares_history=not isinstance(history, Forbidden) and history.max_time > 0,
    )


def _check_participants(participants: Sequence[Participant]) -> None:
    if len(participants) > MAX_PARTICIPANTS:
        raise PeerMisbehaved("The other side names more participants than a room can have.")
    if len({p.user for p in participants}) != len(participants):
        raise PeerMisbehaved("The other side names one participant twice.")
    if any(p.role == NOBODY for p in participants):
        raise PeerMisbehaved("The other side names a participant whose role says that they are none.")


# How updates change components ------------------------------------------------------------------------------


def merge(component: int, current: bytes | None, updates: Sequence[bytes | None]) -> bytes | None:
    """What becomes of a component by the updates of one commit, in their order; None: it is removed.

    Raises PeerMisbehaved where the commit is invalid. All members and the hub come to the same octets.
    """
    if None in updates:
        if len(updates) > 1:
            raise PeerMisbehaved("One commit both removes a part of the room's state and changes it.")
        return None
    given = [update for update in updates if update is not None]
    match component:
        case Component.PARTICIPANT_LIST:
            participants = components.PARTICIPANT_LIST.decode(b"\0" if current is None else current)
            changes = [components.PARTICIPANT_UPDATE.decode(update) for update in given]
            return components.PARTICIPANT_LIST.encode(changed(participants, changes))
        case Component.JOIN_LINKS:
            links = list(policies.JOIN_LINKS.decode(b"\0" if current is None else current))
            for update in given:
                change = policies.JOIN_LINKS_UPDATE.decode(update)
                links = [link for at, link in enumerate(links) if at not in change.removed]
                links += change.added
            return policies.JOIN_LINKS.encode(tuple(links))
        case Component.ROOM_METADATA if len(given) > 1:
            raise PeerMisbehaved("One commit changes the room's metadata twice.")
        case _:
            if (codec := _REPLACED.get(component)) is not None:
                codec.decode(given[-1])
            return given[-1]


_REPLACED: dict[int, Codec[Any]] = {
    Component.CONTENT_MEDIA_TYPES: components.MEDIA_TYPES,
    Component.ROOM_METADATA: components.ROOM_METADATA,
    Component.ROLES_LIST: policies.ROLES,
    Component.PREAUTH_LIST: policies.PREAUTHORIZATIONS,
    Component.BASE_ROOM_POLICY: policies.BASE_ROOM_POLICY,
    Component.STATUS_NOTIFICATION_POLICY: policies.STATUS_NOTIFICATION_POLICY,
    Component.JOIN_LINK_POLICY: policies.JOIN_LINK_POLICY,
    Component.LINK_PREVIEW_POLICY: policies.LINK_PREVIEW_POLICY,
    Component.ASSET_POLICY: policies.ASSET_POLICY,
    Component.LOGGING_POLICY: policies.LOGGING_POLICY,
    Component.CHAT_HISTORY_POLICY: policies.HISTORY_POLICY,
    Component.BOT_POLICY: policies.BOT_POLICY,
    Component.MESSAGE_EXPIRATION_POLICY: policies.MESSAGE_EXPIRATION_POLICY,
    Component.FRANKING_AGENT: components.FRANKING_AGENT,
}


def changed(
    participants: tuple[Participant, ...], updates: Sequence[ParticipantUpdate]
) -> tuple[Participant, ...]:
    """The list after the updates of one commit (7.5). Raises PeerMisbehaved.

    Indices mean the list as it was before the commit, in every update of it (a second update could not know what
    the first one does). A user may be named once in a commit.
    """
    roles = {p.user: p.role for p in participants}
    named: set[str] = set()

    def name(user: str) -> str:
        if user in named:
            raise PeerMisbehaved("One commit changes one participant twice.")
        named.add(user)
        return user

    def at(index: int) -> str:
        if index >= len(participants):
            raise PeerMisbehaved("A change names a participant who is not in the list.")
        return name(participants[index].user)

    for update in updates:
        for change in update.changed:
            roles[at(change.index)] = change.role
    for update in updates:
        for index in update.removed:
            del roles[at(index)]
    for update in updates:
        for added in update.added:
            if name(added.user) in roles:
                raise PeerMisbehaved("A change adds a participant who is there already.")
            roles[added.user] = added.role
    after = tuple(Participant(user, role) for user, role in roles.items())
    _check_participants(after)
    return after


# What others read in it -------------------------------------------------------------------------------------


def visibility(room: Room) -> Visibility:
    """Who may read the room, in the bridge's words."""
    nobody = room.roles.get(NOBODY)
    given = {target for change in nobody.changes for target in change.targets} if nobody else set()
    newcomers = [room.roles[index] for index in given if index in room.roles and index != BANNED]
    return Visibility(
        exposure=Exposure.SHARED if room.shares_history else Exposure.JOINED,
        entry=Entry.OPEN if nobody and Capability.OPEN_JOIN in nobody.capabilities else Entry.INVITE,
        listed=room.base.discoverable,
        moderated=bool(newcomers) and not any(Capability.SEND_MESSAGE in r.capabilities for r in newcomers),
        known=bool(room.roles),
    )


def standing(role: Role | None) -> Standing:
    """What somebody with `role` may do, in the bridge's order of roles."""
    allowed = frozenset(role.capabilities) if role else frozenset()
    if Capability.CHANGE_ROLES in allowed or Capability.DESTROY_ROOM in allowed:
        return Standing.OWNER
    if Capability.CHANGE_USER_ROLE in allowed:
        return Standing.ADMIN
    if Capability.BAN in allowed or Capability.KICK in allowed or Capability.DELETE_OTHER_MESSAGE in allowed:
        return Standing.MODERATOR
    return Standing.VOICE if Capability.SEND_MESSAGE in allowed else Standing.NONE


def role_for(state: Room, user: str, wanted: Standing, *, by: str, usual: int = NOBODY) -> int | None:
    """The role nearest to what somebody is to be, of those that `by` may give them; None where there is none.

    Whoever has one that is as near keeps it; of others that are as near it is the `usual` one. Who is to be mute gets a
    role without a voice, or none.
    """
    now, giver = state.role_of(user), state.roles.get(state.role_of(by))
    targets = (
        {t for change in giver.changes if change.source == now for t in change.targets} if giver else set()
    )
    offered = [
        state.roles[index]
        for index in [now, *sorted(targets, key=lambda one: (one != usual, one))]
        if index in state.roles and index not in (NOBODY, BANNED)
    ]
    mute = wanted is Standing.MUTED
    fitting = [role for role in offered if (Capability.SEND_MESSAGE not in role.capabilities) is mute]
    # The nearest, of two that are as near the lesser: `min` takes the first, which is the present one.
    nearest = min(fitting, key=lambda role: (abs(standing(role) - wanted), standing(role)), default=None)
    return None if nearest is None else nearest.index


def entry(state: Room, code: bytes | None = None) -> int | None:
    """The role in which anybody may come in, or whoever has a code; None where the door is closed."""
    nobody = state.roles.get(NOBODY)
    keys = {Capability.OPEN_JOIN, *((Capability.USE_JOIN_CODE,) if code else ())}
    if nobody is None or keys.isdisjoint(nobody.capabilities):
        return None
    targets = [t for change in nobody.changes if change.source == NOBODY for t in change.targets]
    return next((target for target in targets if target not in (NOBODY, BANNED)), None)
