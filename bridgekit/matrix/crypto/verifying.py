"""Verification of the bot, of ghosts, and of what people's own users speak with from elsewhere: whatever somebody's
client asks for, over to-device events or in a room.

The bridge shows what is to be compared, and the person decides in their client. It answers for its own keys, and takes
nothing away from the other's trust: whether a device counts is its owner's identity's business.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.crypto import qr
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.machines import Machines
from bridgekit.matrix.crypto.sas import PREFIX, Cancelled, Party, Verification
from bridgekit.matrix.crypto.signing import Json
from bridgekit.matrix.crypto.tracking import Tracking
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

MOST = 100
"""Verifications under way; the oldest is forgotten for another."""
OLDEST_SECONDS, NEWEST_SECONDS = 600, 300
"""A request that was made longer ago, or further ahead, is ignored (Client-Server API, m.key.verification.request)."""
REQUEST = "m.key.verification.request"

_json = msgspec.json.Decoder(Json).decode
Answer = Callable[[str, Json], Awaitable[None]]
"""Sends an event of this verification: (type, content)."""
Say = Callable[[ChatId, PersonId, str, Json], Awaitable[None]]
"""Sends an event into a room as one of ours: (room, sender, type, content)."""
Show = Callable[[ChatId, PersonId, qr.Picture, str], Awaitable[None]]
"""Shows a picture in a room as one of ours: (room, sender, picture, words); encrypted where the room is."""
Tell = Callable[[PersonId, str], Awaitable[None]]
"""Says something to somebody in private."""
SCAN_THIS = "Scan this with the client that asked for the verification."


class _Event(msgspec.Struct, frozen=True):
    type: str
    sender: PersonId
    event_id: MessageId
    room_id: ChatId
    content: dict[str, Any]
    at: int = msgspec.field(default=0, name="origin_server_ts")


_event = msgspec.json.Decoder(_Event).decode


class Verifying:
    """All verifications under way."""

    def __init__(
        self,
        machines: Machines,
        tracking: Tracking,
        calls: KeyCalls,
        *,
        say: Say,
        show: Show,
        tell: Tell,
        spawn: Spawn,
    ) -> None:
        self._machines = machines
        self._tracking = tracking
        self._calls = calls
        self._say = say
        self._show = show
        self._private = tell
        self._spawn = spawn
        self._all: OrderedDict[tuple[PersonId, str], Verification] = OrderedDict()

    # Over to-device events -------------------------------------------------------------------------------------

    def to_device(self, machine: Machine, sender: PersonId, type: str, raw: msgspec.Raw) -> None:
        """A to-device event came for one of ours."""
        if not type.startswith(PREFIX):
            return
        try:
            content = _json(raw)
        except (msgspec.MsgspecError, RecursionError):
            return
        transaction = content.get("transaction_id")
        if type == REQUEST and not _is_of_now(content.get("timestamp")):
            return  # out of a backlog: who asked waits no longer
        if isinstance(transaction, str) and transaction:
            self._spawn(self._over_devices(machine, sender, type, content, transaction))

    async def _over_devices(
        self, machine: Machine, sender: PersonId, type: str, content: Json, transaction: str
    ) -> None:
        known = self._all.get((machine.user, transaction))
        device = known.other.device if known is not None else content.get("from_device")
        if not isinstance(device, str):
            return
        if known is None and machine.only_sends and not await self._is_owners(machine, sender, device):
            return

        async def answer(type: str, content: Json) -> None:
            whole = {**content, "transaction_id": transaction}
            await self._calls.send(type, [(sender, device, whole)], user=machine.user, device=machine.device)

        await self._take(machine, sender, device, type, content, transaction, answer, None)

    async def _is_owners(self, machine: Machine, sender: PersonId, device: str) -> bool:
        """Whether a device of somebody's own user is asked by one that its owner has verified. A new login asks all
        devices at once to vouch for it, and takes the first that answers: that shall be none of ours."""
        person = (await self._tracking.of([sender])).get(sender) if sender == machine.user else None
        theirs = person.devices.get(device) if person is not None else None
        return theirs is not None and theirs.cross_signed

    # In a room -------------------------------------------------------------------------------------------------

    def in_room(self, raw: bytes) -> bool:
        """Take an event of a room, in clear; False where it is about no verification."""
        if PREFIX.encode() not in raw:
            return False
        try:
            event = _event(raw)
        except (msgspec.MsgspecError, RecursionError):
            return False
        if event.content.get("msgtype") == REQUEST:
            to = event.content.get("to")
            if isinstance(to, str) and self._machines.may_have(PersonId(to)) and _is_of_now(event.at):
                self._spawn(self._over_room(event, PersonId(to), REQUEST, event.event_id))
            return True
        if not event.type.startswith(PREFIX):
            return False
        relation = event.content.get("m.relates_to")
        transaction = relation.get("event_id") if isinstance(relation, dict) else None
        ours = next((user for user, id in self._all if id == transaction), None)
        if ours is not None and isinstance(transaction, str):
            self._spawn(self._over_room(event, ours, event.type, transaction))
        return True

    async def _over_room(self, event: _Event, ours: PersonId, type: str, transaction: str) -> None:
        known = self._all.get((ours, transaction))
        device = known.other.device if known is not None else event.content.get("from_device")
        if not isinstance(device, str):
            return

        async def answer(type: str, content: Json) -> None:
            relation = {"rel_type": "m.reference", "event_id": transaction}
            await self._say(event.room_id, ours, type, {**content, "m.relates_to": relation})

        try:
            machine = await self._machines.of(ours)
        except BridgeError as error:
            log.warning("verification_failed", reason=error.notice)
            return
        await self._take(
            machine, event.sender, device, type, event.content, transaction, answer, event.room_id
        )

    # Either way ------------------------------------------------------------------------------------------------

    async def _take(
        self,
        machine: Machine,
        sender: PersonId,
        device: str,
        type: str,
        content: Json,
        transaction: str,
        answer: Answer,
        room: ChatId | None,
    ) -> None:
        key = (machine.user, transaction)
        try:
            one = self._all.get(key)
            if one is None:
                if type not in (REQUEST, f"{PREFIX}start"):
                    return
                one = await self._begin(machine, sender, device, transaction, in_room=room is not None)
                self._all[key] = one
                while len(self._all) > MOST:
                    self._all.popitem(last=False)
            if one.other.user != sender:
                return
            for kind, made in _answers(one, type.removeprefix(PREFIX), content):
                await answer(PREFIX + kind, made)
            if type == f"{PREFIX}key" and one.shown:
                await self._tell(machine, room, " ".join(one.shown))
            if type == REQUEST and one.code and room is not None:
                await self._show(room, machine.user, qr.drawn(one.code), SCAN_THIS)
            if one.done or type in (f"{PREFIX}cancel", f"{PREFIX}done"):
                self._all.pop(key, None)
                log.info("verification_over", matched=one.done)
        except Cancelled as why:
            self._all.pop(key, None)
            log.info("verification_cancelled", code=why.code, why=str(why))
            await self._cancel(answer, why)
        except BridgeError as error:
            log.warning("verification_failed", reason=error.notice)

    async def _begin(
        self, machine: Machine, sender: PersonId, device: str, transaction: str, *, in_room: bool
    ) -> Verification:
        people = await self._tracking.of([sender])
        person = people.get(sender)
        if person is None or device not in person.devices:
            person = await self._tracking.anew(sender)
        theirs = person.devices.get(device) if person is not None else None
        if person is None or theirs is None:
            raise Cancelled("m.user_error", "the device is not known")
        keys = {device: theirs.ed25519} | ({person.master: person.master} if person.master else {})
        ours = {machine.device: machine.ed25519} | (
            {machine.master: machine.master} if machine.master else {}
        )
        return Verification(
            Party(machine.user, machine.device, ours, machine.master),
            Party(sender, device, keys, person.master),
            transaction,
            can_show=in_room,
        )

    async def _tell(self, machine: Machine, room: ChatId | None, shown: str) -> None:
        """Tell people what to compare: in the room, or the owner in private, and the admin in the log, which no
        homeserver can change."""
        ours = machine.user
        log.info("verification_string", user=ours, shown=shown)
        words = f"{shown} (if your client shows the same, in the same order, you are talking to this bridge)"
        if room is not None:
            await self._say(
                room, ours, "m.room.message", {"msgtype": "m.notice", "body": words, "m.mentions": {}}
            )
        elif machine.only_sends:
            await self._private(ours, words)

    async def _cancel(self, answer: Answer, why: Cancelled) -> None:
        try:
            await answer(f"{PREFIX}cancel", {"code": why.code, "reason": str(why)})
        except BridgeError as error:
            log.warning("verification_failed", reason=error.notice)


def _is_of_now(made: object) -> bool:
    """Whether a request's time (ms) is near enough."""
    return isinstance(made, int) and -OLDEST_SECONDS <= made / 1000 - time.time() <= NEWEST_SECONDS


def _answers(one: Verification, kind: str, content: Json) -> list[tuple[str, Json]]:
    match kind:
        case "request":
            return one.requested(content)
        case "start":
            return one.started(content, content)
        case "key":
            return one.keyed(content)
        case "mac":
            return one.macced(content)
        case _:
            return []
