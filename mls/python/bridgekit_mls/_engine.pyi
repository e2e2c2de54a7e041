"""The engine's face: MLS (RFC 9420) with the extensions of draft-ietf-mls-extensions, by OpenMLS.

Bytes in, bytes out. Three things hold everywhere:

- A *message* is an `MLSMessage` of RFC 9420, section 6, key packages, Welcomes and GroupInfos included; `unframe`
  takes the four bytes of frame off where a protocol wants the bare structure, `frame` puts them back. A *ratchet
  tree* is the `optional<Node> ratchet_tree<V>` of section 12.4.3.3. A *leaf* is the index of a member in the tree.
- State is a mapping of short names to bytes. What an operation changed waits in `take_changes()`: store it, sealed,
  in one transaction with whatever belongs to it, and only then send what the operation returned. What was never
  stored was never sent, so after a crash nothing is used twice.
- Every exception is an `MlsError` (an argument of a wrong type raises TypeError or OverflowError, as ever). Nothing
  that a peer sends raises anything else, and an operation that raises changed nothing.

The objects may be used from any thread, one call at a time each; the GIL is free while the engine computes.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, final

from bridgekit_mls import Changes, Received, Resolve

VERSION: str
"""Of the engine: "bridgekit-mls 0.1.0, openmls 0.9.2"."""

# --- Errors ---------------------------------------------------------------------------------------------------------

class MlsError(Exception):
    """The root of the tree. str() is a sentence that names what was wrong."""

class Malformed(MlsError):
    """The bytes are not what they should be: they do not decode, or something trails them."""

class Unsupported(MlsError):
    """Well-formed, but a version, cipher suite, credential, extension or wire format that this engine does not do."""

class Refused(MlsError):
    """The operation is against the rules of MLS or of this group: a member that is not there, missing capabilities."""

class InvalidMessage(MlsError):
    """A peer's message fails verification: a signature, a tag, a tree, a lifetime or a rule of the protocol."""

class WrongGroup(InvalidMessage):
    """The message belongs to another group."""

class WrongEpoch(InvalidMessage):
    """The message is of an epoch that is not the group's present one (or is too long past to be read)."""

class Undecryptable(InvalidMessage):
    """No key opens the message: not for us, damaged, or its key was used and is gone (a replay looks like this)."""

class UnknownKeyPackage(MlsError):
    """The Welcome names none of these key packages: not ours, or used up."""

class MissingTree(MlsError):
    """Neither the message nor the caller brought the ratchet tree."""

class NotAMember(MlsError):
    """This client was removed from the group: the state can be read, but nothing can be done with it."""

class CommitPending(MlsError):
    """A commit of our own is staged: merge it or clear it first."""

class NoCommitPending(MlsError):
    """There is no commit of our own to merge or to clear."""

class BadState(MlsError):
    """The stored records cannot be read: damaged, incomplete, or of another version."""

class EngineFault(MlsError):
    """A bug in the engine. The object is closed: restore it from what was stored."""

# --- Identity and key packages --------------------------------------------------------------------------------------

@final
class Identity:
    """A client: its name in the credential, its signature key, and what it says that it understands."""

    @staticmethod
    def generate(name: bytes, *, cipher_suite: int = 1, capabilities: Capabilities | None = None) -> Identity:
        """A new signature key under a basic credential. `name`: in MIMI the client's URI. Raises Unsupported."""

    @staticmethod
    def restore(exported: bytes, *, capabilities: Capabilities | None = None) -> Identity:
        """From `export`. Capabilities are the program's, not the key's: they are given anew. Raises BadState."""

    @staticmethod
    def adopt(
        name: bytes,
        private_key: bytes,
        public_key: bytes,
        *,
        cipher_suite: int = 1,
        capabilities: Capabilities | None = None,
    ) -> Identity:
        """Around a signature key made elsewhere. Raises Unsupported, Refused where the halves are not one key's."""

    def export(self) -> bytes:
        """Everything, private key included: seal it."""

    @property
    def name(self) -> bytes: ...
    @property
    def cipher_suite(self) -> int: ...
    @property
    def signature_key(self) -> bytes:
        """The public key."""

    @property
    def credential(self) -> bytes:
        """The `Credential` structure (RFC 9420, section 5.3)."""

    def sign(self, label: str, content: bytes) -> bytes:
        """SignWithLabel (RFC 9420, section 5.1.2)."""

@final
class Capabilities:
    """What a client supports beyond the engine itself; it is written into each of its leaves.

    The engine does: extension app_data_dictionary; proposals app_data_update and self_remove; basic credentials.
    """

    def __init__(
        self,
        *,
        extensions: Sequence[int] = (),
        proposals: Sequence[int] = (),
        app_data: Mapping[int, bytes] | None = None,
    ) -> None:
        """Further extension and proposal types; `app_data`: the leaf's own app_data_dictionary (app_components ...)."""

@final
class KeyPackage:
    """One key package of ours, ready to publish."""

    @property
    def message(self) -> bytes: ...
    @property
    def reference(self) -> bytes:
        """The KeyPackageRef: what a Welcome is routed by."""

    @property
    def not_after(self) -> int:
        """Seconds since the epoch; not to be handed out later."""

    @property
    def last_resort(self) -> bool: ...

@final
class KeyPackages:
    """The private halves of the key packages that one client has published. `Group.join` uses them up."""

    def __init__(self, records: Mapping[str, bytes] | None = None) -> None:
        """Empty, or from stored records. Raises BadState."""

    def generate(
        self, identity: Identity, *, lifetime: int = 7_257_600, last_resort: bool = False
    ) -> KeyPackage:
        """A new one, valid from an hour ago for `lifetime` seconds (84 days; a last-resort package may be used again).

        Raises Refused where it would live for more than two years.
        """

    def adopt(self, message: bytes, init_key: bytes, encryption_key: bytes) -> KeyPackage:
        """Take over a key package of our own that was made elsewhere, unverified. Raises Malformed, Unsupported."""

    def discard(self, reference: bytes) -> None:
        """Forget the private half (an expired package); without effect where it is gone."""

    @property
    def references(self) -> list[bytes]: ...
    def take_changes(self) -> Changes: ...

# --- What is seen of a group ----------------------------------------------------------------------------------------

@final
class Member:
    @property
    def leaf(self) -> int: ...
    @property
    def name(self) -> bytes:
        """The identity in the basic credential; empty under a credential of another type."""

    @property
    def credential(self) -> bytes: ...
    @property
    def signature_key(self) -> bytes: ...
    @property
    def encryption_key(self) -> bytes:
        """Changes with every update of the member."""

SenderKind = Literal["member", "external", "new_member_proposal", "new_member_commit"]

@final
class Sender:
    """Who signed a message; verified, except in what `parse` returns."""

    @property
    def kind(self) -> SenderKind: ...
    @property
    def index(self) -> int | None:
        """A member's leaf, or the index in external_senders; None for who is not there yet."""

    @property
    def name(self) -> bytes | None:
        """The identity in the credential; None in what `parse` returns."""

ProposalKind = Literal[
    "add",
    "update",
    "remove",
    "psk",
    "reinit",
    "external_init",
    "group_context_extensions",
    "app_data_update",
    "app_ephemeral",
    "self_remove",
    "custom",
]

@final
class Proposal:
    """A proposal, alone or within a commit. Which fields are set follows from its kind."""

    @property
    def kind(self) -> ProposalKind: ...
    @property
    def type(self) -> int:
        """The ProposalType on the wire."""

    @property
    def reference(self) -> bytes:
        """The ProposalRef (RFC 9420, section 5.2)."""

    @property
    def by_reference(self) -> bool:
        """False: it stands in the commit itself."""

    @property
    def sender(self) -> Sender: ...
    @property
    def leaf(self) -> int | None:
        """remove, self_remove, update: the member that it is about."""

    @property
    def key_package(self) -> bytes | None:
        """add: the key package, as a message."""

    @property
    def name(self) -> bytes | None:
        """add, update: the identity in the new leaf's credential."""

    @property
    def component(self) -> int | None:
        """app_data_update, app_ephemeral: the component id."""

    @property
    def data(self) -> bytes | None:
        """app_data_update: the update, None where the component is removed. app_ephemeral, custom: the payload."""

    @property
    def extensions(self) -> dict[int, bytes] | None:
        """group_context_extensions: all extensions that the group would have."""

@final
class Application:
    """A decrypted application message."""

    @property
    def epoch(self) -> int: ...
    @property
    def sender(self) -> Sender: ...
    @property
    def data(self) -> bytes: ...
    @property
    def aad(self) -> bytes:
        """The authenticated data after the Safe AAD (draft-ietf-mls-extensions, section 4.9), or all of it without."""

    @property
    def safe_aad(self) -> dict[int, bytes]:
        """By component id; empty where the group does not use it."""

@final
class ReceivedProposal:
    """A verified proposal of the present epoch. It counts for the group once it is accepted."""

    @property
    def epoch(self) -> int: ...
    @property
    def sender(self) -> Sender: ...
    @property
    def proposal(self) -> Proposal: ...
    @property
    def aad(self) -> bytes: ...
    @property
    def safe_aad(self) -> dict[int, bytes]: ...

@final
class ReceivedCommit:
    """A verified commit that waits to be accepted. To refuse it, drop it."""

    @property
    def epoch(self) -> int:
        """The epoch in which it was sent; the group is in the next one when it is accepted."""

    @property
    def sender(self) -> Sender:
        """kind new_member_commit: an external commit; its index is then the leaf that the newcomer gets."""

    @property
    def proposals(self) -> list[Proposal]:
        """All that it covers, by reference and by value, except its own path's update."""

    @property
    def app_data(self) -> dict[int, bytes]:
        """The group's app data as they are when it is accepted."""

    @property
    def removes_me(self) -> bool:
        """Accepting it ends this client's membership. Always False in a PublicGroup."""

    @property
    def aad(self) -> bytes: ...
    @property
    def safe_aad(self) -> dict[int, bytes]: ...

@final
class OwnCommit:
    """The commit that we staged ourselves has come back: `merge_commit`."""

    @property
    def epoch(self) -> int: ...

@final
class OwnMessage:
    """A private message that we sent ourselves has come back; nobody can decrypt their own."""

    @property
    def epoch(self) -> int: ...

@final
class Commit:
    """A staged commit of our own: what to send to whom."""

    @property
    def message(self) -> bytes:
        """For the members there now."""

    @property
    def welcome(self) -> bytes | None:
        """For those it adds, without the ratchet tree (MIMI sends that beside it): give them `ratchet_tree` too."""

    @property
    def group_info(self) -> bytes:
        """The GroupInfo of the new epoch, with external_pub, without the ratchet tree."""

    @property
    def ratchet_tree(self) -> bytes:
        """The tree of the new epoch."""

    @property
    def epoch(self) -> int:
        """The epoch in which it is sent."""

# --- A member's view ------------------------------------------------------------------------------------------------

@final
class Group:
    """A group as one of its members holds it, with the secrets."""

    @staticmethod
    def create(
        identity: Identity,
        group_id: bytes,
        *,
        app_data: Mapping[int, bytes] | None = None,
        external_senders: Sequence[tuple[bytes, bytes]] = (),
        required_extensions: Sequence[int] = (),
        required_proposals: Sequence[int] = (),
        extensions: Mapping[int, bytes] | None = None,
    ) -> Group:
        """A group of one, at epoch 0.

        `external_senders`: (signature key, Credential) each, as a hub has them. `extensions`: further GroupContext
        extensions. A group that requires app_data_update changes its app data by such proposals only. Safe AAD is on
        where `app_data` has component 2 (an encoded ComponentsList). Raises Unsupported, Refused, Malformed.
        """

    @staticmethod
    def join(
        identity: Identity,
        key_packages: KeyPackages,
        welcome: bytes,
        ratchet_tree: bytes | None = None,
        *,
        psks: Sequence[tuple[bytes, bytes]] = (),
    ) -> Group:
        """Join by a Welcome, which uses its key package up: store the changes of both objects together.

        Lifetimes in the tree are not checked (RFC 9420, section 7.3: members' leaves may have expired since). `psks`:
        external pre-shared keys, (id, secret) each, that the Welcome and later commits may name.
        Raises UnknownKeyPackage, MissingTree, Malformed, InvalidMessage, Undecryptable, Unsupported.
        """

    @staticmethod
    def join_external(
        identity: Identity,
        group_info: bytes,
        ratchet_tree: bytes | None = None,
        *,
        self_removes: Sequence[bytes] = (),
        app_data_updates: Sequence[tuple[int, bytes | None]] = (),
        resolve: Resolve | None = None,
        aad: bytes = b"",
    ) -> tuple[Group, Commit]:
        """Join by an external commit. The group stands already in the new epoch: keep it only if that is accepted.

        `self_removes`: pending SelfRemove proposals, which the commit then covers; other proposals among them are
        passed over, as section 12.2 has it. A former leaf with our signature key is removed (a resync).
        Raises MissingTree, Malformed, InvalidMessage, Refused, Unsupported.
        """

    @staticmethod
    def restore(identity: Identity, records: Mapping[str, bytes]) -> Group:
        """From all that `take_changes` ever gave, folded. Raises BadState."""

    def take_changes(self) -> Changes:
        """What changed since it was last asked; all of it the first time."""

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def cipher_suite(self) -> int: ...
    @property
    def active(self) -> bool:
        """False once this client was removed."""

    @property
    def leaf(self) -> int:
        """Our own."""

    @property
    def members(self) -> list[Member]: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...
    @property
    def extensions(self) -> dict[int, bytes]:
        """The GroupContext's extensions, encoded."""

    @property
    def external_senders(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def pending_proposals(self) -> list[Proposal]: ...
    @property
    def commit_pending(self) -> bool: ...

    # Sending. All of these raise NotAMember and CommitPending.

    def encrypt(self, data: bytes, *, aad: bytes = b"", safe_aad: Mapping[int, bytes] | None = None) -> bytes:
        """An application message for the members of this epoch."""

    def propose_add(
        self, key_package: bytes, *, aad: bytes = b"", safe_aad: Mapping[int, bytes] | None = None
    ) -> bytes:
        """Raises Malformed, InvalidMessage (the package), Refused."""

    def propose_remove(
        self, leaf: int, *, aad: bytes = b"", safe_aad: Mapping[int, bytes] | None = None
    ) -> bytes:
        """Raises Refused where nobody is at that leaf."""

    def propose_update(self, *, aad: bytes = b"", safe_aad: Mapping[int, bytes] | None = None) -> bytes:
        """Fresh keys for our own leaf, which another member's commit puts in force."""

    def propose_app_data(
        self,
        component: int,
        update: bytes | None,
        *,
        aad: bytes = b"",
        safe_aad: Mapping[int, bytes] | None = None,
    ) -> bytes:
        """An AppDataUpdate; None removes the component."""

    def propose_self_remove(self, *, aad: bytes = b"", safe_aad: Mapping[int, bytes] | None = None) -> bytes:
        """Our leaving, which another member's commit puts in force; we cannot commit it."""

    def drop_proposal(self, reference: bytes) -> None:
        """Forget a pending proposal. Raises Refused where there is none."""

    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        app_data_updates: Sequence[tuple[int, bytes | None]] = (),
        extensions: Mapping[int, bytes] | None = None,
        pending: bool = True,
        update: bool = False,
        with_tree: bool = False,
        resolve: Resolve | None = None,
        aad: bytes = b"",
        safe_aad: Mapping[int, bytes] | None = None,
    ) -> Commit:
        """Stage a commit; the group stays in its epoch until `merge_commit`.

        `add`: key packages (messages). `app_data_updates`: (component id, update; None: remove). `extensions`: all
        GroupContext extensions that the group is to have, in place of those that it has (the types among its required
        capabilities, the app data as they are). `pending`: cover the
        pending proposals too, as a commit must unless they are invalid. `update`: fresh keys for our own leaf even
        where no proposal asks for them. `with_tree`: the Welcome and the GroupInfo carry the ratchet tree.
        Raises Refused, Malformed and InvalidMessage (a key package), and what `resolve` raises.
        """

    def merge_commit(self) -> None:
        """Our commit was accepted: go on to its epoch. Raises NoCommitPending."""

    def clear_commit(self) -> None:
        """Our commit was not accepted: stay. Raises NoCommitPending."""

    # Receiving.

    def process(self, message: bytes, *, resolve: Resolve | None = None) -> Received:
        """Verify and open a message to this group.

        A used message key is gone: store the changes together with the content of an Application. Proposals and
        commits change the group when they are accepted. Application messages of the last three epochs can be read.
        Raises Malformed, WrongGroup, WrongEpoch, Undecryptable, InvalidMessage, Unsupported, NotAMember, and what
        `resolve` raises.
        """

    def accept(self, received: ReceivedProposal | ReceivedCommit) -> None:
        """Keep the proposal for the next commit, or go on to the commit's epoch (our own staged commit is then void).

        Raises Refused where it is of another group or epoch, or was accepted before.
        """

    # Exporting. All of these raise NotAMember.

    def export_secret(self, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter (RFC 9420, section 8.5). Raises Refused where `length` is out of range."""

    def safe_export_secret(self, component: int) -> bytes:
        """SafeExportSecret (draft-ietf-mls-extensions, section 4.4), once per component and epoch, else Refused."""

    @property
    def epoch_authenticator(self) -> bytes: ...
    def group_info(self, *, with_tree: bool = False) -> bytes:
        """The GroupInfo of this epoch, with external_pub, signed by us."""

    def ratchet_tree(self) -> bytes: ...

# --- The view from outside ------------------------------------------------------------------------------------------

@final
class PublicGroup:
    """A group as a hub holds it: members, app data and pending proposals, and no secret of any kind.

    It verifies signatures and all public state. Membership and confirmation tags take secrets: members check those.
    """

    def __init__(self, group_info: bytes, ratchet_tree: bytes | None = None) -> None:
        """Follow a group from this epoch on; here the lifetimes in the tree are checked.

        Raises MissingTree, Malformed, InvalidMessage, Unsupported.
        """

    @staticmethod
    def restore(records: Mapping[str, bytes]) -> PublicGroup:
        """Raises BadState."""

    def take_changes(self) -> Changes: ...
    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def cipher_suite(self) -> int: ...
    @property
    def members(self) -> list[Member]: ...
    @property
    def app_data(self) -> dict[int, bytes]: ...
    @property
    def extensions(self) -> dict[int, bytes]: ...
    @property
    def external_senders(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def pending_proposals(self) -> list[Proposal]: ...
    @property
    def group_context(self) -> bytes:
        """The encoded GroupContext of this epoch."""

    @property
    def confirmation_tag(self) -> bytes:
        """The bare tag of this epoch: with `group_context`, all that a partial GroupInfo leaves out."""

    def process(self, message: bytes, *, resolve: Resolve | None = None) -> ReceivedProposal | ReceivedCommit:
        """Verify a public message to this group.

        A commit that covers a proposal which was never accepted here is invalid. Raises as `Group.process`, and
        Unsupported for a private message.
        """

    def accept(self, received: ReceivedProposal | ReceivedCommit) -> None: ...
    def drop_proposal(self, reference: bytes) -> None: ...
    def check_group_info(self, group_info: bytes) -> None:
        """That it is of this very epoch and signed by a member.

        Raises Malformed, WrongGroup, WrongEpoch, InvalidMessage.
        """

    def ratchet_tree(self) -> bytes: ...
    def propose_remove(self, sender: Identity, leaf: int) -> bytes:
        """A Remove by an external sender of this group, the hub. Raises Refused: `sender` is none, nobody is there."""

    def propose_add(self, sender: Identity, key_package: bytes) -> bytes:
        """An Add by an external sender of this group."""

def propose_join(
    identity: Identity, key_packages: KeyPackages, reference: bytes, group_id: bytes, epoch: int
) -> bytes:
    """Ask to be added, from outside (new_member_proposal), by the key package `reference`. Raises UnknownKeyPackage."""

# --- Without a group ------------------------------------------------------------------------------------------------

MessageKind = Literal["public_message", "private_message", "welcome", "group_info", "key_package"]

@final
class Parsed:
    """What a message says of itself. NOTHING of it is verified. A field that its kind has not is None or empty."""

    @property
    def kind(self) -> MessageKind: ...
    @property
    def group_id(self) -> bytes | None:
        """public_message, private_message, group_info."""

    @property
    def epoch(self) -> int | None: ...
    @property
    def content(self) -> Literal["application", "proposal", "commit"] | None:
        """public_message, private_message."""

    @property
    def sender(self) -> Sender | None:
        """public_message."""

    @property
    def aad(self) -> bytes | None:
        """public_message, private_message: the whole authenticated_data."""

    @property
    def cipher_suite(self) -> int | None:
        """welcome, group_info, key_package."""

    @property
    def key_package_refs(self) -> list[bytes]:
        """welcome: whom it is for. key_package: its own reference alone."""

    @property
    def name(self) -> bytes | None:
        """key_package: the identity in its credential."""

    @property
    def signature_key(self) -> bytes | None:
        """key_package."""

    @property
    def lifetime(self) -> tuple[int, int] | None:
        """key_package: not before, not after (seconds since the epoch)."""

    @property
    def last_resort(self) -> bool:
        """key_package."""

    @property
    def extensions(self) -> dict[int, bytes]:
        """group_info: its GroupContext's."""

    @property
    def app_data(self) -> dict[int, bytes]:
        """group_info: its GroupContext's."""

def parse(message: bytes) -> Parsed:
    """What is this message? Without keys. Raises Malformed, Unsupported."""

def verify_key_package(message: bytes) -> Parsed:
    """`parse`, and its signatures, lifetime and rules checked. Raises Malformed, Unsupported, InvalidMessage."""

def frame(kind: MessageKind, body: bytes) -> bytes:
    """An MLSMessage out of a bare structure, which is not looked at."""

def unframe(message: bytes) -> bytes:
    """The bare structure in an MLSMessage. Raises Malformed, Unsupported."""

def verify_with_label(
    cipher_suite: int, signature_key: bytes, label: str, content: bytes, signature: bytes
) -> bool:
    """VerifyWithLabel (RFC 9420, section 5.1.2). Raises Unsupported."""

def generate_hpke_key(cipher_suite: int = 1) -> tuple[bytes, bytes]:
    """(private, public)."""

def encrypt_with_label(
    cipher_suite: int, public_key: bytes, label: str, context: bytes, plaintext: bytes
) -> tuple[bytes, bytes]:
    """EncryptWithLabel (RFC 9420, section 5.1.3): the two fields of an HPKECiphertext, (kem_output, ciphertext)."""

def decrypt_with_label(
    cipher_suite: int, private_key: bytes, label: str, context: bytes, kem_output: bytes, ciphertext: bytes
) -> bytes:
    """DecryptWithLabel. Raises Undecryptable."""
