"""Bodies that are about one room: update, submitMessage, notify, groupInfo (draft-ietf-mimi-protocol-06 5.3 to 5.6)."""

from __future__ import annotations

from typing import Any

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.wire.mls import (
    CREDENTIAL,
    EXTENSIONS,
    EXTERNAL_SENDER,
    GROUP_INFO,
    HPKE_CIPHERTEXT,
    MLS_MESSAGE,
    RATCHET_TREE,
    WELCOME,
    Commit,
    ContentType,
    Credential,
    Extension,
    ExternalSender,
    GroupInfo,
    HpkeCiphertext,
    MlsMessage,
    Node,
    PrivateMessage,
    PublicMessage,
    Welcome,
)
from connectors.mimi.wire.tls import (
    OPAQUE,
    U8,
    U16,
    U64,
    UTF8,
    Codec,
    Reader,
    Record,
    choice,
    fixed,
    late_choice,
    many,
    optional,
    prefixed,
    struct,
    vector,
)


class UnknownProtocol(PeerMisbehaved):
    """The body is of another end-to-end protocol than MLS 1.0."""


def unknown_protocol(found: bytes) -> PeerMisbehaved:
    """What is raised for another protocol's body."""
    return UnknownProtocol("The other side uses an end-to-end protocol that nobody here speaks.")


PROTOCOL = b"\x01"
"""mls10, the only one there is."""


# The tree and the GroupInfo beside a commit (draft-ietf-mls-ratchet-tree-options) ----------------------------


class FullTree(Record, frozen=True):
    nodes: tuple[Node | None, ...]


class TreeAt(Record, frozen=True):
    url: str
    signature: bytes


class TreeOutOfBand(Record, frozen=True):
    signature: bytes


class TreeOfService(Record, frozen=True):
    """The receiver can put it together itself."""


TreeOption = FullTree | TreeAt | TreeOutOfBand | TreeOfService

TREE_OPTION: Codec[TreeOption] = choice(
    TreeOption,
    U8,
    {
        1: struct(FullTree, nodes=RATCHET_TREE),
        2: struct(TreeAt, url=UTF8, signature=OPAQUE),
        3: struct(TreeOutOfBand, signature=OPAQUE),
        4: struct(TreeOfService),
    },
)


class FullGroupInfo(Record, frozen=True):
    group_info: GroupInfo


class PartialGroupInfo(Record, frozen=True):
    """What the hub cannot work out by itself. `tree_presence`: 0 none, 1 present, 2 removed, 3 added."""

    tree_presence: int
    extensions: tuple[Extension, ...]
    signature: bytes


GroupInfoOption = FullGroupInfo | PartialGroupInfo


class _Presence(Codec[int]):
    def read(self, reader: Reader) -> int:
        if (value := U8.read(reader)) > 3:
            raise PeerMisbehaved("The other side sent a GroupInfo whose tree is there in an unknown way.")
        return value

    def write(self, value: int, out: bytearray) -> None:
        U8.write(value, out)


GROUP_INFO_OPTION: Codec[GroupInfoOption] = choice(
    GroupInfoOption,
    U8,
    {
        1: struct(FullGroupInfo, group_info=GROUP_INFO),
        2: struct(PartialGroupInfo, tree_presence=_Presence(), extensions=EXTENSIONS, signature=OPAQUE),
    },
)


# update -----------------------------------------------------------------------------------------------------


class CommitBundle(Record, frozen=True):
    """A commit and what newcomers and the hub need of it; the Welcome and the GroupInfo leave the tree out."""

    message: PublicMessage
    welcome: Welcome | None
    group_info: GroupInfoOption
    tree: TreeOption


class ProposalBundle(Record, frozen=True):
    message: PublicMessage
    more: tuple[MlsMessage, ...] = ()


UpdateRequest = CommitBundle | ProposalBundle


class _UpdateRequest(Codec[UpdateRequest]):
    def read(self, reader: Reader) -> UpdateRequest:
        message = MLS_MESSAGE.read(reader)
        if not isinstance(message, PublicMessage):
            raise PeerMisbehaved("The other side sent an update that is no public handshake message.")
        if isinstance(message.content, Commit):
            return CommitBundle(
                message, _WELCOME.read(reader), GROUP_INFO_OPTION.read(reader), TREE_OPTION.read(reader)
            )
        return ProposalBundle(message, _PROPOSALS.read(reader))

    def write(self, value: UpdateRequest, out: bytearray) -> None:
        if isinstance(value, CommitBundle) != isinstance(value.message.content, Commit):
            raise ValueError("a bundle of one kind around a message of the other")
        MLS_MESSAGE.write(value.message, out)
        if isinstance(value, CommitBundle):
            _WELCOME.write(value.welcome, out)
            GROUP_INFO_OPTION.write(value.group_info, out)
            TREE_OPTION.write(value.tree, out)
        else:
            _PROPOSALS.write(value.more, out)


class _Proposals(Codec[tuple[MlsMessage, ...]]):
    """Further proposals, each a public message."""

    def read(self, reader: Reader) -> tuple[MlsMessage, ...]:
        found = _MESSAGES.read(reader)
        if not all(map(_is_proposal, found)):
            raise PeerMisbehaved("The other side sent something else where a proposal belongs.")
        return found

    def write(self, value: tuple[MlsMessage, ...], out: bytearray) -> None:
        if not all(map(_is_proposal, value)):
            raise ValueError("something else where a proposal belongs")
        _MESSAGES.write(value, out)


def _is_proposal(message: MlsMessage) -> bool:
    return isinstance(message, PublicMessage) and not isinstance(message.content, Commit)


_WELCOME = optional(WELCOME)
_MESSAGES = vector(MLS_MESSAGE)
_PROPOSALS = _Proposals()
UPDATE_REQUEST = _UpdateRequest()


class Updated(Record, frozen=True):
    """`accepted`: the hub's time (ms)."""

    description: str
    accepted: int


class WrongEpoch(Record, frozen=True):
    description: str
    current_epoch: int


class NotAllowed(Record, frozen=True):
    description: str


class InvalidProposal(Record, frozen=True):
    description: str
    references: tuple[bytes, ...]


UpdateResponse = Updated | WrongEpoch | NotAllowed | InvalidProposal

UPDATE_RESPONSE: Codec[UpdateResponse] = choice(
    UpdateResponse,
    U8,
    {
        0: struct(Updated, description=UTF8, accepted=U64),
        1: struct(WrongEpoch, description=UTF8, current_epoch=U64),
        2: struct(NotAllowed, description=UTF8),
        3: struct(InvalidProposal, description=UTF8, references=vector(OPAQUE)),
    },
)


# submitMessage ----------------------------------------------------------------------------------------------


class SubmitRequest(Record, frozen=True):
    message: PrivateMessage
    sender_uri: str


class _Application(Codec[PrivateMessage]):
    def read(self, reader: Reader) -> PrivateMessage:
        message = MLS_MESSAGE.read(reader)
        if not isinstance(message, PrivateMessage) or message.content_type is not ContentType.APPLICATION:
            raise PeerMisbehaved("The other side submitted something else than an application message.")
        return message

    def write(self, value: PrivateMessage, out: bytearray) -> None:
        if value.content_type is not ContentType.APPLICATION:
            raise ValueError("a handshake where an application message belongs")
        MLS_MESSAGE.write(value, out)


SUBMIT_REQUEST: Codec[SubmitRequest] = prefixed(
    PROTOCOL, struct(SubmitRequest, message=_Application(), sender_uri=UTF8), unknown_protocol
)


class Frank(Record, frozen=True):
    """The hub's stamp: it saw this message then, from that sender."""

    server_frank: bytes
    cipher_suite: int
    signature: bytes


FRANK = struct(Frank, server_frank=fixed(32), cipher_suite=U16, signature=OPAQUE)


class Accepted(Record, frozen=True):
    """`accepted`: the hub's time (ms)."""

    accepted: int
    frank: Frank | None


class Refused(Record, frozen=True):
    pass


class EpochTooOld(Record, frozen=True):
    current_epoch: int


SubmitResponse = Accepted | Refused | EpochTooOld

SUBMIT_RESPONSE: Codec[SubmitResponse] = prefixed(
    PROTOCOL,
    choice(
        SubmitResponse,
        U8,
        {
            0: struct(Accepted, accepted=U64, frank=optional(FRANK)),
            1: struct(Refused),
            2: struct(EpochTooOld, current_epoch=U64),
        },
    ),
    unknown_protocol,
)


class FrankingContext(Record, frozen=True):
    sender_uri: str
    room_uri: str
    accepted: int


class FrankingIntegrity(Record, frozen=True):
    """What the hub signs ("FrankingIntegrityTBS")."""

    server_frank: bytes
    cipher_suite: int
    context: FrankingContext


FRANKING_CONTEXT = struct(FrankingContext, sender_uri=UTF8, room_uri=UTF8, accepted=U64)
FRANKING_INTEGRITY = struct(
    FrankingIntegrity, server_frank=fixed(32), cipher_suite=U16, context=FRANKING_CONTEXT
)


# notify -----------------------------------------------------------------------------------------------------


class FanoutBase(Record, frozen=True):
    """`accepted`: the hub's time (ms)."""

    accepted: int


class ApplicationFanout(FanoutBase, frozen=True):
    message: PrivateMessage
    frank: Frank | None = None


class WelcomeFanout(FanoutBase, frozen=True):
    message: Welcome
    tree: TreeOption


class ProposalFanout(FanoutBase, frozen=True):
    message: PublicMessage
    more: tuple[MlsMessage, ...] = ()


class CommitFanout(FanoutBase, frozen=True):
    """`replaced`: the hub's own proposals anew, where an external commit made the old ones void."""

    message: PublicMessage
    replaced: tuple[MlsMessage, ...] = ()


Fanout = ApplicationFanout | WelcomeFanout | ProposalFanout | CommitFanout


class _Fanout(Codec[Fanout]):
    def read(self, reader: Reader) -> Fanout:
        accepted, message = U64.read(reader), MLS_MESSAGE.read(reader)
        match message:
            case PrivateMessage(content_type=ContentType.APPLICATION):
                return ApplicationFanout(accepted, message, _FRANK.read(reader))
            case Welcome():
                return WelcomeFanout(accepted, message, TREE_OPTION.read(reader))
            case PublicMessage(content=Commit()):
                return CommitFanout(accepted, message, _PROPOSALS.read(reader))
            case PublicMessage():
                return ProposalFanout(accepted, message, _PROPOSALS.read(reader))
            case _:
                raise PeerMisbehaved("The other side fanned out a message of a kind that is not fanned out.")

    def write(self, value: Fanout, out: bytearray) -> None:
        U64.write(value.accepted, out)
        MLS_MESSAGE.write(value.message, out)
        match value:
            case ApplicationFanout():
                _FRANK.write(value.frank, out)
            case WelcomeFanout():
                TREE_OPTION.write(value.tree, out)
            case ProposalFanout():
                _PROPOSALS.write(value.more, out)
            case CommitFanout():
                _PROPOSALS.write(value.replaced, out)


_FRANK = optional(FRANK)
FANOUT: Codec[Fanout] = _Fanout()
FANOUTS = many(FANOUT)


# groupInfo --------------------------------------------------------------------------------------------------


class GroupInfoRequest(Record, frozen=True):
    cipher_suite: int
    signature_key: bytes
    credential: Credential
    group_info_key: bytes
    joining_code: bytes | None
    signature: bytes = b""


_REQUEST: dict[str, Codec[Any]] = {
    "cipher_suite": U16,
    "signature_key": OPAQUE,
    "credential": CREDENTIAL,
    "group_info_key": OPAQUE,
    "joining_code": optional(OPAQUE),
}
GROUP_INFO_REQUEST: Codec[GroupInfoRequest] = prefixed(
    PROTOCOL, struct(GroupInfoRequest, **_REQUEST, signature=OPAQUE), unknown_protocol
)


class GivenGroupInfo(Record, frozen=True):
    room_id: bytes
    cipher_suite: int
    hub_sender: ExternalSender
    encrypted: HpkeCiphertext
    signature: bytes = b""


class NotAuthorized(Record, frozen=True):
    room_id: bytes


class NoSuchRoom(Record, frozen=True):
    room_id: bytes


GroupInfoResponse = GivenGroupInfo | NotAuthorized | NoSuchRoom

GROUP_INFO_RESPONSE: Codec[GroupInfoResponse] = prefixed(
    PROTOCOL,
    late_choice(
        GroupInfoResponse,
        1,
        U8,
        {
            1: struct(
                GivenGroupInfo,
                room_id=OPAQUE,
                cipher_suite=U16,
                hub_sender=EXTERNAL_SENDER,
                encrypted=HPKE_CIPHERTEXT,
                signature=OPAQUE,
            ),
            2: struct(NotAuthorized, room_id=OPAQUE),
            3: struct(NoSuchRoom, room_id=OPAQUE),
        },
    ),
    unknown_protocol,
)


class PendingProposal(Record, frozen=True):
    message: MlsMessage
    accepted: int


class GroupInfoAndTree(Record, frozen=True):
    """What is sealed in a GivenGroupInfo."""

    group_info: GroupInfo
    tree: TreeOption
    pending: tuple[PendingProposal, ...] = ()


GROUP_INFO_AND_TREE = struct(
    GroupInfoAndTree,
    group_info=GROUP_INFO,
    tree=TREE_OPTION,
    pending=vector(struct(PendingProposal, message=MLS_MESSAGE, accepted=U64)),
)
