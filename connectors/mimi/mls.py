"""The seam to the MLS engine: what the rest of MIMI asks of it, and where it comes from.

The hub's half (`PublicGroup`) holds no secret. The members' half may one day live elsewhere, on the users' own devices;
so nothing outside of this seam knows where group secrets are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from bridgekit.contract.errors import ConfigError
from connectors.mimi.wire.components import (
    COMPONENTS_LIST,
    MEDIA_TYPES,
    Component,
    ExtensionType,
    MediaType,
)
from connectors.mimi.wire.mls import HpkeCiphertext

RECEIVED_TYPES = (
    "application/mimi-content",
    "application/mimi-message-status",
    "text/plain",
    "text/markdown",
)
"""What our clients say in their leaves that they can receive (draft-ietf-mls-extensions 6.2)."""
APP_DATA_UPDATE, SELF_REMOVE = 0x0008, 0x000A  # proposal types, draft-ietf-mls-extensions 7.3

Resolve = Callable[[int, bytes | None, list[bytes | None]], bytes | None]
"""What a component becomes: (component id, its value now, the updates in order) -> its new value."""


class Sender(Protocol):
    """Who signed: `kind` is member, external, new_member_proposal or new_member_commit; `name` is in the credential."""

    @property
    def kind(self) -> str: ...
    @property
    def index(self) -> int | None: ...
    @property
    def name(self) -> bytes | None: ...


class Proposal(Protocol):
    """A verified proposal; which fields are set follows from `kind` (add, remove, app_data_update ...)."""

    @property
    def kind(self) -> str: ...
    @property
    def reference(self) -> bytes: ...
    @property
    def by_reference(self) -> bool: ...
    @property
    def sender(self) -> Sender: ...
    @property
    def leaf(self) -> int | None: ...
    @property
    def name(self) -> bytes | None: ...
    @property
    def component(self) -> int | None: ...
    @property
    def data(self) -> bytes | None: ...


class Received(Protocol):
    """A verified handshake message that waits to be accepted: a proposal alone, or a commit."""

    @property
    def sender(self) -> Sender: ...


class Member(Protocol):
    """A client in a group; `name` is its URI."""

    @property
    def leaf(self) -> int: ...
    @property
    def name(self) -> bytes: ...
    @property
    def signature_key(self) -> bytes: ...


class PublicGroup(Protocol):
    """A group without its secrets. A call that raises has changed nothing."""

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def cipher_suite(self) -> int: ...
    @property
    def members(self) -> Sequence[Member]: ...
    @property
    def app_data(self) -> Mapping[int, bytes]: ...
    @property
    def group_context(self) -> bytes: ...
    @property
    def confirmation_tag(self) -> bytes: ...
    @property
    def external_senders(self) -> Sequence[tuple[bytes, bytes]]: ...
    @property
    def pending_proposals(self) -> Sequence[Proposal]: ...
    def process(self, message: bytes, *, resolve: Resolve | None = None) -> Any: ...
    def accept(self, received: Any) -> None: ...
    def drop_proposal(self, reference: bytes) -> None: ...
    def check_group_info(self, group_info: bytes) -> None: ...
    def ratchet_tree(self) -> bytes: ...
    def take_changes(self) -> Mapping[str, bytes | None]: ...


class Signer(Protocol):
    """A signature key under a credential."""

    @property
    def signature_key(self) -> bytes: ...
    @property
    def credential(self) -> bytes: ...
    def sign(self, label: str, content: bytes) -> bytes: ...


class Commit(Protocol):
    """A commit of our own that is staged; all of it are messages, the tree apart."""

    @property
    def message(self) -> bytes: ...
    @property
    def welcome(self) -> bytes | None: ...
    @property
    def group_info(self) -> bytes: ...
    @property
    def ratchet_tree(self) -> bytes: ...


class Group(Protocol):
    """A group with the secrets of one member. A call that raises has changed nothing."""

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def active(self) -> bool: ...
    @property
    def leaf(self) -> int: ...
    @property
    def members(self) -> Sequence[Member]: ...
    @property
    def app_data(self) -> Mapping[int, bytes]: ...
    @property
    def pending_proposals(self) -> Sequence[Proposal]: ...
    @property
    def commit_pending(self) -> bool: ...
    def take_changes(self) -> Mapping[str, bytes | None]: ...
    def encrypt(self, data: bytes, *, safe_aad: Mapping[int, bytes] | None = None) -> bytes: ...
    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        app_data_updates: Sequence[tuple[int, bytes | None]] = (),
        update: bool = False,
        resolve: Resolve | None = None,
    ) -> Commit: ...
    def merge_commit(self) -> None: ...
    def clear_commit(self) -> None: ...
    def propose_self_remove(self) -> bytes: ...
    def propose_app_data(self, component: int, update: bytes | None) -> bytes: ...
    def drop_proposal(self, reference: bytes) -> None: ...
    def process(self, message: bytes, *, resolve: Resolve | None = None) -> Any: ...
    def accept(self, received: Any) -> None: ...
    def group_info(self) -> bytes: ...
    def ratchet_tree(self) -> bytes: ...


class KeyPackages(Protocol):
    """The private halves of what one client has published."""

    @property
    def references(self) -> Sequence[bytes]: ...
    def generate(self, identity: Signer, *, last_resort: bool = False) -> Any: ...
    def discard(self, reference: bytes) -> None: ...
    def take_changes(self) -> Mapping[str, bytes | None]: ...


class Engine(Protocol):
    """What of the engine is used here."""

    MlsError: type[Exception]
    WrongEpoch: type[Exception]

    def follow(self, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        """A public group from this epoch on."""
        ...

    def restore(self, records: Mapping[str, bytes]) -> PublicGroup:
        """A public group from all its changes, folded."""
        ...

    def verify(self, suite: int, key: bytes, label: str, content: bytes, signature: bytes) -> bool:
        """VerifyWithLabel (RFC 9420 5.1.2)."""
        ...

    def seal(self, suite: int, key: bytes, label: str, context: bytes, plaintext: bytes) -> HpkeCiphertext:
        """EncryptWithLabel (RFC 9420 5.1.3)."""
        ...

    def reference(self, key_package: bytes) -> bytes:
        """The KeyPackageRef of a bare KeyPackage (RFC 9420 5.2)."""
        ...


class MemberEngine(Engine, Protocol):
    """The half that handles secrets."""

    def identity(self, name: bytes) -> Signer:
        """A new client: its URI and a signature key."""
        ...

    def export_identity(self, identity: Signer) -> bytes:
        """All of it, its private key included: seal it."""
        ...

    def restore_identity(self, exported: bytes) -> Signer:
        """The same again."""
        ...

    def restore_group(self, identity: Signer, records: Mapping[str, bytes]) -> Group:
        """A group from all its changes, folded."""
        ...

    def key_packages(self, records: Mapping[str, bytes]) -> KeyPackages:
        """What a client has published, as it was stored."""
        ...

    def create(
        self, identity: Signer, group_id: bytes, app_data: Mapping[int, bytes], hub: tuple[bytes, bytes]
    ) -> Group:
        """A group of one with the extensions and proposals that MIMI needs. `hub`: its key and credential."""
        ...

    def join(self, identity: Signer, packages: KeyPackages, welcome: bytes, tree: bytes) -> Group:
        """Join by a Welcome, which uses a key package up."""
        ...

    def join_external(
        self,
        identity: Signer,
        group_info: bytes,
        tree: bytes,
        *,
        self_removes: Sequence[bytes],
        app_data_updates: Sequence[tuple[int, bytes | None]],
        resolve: Resolve,
    ) -> tuple[Group, Commit]:
        """Join by an external commit; the group is as if it was accepted."""
        ...

    def sealing_key(self) -> tuple[bytes, bytes]:
        """A fresh HPKE key, private and public, for one sealed answer."""
        ...

    def unseal(
        self, suite: int, private_key: bytes, label: str, context: bytes, sealed: HpkeCiphertext
    ) -> bytes:
        """DecryptWithLabel (RFC 9420 5.1.3)."""
        ...


class _Installed:
    def __init__(self, module: Any) -> None:
        self._module = module
        self.MlsError: type[Exception] = module.MlsError
        self.WrongEpoch: type[Exception] = module.WrongEpoch
        known = COMPONENTS_LIST.encode(tuple(map(int, Component)))
        self._capabilities = module.Capabilities(
            app_data={
                int(Component.APP_COMPONENTS): known,
                int(Component.SAFE_AAD): COMPONENTS_LIST.encode((int(Component.FRANK_AAD),)),
                int(Component.CONTENT_MEDIA_TYPES): MEDIA_TYPES.encode(tuple(map(MediaType, RECEIVED_TYPES))),
            }
        )

    def follow(self, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        return cast(PublicGroup, self._module.PublicGroup(group_info, ratchet_tree))

    def restore(self, records: Mapping[str, bytes]) -> PublicGroup:
        return cast(PublicGroup, self._module.PublicGroup.restore(records))

    def verify(self, suite: int, key: bytes, label: str, content: bytes, signature: bytes) -> bool:
        return bool(self._module.verify_with_label(suite, key, label, content, signature))

    def seal(self, suite: int, key: bytes, label: str, context: bytes, plaintext: bytes) -> HpkeCiphertext:
        return HpkeCiphertext(*self._module.encrypt_with_label(suite, key, label, context, plaintext))

    def reference(self, key_package: bytes) -> bytes:
        parsed = self._module.parse(self._module.frame("key_package", key_package))
        return bytes(parsed.key_package_refs[0])

    def identity(self, name: bytes) -> Signer:
        return cast(Signer, self._module.Identity.generate(name, capabilities=self._capabilities))

    def export_identity(self, identity: Signer) -> bytes:
        return bytes(cast(Any, identity).export())

    def restore_identity(self, exported: bytes) -> Signer:
        return cast(Signer, self._module.Identity.restore(exported, capabilities=self._capabilities))

    def restore_group(self, identity: Signer, records: Mapping[str, bytes]) -> Group:
        return cast(Group, self._module.Group.restore(identity, records))

    def key_packages(self, records: Mapping[str, bytes]) -> KeyPackages:
        return cast(KeyPackages, self._module.KeyPackages(records))

    def create(
        self, identity: Signer, group_id: bytes, app_data: Mapping[int, bytes], hub: tuple[bytes, bytes]
    ) -> Group:
        made = self._module.Group.create(
            identity,
            group_id,
            app_data=app_data,
            external_senders=[hub],
            required_extensions=[int(ExtensionType.APP_DATA_DICTIONARY)],
            required_proposals=[APP_DATA_UPDATE, SELF_REMOVE],
        )
        return cast(Group, made)

    def join(self, identity: Signer, packages: KeyPackages, welcome: bytes, tree: bytes) -> Group:
        return cast(Group, self._module.Group.join(identity, packages, welcome, tree))

    def join_external(
        self,
        identity: Signer,
        group_info: bytes,
        tree: bytes,
        *,
        self_removes: Sequence[bytes],
        app_data_updates: Sequence[tuple[int, bytes | None]],
        resolve: Resolve,
    ) -> tuple[Group, Commit]:
        group, commit = self._module.Group.join_external(
            identity,
            group_info,
            tree,
            self_removes=self_removes,
            app_data_updates=app_data_updates,
            resolve=resolve,
        )
        return cast(Group, group), cast(Commit, commit)

    def sealing_key(self) -> tuple[bytes, bytes]:
        private, public = self._module.generate_hpke_key()
        return bytes(private), bytes(public)

    def unseal(
        self, suite: int, private_key: bytes, label: str, context: bytes, sealed: HpkeCiphertext
    ) -> bytes:
        opened = self._module.decrypt_with_label(
            suite, private_key, label, context, sealed.kem_output, sealed.ciphertext
        )
        return bytes(opened)


def installed() -> MemberEngine:
    """The engine of this machine. Raises ConfigError with the sentence that says how to get it."""
    try:
        module = import_module("bridgekit_mls")
    except ImportError:
        why = "MIMI needs its MLS engine, which is not installed: `make mls`, or docs/operating.md (Installing)."
        raise ConfigError([("", why)]) from None
    return _Installed(module)
