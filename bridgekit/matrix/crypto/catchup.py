"""Catching up: what was meant for our devices while the homeserver could not reach the bridge.

A homeserver repeats a transaction that it got no 200 for, but not all of it: Synapse (1.163) repeats the events, and
forgets the to-device events, the changed devices and the counts of keys that went with them. To-device events are still
in the device's own queue, which a /sync as that device reads, and empties. Synapse lets ghosts do that, and not the
user that is the registration's sender_localpart: so what was sent to the bot alone has to be asked for (incoming).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec
import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.incoming import Incoming
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.machines import Machines
from bridgekit.matrix.crypto.tracking import Tracking
from bridgekit.store import Store
from bridgekit.store.statements import Write

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 2.0
MOST_PAGES = 100
REMEMBERED = 10_000
"""Events of this run that are known without asking the disk."""
_PLACE = "bridge.sync"
"""Where it is kept how far each of ours has read; no network is called so."""
_encode = msgspec.json.Encoder(order="sorted").encode


def digest(event: dict[str, Any]) -> str:
    """What is remembered of a to-device event: the same whichever way it came.

    The device belongs to it: clients send the same refusal of a key to every device, also to those that are not ours
    any more.
    """
    to = event.get("to_user_id"), event.get("to_device_id")
    told = _encode([event.get("type"), event.get("sender"), *to, event.get("content")])
    return "to-device." + base64.urlsafe_b64encode(hashlib.blake2b(told, digest_size=18).digest()).decode()


class CatchUp:
    """Reads the queues of our devices."""

    def __init__(
        self, store: Store, calls: KeyCalls, machines: Machines, tracking: Tracking, incoming: Incoming
    ) -> None:
        self._store = store
        self._calls = calls
        self._machines = machines
        self._tracking = tracking
        self._incoming = incoming
        self._locks: dict[PersonId, asyncio.Lock] = {}
        self._done: dict[PersonId, float] = {}
        self._recent: dict[str, None] = {}  # the oldest first

    def fresh(self, events: Iterable[bytes]) -> tuple[tuple[bytes, ...], list[Write]]:
        """Those of the events that are for devices of ours and have not come the other way, and the writes that
        remember it. Where the registration covers everybody, everybody's events come."""
        raws: list[bytes] = []
        writes: list[Write] = []
        for raw in events:
            try:
                event = msgspec.json.decode(raw, type=dict[str, Any])
            except (msgspec.MsgspecError, RecursionError):
                log.info("to_device_unreadable")
                continue
            key = digest(event)
            if key in self._recent or not self._is_for_us(event):
                continue
            raws.append(raw)
            self._recent[key] = None
            writes.append(self._store.transactions.record(key))
        while len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]
        return tuple(raws), writes

    def _is_for_us(self, event: dict[str, Any]) -> bool:
        user = event.get("to_user_id")
        device = self._machines.names.get(PersonId(user)) if isinstance(user, str) else None
        return device is not None and device == event.get("to_device_id")

    async def run(self, user: PersonId) -> None:
        """Take what waits for the user's device; a moment after the last time it does nothing. Raises nothing."""
        async with self._locks.setdefault(user, asyncio.Lock()):
            now = asyncio.get_running_loop().time()
            if now - self._done.get(user, -AGAIN_SECONDS) < AGAIN_SECONDS:
                return
            try:
                machine = await self._machines.of(user)
                for _ in range(MOST_PAGES):
                    if not await self._page(machine):
                        break
            except BridgeError as error:
                log.warning("devices_not_caught_up", reason=error.notice)
            self._done[user] = asyncio.get_running_loop().time()

    async def _page(self, machine: Machine) -> bool:
        user, device = machine.user, machine.device
        since = await self._store.kv.get(_PLACE, user)
        found = await self._calls.sync(user, device, since.decode() if since is not None else "")
        events = [{**event, "to_user_id": user, "to_device_id": device} for event in found.to_device.events]
        unknown = [
            msgspec.json.encode(event)
            for event in events
            if not await self._store.transactions.seen(digest(event))
        ]
        raws, records = self.fresh(unknown)
        writes, rows = self._incoming.keep(raws)
        lists = found.device_lists
        self._tracking.changed(
            who for who in {*lists.changed, *lists.left} if not self._machines.may_have(who)
        )
        await self._store.commit(
            *writes,
            *records,
            self._store.kv.put(_PLACE, user, found.next_batch.encode()),
        )
        if rows:
            log.info("caught_up", events=len(rows))
        self._incoming.take(rows)
        self._machines.counts(
            {user: {device: found.device_one_time_keys_count}},
            {user: {device: found.device_unused_fallback_key_types}},
        )
        return bool(found.to_device.events)
