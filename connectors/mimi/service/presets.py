"""The roles and policies of rooms that we make."""

from __future__ import annotations

from connectors.mimi.service.room import BANNED, BANNED_NAME, NOBODY, Capability, Room
from connectors.mimi.wire import components, policies
from connectors.mimi.wire.components import Component, Participant, RoomMetadata
from connectors.mimi.wire.policies import BaseRoomPolicy, Role, RoleTargets

MEMBER, MODERATOR, ADMIN, HOST = 2, 3, 4, 5
HOST_NAME = "host"
CONTENT = components.MediaType("application/mimi-content")
STATUS = components.MediaType("application/mimi-message-status")

_TALK = (
    *range(
        Capability.SEND_MESSAGE, 0x0108
    ),  # send, receive, copy, report, reply, react, edit and delete reactions
    *range(0x0109, 0x010B),  # edit and delete what one wrote
    *range(0x010C, 0x010F),  # topics
    *range(0x0200, 0x020C),  # files and links
)
_MEMBER = (
    Capability.ADD_OWN_CLIENT,
    Capability.REMOVE_OWN_CLIENT,
    Capability.REMOVE_SELF,
    *_TALK,
)
_MODERATOR = (
    Capability.ADD_PARTICIPANT,
    Capability.REMOVE_PARTICIPANT,
    Capability.BAN,
    Capability.UNBAN,
    Capability.KICK,
    Capability.CHANGE_USER_ROLE,
    Capability.DELETE_OTHER_REACTION,
    Capability.DELETE_OTHER_MESSAGE,
    Capability.CHANGE_NAME,
    Capability.CHANGE_DESCRIPTION,
    Capability.CHANGE_AVATAR,
    Capability.CHANGE_SUBJECT,
    Capability.CHANGE_MOOD,
)
_ADMIN = (Capability.CHANGE_MEMBERSHIP_STYLE, Capability.CHANGE_ROLES, Capability.CHANGE_OTHER_POLICY)


def _role(index: int, name: str, capabilities: tuple[int, ...], *changes: RoleTargets) -> Role:
    return Role(index=index, name=name, capabilities=tuple(sorted(map(int, capabilities))), changes=changes)


def roles(*, open_: bool = False) -> tuple[Role, ...]:
    """Members who talk, hosts who bring others in, moderators who keep order, admins.

    Hosts are people of Matrix: their homeserver knows whether they may invite. `open_`: anybody may come in.
    """
    outside = (int(Capability.OPEN_JOIN),) if open_ else (int(Capability.USE_JOIN_CODE),)
    everybody = (NOBODY, BANNED, MEMBER, HOST, MODERATOR)
    return (
        Role(NOBODY, "", capabilities=outside, most_active=0, changes=(RoleTargets(NOBODY, (MEMBER,)),)),
        Role(BANNED, BANNED_NAME, most_active=0),
        _role(MEMBER, "member", _MEMBER, RoleTargets(MEMBER, (NOBODY,))),
        _role(
            MODERATOR,
            "moderator",
            (*_MEMBER, *_MODERATOR),
            RoleTargets(NOBODY, (BANNED, MEMBER)),
            RoleTargets(BANNED, (NOBODY, MEMBER)),
            RoleTargets(MEMBER, (NOBODY, BANNED, MODERATOR)),
            RoleTargets(HOST, (NOBODY, BANNED, MODERATOR)),
            RoleTargets(MODERATOR, (NOBODY, MEMBER)),
        ),
        _role(
            ADMIN,
            "admin",
            (*_MEMBER, *_MODERATOR, *_ADMIN),
            *(
                RoleTargets(source, tuple(t for t in (*everybody, ADMIN) if t != source))
                for source in everybody
            ),
            RoleTargets(ADMIN, (NOBODY, MEMBER, MODERATOR)),
        ),
        _role(
            HOST,
            HOST_NAME,
            (*_MEMBER, Capability.ADD_PARTICIPANT),
            RoleTargets(NOBODY, (MEMBER,)),
            RoleTargets(HOST, (NOBODY,)),
        ),
    )


def role_of_ours(room: Room) -> int:
    """In which role people of Matrix are brought into a room of ours: an older one has no hosts."""
    host = room.roles.get(HOST)
    return HOST if host is not None and host.name == HOST_NAME else MEMBER


def direct_roles() -> tuple[Role, ...]:
    """The two who talk are settled: nobody comes, nobody is put out."""
    rights = (Capability.ADD_OWN_CLIENT, Capability.REMOVE_OWN_CLIENT, *_TALK)
    return Role(NOBODY, "", most_active=0), _role(MEMBER, "member", rights)


def app_data(
    *,
    creator: str,
    metadata: RoomMetadata,
    agent: components.FrankingAgent,
    other: str | None = None,
    discoverable: bool = False,
) -> dict[int, bytes]:
    """The app data of a new group, whose first participant is `creator`, an admin.

    With `other` it is the direct room of these two. `agent` is the hub's key that franks messages; Safe AAD is on, so
    that they can be franked.
    """
    base = BaseRoomPolicy(
        fixed_membership=other is not None,
        max_users=None if other is None else 2,
        discoverable=discoverable,
        policy_components=(int(Component.ROLES_LIST),),
    )
    participants: tuple[Participant, ...]
    if other is None:
        participants, given = (Participant(creator, ADMIN),), roles(open_=discoverable)
    else:
        participants, given = (Participant(creator, MEMBER), Participant(other, MEMBER)), direct_roles()
    known = (
        Component.CONTENT_MEDIA_TYPES,
        Component.FRANKING_AGENT,
        Component.PARTICIPANT_LIST,
        Component.ROOM_METADATA,
        Component.ROLES_LIST,
        Component.BASE_ROOM_POLICY,
    )
    return {
        Component.APP_COMPONENTS: components.COMPONENTS_LIST.encode(tuple(map(int, known))),
        Component.SAFE_AAD: components.COMPONENTS_LIST.encode((int(Component.FRANK_AAD),)),
        Component.CONTENT_MEDIA_TYPES: components.MEDIA_TYPES.encode((CONTENT, STATUS)),
        Component.FRANKING_AGENT: components.FRANKING_AGENT.encode(agent),
        Component.PARTICIPANT_LIST: components.PARTICIPANT_LIST.encode(participants),
        Component.ROOM_METADATA: components.ROOM_METADATA.encode(metadata),
        Component.ROLES_LIST: policies.ROLES.encode(given),
        Component.BASE_ROOM_POLICY: policies.BASE_ROOM_POLICY.encode(base),
    }
