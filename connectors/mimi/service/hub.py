"""One room of ours as its hub: what is accepted, in which order, and who hears of it. Without IO and without secrets.

Every decision is a value: the answer, what goes to whom, and the room as it is from then on. Whoever performs it stores
the room and the deliveries together, and answers after that; so what was accepted is never lost, and what was lost was
never accepted (draft-ietf-mimi-protocol-06 5.3 to 5.5, 7.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec

from bridgekit.contract.errors import NotAllowed, PeerMisbehaved
from connectors.mimi import uris
from connectors.mimi.mls import Engine, Proposal, PublicGroup, Sender
from connectors.mimi.service import franking, policy, vouching
from connectors.mimi.service import room as rooms_state
from connectors.mimi.service.people import People
from connectors.mimi.service.policy import HUB, Act
from connectors.mimi.service.room import BANNED, NOBODY, Room
from connectors.mimi.wire import components, policies, rooms
from connectors.mimi.wire.components import Component
from connectors.mimi.wire.mls import (
    EXTENSIONS,
    GROUP_INFO,
    KEY_PACKAGE,
    MLS_MESSAGE,
    RATCHET_TREE,
    Add,
    AppDataUpdate,
    BasicCredential,
    Commit,
    ComponentUpdate,
    GroupInfo,
    MemberSender,
    MlsMessage,
    NewMemberCommit,
    PublicMessage,
    Remove,
    SelfRemove,
    Update,
    Welcome,
)
from connectors.mimi.wire.rooms import (
    CommitBundle,
    CommitFanout,
    Fanout,
    FullGroupInfo,
    FullTree,
    GroupInfoOption,
    PartialGroupInfo,
    ProposalFanout,
    UpdateRequest,
    WelcomeFanout,
)
from connectors.mimi.wire.tls import OPAQUE, U32

MAX_PENDING, MAX_PROPOSAL = 16, 64 * 1024
"""How many proposals of one client wait for a commit, and how large (octets) each may be."""
MAX_STATE = 2 * 1024 * 1024
"""Octets of what a group says of its room."""

_ALWAYS_THERE = (Component.PARTICIPANT_LIST, Component.ROOM_METADATA, Component.ROLES_LIST)
"""Without these nobody in the room could do anything any more, also not put them back."""
_OPTIONAL = ("add", "update")
"""Proposals that a commit may leave out."""
_GROUP_INFO_FRAME = b"\x00\x01\x00\x04"  # RFC 9420 6: mls10, mls_group_info


class Pending(msgspec.Struct, frozen=True):
    """A proposal that the hub accepted and no commit has covered yet. `accepted` in ms."""

    reference: bytes
    message: bytes
    accepted: int

    @property
    def decoded(self) -> MlsMessage:
        """The proposal, not verified anew."""
        return MLS_MESSAGE.decode(self.message)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a room. `group` are the records of its public group, `since` when it was made (ms)."""

    uri: str
    group: Mapping[str, bytes]
    group_info: bytes
    since: int
    pending: tuple[Pending, ...] = ()


class Delivery(msgspec.Struct, frozen=True):
    """What the provider `to` is to hear of a room."""

    to: str
    room: str
    fanout: Fanout


class Accepted(msgspec.Struct, frozen=True):
    """The room from now on, and what goes out."""

    room: HubRoom
    deliveries: tuple[Delivery, ...]


class _Counted(msgspec.Struct, frozen=True):
    """Of one epoch: how many clients each user has, and the providers that hear what is said. `known` is the state of
    knowledge of whose clients are whose (`People.changes`)."""

    known: int
    clients: Mapping[str, int]
    hearers: set[str]


class HubRoom:
    """A room of ours. It never changes: what is accepted makes another one."""

    def __init__(self, engine: Engine, kept: Kept) -> None:
        self.kept = kept
        self._engine = engine
        self._group = engine.restore(kept.group)
        self._count: _Counted | None = None

    @classmethod
    def make(cls, engine: Engine, uri: str, group_info: bytes, tree: bytes, *, now: int) -> HubRoom:
        """The hub's half of a group that one of our clients has made."""
        records = _fold({}, engine.follow(group_info, tree).take_changes())
        return cls(engine, Kept(uri=uri, group=records, group_info=group_info, since=now))

    # What is known of it ------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._group.epoch

    @cached_property
    def state(self) -> Room:
        """Participants, roles, policy, as of the present epoch."""
        return rooms_state.read(self._group.app_data)

    def clients(self, people: People) -> Mapping[str, int]:
        """How many clients each user has in the group."""
        return self._counted(people).clients

    def _counted(self, people: People) -> _Counted:
        """Counted once for all that is said in an epoch, unless somebody learns whose clients are whose meanwhile."""
        if self._count is None or self._count.known != people.changes:
            clients = Counter(people.user_of(member.name) for member in self._group.members)
            hearers = {
                uris.parse(user).domain
                for user in clients
                if user not in self._gone and self.state.may(user, rooms_state.Capability.RECEIVE_MESSAGE)
            }
            self._count = _Counted(people.changes, clients, hearers)
        return self._count

    def providers(self, people: People) -> set[str]:
        """Whoever hears what is said: the domains of users with clients."""
        return {uris.parse(user).domain for user in self.clients(people)}

    def ratchet_tree(self) -> bytes:
        return self._group.ratchet_tree()

    @property
    def group_info(self) -> GroupInfo:
        """Of the present epoch, for whoever joins from outside."""
        return GROUP_INFO.decode(self.kept.group_info[len(_GROUP_INFO_FRAME) :])

    @property
    def join_codes(self) -> tuple[bytes, ...]:
        """What opens the room to somebody from outside."""
        return policies.JOIN_LINKS.decode(self._group.app_data.get(Component.JOIN_LINKS, b"\0"))

    @property
    def asset_domains(self) -> set[str]:
        """Where files of the room's users lie."""
        raw = self._group.app_data.get(Component.ASSET_POLICY)
        found = () if raw is None else policies.ASSET_POLICY.decode(raw).domains
        return {domain for entry in found for domain in entry.domains}

    @cached_property
    def _gone(self) -> set[str]:
        """Users whose removal or ban was accepted and waits for its commit: it counts already (7.1)."""
        participants = self.state.participants
        gone: set[str] = set()
        for pending in self.kept.pending:
            match pending.decoded:
                case PublicMessage(
                    content=AppDataUpdate(
                        component=Component.PARTICIPANT_LIST, operation=ComponentUpdate(update=update)
                    )
                ):
                    change = components.PARTICIPANT_UPDATE.decode(update)
                    gone |= {participants[at].user for at in change.removed}
                    gone |= {participants[c.index].user for c in change.changed if c.role == BANNED}
                case _:
                    pass
        return gone

    # submitMessage ------------------------------------------------------------------------------------------

    def submit(
        self,
        request: rooms.SubmitRequest,
        *,
        provider: str,
        now: int,
        people: People,
        franker: franking.Franker | None,
    ) -> tuple[rooms.SubmitResponse, tuple[Delivery, ...]]:
        """Answer an application message; it changes nothing of the room."""
        message = request.message
        if message.group_id != self._group.group_id or message.epoch > self.epoch:
            return rooms.Refused(), ()
        if message.epoch < self.epoch:
            return rooms.EpochTooOld(self.epoch), ()
        counted = self._counted(people)
        try:
            if uris.parse(request.sender_uri, uris.Thing.USER).domain != provider:
                raise NotAllowed("A provider speaks for its own users only.")
            if request.sender_uri in self._gone:
                raise NotAllowed("Who was removed from the room cannot write there.")
            policy.may_send(self.state, counted.clients, request.sender_uri)
            frank = self._frank(request, now, franker)
        except (NotAllowed, PeerMisbehaved):
            return rooms.Refused(), ()
        fanout = rooms.ApplicationFanout(now, message, frank)
        return rooms.Accepted(now, frank), self._to(counted.hearers - {provider}, fanout)

    def _frank(
        self, request: rooms.SubmitRequest, now: int, franker: franking.Franker | None
    ) -> rooms.Frank | None:
        app_data = self._group.app_data
        if franker is None or not {Component.SAFE_AAD, Component.FRANKING_AGENT} <= set(app_data):
            return None
        tag = franking.tag_of(request.message.authenticated_data)
        if tag is None:
            return None
        return franker.frank(tag, rooms.FrankingContext(request.sender_uri, self.kept.uri, now))

    # update -------------------------------------------------------------------------------------------------

    def update(
        self,
        request: UpdateRequest,
        *,
        provider: str,
        now: int,
        people: People,
        routes: Mapping[bytes, str],
        has_code: bool = False,
    ) -> tuple[rooms.UpdateResponse, Accepted | None]:
        """Answer a handshake. `routes` says which provider gave out a key package, by its reference."""
        message = request.message
        if message.group_id != self._group.group_id:
            return rooms.NotAllowed("That is another room's group."), None
        if message.epoch != self.epoch:
            return rooms.WrongEpoch("The room is in another epoch.", self.epoch), None
        try:
            if isinstance(request, CommitBundle):
                accepted = self._commit(request, provider, now, people, routes, has_code)
            else:
                accepted = self._propose((message, *request.more), provider, now, people, routes)
        except _Invalid as invalid:
            return rooms.InvalidProposal(invalid.notice, invalid.references), None
        except PeerMisbehaved as problem:
            return rooms.InvalidProposal(problem.notice, ()), None
        except NotAllowed as problem:
            return rooms.NotAllowed(problem.notice), None
        except self._engine.WrongEpoch:
            return rooms.WrongEpoch("The room is in another epoch.", self.epoch), None
        except self._engine.MlsError as problem:
            return rooms.NotAllowed(f"The message cannot be verified: {problem}"[:300]), None
        return rooms.Updated("", now), accepted

    def _propose(
        self,
        messages: Sequence[MlsMessage],
        provider: str,
        now: int,
        people: People,
        routes: Mapping[bytes, str],
    ) -> Accepted:
        # A copy: what is refused half-way has changed nothing.
        group = self._engine.restore(self.kept.group)
        state, names = self.state, _names(group)
        acts: list[Act] = []
        pending = list(self.kept.pending)
        for message in messages:
            octets = MLS_MESSAGE.encode(message)
            received = group.process(octets, resolve=rooms_state.merge)
            self._of(received.sender, provider)
            self._vouched(message, received.sender, names, provider, people, routes)
            _not_there(message, group, pending)
            acts += _acts([received.proposal], received.sender, names, people, state)
            group.accept(received)
            pending.append(Pending(received.proposal.reference, octets, now))
        _bounded(pending)
        self._not_gone(acts)
        self._fits(group, acts, names, people)
        first = messages[0]
        assert isinstance(first, PublicMessage)
        fanout = ProposalFanout(now, first, tuple(messages[1:]))
        room = self._after(group, self.kept.group_info, tuple(pending))
        return Accepted(room, self._to(self.providers(people) - {provider}, fanout))

    def _fits(
        self, group: PublicGroup, acts: Sequence[Act], names: Mapping[int, bytes], people: People
    ) -> None:
        """Allow `acts` as the last of what waits in `group`: one commit has to cover all of it."""
        before = self._group.pending_proposals
        waiting = [each for each in before if each.kind not in _OPTIONAL]
        first = [act for each in waiting for act in _acts([each], each.sender, names, people, self.state)]
        policy.judge(self.state, self.clients(people), [*first, *acts])
        app_data = dict(self._group.app_data)
        updates: dict[int, list[bytes | None]] = {}
        for proposal in group.pending_proposals:
            if proposal.kind == "app_data_update" and proposal.component is not None:
                updates.setdefault(proposal.component, []).append(proposal.data)
        for component, given in updates.items():
            after = rooms_state.merge(component, app_data.pop(component, None), given)
            if after is not None:
                app_data[component] = after
        policy.keeps_roles(self.state, rooms_state.read(app_data))

    def _commit(
        self,
        request: CommitBundle,
        provider: str,
        now: int,
        people: People,
        routes: Mapping[bytes, str],
        has_code: bool,
    ) -> Accepted:
        group = self._engine.restore(self.kept.group)
        state, names, clients = self.state, _names(group), self.clients(people)
        octets = MLS_MESSAGE.encode(request.message)
        received = group.process(octets, resolve=rooms_state.merge)
        sender: Sender = received.sender
        self._of(sender, provider)
        self._vouched(request.message, sender, names, provider, people, routes)
        external = sender.kind == "new_member_commit"
        self._covers_what_waits(received.proposals, external=external)
        acts = _acts(received.proposals, sender, names, people, state)
        committer = people.user_of(sender.name)
        if external:
            acts.append(policy.AddClient(committer, committer))
        elif committer in self._gone or state.role_of(committer) in (NOBODY, BANNED):
            raise NotAllowed("Who was removed from the room cannot change it.")
        self._not_gone([act for act in acts if act.by == committer])
        policy.judge(state, clients, acts, has_code=has_code)
        group.accept(received)
        policy.keeps_roles(state, rooms_state.read(group.app_data))
        if len(group.group_context) > max(MAX_STATE, len(self._group.group_context)):
            raise NotAllowed("The room's name, participants and rules are longer than a hub keeps.")
        group_info = self._group_info(group, request.group_info, names, sender)
        try:
            group.check_group_info(group_info)
        except self._engine.MlsError:
            raise NotAllowed("The GroupInfo beside the commit is not of the epoch that it makes.") from None
        if (
            isinstance(request.tree, FullTree)
            and RATCHET_TREE.encode(request.tree.nodes) != group.ratchet_tree()
        ):
            raise NotAllowed("The tree beside the commit is another than the commit makes.")
        room = self._after(group, group_info, ())
        # Whoever had a client before can read it; who comes by it reads the Welcome instead.
        fanout = CommitFanout(now, request.message)
        deliveries = self._to(self.providers(people) - {provider}, fanout)
        welcomes = self._welcomes(request.welcome, group, now, routes)
        return Accepted(room, deliveries + welcomes)

    def _covers_what_waits(self, proposals: Sequence[Proposal], *, external: bool) -> None:
        """A commit covers what was accepted, every leave above all; an external one can cover SelfRemoves only.

        RFC 9420 12.2: of the proposals about one leaf it covers one, and none of its maker's fresh keys; whether
        somebody can be added shows there only. So those may be left out, and where a leaf goes, how it does.
        """
        covered = {proposal.reference for proposal in proposals if proposal.by_reference}
        removed = {proposal.leaf for proposal in proposals if proposal.kind in ("remove", "self_remove")}
        omitted = [
            pending.reference
            for pending in self.kept.pending
            if pending.reference not in covered and _is_due(pending, removed, external=external)
        ]
        if omitted:
            raise _Invalid("The commit leaves out proposals that were accepted.", tuple(omitted))

    def _group_info(
        self, group: PublicGroup, option: GroupInfoOption, names: Mapping[int, bytes], sender: Sender
    ) -> bytes:
        match option:
            case FullGroupInfo(group_info=info):
                return _GROUP_INFO_FRAME + GROUP_INFO.encode(info)
            case PartialGroupInfo():
                # draft-ietf-mls-ratchet-tree-options 4: the signer is the committer; the rest the hub knows itself.
                leaf = sender.index if sender.index is not None else 0
                out = bytearray(_GROUP_INFO_FRAME + group.group_context)
                EXTENSIONS.write(option.extensions, out)
                OPAQUE.write(group.confirmation_tag, out)
                U32.write(leaf, out)
                OPAQUE.write(option.signature, out)
                return bytes(out)

    def _welcomes(
        self, welcome: Welcome | None, group: PublicGroup, now: int, routes: Mapping[bytes, str]
    ) -> tuple[Delivery, ...]:
        """The Welcome, once to each provider that gave out one of its key packages."""
        if welcome is None:
            return ()
        found = {secret.new_member: routes.get(secret.new_member) for secret in welcome.secrets}
        if None in found.values():
            raise NotAllowed("The Welcome is for a key package that was not fetched through this hub.")
        tree = FullTree(RATCHET_TREE.decode(group.ratchet_tree()))
        return self._to({to for to in found.values() if to}, WelcomeFanout(now, welcome, tree))

    # What both have in common -------------------------------------------------------------------------------

    def _of(self, sender: Sender, provider: str) -> None:
        """A provider brings messages of its own clients only."""
        if sender.kind == "external":
            if provider != uris.parse(self.kept.uri).domain:
                raise NotAllowed("Only the hub proposes from outside.")
            return
        name = (sender.name or b"").decode("utf-8", "replace")
        if uris.parse(name, uris.Thing.CLIENT).domain != provider:
            raise NotAllowed("A provider speaks for its own clients only.")

    def _vouched(
        self,
        message: MlsMessage,
        sender: Sender,
        names: Mapping[int, bytes],
        provider: str,
        people: People,
        routes: Mapping[bytes, str],
    ) -> None:
        """Nobody brings in a client under the name of another provider's user, or becomes one."""
        if not isinstance(message, PublicMessage):
            return
        for each in vouching.entering(message):
            user = people.user_of(each.client)
            if each.package is not None:
                domain = uris.parse(user).domain
                given = routes.get(self._engine.reference(KEY_PACKAGE.encode(each.package)))
                if domain not in (provider, given):
                    raise NotAllowed("A client comes in by a key package that its own provider gave out.")
            elif sender.kind == "member" and user != people.user_of(names.get(sender.index or 0)):
                raise NotAllowed("A client cannot become another user's.")

    def _not_gone(self, acts: Sequence[Act]) -> None:
        gone = self._gone
        for act in acts:
            if act.by in gone and not isinstance(act, policy.RemoveClient):
                raise NotAllowed("Who was removed from the room cannot change it.")

    def _after(self, group: PublicGroup, group_info: bytes, pending: tuple[Pending, ...]) -> HubRoom:
        records = _fold(self.kept.group, group.take_changes())
        kept = msgspec.structs.replace(self.kept, group=records, group_info=group_info, pending=pending)
        return HubRoom(self._engine, kept)

    def _to(self, providers: set[str], fanout: Fanout) -> tuple[Delivery, ...]:
        return tuple(Delivery(to, self.kept.uri, fanout) for to in sorted(providers))


def joiner(request: UpdateRequest) -> bytes | None:
    """The name of the client that joins by this commit, None where it is no external commit. Nothing is verified."""
    content, sender = request.message.content, request.message.sender
    if not isinstance(sender, NewMemberCommit) or not isinstance(content, Commit) or content.path is None:
        return None
    credential = content.path.leaf_node.credential
    return credential.identity if isinstance(credential, BasicCredential) else None


class _Invalid(PeerMisbehaved):
    def __init__(self, notice: str, references: tuple[bytes, ...]) -> None:
        super().__init__(notice)
        self.references = references


def _fold(records: Mapping[str, bytes], changes: Mapping[str, bytes | None]) -> dict[str, bytes]:
    folded = dict(records)
    for name, value in changes.items():
        if value is None:
            folded.pop(name, None)
        else:
            folded[name] = value
    return folded


def _names(group: PublicGroup) -> dict[int, bytes]:
    return {member.leaf: member.name for member in group.members}


def _bounded(pending: Sequence[Pending]) -> None:
    authors: Counter[object] = Counter()
    for each in pending:
        message = each.decoded
        authors[message.sender if isinstance(message, PublicMessage) else None] += 1
    if max(authors.values(), default=0) > MAX_PENDING:
        raise NotAllowed("Too many proposals of one client wait for a commit.")
    if any(len(each.message) > MAX_PROPOSAL for each in pending):
        raise NotAllowed("A proposal is longer than a hub keeps.")


def _is_due(pending: Pending, removed: set[int | None], *, external: bool) -> bool:
    """Whether a commit that removes those leaves has to cover it."""
    match pending.decoded:
        case PublicMessage(content=SelfRemove(), sender=MemberSender(leaf=leaf)):
            return leaf not in removed
        case PublicMessage(content=Remove(leaf=leaf)):
            return not external and leaf not in removed
        case PublicMessage(content=Add() | Update()):
            return False
        case _:
            return not external


def _not_there(message: MlsMessage, group: PublicGroup, pending: Sequence[Pending]) -> None:
    """Whoever is proposed to be added has a key that nobody else in the group has, or will have (RFC 9420 12.2)."""
    if not isinstance(message, PublicMessage) or not isinstance(message.content, Add):
        return
    keys = {member.signature_key for member in group.members}
    for each in pending:
        match each.decoded:
            case PublicMessage(content=Add(key_package=package)):
                keys.add(package.leaf_node.signature_key)
            case _:
                pass
    if message.content.key_package.leaf_node.signature_key in keys:
        raise NotAllowed("That client is in the room already, or about to be.")


def _acts(
    proposals: Sequence[Proposal],
    sender: Sender,
    names: Mapping[int, bytes],
    people: People,
    state: Room,
) -> list[Act]:
    """The proposals in the policy's words; `sender` brought them, and made those that stand in the commit itself.

    Raises PeerMisbehaved, and NotAllowed for what no policy can allow.
    """
    acts = []
    for proposal in proposals:
        author = proposal.sender if proposal.by_reference else sender
        by = HUB if author.kind == "external" else people.user_of(author.name)
        if (act := _act(proposal, by, names, people, state)) is not None:
            acts.append(act)
    return acts


def _act(proposal: Proposal, by: str, names: Mapping[int, bytes], people: People, state: Room) -> Act | None:
    data = proposal.data
    match proposal.kind:
        case "add":
            return policy.AddClient(by, people.user_of(proposal.name))
        case "remove" if proposal.leaf is not None:
            return policy.RemoveClient(by, people.user_of(names.get(proposal.leaf)))
        case "self_remove":
            return policy.RemoveClient(by, by)
        case "update":
            return policy.UpdateClient(by)
        case "external_init":
            return None
        case "reinit":
            return policy.ReInit(by)
        case "app_data_update" if proposal.component in _ALWAYS_THERE and data is None:
            raise NotAllowed("A room keeps its address, its participants and its roles.")
        case "app_data_update" if proposal.component is not None:
            if proposal.component == Component.PARTICIPANT_LIST and data is not None:
                update = components.PARTICIPANT_UPDATE.decode(data)
                rooms_state.changed(state.participants, [update])  # the places that it names are there
                for added in update.added:
                    uris.parse(added.user, uris.Thing.USER)
                return policy.ChangeParticipants(by, update)
            if proposal.component == Component.ROOM_METADATA and data is not None:
                return policy.ChangeMetadata(by, components.ROOM_METADATA.decode(data))
            return policy.ChangePolicy(by, proposal.component)
        case _:
            return policy.Unheard(by)
