"""One client's seat in one room: what it sends to the hub, and what it makes of what the hub sends.

Here are the secrets of a group. Nothing is kept here: whoever holds a seat stores `take_changes` together with what it
tells of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bridgekit.contract.errors import PeerMisbehaved, SendRejected
from connectors.mimi.mls import Commit, Group, KeyPackages, MemberEngine, Sender, Signer
from connectors.mimi.service import franking, room, vouching
from connectors.mimi.service.people import People
from connectors.mimi.service.presets import CONTENT
from connectors.mimi.service.room import Room
from connectors.mimi.wire import components, policies, rooms
from connectors.mimi.wire.components import (
    Component,
    MediaType,
    Participant,
    ParticipantUpdate,
    RoomMetadata,
)
from connectors.mimi.wire.mls import (
    MLS_MESSAGE,
    RATCHET_TREE,
    GroupInfo,
    KeyPackage,
    PrivateMessage,
    PublicMessage,
    Welcome,
)
from connectors.mimi.wire.rooms import (
    ApplicationFanout,
    CommitBundle,
    CommitFanout,
    Fanout,
    FrankingContext,
    FullGroupInfo,
    FullTree,
    ProposalBundle,
    ProposalFanout,
    SubmitRequest,
    WelcomeFanout,
)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """Application data of a client in the room. `franked`: the hub vouches for sender, room and time (ms)."""

    client: str
    data: bytes
    accepted: int
    franked: bool


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The room is in its next epoch: by whose commit, and how it was before."""

    client: str
    before: Room
    after: Room
    accepted: int


class Proposed(msgspec.Struct, frozen=True):
    """Something waits to be committed."""


class Repeated(msgspec.Struct, frozen=True):
    """Nothing new: our own message come back, or one that was read before."""


Heard = Said | Changed | Proposed | Repeated


class Seat:
    """A member of a group. After a commit of ours call `accepted` or `refused`, as the hub answered."""

    def __init__(self, engine: MemberEngine, group: Group, *, user: str, room_uri: str) -> None:
        self.group = group
        self.user = user
        self.room_uri = room_uri
        self._engine = engine
        self._state: tuple[int, Room] | None = None

    @classmethod
    def create(
        cls,
        engine: MemberEngine,
        identity: Signer,
        *,
        user: str,
        room_uri: str,
        app_data: Mapping[int, bytes],
        hub: tuple[bytes, bytes],
    ) -> Seat:
        """Make the group of a new room; its id is the room's URI."""
        group = engine.create(identity, room_uri.encode(), app_data, hub)
        return cls(engine, group, user=user, room_uri=room_uri)

    @classmethod
    def join(
        cls,
        engine: MemberEngine,
        identity: Signer,
        packages: KeyPackages,
        fanout: WelcomeFanout,
        *,
        user: str,
        room_uri: str,
    ) -> Seat:
        """Sit down where a Welcome says. Raises PeerMisbehaved where it leaves out the tree or is of another room."""
        if not isinstance(fanout.tree, FullTree):
            raise PeerMisbehaved("The Welcome comes without the group's tree.")
        welcome = MLS_MESSAGE.encode(fanout.message)
        group = engine.join(identity, packages, welcome, RATCHET_TREE.encode(fanout.tree.nodes))
        seat = cls(engine, group, user=user, room_uri=room_uri)
        named = seat.state.metadata
        if named is not None and named.room_uri != room_uri:
            raise PeerMisbehaved("The Welcome leads into another room than the hub says.")
        return seat

    @classmethod
    def join_external(
        cls,
        engine: MemberEngine,
        identity: Signer,
        found: rooms.GroupInfoAndTree,
        *,
        user: str,
        room_uri: str,
        role: int | None = None,
    ) -> tuple[Seat, CommitBundle]:
        """Sit down by oneself, with `role` where one is no participant yet. Keep the seat only if the hub accepts."""
        if not isinstance(found.tree, FullTree):
            raise PeerMisbehaved("The hub gives no tree with its GroupInfo.")
        update = ParticipantUpdate(added=(Participant(user, role),)) if role is not None else None
        updates = (
            []
            if update is None
            else [(int(Component.PARTICIPANT_LIST), components.PARTICIPANT_UPDATE.encode(update))]
        )
        group, commit = engine.join_external(
            identity,
            MLS_MESSAGE.encode(found.group_info),
            RATCHET_TREE.encode(found.tree.nodes),
            self_removes=[MLS_MESSAGE.encode(pending.message) for pending in found.pending],
            app_data_updates=updates,
            resolve=room.merge,
        )
        return cls(engine, group, user=user, room_uri=room_uri), bundle(commit)

    # What is known ------------------------------------------------------------------------------------------

    @property
    def state(self) -> Room:
        """Participants, roles and metadata; they change with the epoch."""
        if self._state is None or self._state[0] != self.group.epoch:
            self._state = self.group.epoch, room.read(self.group.app_data)
        return self._state[1]

    @property
    def media_types(self) -> list[str]:
        """What the room tells apart by a frame around it; empty where everything is MIMI content as it stands.

        draft-ietf-mls-extensions 6.2.4: there are frames where the group names media types.
        """
        raw = self.group.app_data.get(Component.CONTENT_MEDIA_TYPES)
        return [] if raw is None else [kind.type for kind in components.MEDIA_TYPES.decode(raw)]

    def framed(self, kind: MediaType, inner: bytes) -> bytes:
        """Application data as this room has them."""
        if not self.media_types:
            return inner
        return components.APPLICATION_FRAMING.encode(components.ApplicationFraming(kind, inner))

    def unframed(self, data: bytes) -> tuple[str, bytes]:
        """The media type (lower case, no parameters) and what is in the frame. Raises PeerMisbehaved."""
        if not (known := self.media_types):
            return CONTENT.type, data
        framing = components.APPLICATION_FRAMING.decode(data)
        return (framing.media_type.type or known[0]).lower(), framing.content

    def leaves(self, user: str, people: People) -> list[int]:
        """Where the clients of a user sit."""
        return [m.leaf for m in self.group.members if people.user_of(m.name) == user]

    def take_changes(self) -> Mapping[str, bytes | None]:
        """What is to be stored now."""
        return self.group.take_changes()

    # Out ----------------------------------------------------------------------------------------------------

    def say(self, data: bytes, salt: bytes) -> SubmitRequest:
        """An application message, with the tag by which the hub can frank it."""
        safe = {int(Component.FRANK_AAD): franking.tag(salt, data)}
        framed = safe if Component.SAFE_AAD in self.group.app_data else None
        message = MLS_MESSAGE.decode(self.group.encrypt(data, safe_aad=framed))
        if not isinstance(message, PrivateMessage):
            raise SendRejected("The engine did not encrypt the message.")
        return SubmitRequest(message, self.user)

    def add(self, user: str, packages: Sequence[KeyPackage], role: int | None) -> CommitBundle:
        """Bring in clients of a user; with `role` the user becomes a participant first."""
        update = ParticipantUpdate(added=(Participant(user, role),)) if role is not None else None
        return self._commit(update, add=[MLS_MESSAGE.encode(package) for package in packages])

    def remove(self, user: str, people: People) -> CommitBundle:
        """Put a user and all of their clients out."""
        return self._commit(ParticipantUpdate(removed=(self._place(user),)), remove=self.leaves(user, people))

    def give_role(self, user: str, role: int, people: People) -> CommitBundle:
        """Change a user's role; who is banned leaves with all clients."""
        gone = self.leaves(user, people) if role == room.BANNED else []
        change = components.RoleChange(self._place(user), role)
        return self._commit(ParticipantUpdate(changed=(change,)), remove=gone)

    def describe(self, metadata: RoomMetadata) -> CommitBundle:
        """Change the room's name, topic, picture."""
        data = components.ROOM_METADATA.encode(metadata)
        return self._staged(app_data_updates=[(int(Component.ROOM_METADATA), data)])

    @property
    def codes(self) -> tuple[bytes, ...]:
        """The room's join codes (draft-ietf-mimi-room-policy 6.2)."""
        return policies.JOIN_LINKS.decode(self.group.app_data.get(Component.JOIN_LINKS, b"\0"))

    def let_in(self, code: bytes) -> CommitBundle:
        """One more join code. Raises SendRejected where nobody comes in by one."""
        outside = self.state.roles.get(room.NOBODY)
        if outside is None or room.Capability.USE_JOIN_CODE not in outside.capabilities:
            raise SendRejected("Nobody comes into that room by a code.")
        return self._relink(policies.JoinLinksUpdate(added=(code,)))

    def end_codes(self) -> CommitBundle:
        """No code lets anybody in."""
        return self._relink(policies.JoinLinksUpdate(removed=tuple(range(len(self.codes)))))

    def _relink(self, update: policies.JoinLinksUpdate) -> CommitBundle:
        data = (int(Component.JOIN_LINKS), policies.JOIN_LINKS_UPDATE.encode(update))
        return self._staged(app_data_updates=[data])

    def tidy(self) -> CommitBundle:
        """Commit what others proposed, and have fresh keys."""
        return self._staged(update=True)

    def leave(self) -> ProposalBundle:
        """Ask to be let go: the client and, as a participant, its user (draft-ietf-mimi-protocol 5.3).

        Where the participants were settled for good, the client alone (room-policy 5).
        """
        if self.state.base.fixed_membership:
            return ProposalBundle(_public(self.group.propose_self_remove()), ())
        update = components.PARTICIPANT_UPDATE.encode(ParticipantUpdate(removed=(self._place(self.user),)))
        listed = _public(self.group.propose_app_data(int(Component.PARTICIPANT_LIST), update))
        return ProposalBundle(_public(self.group.propose_self_remove()), (listed,))

    def accepted(self) -> None:
        """The hub accepted our commit."""
        self.group.merge_commit()

    def refused(self) -> None:
        """The hub did not accept our commit."""
        self.group.clear_commit()

    def _commit(
        self, update: ParticipantUpdate | None, *, add: Sequence[bytes] = (), remove: Sequence[int] = ()
    ) -> CommitBundle:
        updates = (
            []
            if update is None
            else [(int(Component.PARTICIPANT_LIST), components.PARTICIPANT_UPDATE.encode(update))]
        )
        return self._staged(add=add, remove=remove, app_data_updates=updates)

    def _staged(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        app_data_updates: Sequence[tuple[int, bytes | None]] = (),
        update: bool = False,
    ) -> CommitBundle:
        """A commit that covers what waits. Raises what the engine raises."""
        if self.group.pending_proposals:
            self._drop_impossible()
        commit = self.group.commit(
            add=add, remove=remove, app_data_updates=app_data_updates, update=update, resolve=room.merge
        )
        return bundle(commit)

    def _drop_impossible(self) -> None:
        """Forget proposals to add clients by which no commit would be valid, the latest first (RFC 9420 12.2)."""
        adds = [each.reference for each in self.group.pending_proposals if each.kind == "add"]
        while adds:
            try:
                self.group.commit(resolve=room.merge)
            except (self._engine.MlsError, PeerMisbehaved):
                self.group.drop_proposal(adds.pop())
            else:
                self.group.clear_commit()
                return

    def _place(self, user: str) -> int:
        for index, participant in enumerate(self.state.participants):
            if participant.user == user:
                return index
        raise SendRejected("That user is no participant of the room.")

    # In -----------------------------------------------------------------------------------------------------

    def hear(self, fanout: Fanout, people: People) -> list[Heard]:
        """Take in what the hub fans out. Raises PeerMisbehaved, and what the engine raises."""
        match fanout:
            case ApplicationFanout():
                return [self._application(fanout, people)]
            case ProposalFanout():
                return [self._handshake(m, fanout.accepted, people) for m in (fanout.message, *fanout.more)]
            case CommitFanout():
                both = (fanout.message, *fanout.replaced)
                return [self._handshake(m, fanout.accepted, people) for m in both]
            case WelcomeFanout():
                return [Repeated()]

    def _application(self, fanout: ApplicationFanout, people: People) -> Heard:
        received = self.group.process(MLS_MESSAGE.encode(fanout.message))
        data = getattr(received, "data", None)
        if data is None:
            return Repeated()
        client = received.sender.name.decode("utf-8", "replace")
        franked = False
        agent = self.group.app_data.get(Component.FRANKING_AGENT)
        if fanout.frank is not None and agent is not None:
            context = FrankingContext(people.user_of(received.sender.name), self.room_uri, fanout.accepted)
            franking.check(
                self._engine,
                components.FRANKING_AGENT.decode(agent),
                fanout.frank.cipher_suite,
                fanout.frank,
                context,
            )
            franked = True
        return Said(client=client, data=data, accepted=fanout.accepted, franked=franked)

    def _handshake(self, message: object, accepted: int, people: People) -> Heard:
        if not isinstance(message, PublicMessage):
            raise PeerMisbehaved("The hub fanned out a handshake that is not public.")
        before = self.state
        received = self.group.process(MLS_MESSAGE.encode(message), resolve=room.merge)
        sender = getattr(received, "sender", None)
        if sender is None:  # our own commit has come back
            return Repeated()
        proposal = getattr(received, "proposal", None)
        if proposal is not None and proposal.reference in {p.reference for p in self.group.pending_proposals}:
            return Repeated()
        self._stays_who_it_was(message, sender, people)
        self.group.accept(received)
        if getattr(received, "proposals", None) is None:
            return Proposed()
        client = (sender.name or b"").decode("utf-8", "replace")
        return Changed(client=client, before=before, after=self.state, accepted=accepted)

    def _stays_who_it_was(self, message: PublicMessage, sender: Sender, people: People) -> None:
        """Whoever has fresh keys keeps their name."""
        for each in vouching.entering(message):
            if each.package is None and people.user_of(each.client) != people.user_of(sender.name):
                raise PeerMisbehaved("A client became another user's.")


def bundle(commit: Commit) -> CommitBundle:
    """A staged commit as the hub takes it."""
    info = MLS_MESSAGE.decode(commit.group_info)
    welcome = None if commit.welcome is None else MLS_MESSAGE.decode(commit.welcome)
    if not isinstance(info, GroupInfo) or not isinstance(welcome, Welcome | None):
        raise SendRejected("The engine made a commit without its parts.")
    return CommitBundle(
        _public(commit.message),
        welcome,
        FullGroupInfo(info),
        FullTree(RATCHET_TREE.decode(commit.ratchet_tree)),
    )


def _public(octets: bytes) -> PublicMessage:
    message = MLS_MESSAGE.decode(octets)
    if not isinstance(message, PublicMessage):
        raise SendRejected("The engine made a handshake that is not public.")
    return message
