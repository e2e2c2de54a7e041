"""Who may do what in a room (draft-ietf-mimi-room-policy-03): what a hub asks before it accepts a change.

A commit is judged as a whole: every act in it by its own proposer, and the state that comes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from bridgekit.contract.errors import NotAllowed
from connectors.mimi.service.room import BANNED, BANNED_NAME, NOBODY, Capability, Room, changed
from connectors.mimi.wire.components import Component, ParticipantUpdate, RoomMetadata
from connectors.mimi.wire.policies import Role

HUB = ""
"""As the author of an act: the hub itself, which keeps the rules and may always remove."""


class ActBase(msgspec.Struct, frozen=True):
    """`by` is the URI of the user whose client proposed it."""

    by: str


class AddClient(ActBase, frozen=True):
    user: str


class RemoveClient(ActBase, frozen=True):
    """Also a SelfRemove, where `user` is the author."""

    user: str


class UpdateClient(ActBase, frozen=True):
    """Fresh keys of a client of the author."""


class ChangeParticipants(ActBase, frozen=True):
    update: ParticipantUpdate


class ChangeMetadata(ActBase, frozen=True):
    metadata: RoomMetadata


class ChangePolicy(ActBase, frozen=True):
    """Of the component `component`, which is neither the participants nor the metadata."""

    component: int


class ReInit(ActBase, frozen=True):
    """Everything anew."""


class Unheard(ActBase, frozen=True):
    """A proposal that no rule provides for."""


Act = (
    AddClient
    | RemoveClient
    | UpdateClient
    | ChangeParticipants
    | ChangeMetadata
    | ChangePolicy
    | ReInit
    | Unheard
)


class Verdict(msgspec.Struct, frozen=True):
    """What comes of acts that are allowed: the participants' roles, and how many clients each user has."""

    roles: Mapping[str, int]
    clients: Mapping[str, int]


def judge(room: Room, clients: Mapping[str, int], acts: Sequence[Act], *, has_code: bool = False) -> Verdict:
    """Allow the acts of one commit, all or none.

    Raises NotAllowed, with a sentence for the one who tried, and PeerMisbehaved for changes that make no sense.

    `clients` counts the clients of each user in the group. `has_code`: whoever joins brought a valid joining code.
    """
    updates = [act.update for act in acts if isinstance(act, ChangeParticipants)]
    before = {p.user: p.role for p in room.participants}
    after = {p.user: p.role for p in changed(room.participants, updates)}
    counted = Counter(clients)
    for act in acts:
        if isinstance(act, AddClient):
            counted[act.user] += 1
        elif isinstance(act, RemoveClient):
            counted[act.user] -= 1
    court = _Judge(room, before, after, clients, counted, has_code)
    for act in acts:
        court.hear(act)
    court.weigh(acts)
    return Verdict(after, {user: count for user, count in counted.items() if count > 0})


def keeps_roles(before: Room, after: Room) -> None:
    """Hold a change of the roles to those that somebody has. Raises NotAllowed."""
    lacking, lacked = ({p.role for p in room.participants} - room.roles.keys() for room in (after, before))
    if lacking - lacked:
        raise NotAllowed("A role that somebody has in the room cannot be taken out of it.")


class _Judge:
    def __init__(
        self,
        room: Room,
        before: Mapping[str, int],
        after: Mapping[str, int],
        clients_before: Mapping[str, int],
        clients: Mapping[str, int],
        has_code: bool,
    ) -> None:
        self._room = room
        self._before = before
        self._after = after
        self._clients_before = clients_before
        self._clients = clients
        self._has_code = has_code

    def hear(self, act: Act) -> None:
        """One act by itself."""
        if act.by != HUB and self._before.get(act.by, NOBODY) == BANNED and not isinstance(act, RemoveClient):
            raise NotAllowed("Who is banned from the room cannot change it.")
        match act:
            case AddClient():
                self._add_client(act)
            case RemoveClient():
                self._remove_client(act)
            case UpdateClient():
                self._needs_participant(act.by)
            case ChangeParticipants():
                self._change_participants(act)
            case ChangeMetadata():
                self._change_metadata(act)
            case ChangePolicy(component=Component.FRANKING_AGENT):
                raise NotAllowed("The stamp on messages is the hub's.")
            case ChangePolicy():
                self._needs(act.by, _POLICIES.get(act.component, Capability.CHANGE_OTHER_POLICY))
            case ReInit():
                self._needs(act.by, Capability.REINIT)
            case Unheard():
                raise NotAllowed("The room's policy does not provide for that kind of proposal.")

    # Clients ------------------------------------------------------------------------------------------------

    def _add_client(self, act: AddClient) -> None:
        if self._after.get(act.user, NOBODY) == NOBODY:
            # draft-ietf-mimi-protocol 5.3: the participant is added before the clients, or with them.
            raise NotAllowed("A client was added whose user is no participant of the room.")
        if act.by == act.user:
            if self._before.get(act.user, NOBODY) != NOBODY:
                self._needs(act.by, Capability.ADD_OWN_CLIENT)
            return  # who joins anew was judged by the change of the participants
        if self._room.base.fixed_membership:
            # None of its roles has that capability (5), and its participants were settled: any may bring another in.
            self._needs_participant(act.by)
        elif act.by != HUB:
            self._needs(act.by, Capability.ADD_PARTICIPANT)

    def _remove_client(self, act: RemoveClient) -> None:
        if act.by == HUB:
            return
        role = self._before.get(act.user, NOBODY)
        gone = self._after.get(act.user, NOBODY) in (NOBODY, BANNED)
        if role in (NOBODY, BANNED) or gone:
            return  # judged by the change of the participants, or left over from it
        self._needs(act.by, Capability.REMOVE_OWN_CLIENT if act.by == act.user else Capability.KICK)

    # Participants -------------------------------------------------------------------------------------------

    def _change_participants(self, act: ChangeParticipants) -> None:
        participants = self._room.participants
        for change in act.update.changed:
            self._change_role(act.by, participants[change.index].user, change.role)
        for index in act.update.removed:
            self._remove_participant(act.by, participants[index].user)
        for added in act.update.added:
            self._add_participant(act.by, added.user, added.role)

    def _add_participant(self, by: str, user: str, target: int) -> None:
        self._role(target)
        if by == user:
            self._join(user, target)
        elif by == HUB:
            raise NotAllowed("The hub adds nobody to a room.")
        else:
            self._needs(by, Capability.ADD_PARTICIPANT)
            if self._room.base.fixed_membership:
                raise NotAllowed("The participants of this room were settled when it was made.")
            self._needs_change(self._before.get(by, NOBODY), NOBODY, target)

    def _join(self, user: str, target: int) -> None:
        """Who adds themselves: in an open room, with a code, or because of what they can prove (8.1.1)."""
        nobody = self._room.roles.get(NOBODY)
        allowed = frozenset(nobody.capabilities) if nobody else frozenset()
        open_ = Capability.OPEN_JOIN in allowed or (self._has_code and Capability.USE_JOIN_CODE in allowed)
        if not open_ or self._room.base.fixed_membership:
            raise NotAllowed("The room can be joined by invitation only.")
        self._needs_change(NOBODY, NOBODY, target)

    def _remove_participant(self, by: str, user: str) -> None:
        if by == HUB:
            return
        if self._room.base.fixed_membership:
            raise NotAllowed("The participants of this room were settled when it was made.")
        self._needs(by, Capability.REMOVE_SELF if by == user else Capability.REMOVE_PARTICIPANT)
        self._needs_change(self._before.get(by, NOBODY), self._before[user], NOBODY)

    def _change_role(self, by: str, user: str, target: int) -> None:
        source = self._before[user]
        if BANNED in (source, target) and self._role(BANNED).name != BANNED_NAME:
            raise NotAllowed("Nobody can be banned from this room: it has no role for that.")
        self._role(target)
        if by == HUB:
            if target != BANNED:
                raise NotAllowed("The hub promotes nobody.")
            return
        if by == user:
            # 8.1.3: only what a credential proves counts here, and nobody here reads such proofs.
            raise NotAllowed("Nobody changes their own role in this room.")
        if target == BANNED:
            self._needs(by, Capability.BAN)
        elif source == BANNED:
            self._needs(by, Capability.UNBAN)
        else:
            self._needs(by, Capability.CHANGE_USER_ROLE)
        self._needs_change(self._before.get(by, NOBODY), source, target)

    # Metadata and policy ------------------------------------------------------------------------------------

    def _change_metadata(self, act: ChangeMetadata) -> None:
        old = self._room.metadata or RoomMetadata(act.metadata.room_uri)
        new = act.metadata
        if new.room_uri != old.room_uri:
            raise NotAllowed("A room keeps its address.")
        for field, capability in _METADATA.items():
            if getattr(new, field) != getattr(old, field):
                self._needs(act.by, capability)

    def weigh(self, acts: Sequence[Act]) -> None:
        """What comes of all acts together."""
        changed = {act.component for act in acts if isinstance(act, ChangePolicy)}
        updates = [act.update for act in acts if isinstance(act, ChangeParticipants)]
        if Component.ROLES_LIST in changed and updates:
            raise NotAllowed("Roles and participants cannot be changed in one commit.")
        if Component.PREAUTH_LIST in changed and any(u.changed or u.added for u in updates):
            raise NotAllowed("Who is preauthorized and who takes part cannot be changed in one commit.")
        for user, count in self._clients.items():
            if count > 0 and self._after.get(user, NOBODY) in (NOBODY, BANNED):
                raise NotAllowed("Who was removed or banned still has clients in the room.")
            if count > 1 and not self._room.base.multi_device:
                raise NotAllowed("In this room everybody takes part with one client only.")
        active = {user for user, count in self._clients.items() if count > 0}
        base = self._room.base
        if base.max_clients is not None and sum(self._clients[user] for user in active) > base.max_clients:
            raise NotAllowed("The room has no place for another client.")
        took_part = sum(role != BANNED for role in self._before.values())
        taking_part = sum(role != BANNED for role in self._after.values())
        if base.max_users is not None and taking_part > max(base.max_users, took_part):
            raise NotAllowed("The room has no place for another participant.")
        self._bounds(active)

    def _bounds(self, active: set[str]) -> None:
        """Roles have a least and a most; a room that is already outside of them may come nearer, never go further."""
        now, then = Counter(self._after.values()), Counter(self._before.values())
        working = Counter(self._after[user] for user in active if user in self._after)
        worked = Counter(
            self._before[user]
            for user, count in self._clients_before.items()
            if count > 0 and user in self._before
        )
        for index, role in self._room.roles.items():
            if index == NOBODY:
                continue
            if role.most is not None and now[index] > max(role.most, then[index]):
                raise NotAllowed(
                    f"The room has no place for another {role.name or 'participant of that role'}."
                )
            if now[index] < min(role.least, then[index]):
                raise NotAllowed(
                    f"The room would be left without {role.name or 'somebody of a role'} that it needs."
                )
            if working[index] < min(role.least_active, worked[index]):
                raise NotAllowed(f"Nobody of {role.name or 'a role'} that the room needs would be active.")
            if role.most_active is not None and working[index] > role.most_active:
                raise NotAllowed(f"Too many of {role.name or 'one role'} would be active in the room.")

    # What the rules have in common --------------------------------------------------------------------------

    def _role(self, index: int) -> Role:
        role = self._room.roles.get(index)
        if role is None:
            raise NotAllowed("The room has no such role.")
        return role

    def _needs_participant(self, by: str) -> None:
        if by != HUB and self._before.get(by, NOBODY) in (NOBODY, BANNED):
            raise NotAllowed("Only participants can do that.")

    def _needs(self, by: str, capability: Capability) -> None:
        role = self._room.roles.get(self._before.get(by, NOBODY)) if by != HUB else None
        if role is None or capability not in role.capabilities:
            raise NotAllowed(
                f"The room's policy does not allow that ({capability.name.lower().replace('_', ' ')})."
            )

    def _needs_change(self, holder: int, source: int, target: int) -> None:
        role = self._role(holder)
        if not any(target in change.targets for change in role.changes if change.source == source):
            raise NotAllowed("The room's policy does not allow that change of role.")


_METADATA = {
    "name": Capability.CHANGE_NAME,
    "descriptions": Capability.CHANGE_DESCRIPTION,
    "avatar": Capability.CHANGE_AVATAR,
    "subject": Capability.CHANGE_SUBJECT,
    "mood": Capability.CHANGE_MOOD,
}
_POLICIES: dict[int, Capability] = {
    Component.ROLES_LIST: Capability.CHANGE_ROLES,
    Component.PREAUTH_LIST: Capability.CHANGE_PREAUTHORIZED,
    Component.BASE_ROOM_POLICY: Capability.CHANGE_MEMBERSHIP_STYLE,
}


def may_send(room: Room, clients: Mapping[str, int], user: str) -> None:
    """Allow an application message of `user`. Raises NotAllowed."""
    if room.role_of(user) in (NOBODY, BANNED) or not clients.get(user):
        raise NotAllowed("Only who takes part in the room can write there.")
    if not room.may(user, Capability.SEND_MESSAGE):
        raise NotAllowed("The room's policy does not let you write there.")
