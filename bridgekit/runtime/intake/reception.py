"""Reception: what the homeserver sends in goes to disk, then to its room; what it asks is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from bridgekit.contract.connector import Manifest
from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import MATRIX, ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.core.corrections import WATCHED
from bridgekit.core.ghosts import Namespace
from bridgekit.core.rates import Buckets, Rate
from bridgekit.matrix import translate
from bridgekit.matrix.appservice import Encryption, RawEvent
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.runtime.clock import now
from bridgekit.runtime.intake.arrivals import Arrivals
from bridgekit.runtime.linking.making import Making
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import Registry
from bridgekit.runtime.traffic.rooms import Rooms
from bridgekit.store import InboxRow, Store, new_id
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

STRANGERS = Rate(60, 60_000)
"""Ghosts of one network that are made because somebody, whoever it was, looked them up."""


class _State(msgspec.Struct):
    content: dict[str, Any]


_state = msgspec.json.Decoder(_State).decode


class Reception:
    """`bridgekit.matrix.appservice.Receiver` over the store and the rooms."""

    def __init__(
        self,
        store: Store,
        rooms: Rooms,
        registry: Registry,
        portals: Portals,
        making: Making,
        ghosts: Ghosts,
        namespace: Namespace,
        manifests: Mapping[NetworkId, Manifest],
        engine: Engine,
        arrivals: Arrivals,
        *,
        bot: PersonId,
        label: Callable[[NetworkId], str],
        search: Callable[[NetworkId, str], Awaitable[list[Person]]],
        puppets: bool,
        is_echo: Callable[[RawEvent], Awaitable[bool]],
        glimpsed: Callable[[ChatId, str, Mapping[str, Any]], None],
        titled: Callable[[ChatId, str], None],
        pinged: Callable[[str | None], None],
        outcome: Callable[[str], None],
        parked: Callable[[NetworkId], None],
        spawn: Spawn,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._registry = registry
        self._portals = portals
        self._making = making
        self._ghosts = ghosts
        self._namespace = namespace
        self._manifests = manifests
        self._engine = engine
        self._arrivals = arrivals
        self._bot = bot
        self._label = label
        self._search = search
        self._puppets = puppets
        self._is_echo = is_echo
        self._glimpsed = glimpsed
        self._titled = titled
        self._pinged = pinged
        self._outcome = outcome
        self._parked = parked
        self._spawn = spawn
        self._typing: dict[ChatId, frozenset[PersonId]] = {}
        self._strangers: Buckets[NetworkId] = Buckets(STRANGERS)

    async def seen(self, txn_id: str) -> bool:
        known = await self._store.transactions.seen(txn_id)
        if known:
            self._outcome("repeated")
        return known

    def is_own(self, event: RawEvent) -> bool:
        return event.sender == self._bot or self._namespace.is_ours(event.sender)

    async def accept(self, txn_id: str, events: list[RawEvent], encryption: Encryption) -> None:
        known = self._arrivals.overdue
        writes, rows = self._rooms.matrix_rows(
            [(e.room_id, e.raw) for e in events if e.event_id not in known and not await self._is_puppets(e)]
        )
        kept = self._engine.keep(encryption)
        record = self._store.transactions.record(txn_id, [e.event_id for e in events])
        await self._store.commit(record, *writes, *kept.writes)
        self._outcome("accepted")
        self._arrivals.came(events)
        self._engine.take(kept)
        self._rooms.matrix(rows)

    async def take_in(self, events: list[RawEvent], late: list[MessageId]) -> None:
        """Events that no transaction brought, oldest first: from here on as if one had; on disk when it returns.
        Those of `late` are to be ignored should they come."""
        for event in events:
            if event.state_key is not None:
                self.state(event)
        writes, rows = self._rooms.matrix_rows(
            [(e.room_id, e.raw) for e in events if not await self._is_puppets(e)]
        )
        known = [*(e.event_id for e in events), *late]
        await self._store.commit(*(self._store.overdue.add(event) for event in known), *writes)
        self._arrivals.overdue.update(known)
        self._rooms.matrix(rows)

    def failed(self) -> None:
        self._arrivals.failed()

    def state(self, event: RawEvent) -> None:
        self._engine.heard(event)
        self._titled(event.room_id, event.type)
        if event.type in WATCHED and not self.is_own(event):
            try:
                content = _state(event.raw).content
            except msgspec.MsgspecError:
                return  # its row is parked when it is read
            self._glimpsed(event.room_id, event.type, content)

    def keys(self, encryption: Encryption, rooms: set[ChatId], *, bare: bool) -> None:
        self._engine.heard_of_keys(encryption, rooms, bare=bare)

    async def _is_puppets(self, event: RawEvent) -> bool:
        """The echo of what the bridge itself did as a double puppet."""
        return self._puppets and self._registry.is_owner(event.sender) and await self._is_echo(event)

    def malformed(self, raw: bytes, why: str) -> None:
        self._parked(MATRIX)
        row = InboxRow(id=new_id(), side=MATRIX, chat=ChatId(""), receiver=None, body=raw, at=now())
        self._store.commit(self._store.inbox.add(row), self._store.inbox.park(row.id, why))

    def ephemeral(self, events: list[bytes]) -> None:
        for raw in events:
            for fact in translate.ephemeral(raw, self._typing):
                sender = getattr(fact, "sender", None)
                if sender is None or sender.id == self._bot or self._namespace.is_ours(sender.id):
                    continue
                self._rooms.fleeting(PortalKey(MATRIX, fact.chat), fact)

    async def has_user(self, user: PersonId) -> bool:
        if self._ghosts.row(user) is not None:
            return True
        parsed = self._namespace.parse(user)
        if parsed is None or parsed[0] not in self._manifests or not self._portals.is_possible(*parsed):
            return False
        if not self._strangers.take(parsed[0], now()):
            log.warning("too_many_users", network=parsed[0])
            return False
        person = Person(id=parsed[1], name=str(parsed[1]))
        await self._ghosts.exist(user, parsed[0], person)
        return True

    async def has_alias(self, alias: str) -> bool:
        try:
            return await self._making.by_alias(alias)
        except BridgeError as error:
            log.info("alias_refused", reason=error.notice)
            return False

    async def protocol(self, protocol: str) -> dict[str, Any] | None:
        networks = [n for n, m in self._manifests.items() if protocol in (m.id, n)]
        if not networks:
            return None
        manifest = self._manifests[networks[0]]
        field = {"regexp": ".+", "placeholder": manifest.example_chat or "name"}
        return {
            "user_fields": ["network", "name"],
            "location_fields": ["network", "chat"],
            "icon": "",
            "field_types": {
                "network": {"regexp": "[a-z0-9-]+", "placeholder": networks[0]},
                "name": field,
                "chat": field,
            },
            "instances": [
                {"network_id": network, "desc": self._label(network), "fields": {"network": network}}
                for network in networks
            ],
        }

    def _asked(self, protocol: str | None, fields: Mapping[str, str]) -> list[NetworkId]:
        return [
            n
            for n, m in self._manifests.items()
            if protocol in (None, m.id, n) and fields.get("network", n) == n
        ]

    async def third_party_users(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        if protocol is None:
            user = PersonId(fields.get("userid", ""))
            parsed = self._namespace.parse(user)
            if parsed is None or parsed[0] not in self._manifests:
                return []
            if self._ghosts.row(user) is None and not self._portals.is_possible(*parsed):
                return []
            found = [(parsed[0], parsed[1])]
        else:
            found = [
                (n, person.id)
                for n in self._asked(protocol, fields)
                if (name := fields.get("name"))
                and (chat := self._portals.named(n, name))
                and chat[1]
                and (person := self._portals.other_end(n, chat[0], name)) is not None
            ]
            if not found and (name := fields.get("name")):  # no address: a network may know who is meant
                asked = self._asked(protocol, fields)
                found = [(n, person.id) for n in asked for person in await self._search(n, name)]
        return [
            {
                "userid": self._namespace.mxid(network, person),
                "protocol": self._manifests[network].id,
                "fields": {"network": network, "name": person},
            }
            for network, person in found
        ]

    async def third_party_locations(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        if protocol is None:
            parsed = self._namespace.parse_alias(fields.get("alias", ""))
            found = [parsed] if parsed is not None and self._is_place(*parsed) else []
        else:
            found = [
                (n, ChatId(name))
                for n in self._asked(protocol, fields)
                if (name := fields.get("chat")) and self._is_place(n, name)
            ]
        return [
            {
                "alias": self._namespace.alias(network, name),
                "protocol": self._manifests[network].id,
                "fields": {"network": network, "chat": name},
            }
            for network, name in found
        ]

    def _is_place(self, network: NetworkId, name: str) -> bool:
        """Whether a chat that everybody shares can be called so."""
        found = self._portals.named(network, name)
        return found is not None and not found[1]

    def pinged(self, txn_id: str | None) -> None:
        self._pinged(txn_id)
        log.info("homeserver_reaches_us")
