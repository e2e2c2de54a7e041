"""Encrypting what is said in rooms: Megolm sessions, and their keys in the right hands."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import structlog
from vodozemac import GroupSession, InboundGroupSession

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.trust import Trust
from bridgekit.matrix.crypto import contents, rooms
from bridgekit.matrix.crypto.asking import ask_for
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.devices import Device, wanted
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.members import Members
from bridgekit.matrix.crypto.tally import Tally
from bridgekit.matrix.crypto.tracking import SILENT_SECONDS, Tracking
from bridgekit.store import Store
from bridgekit.store.keys import Inbound, OlmRow, Outbound, SharedWith
from bridgekit.store.statements import Write

log = structlog.get_logger(__name__)

KEPT = 2000
AGAIN_SECONDS = 300.0
"""After which a device that had no one-time key to give is asked for another."""
UNVERIFIED = "The bridge sends keys only to devices that their owner has verified."
NO_OLM = "The device had no one-time key left."
Json = dict[str, Any]
_Claimed = dict[PersonId, dict[str, dict[str, Any]]]
"""One-time keys by user, device and key id."""


class _Live:
    """An outbound session in use."""

    def __init__(self, group: GroupSession, row: Outbound, shared: list[SharedWith]) -> None:
        self.group = group
        self.row = row
        self.shared = {(one.user, one.device): one for one in shared}
        self.complete: tuple[int, int] | None = None  # of which versions everybody has had the key
        self.again = 0.0  # when those are asked again that had no one-time key


class Outgoing:
    """The outbound sessions of all of ours, one for each room and sender."""

    def __init__(
        self,
        store: Store,
        calls: KeyCalls,
        tracking: Tracking,
        members: Members,
        *,
        trust: Trust,
        is_ours: Callable[[PersonId], bool],
        is_our_device: Callable[[Device], bool],
        tally: Tally,
    ) -> None:
        """`is_our_device` knows those of people's own users among theirs: they only send."""
        self._store = store
        self._calls = calls
        self._tracking = tracking
        self._members = members
        self._trust = trust
        self._is_ours = is_ours
        self._is_our_device = is_our_device
        self._tally = tally
        self._live: OrderedDict[tuple[ChatId, PersonId], _Live] = OrderedDict()
        # A lock is here for as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[tuple[ChatId, PersonId], asyncio.Lock] = WeakValueDictionary()

    async def seal(
        self, room: ChatId, machine: Machine, settings: rooms.Settings, type: str, content: Json
    ) -> Json:
        """The content of m.room.encrypted that holds the event.

        When it returns, everybody who may read has been sent the key, and the ratchet's next place is on disk.
        """
        key = (room, machine.user)
        async with self._locks.setdefault(key, asyncio.Lock()):
            live = await self._session(key, machine, settings)
            live = await self._share(key, live, machine, settings)
            message = live.group.encrypt(contents.plaintext(room, type, content))
            live.row = _replaced(live, self._store.keys.pickle_key, sent=live.row.sent + 1)
            await self._store.commit(self._store.keys.put_outbound(live.row))
            return contents.encrypted(
                content,
                ciphertext=message.to_base64(),
                session=live.row.session,
                sender_key=machine.curve25519,
                device=machine.device,
            )

    async def forget(self, sender: PersonId) -> None:
        """Use no session of this sender's again: their device is gone."""
        for key in [key for key in self._live if key[1] == sender]:
            async with self._locks.setdefault(key, asyncio.Lock()):
                self._live.pop(key, None)

    def is_live(self, room: ChatId, sender: PersonId) -> bool:
        """Whether the sender has a session in use for the room."""
        return (room, sender) in self._live

    async def prepare(self, room: ChatId, machine: Machine, settings: rooms.Settings) -> None:
        """Do ahead what the next message of this sender would have to wait for."""
        key = (room, machine.user)
        async with self._locks.setdefault(key, asyncio.Lock()):
            live = await self._session(key, machine, settings)
            await self._share(key, live, machine, settings)

    # Sessions ------------------------------------------------------------------------------------------------

    async def _session(
        self, key: tuple[ChatId, PersonId], machine: Machine, settings: rooms.Settings
    ) -> _Live:
        live = self._live.get(key)
        if live is None:
            row = await self._store.keys.outbound(*key)
            if row is not None:
                group = GroupSession.from_pickle(row.pickle, self._store.keys.pickle_key)
                live = _Live(group, row, await self._store.keys.shared(row.session))
        if live is None or rooms.is_over(live.row, _now(), settings):
            live = await self._new(key, machine, live)
        self._live[key] = live
        self._live.move_to_end(key)
        self._trim()
        return live

    async def _new(self, key: tuple[ChatId, PersonId], machine: Machine, before: _Live | None) -> _Live:
        room, sender = key
        group = GroupSession()
        pickle_key = self._store.keys.pickle_key
        row = Outbound(
            room=room,
            sender=sender,
            session=group.session_id,
            pickle=group.pickle(pickle_key),
            made=_now(),
            sent=0,
            before=before.row.session if before is not None else "",
        )
        # Ours to open, too: for quotes of what was said before.
        inbound = Inbound(
            room=room,
            session=group.session_id,
            pickle=InboundGroupSession(group.session_key).pickle(pickle_key),
            sender=sender,
            sender_key=machine.curve25519,
            signing_key=machine.ed25519,
        )
        writes = [self._store.keys.put_outbound(row), self._store.keys.put_inbound(inbound)]
        if before is not None and before.row.before:
            writes.append(self._store.keys.forget_shared(before.row.before))
        await self._store.commit(*writes)
        return _Live(group, row, [])

    def _trim(self) -> None:
        while len(self._live) > KEPT:
            for key in self._live:
                if key not in self._locks:
                    del self._live[key]
                    break
            else:
                return

    # Their keys ----------------------------------------------------------------------------------------------

    async def _share(
        self, key: tuple[ChatId, PersonId], live: _Live, machine: Machine, settings: rooms.Settings
    ) -> _Live:
        """Send the session's key to all who lack it; where somebody has it who may not read on, to all, a new one."""
        room = key[0]
        now = time.monotonic()
        versions = (self._tracking.version, self._members.version(room))
        if live.complete == versions and now < live.again:
            return live
        members = await self._members.of(room, machine.user)
        people = await self._tracking.reachable(sorted(who for who in members if not self._is_ours(who)))
        yes, no = (
            [device for device in some if not self._is_our_device(device)]
            for some in wanted(people, self._trust)
        )
        if rooms.has_lost(live.shared.values(), yes):
            live = self._live[key] = await self._new(key, machine, live)
        # Again at the latest when: a server may have been away, a device without a key.
        live.again = now + (self._tracking.lacking_seconds or AGAIN_SECONDS)
        missing = rooms.without(live.shared.values(), yes, told=False)
        if missing:
            await self._give(room, live, machine, missing)
        untold = rooms.without(live.shared.values(), no, told=True)
        if untold:
            await self._refuse(room, live, machine, untold, "m.unverified", UNVERIFIED)
        live.complete = versions
        return live

    async def _give(self, room: ChatId, live: _Live, machine: Machine, to: list[Device]) -> None:
        rows: list[OlmRow] = []
        reached = await self._sessions_with(machine, to, rows, alone=not live.shared)
        content = contents.room_key_content(room, live.row.session, live.group.session_key.to_base64())
        messages: list[tuple[PersonId, str, Json]] = []
        for device in reached:
            message, row = machine.encrypt(device, "m.room_key", content)
            rows.append(row)
            messages.append((device.user, device.id, message))
        await self._store.commit(*(self._store.keys.put_olm(row) for row in rows))
        await self._calls.send("m.room.encrypted", messages, user=machine.user, device=machine.device)
        position = live.group.message_index
        self._note(live, reached, position)
        lost = [device for device in to if device not in reached]
        untold = rooms.without(live.shared.values(), lost, told=True)
        if untold:
            await self._refuse(room, live, machine, untold, "m.no_olm", NO_OLM)

    async def _sessions_with(
        self, machine: Machine, to: list[Device], rows: list[OlmRow], *, alone: bool
    ) -> list[Device]:
        """Those of the devices that there is an Olm session with now; new ones are begun, into `rows`. `alone`: nobody
        else has the key."""
        strangers = [device for device in to if not machine.knows(device.curve25519)]
        if strangers:
            claimed = await self._claim(machine, strangers, alone=alone and len(strangers) == len(to))
            for device in strangers:
                keys = claimed.get(device.user, {}).get(device.id, {})
                row = machine.begin(device, next(iter(keys.values()), None), _now())
                if row is not None:
                    rows.append(row)
        return [device for device in to if machine.knows(device.curve25519)]

    async def _claim(self, machine: Machine, of: list[Device], *, alone: bool) -> _Claimed:
        """A one-time key of each of the devices; none of whom the homeserver fails to answer for. Where they are
        `alone` with the key, and it fails for all of them, it is waited for: nobody could read."""
        asked: dict[PersonId, dict[str, str]] = {}
        for device in of:
            asked.setdefault(device.user, {})[device.id] = "signed_curve25519"

        async def claim(some: Sequence[PersonId], tries: int) -> _Claimed:
            wanted = {user: asked[user] for user in some}
            return await self._calls.claim(wanted, user=machine.user, device=machine.device, tries=tries)

        while True:
            answers, _ = await ask_for(sorted(asked), claim)
            if answers or not alone:
                return {user: keys for _, found in answers for user, keys in found.items()}
            await asyncio.sleep(SILENT_SECONDS)

    async def _refuse(
        self, room: ChatId, live: _Live, machine: Machine, to: list[Device], code: str, reason: str
    ) -> None:
        content = contents.withheld_content(room, live.row.session, machine.curve25519, code, reason)
        messages = [(device.user, device.id, content) for device in to]
        await self._calls.send("m.room_key.withheld", messages, user=machine.user, device=machine.device)
        self._tally.kept[code.removeprefix("m.")] += len(to)
        self._note(live, to, -1)

    def _note(self, live: _Live, devices: list[Device], position: int) -> None:
        writes: list[Write] = []
        for device in devices:
            row = SharedWith(
                session=live.row.session,
                user=device.user,
                device=device.id,
                key=device.curve25519,
                position=position,
            )
            live.shared[(device.user, device.id)] = row
            writes.append(self._store.keys.put_shared(row))
        # After the keys went out: what is lost in a crash is sent twice, and not never.
        self._store.commit(*writes)

    # Olm for others ------------------------------------------------------------------------------------------

    async def tell(self, machine: Machine, device: Device, type: str, content: Json, *, anew: bool) -> None:
        """Send an encrypted event to one device; `anew`: over a new session, whatever there is."""
        rows: list[OlmRow] = []
        if anew or not machine.knows(device.curve25519):
            claimed = await self._calls.claim(
                {device.user: {device.id: "signed_curve25519"}}, user=machine.user, device=machine.device
            )
            keys = claimed.get(device.user, {}).get(device.id, {})
            row = machine.begin(device, next(iter(keys.values()), None), _now())
            if row is None:
                return
            rows.append(row)
        message, row = machine.encrypt(device, type, content)
        await self._store.commit(*(self._store.keys.put_olm(one) for one in (*rows, row)))
        await self._calls.send(
            "m.room.encrypted",
            [(device.user, device.id, message)],
            user=machine.user,
            device=machine.device,
        )


def _replaced(live: _Live, pickle_key: bytes, *, sent: int) -> Outbound:
    row = live.row
    return Outbound(
        room=row.room,
        sender=row.sender,
        session=row.session,
        pickle=live.group.pickle(pickle_key),
        made=row.made,
        sent=sent,
        before=row.before,
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
