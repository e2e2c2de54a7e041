"""Who may do what in a room (draft-ietf-mimi-room-policy-03)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from bridgekit.contract.errors import NotAllowed, PeerMisbehaved
from connectors.mimi.service import presets
from connectors.mimi.service.policy import (
    HUB,
    Act,
    AddClient,
    ChangeMetadata,
    ChangeParticipants,
    ChangePolicy,
    ReInit,
    RemoveClient,
    Unheard,
    UpdateClient,
    judge,
    may_send,
)
from connectors.mimi.service.presets import ADMIN, HOST, MEMBER, MODERATOR
from connectors.mimi.service.room import BANNED, Capability, Room
from connectors.mimi.wire.components import (
    Component,
    Participant,
    ParticipantUpdate,
    RoleChange,
    RoomMetadata,
)
from connectors.mimi.wire.policies import BaseRoomPolicy, Role

ANNA, MO, BEN, CARL, EVE = (
    f"mimi://{d}.example/u/{n}" for d, n in zip("ambce", ("anna", "mo", "ben", "carl", "eve"), strict=True)
)
DORA = "mimi://a.example/u/dora"
ROOM = Room(
    participants=(
        Participant(ANNA, ADMIN),
        Participant(MO, MODERATOR),
        Participant(BEN, MEMBER),
        Participant(EVE, BANNED),
    ),
    roles={role.index: role for role in presets.roles()},
    metadata=RoomMetadata("mimi://a.example/r/club", name="Club"),
)
CLIENTS = {ANNA: 1, MO: 2, BEN: 1}
INDEX = {p.user: at for at, p in enumerate(ROOM.participants)}


def adds(by: str, user: str, role: int = MEMBER) -> ChangeParticipants:
    return ChangeParticipants(by, ParticipantUpdate(added=(Participant(user, role),)))


def removes(by: str, user: str) -> ChangeParticipants:
    return ChangeParticipants(by, ParticipantUpdate(removed=(INDEX[user],)))


def gives(by: str, user: str, role: int) -> ChangeParticipants:
    return ChangeParticipants(by, ParticipantUpdate(changed=(RoleChange(INDEX[user], role),)))


def room(**changes: object) -> Room:
    return msgspec.structs.replace(ROOM, **changes)


def with_role(index: int, **changes: object) -> Room:
    role: Role = msgspec.structs.replace(ROOM.roles[index], **changes)
    return room(roles={**ROOM.roles, index: role})


ALLOWED: dict[str, Sequence[Act]] = {
    "a moderator adds somebody with a client": [adds(MO, CARL), AddClient(MO, CARL)],
    "a moderator adds somebody who has no client yet": [adds(MO, CARL)],
    "a member adds a client of their own": [AddClient(BEN, BEN)],
    "a member has fresh keys": [UpdateClient(BEN)],
    "a member leaves": [removes(BEN, BEN), RemoveClient(BEN, BEN)],
    "a member takes a client away and stays": [RemoveClient(BEN, BEN)],
    "a moderator removes a member": [removes(MO, BEN), RemoveClient(MO, BEN)],
    "a moderator bans a member": [gives(MO, BEN, BANNED), RemoveClient(MO, BEN)],
    "a moderator kicks a member's client": [RemoveClient(MO, BEN)],
    "a moderator unbans": [gives(MO, EVE, MEMBER)],
    "a moderator makes a moderator": [gives(MO, BEN, MODERATOR)],
    "an admin removes a moderator": [removes(ANNA, MO), RemoveClient(ANNA, MO), RemoveClient(ANNA, MO)],
    "a moderator renames the room": [ChangeMetadata(MO, RoomMetadata("mimi://a.example/r/club", name="New"))],
    "an admin changes roles": [ChangePolicy(ANNA, Component.ROLES_LIST)],
    "an admin changes how the room is joined": [ChangePolicy(ANNA, Component.BASE_ROOM_POLICY)],
    "the hub removes somebody": [removes(HUB, BEN), RemoveClient(HUB, BEN)],
    "the hub bans somebody": [gives(HUB, BEN, BANNED), RemoveClient(HUB, BEN)],
    "a moderator commits what a member proposed": [removes(BEN, BEN), RemoveClient(BEN, BEN), UpdateClient(MO)],
}  # fmt: skip

REFUSED: dict[str, tuple[Sequence[Act], str]] = {
    "a member adds somebody": ([adds(BEN, CARL)], "add participant"),
    "a member adds another's client": ([AddClient(BEN, MO)], "add participant"),
    "a client without a participant": ([AddClient(MO, CARL)], "no participant"),
    "a moderator makes an admin": ([adds(MO, CARL, ADMIN)], "change of role"),
    "a member removes a moderator": ([removes(BEN, MO)], "remove participant"),
    "a moderator removes an admin": ([removes(MO, ANNA), RemoveClient(MO, ANNA)], "change of role"),
    "a removed user's client stays": ([removes(MO, BEN)], "still has clients"),
    "a banned user's client stays": ([gives(MO, BEN, BANNED)], "still has clients"),
    "one of two clients of a removed user stays": ([removes(ANNA, MO), RemoveClient(ANNA, MO)], "still has clients"),
    "a banned user adds a client": ([AddClient(EVE, EVE)], "banned"),
    "a banned user's client is added": ([AddClient(MO, EVE)], "still has clients"),
    "a stranger adds themselves": ([adds(CARL, CARL), AddClient(CARL, CARL)], "invitation only"),
    "a member promotes themselves": ([gives(BEN, BEN, ADMIN)], "own role"),
    "a moderator promotes themselves": ([gives(MO, MO, ADMIN)], "own role"),
    "a role that is not there": ([gives(ANNA, BEN, 9)], "no such role"),
    "a member renames the room": (
        [ChangeMetadata(BEN, RoomMetadata("mimi://a.example/r/club", name="New"))],
        "change name",
    ),
    "the room's address": ([ChangeMetadata(ANNA, RoomMetadata("mimi://a.example/r/x"))], "keeps its address"),
    "a moderator changes roles": ([ChangePolicy(MO, Component.ROLES_LIST)], "change roles"),
    "roles and participants at once": (
        [ChangePolicy(ANNA, Component.ROLES_LIST), adds(ANNA, CARL)],
        "in one commit",
    ),
    "an admin starts anew": ([ReInit(ANNA)], "reinit"),
    "what no rule knows": ([Unheard(ANNA)], "does not provide"),
    "a stranger's fresh keys": ([UpdateClient(CARL)], "Only participants"),
    "the hub adds somebody": ([adds(HUB, CARL)], "hub adds nobody"),
    "the hub promotes somebody": ([gives(HUB, BEN, ADMIN)], "promotes nobody"),
}  # fmt: skip


@pytest.mark.parametrize("acts", ALLOWED.values(), ids=ALLOWED)
def test_what_the_policy_provides_for_is_allowed(acts: Sequence[Act]):
    judge(ROOM, CLIENTS, acts)


@pytest.mark.parametrize(("acts", "why"), REFUSED.values(), ids=REFUSED)
def test_what_it_does_not_is_refused_with_a_sentence(acts: Sequence[Act], why: str):
    with pytest.raises(NotAllowed, match=why):
        judge(ROOM, CLIENTS, acts)


def test_a_host_brings_members_in_and_nothing_more():
    """People of Matrix in our rooms: whether they may invite, their homeserver says."""
    hosting = room(participants=(*ROOM.participants, Participant(DORA, HOST)))
    clients = {**CLIENTS, DORA: 1}
    judge(hosting, clients, [adds(DORA, CARL), AddClient(DORA, CARL)])
    judge(
        hosting,
        clients,
        [ChangeParticipants(DORA, ParticipantUpdate(removed=(4,))), RemoveClient(DORA, DORA)],
    )
    for acts in ([adds(DORA, CARL, MODERATOR)], [removes(DORA, BEN)], [gives(DORA, BEN, BANNED)]):
        with pytest.raises(NotAllowed):
            judge(hosting, clients, acts)


def test_nobody_is_left_in_the_list_without_a_role():
    with pytest.raises(PeerMisbehaved):
        judge(ROOM, CLIENTS, [gives(ANNA, BEN, 0)])


def test_the_verdict_is_the_state_after():
    verdict = judge(
        ROOM, CLIENTS, [adds(MO, CARL), AddClient(MO, CARL), AddClient(MO, CARL), RemoveClient(BEN, BEN)]
    )
    assert verdict.roles == {ANNA: ADMIN, MO: MODERATOR, BEN: MEMBER, EVE: BANNED, CARL: MEMBER}
    assert verdict.clients == {ANNA: 1, MO: 2, CARL: 2}


def test_anybody_joins_an_open_room():
    open_ = room(roles={role.index: role for role in presets.roles(open_=True)})
    judge(open_, CLIENTS, [adds(CARL, CARL), AddClient(CARL, CARL)])
    with pytest.raises(NotAllowed, match="change of role"):
        judge(open_, CLIENTS, [adds(CARL, CARL, ADMIN), AddClient(CARL, CARL)])


def test_a_banned_user_does_not_join_an_open_room():
    open_ = room(roles={role.index: role for role in presets.roles(open_=True)})
    with pytest.raises(NotAllowed, match="banned"):
        judge(open_, CLIENTS, [gives(EVE, EVE, MEMBER), AddClient(EVE, EVE)])


def test_a_code_opens_a_closed_room():
    joining: list[Act] = [adds(CARL, CARL), AddClient(CARL, CARL)]
    judge(ROOM, CLIENTS, joining, has_code=True)
    with pytest.raises(NotAllowed, match="invitation only"):
        judge(with_role(0, capabilities=()), CLIENTS, joining, has_code=True)


def test_a_settled_room_stays_as_it_is():
    settled = Room(
        participants=(Participant(ANNA, MEMBER), Participant(BEN, MEMBER)),
        roles={role.index: role for role in presets.direct_roles()},
        base=BaseRoomPolicy(fixed_membership=True),
    )
    judge(settled, {ANNA: 1}, [AddClient(ANNA, BEN)])
    judge(settled, {ANNA: 1, BEN: 1}, [RemoveClient(BEN, BEN)])
    refused: list[Act] = [adds(ANNA, CARL), ChangeParticipants(BEN, ParticipantUpdate(removed=(1,)))]
    for act in refused:
        with pytest.raises(NotAllowed):
            judge(settled, {ANNA: 1}, [act])


@pytest.mark.parametrize(
    ("base", "acts", "why"),
    [
        (BaseRoomPolicy(max_users=3), [adds(MO, CARL)], "place for another participant"),
        (BaseRoomPolicy(max_clients=4), [AddClient(BEN, BEN)], "place for another client"),
        (BaseRoomPolicy(multi_device=False), [AddClient(BEN, BEN)], "one client only"),
        (BaseRoomPolicy(fixed_membership=True), [adds(ANNA, CARL)], "settled"),
    ],
)
def test_the_base_policy_bounds_a_room(base: BaseRoomPolicy, acts: Sequence[Act], why: str):
    with pytest.raises(NotAllowed, match=why):
        judge(room(base=base), CLIENTS | {MO: 1} if not base.multi_device else CLIENTS, acts)


def test_a_role_has_a_most_and_a_least():
    with pytest.raises(NotAllowed, match="place for another moderator"):
        judge(with_role(MODERATOR, most=1), CLIENTS, [gives(MO, BEN, MODERATOR)])
    with pytest.raises(NotAllowed, match="left without admin"):
        judge(
            with_role(ADMIN, least=1, changes=(*ROOM.roles[ADMIN].changes,)),
            CLIENTS,
            [removes(HUB, ANNA), RemoveClient(HUB, ANNA)],
        )
    with pytest.raises(NotAllowed, match="would be active"):
        judge(with_role(ADMIN, least_active=1), CLIENTS, [RemoveClient(ANNA, ANNA)])


def test_without_a_role_for_it_nobody_is_banned():
    with pytest.raises(NotAllowed, match="no role for that"):
        judge(with_role(BANNED, name="outcast"), CLIENTS, [gives(MO, BEN, BANNED), RemoveClient(MO, BEN)])


def test_who_takes_part_may_write():
    may_send(ROOM, CLIENTS, BEN)
    for user in (CARL, EVE):
        with pytest.raises(NotAllowed, match="takes part"):
            may_send(ROOM, CLIENTS | {EVE: 1}, user)
    with pytest.raises(NotAllowed, match="takes part"):
        may_send(ROOM, {ANNA: 1}, BEN)
    with pytest.raises(NotAllowed, match="let you write"):
        may_send(with_role(MEMBER, capabilities=(int(Capability.RECEIVE_MESSAGE),)), CLIENTS, BEN)
