"""What a connector is: a manifest, a way to connect, and sessions that read and perform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import web

from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.contract.people import File, Login, Person, Portrait, Role
from bridgekit.contract.reports import AbuseReport
from bridgekit.contract.verbs import Sent, Verb

API_VERSION = 1

FileOpener = Callable[[File], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Streams a file's bytes, in clear; they are whole and unchanged when the stream has ended without RemoteError."""

Emit = Callable[[Fact], None]
"""Hands a fact to the bridge: synchronous, bounded, never raises. Resolve acknowledgements before emitting."""


class LoginField(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a login needs: `password=True` is sealed at rest and never shown."""

    name: str
    title: str
    password: bool = False
    required: bool = False


class OwnAccounts(StrEnum):
    """Whether Matrix users speak on a network with accounts of their own."""

    OFF = "off"
    ON_REQUEST = "on_request"  # who logs in, or starts a direct conversation
    AUTOMATIC = "automatic"  # everybody who speaks in a linked room


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Who the connector is. `config` is a pydantic model type: its section of the config file."""

    id: str
    name: str
    config: type[Any]
    api_version: int = API_VERSION
    login_fields: tuple[LoginField, ...] = ()
    example_chat: str = ""  # what a chat is called by people: "#channel"
    operator: Role = Role.MODERATOR  # from this role on somebody speaks for a chat: who is asked for consent


class Host(Protocol):
    """All that a connector may ask of the bridge, for one network."""

    network: NetworkId
    log: structlog.typing.FilteringBoundLogger

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Read from the connector's own sealed store."""
        ...

    async def put(self, key: str, value: bytes | None) -> None:
        """Write (None deletes); on disk when it returns."""
        ...

    def put_later(self, key: str, value: bytes | None) -> None:
        """Write with the next group commit, in order with everything that is committed after it."""
        ...

    async def put_all(self, values: Mapping[str, bytes | None]) -> None:
        """Write all of them or none; on disk when it returns."""
        ...

    async def items(self, prefix: str = "") -> dict[str, bytes]:
        """Everything in the connector's own store whose key begins with `prefix`."""
        ...

    def walk(self, prefix: str = "") -> AsyncIterator[tuple[str, bytes]]:
        """As `items`, read a few at a time, for what may be more than memory holds; in the order of the keys, as far as
        they differ in digits. What is written meanwhile may be missed."""
        ...

    def mount(
        self, method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> None:
        """Serve `path` below the network's own prefix on the public listener."""
        ...

    def opens_files(self, opener: FileOpener) -> None:
        """Be asked for the bytes of files whose `via` is this network: those that its address alone does not give
        (sealed, behind a certificate). Say it once, in `network`."""
        ...

    def open_media(self, file: File) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a Matrix file's bytes, in clear. Raises MatrixError, for an encrypted file also after its last byte:
        it is whole when the stream has ended without."""
        ...

    async def store_media(self, data: bytes, name: str, mime: str) -> File:
        """Keep something small (a picture of somebody) with the homeserver, as a Matrix file. Raises MatrixError."""
        ...

    async def portrait(self, person: PersonId) -> Portrait:
        """How a Matrix user looks now, for networks where they are shown. Raises MatrixError."""
        ...

    async def chats(self) -> list[ChatId]:
        """The shared chats that are linked now: what the relay session should be in."""
        ...

    async def report(self, report: AbuseReport) -> None:
        """Put abuse before the bridge's admins: on disk when it returns. Raises Disconnected where too much waits for
        them."""
        ...

    def owner_of(self, person: PersonId) -> PersonId | None:
        """The Matrix user whose own login speaks as `person` on this network now, if any."""
        ...


class Session(Protocol):
    """One login on one network, for as long as its `async with` lasts. It is entered when it is usable."""

    @property
    def me(self) -> Person:
        """The account that this session speaks as, today."""
        ...

    def capabilities(self, chat: ChatId) -> Capabilities:
        """What can be done in `chat` now; synchronous and cheap."""
        ...

    async def run(self, emit: Emit) -> None:
        """Read until cancelled. Raise Disconnected to be restarted with backoff, LoginRejected to stay away."""
        ...

    async def perform(self, verb: Verb) -> Sent | None:
        """Do one verb out of `capabilities(verb.chat).verbs`.

        Cancelled, or with the connection lost under it, it raises SendUncertain if bytes may have left and
        Disconnected if none did (the verb is then tried again on the next connection). Where the chat is
        `idempotent`, a verb with a key may raise Disconnected in either case.
        """
        ...


class Connector(Protocol):
    """One connector; it is stateless. `network` is asked for each configured network, and where only the config is
    looked at, for one that is never connected."""

    @property
    def manifest(self) -> Manifest: ...

    def network(self, config: Any, host: Host) -> Network:
        """The network's shared state (who of ours is there, limits). No IO. Raises ConfigError, with a sentence, where
        it cannot be: a package that it needs is not installed."""
        ...


class Network(Protocol):
    """One configured network: what its sessions share, and how its chats and people are called."""

    @property
    def own_accounts(self) -> OwnAccounts:
        """Whether `connect` takes logins."""
        ...

    @property
    def asks_first(self) -> bool:
        """Whether nothing that is said to somebody in private reaches them before they have agreed to hear from its
        sender: then nobody is written to by strangers there."""
        ...

    @property
    def retells(self) -> bool:
        """Whether a message or an edit may be told again, with the same id, as if it were new, also after a restart:
        what is not marked as `replayed` is looked for among all that ever crossed, and not among the recent alone."""
        ...

    def connect(self, login: Login | None) -> AbstractAsyncContextManager[Session]:
        """Open a session; `login=None` is the relay. Raises Disconnected or LoginRejected."""
        ...

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        """The chat that people call `name` (`#Chan`, a nick) and whether it is private; None if it cannot be one."""
        ...

    def chat_name(self, chat: ChatId) -> str:
        """What people call the chat."""
        ...

    def whereabouts(self, chat: ChatId) -> str:
        """Where a shared chat is in the world, the same over every way that leads to it (`xmpp:room@example.org`), as
        far as it can be told now; "" where it cannot. Two links of one address are refused."""
        ...

    def direct(self, person: PersonId) -> ChatId | None:
        """The private chat with `person`; None where there is no such thing."""
        ...

    def is_service(self, person: PersonId) -> bool:
        """Whether that is the network's own machine, which anybody may write to, and no person."""
        ...
