"""MLS (RFC 9420) for bridgekit: OpenMLS behind a small face. The types and the promises stand in `_engine.pyi`."""

from collections.abc import Callable

from bridgekit_mls._engine import (
    VERSION,
    Application,
    BadState,
    Capabilities,
    Commit,
    CommitPending,
    EngineFault,
    Group,
    Identity,
    InvalidMessage,
    KeyPackage,
    KeyPackages,
    Malformed,
    Member,
    MissingTree,
    MlsError,
    NoCommitPending,
    NotAMember,
    OwnCommit,
    OwnMessage,
    Parsed,
    Proposal,
    PublicGroup,
    ReceivedCommit,
    ReceivedProposal,
    Refused,
    Sender,
    Undecryptable,
    UnknownKeyPackage,
    Unsupported,
    WrongEpoch,
    WrongGroup,
    decrypt_with_label,
    encrypt_with_label,
    frame,
    generate_hpke_key,
    parse,
    propose_join,
    unframe,
    verify_key_package,
    verify_with_label,
)

Changes = dict[str, bytes | None]
"""What to store: names and their new bytes; None: delete the name."""

Resolve = Callable[[int, bytes | None, list[bytes | None]], bytes | None]
"""What a component of the app data becomes: (component id, its value now, the commit's updates in order) -> value.

An update is in the component's own format, None removes it (draft-ietf-mls-extensions, section 4.7), so the engine
cannot know; and the value goes into the key schedule of all members. Pure, quick, and the same at everybody. What it
raises refuses the commit and passes through unchanged. Without one, the last update is the whole new value.
"""

Received = Application | ReceivedProposal | ReceivedCommit | OwnCommit | OwnMessage
"""What `Group.process` gives back."""

__all__ = [
    "VERSION",
    "Application",
    "BadState",
    "Capabilities",
    "Changes",
    "Commit",
    "CommitPending",
    "EngineFault",
    "Group",
    "Identity",
    "InvalidMessage",
    "KeyPackage",
    "KeyPackages",
    "Malformed",
    "Member",
    "MissingTree",
    "MlsError",
    "NoCommitPending",
    "NotAMember",
    "OwnCommit",
    "OwnMessage",
    "Parsed",
    "Proposal",
    "PublicGroup",
    "Received",
    "ReceivedCommit",
    "ReceivedProposal",
    "Refused",
    "Resolve",
    "Sender",
    "Undecryptable",
    "UnknownKeyPackage",
    "Unsupported",
    "WrongEpoch",
    "WrongGroup",
    "decrypt_with_label",
    "encrypt_with_label",
    "frame",
    "generate_hpke_key",
    "parse",
    "propose_join",
    "unframe",
    "verify_key_package",
    "verify_with_label",
]
