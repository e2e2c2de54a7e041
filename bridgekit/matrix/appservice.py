"""The application service API: what the homeserver sends in, on disk before it is answered.

Application Service API v1.12; transactions, queries, third-party lookups, ping (MSC2659), ephemeral events
(MSC2409), to-device messages and device changes (MSC2409, MSC3202), under stable, unstable and legacy paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import web

from bridgekit.contract.ids import ChatId, MessageId, PersonId

log = structlog.get_logger(__name__)

MAX_BODY = 50 * 1024 * 1024
REMEMBERED = 10_000
"""Transaction ids that are known without asking the disk."""


class RawEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a transaction: its JSON as it came, and the few fields that were looked at."""

    raw: bytes
    room_id: ChatId
    type: str
    sender: PersonId
    event_id: MessageId
    origin_server_ts: int
    state_key: str | None = None


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction says to our devices (MSC2409, MSC3202).

    `to_device` are whole events as JSON; the rest is per user (and device): who changed devices, who left, how
    many one-time keys the homeserver still has, and which fallback keys are unused.
    """

    to_device: tuple[bytes, ...] = ()
    changed: tuple[PersonId, ...] = ()
    left: tuple[PersonId, ...] = ()
    one_time_keys: dict[PersonId, dict[str, dict[str, int]]] = {}
    fallback_keys: dict[PersonId, dict[str, list[str]]] = {}

    def __bool__(self) -> bool:
        return bool(self.to_device or self.changed or self.left or self.one_time_keys or self.fallback_keys)


class Receiver(Protocol):
    """Who takes what the homeserver sends."""

    async def seen(self, txn_id: str) -> bool:
        """Whether `accept` succeeded for this transaction earlier, also before a restart."""
        ...

    async def accept(self, txn_id: str, events: list[RawEvent], encryption: Encryption) -> None:
        """Keep the transaction's id and content, in order; on disk when it returns. Raise to have it sent again."""
        ...

    def malformed(self, raw: bytes, why: str) -> None:
        """An event of this transaction that is none; called before `accept`."""
        ...

    def ephemeral(self, events: list[bytes]) -> None:
        """Typing, receipts and presence, each as JSON; after `accept`, and lost with the process."""
        ...

    async def has_user(self, user: PersonId) -> bool:
        """Whether there is such a ghost; it may be made now."""
        ...

    async def has_alias(self, alias: str) -> bool:
        """Whether there is such a portal; its room and alias must exist before True is returned."""
        ...

    async def protocol(self, protocol: str) -> dict[str, Any] | None:
        """The third-party protocol's description, None where it is not ours."""
        ...

    async def third_party_users(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Look people up: by the protocol's fields, or by `userid` where `protocol` is None."""
        ...

    async def third_party_locations(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Look chats up: by the protocol's fields, or by `alias` where `protocol` is None."""
        ...

    def pinged(self, txn_id: str | None) -> None:
        """The homeserver reached us because we asked it to."""
        ...


class Appservice:
    """The routes of one application service, authorised by `hs_token`."""

    def __init__(self, hs_token: str, receiver: Receiver, *, max_body: int = MAX_BODY) -> None:
        raise NotImplementedError

    def routes(self) -> list[web.RouteDef]:
        """Every route, for `app.add_routes`."""
        raise NotImplementedError
