"""Keys given once more: what a device asks for that was given it, and was lost on its side.

Who was never given a key gets none by asking for it: what counts is the bridge's own record of who has a session, from
which message on, and that the device is believed still.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec
import structlog
from vodozemac import InboundGroupSession

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import PersonId
from bridgekit.core.trust import Trust
from bridgekit.matrix.crypto import contents
from bridgekit.matrix.crypto.devices import MEGOLM, is_trusted
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.outgoing import Outgoing
from bridgekit.matrix.crypto.tracking import Tracking
from bridgekit.store import Store
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 60.0
"""Between two answers to one device about one session."""
REMEMBERED = 1000
"""Answers that are remembered for that."""


class Giving:
    """Answers to m.room_key_request."""

    def __init__(
        self,
        store: Store,
        tracking: Tracking,
        outgoing: Outgoing,
        *,
        trust: Trust,
        spawn: Spawn,
    ) -> None:
        self._store = store
        self._tracking = tracking
        self._outgoing = outgoing
        self._trust = trust
        self._spawn = spawn
        self._given: OrderedDict[tuple[PersonId, str, str], float] = OrderedDict()

    def asked(self, machine: Machine, sender: PersonId, content: msgspec.Raw) -> None:
        """A device asks one of ours for a key; it is answered in the background, or not at all."""
        try:
            asked = contents.asked_key(content)
        except (msgspec.MsgspecError, RecursionError):
            return
        if asked.action == "request" and asked.body is not None and asked.body.algorithm == MEGOLM:
            self._spawn(self._answer(machine, sender, asked.device, asked.body))

    async def _answer(self, machine: Machine, user: PersonId, id: str, wanted: contents.AskedSession) -> None:
        place, now = (user, id, wanted.session_id), asyncio.get_running_loop().time()
        if now - self._given.get(place, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        had = [
            row
            for row in await self._store.keys.shared(wanted.session_id)
            if (row.user, row.device) == (user, id)
        ]
        row = await self._store.keys.inbound(wanted.room_id, wanted.session_id, machine.user)
        if not had or had[0].position < 0 or row is None or row.sender_key != machine.curve25519:
            return
        try:
            person = (await self._tracking.of([user])).get(user)
            device = person.devices.get(id) if person is not None else None
            if device is None or device.curve25519 != had[0].key or not is_trusted(device, self._trust):
                return
            session = InboundGroupSession.from_pickle(row.pickle, self._store.keys.pickle_key)
            key = session.export_at(had[0].position)
            if key is None:
                return
            self._given[place] = now
            while len(self._given) > REMEMBERED:
                self._given.popitem(last=False)
            content = contents.forwarded_content(
                wanted.room_id,
                wanted.session_id,
                key.to_base64(),
                sender_key=machine.curve25519,
                signing_key=machine.ed25519,
            )
            await self._outgoing.tell(machine, device, "m.forwarded_room_key", content, anew=False)
            log.info("room_key_given_again", user=user)
        except BridgeError as error:
            log.warning("room_key_not_given", reason=error.notice)
