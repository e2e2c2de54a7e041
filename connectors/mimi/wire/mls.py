"""The structures of MLS that MIMI carries (RFC 9420; draft-ietf-mls-extensions).

They are read to know where each ends, to whom it goes and what it changes. Nothing is verified here: that is the
engine's.
"""

from __future__ import annotations

from enum import IntEnum

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.wire.tls import (
    OPAQUE,
    U8,
    U16,
    U32,
    U64,
    Codec,
    Reader,
    Record,
    choice,
    enum,
    optional,
    prefixed,
    struct,
    vector,
)

MLS10 = 1
AES128_X25519 = 0x0001  # MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519: the suite that implementations share


class Extension(Record, frozen=True):
    type: int
    data: bytes


class BasicCredential(Record, frozen=True):
    """In MIMI: the client's URI."""

    identity: bytes


class X509Credential(Record, frozen=True):
    certificates: tuple[bytes, ...]


Credential = BasicCredential | X509Credential


class Capabilities(Record, frozen=True):
    versions: tuple[int, ...]
    cipher_suites: tuple[int, ...]
    extensions: tuple[int, ...]
    proposals: tuple[int, ...]
    credentials: tuple[int, ...]


class RequiredCapabilities(Record, frozen=True):
    extensions: tuple[int, ...]
    proposals: tuple[int, ...]
    credentials: tuple[int, ...]


class Lifetime(Record, frozen=True):
    """A leaf of a key package: valid between two times (s since the epoch)."""

    not_before: int
    not_after: int


class Updated(Record, frozen=True):
    """A leaf of an Update proposal."""


class Committed(Record, frozen=True):
    """A leaf of a commit's path."""

    parent_hash: bytes


class LeafNode(Record, frozen=True):
    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    source: Lifetime | Updated | Committed
    extensions: tuple[Extension, ...]
    signature: bytes


class KeyPackage(Record, frozen=True):
    cipher_suite: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: tuple[Extension, ...]
    signature: bytes


class ParentNode(Record, frozen=True):
    encryption_key: bytes
    parent_hash: bytes
    unmerged_leaves: tuple[int, ...]


class Leaf(Record, frozen=True):
    leaf_node: LeafNode


class Parent(Record, frozen=True):
    parent_node: ParentNode


Node = Leaf | Parent


class ExternalPsk(Record, frozen=True):
    psk_id: bytes
    nonce: bytes


class ResumptionPsk(Record, frozen=True):
    usage: int
    group_id: bytes
    epoch: int
    nonce: bytes


class ApplicationPsk(Record, frozen=True):
    component: int
    psk_id: bytes
    nonce: bytes


class Add(Record, frozen=True):
    key_package: KeyPackage


class Update(Record, frozen=True):
    leaf_node: LeafNode


class Remove(Record, frozen=True):
    leaf: int


class PreSharedKey(Record, frozen=True):
    psk: ExternalPsk | ResumptionPsk | ApplicationPsk


class ReInit(Record, frozen=True):
    group_id: bytes
    version: int
    cipher_suite: int
    extensions: tuple[Extension, ...]


class ExternalInit(Record, frozen=True):
    kem_output: bytes


class GroupContextExtensions(Record, frozen=True):
    extensions: tuple[Extension, ...]


class ComponentUpdate(Record, frozen=True):
    update: bytes


class ComponentRemoval(Record, frozen=True):
    pass


class AppDataUpdate(Record, frozen=True):
    component: int
    operation: ComponentUpdate | ComponentRemoval


class AppEphemeral(Record, frozen=True):
    component: int
    data: bytes


class SelfRemove(Record, frozen=True):
    pass


Proposal = (
    Add
    | Update
    | Remove
    | PreSharedKey
    | ReInit
    | ExternalInit
    | GroupContextExtensions
    | AppDataUpdate
    | AppEphemeral
    | SelfRemove
)


class ByValue(Record, frozen=True):
    proposal: Proposal


class ByReference(Record, frozen=True):
    reference: bytes


class HpkeCiphertext(Record, frozen=True):
    kem_output: bytes
    ciphertext: bytes


class UpdatePathNode(Record, frozen=True):
    encryption_key: bytes
    encrypted_path_secrets: tuple[HpkeCiphertext, ...]


class UpdatePath(Record, frozen=True):
    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]


class Commit(Record, frozen=True):
    proposals: tuple[ByValue | ByReference, ...]
    path: UpdatePath | None


class MemberSender(Record, frozen=True):
    leaf: int


class ExternalSenderIndex(Record, frozen=True):
    """Its place in the group's external_senders."""

    index: int


class NewMemberProposal(Record, frozen=True):
    pass


class NewMemberCommit(Record, frozen=True):
    pass


Sender = MemberSender | ExternalSenderIndex | NewMemberProposal | NewMemberCommit


class ContentType(IntEnum):
    APPLICATION = 1
    PROPOSAL = 2
    COMMIT = 3


class PublicMessage(Record, frozen=True):
    """A handshake message; application data is never public (RFC 9420 6.2)."""

    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes
    content: Proposal | Commit
    signature: bytes
    confirmation_tag: bytes | None
    membership_tag: bytes | None


class PrivateMessage(Record, frozen=True):
    group_id: bytes
    epoch: int
    content_type: ContentType
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes


class EncryptedGroupSecrets(Record, frozen=True):
    """`new_member` is the KeyPackageRef that says for whom it is."""

    new_member: bytes
    secrets: HpkeCiphertext


class Welcome(Record, frozen=True):
    cipher_suite: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes


class GroupContext(Record, frozen=True):
    cipher_suite: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: tuple[Extension, ...]


class GroupInfo(Record, frozen=True):
    context: GroupContext
    extensions: tuple[Extension, ...]
    confirmation_tag: bytes
    signer: int
    signature: bytes


class ExternalSender(Record, frozen=True):
    signature_key: bytes
    credential: Credential


MlsMessage = PublicMessage | PrivateMessage | Welcome | GroupInfo | KeyPackage


def _other_version(found: bytes) -> PeerMisbehaved:
    return PeerMisbehaved("The other side speaks a version of MLS that nobody here knows.")


_VERSION = MLS10.to_bytes(2)

EXTENSIONS = vector(struct(Extension, type=U16, data=OPAQUE))
CREDENTIAL: Codec[Credential] = choice(
    Credential,
    U16,
    {
        1: struct(BasicCredential, identity=OPAQUE),
        2: struct(X509Credential, certificates=vector(OPAQUE)),
    },
)
CAPABILITIES = struct(
    Capabilities,
    versions=vector(U16),
    cipher_suites=vector(U16),
    extensions=vector(U16),
    proposals=vector(U16),
    credentials=vector(U16),
)
REQUIRED_CAPABILITIES = struct(
    RequiredCapabilities, extensions=vector(U16), proposals=vector(U16), credentials=vector(U16)
)
LEAF_NODE = struct(
    LeafNode,
    encryption_key=OPAQUE,
    signature_key=OPAQUE,
    credential=CREDENTIAL,
    capabilities=CAPABILITIES,
    source=choice(
        Lifetime | Updated | Committed,
        U8,
        {
            1: struct(Lifetime, not_before=U64, not_after=U64),
            2: struct(Updated),
            3: struct(Committed, parent_hash=OPAQUE),
        },
    ),
    extensions=EXTENSIONS,
    signature=OPAQUE,
)
KEY_PACKAGE: Codec[KeyPackage] = prefixed(
    _VERSION,
    struct(
        KeyPackage,
        cipher_suite=U16,
        init_key=OPAQUE,
        leaf_node=LEAF_NODE,
        extensions=EXTENSIONS,
        signature=OPAQUE,
    ),
    _other_version,
)
PARENT_NODE = struct(ParentNode, encryption_key=OPAQUE, parent_hash=OPAQUE, unmerged_leaves=vector(U32))
NODE: Codec[Node] = choice(
    Node, U8, {1: struct(Leaf, leaf_node=LEAF_NODE), 2: struct(Parent, parent_node=PARENT_NODE)}
)
RATCHET_TREE = vector(optional(NODE))
PRE_SHARED_KEY_ID: Codec[ExternalPsk | ResumptionPsk | ApplicationPsk] = choice(
    ExternalPsk | ResumptionPsk | ApplicationPsk,
    U8,
    {
        1: struct(ExternalPsk, psk_id=OPAQUE, nonce=OPAQUE),
        2: struct(ResumptionPsk, usage=U8, group_id=OPAQUE, epoch=U64, nonce=OPAQUE),
        3: struct(ApplicationPsk, component=U16, psk_id=OPAQUE, nonce=OPAQUE),
    },
)
PROPOSAL: Codec[Proposal] = choice(
    Proposal,
    U16,
    {
        1: struct(Add, key_package=KEY_PACKAGE),
        2: struct(Update, leaf_node=LEAF_NODE),
        3: struct(Remove, leaf=U32),
        4: struct(PreSharedKey, psk=PRE_SHARED_KEY_ID),
        5: struct(ReInit, group_id=OPAQUE, version=U16, cipher_suite=U16, extensions=EXTENSIONS),
        6: struct(ExternalInit, kem_output=OPAQUE),
        7: struct(GroupContextExtensions, extensions=EXTENSIONS),
        # draft-ietf-mls-extensions, suggested values
        0x0008: struct(
            AppDataUpdate,
            component=U16,
            operation=choice(
                ComponentUpdate | ComponentRemoval,
                U8,
                {1: struct(ComponentUpdate, update=OPAQUE), 2: struct(ComponentRemoval)},
            ),
        ),
        0x0009: struct(AppEphemeral, component=U16, data=OPAQUE),
        0x000A: struct(SelfRemove),
    },
)
HPKE_CIPHERTEXT = struct(HpkeCiphertext, kem_output=OPAQUE, ciphertext=OPAQUE)
UPDATE_PATH = struct(
    UpdatePath,
    leaf_node=LEAF_NODE,
    nodes=vector(
        struct(UpdatePathNode, encryption_key=OPAQUE, encrypted_path_secrets=vector(HPKE_CIPHERTEXT))
    ),
)
COMMIT = struct(
    Commit,
    proposals=vector(
        choice(
            ByValue | ByReference,
            U8,
            {1: struct(ByValue, proposal=PROPOSAL), 2: struct(ByReference, reference=OPAQUE)},
        )
    ),
    path=optional(UPDATE_PATH),
)
SENDER: Codec[Sender] = choice(
    Sender,
    U8,
    {
        1: struct(MemberSender, leaf=U32),
        2: struct(ExternalSenderIndex, index=U32),
        3: struct(NewMemberProposal),
        4: struct(NewMemberCommit),
    },
)


class _PublicMessage(Codec[PublicMessage]):
    """RFC 9420 6 and 6.2: which tags there are depends on the content and the sender."""

    kind = PublicMessage

    def read(self, reader: Reader) -> PublicMessage:
        group_id, epoch = OPAQUE.read(reader), U64.read(reader)
        sender, data = SENDER.read(reader), OPAQUE.read(reader)
        content: Proposal | Commit
        match U8.read(reader):
            case ContentType.PROPOSAL:
                content = PROPOSAL.read(reader)
            case ContentType.COMMIT:
                content = COMMIT.read(reader)
            case _:
                raise PeerMisbehaved("The other side sent a public message that is no handshake.")
        return PublicMessage(
            group_id,
            epoch,
            sender,
            data,
            content,
            OPAQUE.read(reader),
            OPAQUE.read(reader) if isinstance(content, Commit) else None,
            OPAQUE.read(reader) if isinstance(sender, MemberSender) else None,
        )

    def write(self, value: PublicMessage, out: bytearray) -> None:
        commit, member = isinstance(value.content, Commit), isinstance(value.sender, MemberSender)
        if commit == (value.confirmation_tag is None) or member == (value.membership_tag is None):
            raise ValueError("a tag where none belongs, or none where one does")
        OPAQUE.write(value.group_id, out)
        U64.write(value.epoch, out)
        SENDER.write(value.sender, out)
        OPAQUE.write(value.authenticated_data, out)
        if isinstance(value.content, Commit):
            U8.write(ContentType.COMMIT, out)
            COMMIT.write(value.content, out)
        else:
            U8.write(ContentType.PROPOSAL, out)
            PROPOSAL.write(value.content, out)
        for octets in (value.signature, value.confirmation_tag, value.membership_tag):
            if octets is not None:
                OPAQUE.write(octets, out)


PUBLIC_MESSAGE = _PublicMessage()
PRIVATE_MESSAGE = struct(
    PrivateMessage,
    group_id=OPAQUE,
    epoch=U64,
    content_type=enum(ContentType),
    authenticated_data=OPAQUE,
    encrypted_sender_data=OPAQUE,
    ciphertext=OPAQUE,
)
WELCOME = struct(
    Welcome,
    cipher_suite=U16,
    secrets=vector(struct(EncryptedGroupSecrets, new_member=OPAQUE, secrets=HPKE_CIPHERTEXT)),
    encrypted_group_info=OPAQUE,
)
GROUP_CONTEXT: Codec[GroupContext] = prefixed(
    _VERSION,
    struct(
        GroupContext,
        cipher_suite=U16,
        group_id=OPAQUE,
        epoch=U64,
        tree_hash=OPAQUE,
        confirmed_transcript_hash=OPAQUE,
        extensions=EXTENSIONS,
    ),
    _other_version,
)
GROUP_INFO = struct(
    GroupInfo,
    context=GROUP_CONTEXT,
    extensions=EXTENSIONS,
    confirmation_tag=OPAQUE,
    signer=U32,
    signature=OPAQUE,
)
EXTERNAL_SENDER = struct(ExternalSender, signature_key=OPAQUE, credential=CREDENTIAL)
EXTERNAL_SENDERS = vector(EXTERNAL_SENDER)
MLS_MESSAGE: Codec[MlsMessage] = prefixed(
    _VERSION,
    choice(
        MlsMessage,
        U16,
        {1: PUBLIC_MESSAGE, 2: PRIVATE_MESSAGE, 3: WELCOME, 4: GROUP_INFO, 5: KEY_PACKAGE},
    ),
    _other_version,
)
