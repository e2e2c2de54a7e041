"""The seam to the MLS engine: what the rest of MIMI asks of it, and where it comes from.

The hub's half (`PublicGroup`) holds no secret. The members' half may one day live elsewhere, on the users' own devices;
so nothing outside of this seam knows where group secrets are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from bridgekit.contract.errors import ConfigError

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


class _Installed:
    def __init__(self, module: Any) -> None:
        self._module = module
        self.MlsError: type[Exception] = module.MlsError
        self.WrongEpoch: type[Exception] = module.WrongEpoch

    def follow(self, group_info: bytes, ratchet_tree: bytes) -> PublicGroup:
        return cast(PublicGroup, self._module.PublicGroup(group_info, ratchet_tree))

    def restore(self, records: Mapping[str, bytes]) -> PublicGroup:
        return cast(PublicGroup, self._module.PublicGroup.restore(records))

    def verify(self, suite: int, key: bytes, label: str, content: bytes, signature: bytes) -> bool:
        return bool(self._module.verify_with_label(suite, key, label, content, signature))


def installed() -> Engine:
    """The engine of this machine. Raises ConfigError with the sentence that says how to get it."""
    try:
        module = import_module("bridgekit_mls")
    except ImportError:
        why = "MIMI needs its MLS engine, which is not installed: pip install 'bridgekit[mimi]'."
        raise ConfigError([("", why)]) from None
    return _Installed(module)
