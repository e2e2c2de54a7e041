"""What comes in encrypted: to-device events to our devices, and the messages of rooms that their keys open."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog
from vodozemac import ExportedSessionKey, InboundGroupSession, MegolmMessage, SessionKey

from bridgekit.contract.errors import BridgeError, PeerMisbehaved, Undecryptable
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.trust import Trust
from bridgekit.matrix.crypto import contents
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.devices import MEGOLM, Device, Person, enclosed, is_trusted
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.machines import Machines
from bridgekit.matrix.crypto.tracking import Tracking
from bridgekit.store import Store, new_id
from bridgekit.store.keys import Inbound
from bridgekit.store.statements import Write
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

KEYS = ("m.room_key", "m.forwarded_room_key")
LONGEST_KEYS = 16 * 1024
"""Bytes of device keys that are kept with a session; a few signatures have a tenth of it."""
KEPT = 500
"""Inbound sessions in memory."""
REASONS = 1000
"""Refusals of keys, and devices with which a new Olm session was begun, that are remembered."""
UNWEDGE_SECONDS = 3600.0
"""Between two new Olm sessions with one device (specification, "Recovering from undecryptable messages")."""
UNTRUSTED = (
    "This came from a device that its owner has not verified, and the bridge passes on only what comes from verified "
    "ones. Verify that session in your client (Settings, Sessions), and send it again."
)
SIGNED_OUT = (
    "This came from a device that is signed out by now, so the bridge cannot tell whether its owner had verified it. "
    "Send it again."
)
NO_KEY = "The room is encrypted, and the bridge has not got the key of this message from your client."
NO_OLM = "m.no_olm"
WITHHELD = {
    "m.unverified": "Your client keeps the key of this message from the bridge, because it does not trust its device.",
    "m.blacklisted": "Your client keeps the key of this message from the bridge, because its device is blocked there.",
    "m.unauthorised": "Your client keeps the key of this message from the bridge, which was not here when it was sent.",
    NO_OLM: "Your client could not send the bridge the key of this message.",
}


class KeyMissing(Undecryptable):
    """The key of a session has not come; `place` is what to wait for."""

    def __init__(self, notice: str, place: tuple[ChatId, str, PersonId], *, withheld: bool = False) -> None:
        super().__init__(notice)
        self.place = place
        self.withheld = withheld  # their client says that it keeps the key


class Untrusted(Undecryptable):
    """The key is there, and not of a device that is believed."""


class Unwedger(Protocol):
    """Who can speak to a device over a new Olm session."""

    def __call__(self, machine: Machine, device: Device) -> Coroutine[Any, Any, None]: ...


Handler = Callable[[Machine, PersonId, str, msgspec.Raw, bool], None]
"""What else comes to a device: (ours, sender, type, content, whether it came encrypted)."""


_Place = tuple[ChatId, str, PersonId]
"""A session is known by its room, its id and who made it."""


class _Key(NamedTuple):
    """A session's key that came over Olm; `forwarded`: once more, because it was asked for."""

    place: _Place
    session: InboundGroupSession
    forwarded: bool


class _Open:
    """An inbound session in use."""

    def __init__(self, row: Inbound, session: InboundGroupSession) -> None:
        self.row = row
        self.session = session


class Incoming:
    """The inbound sessions, shared by all of ours."""

    def __init__(
        self,
        store: Store,
        machines: Machines,
        tracking: Tracking,
        *,
        trust: Trust,
        is_ours: Callable[[PersonId], bool],
        unwedge: Unwedger,
        other: Handler,
        spawn: Spawn,
    ) -> None:
        self._store = store
        self._machines = machines
        self._tracking = tracking
        self._trust = trust
        self._is_ours = is_ours
        self._unwedge = unwedge
        self._other = other
        self._spawn = spawn
        self._open: OrderedDict[_Place, _Open] = OrderedDict()
        self._withheld: OrderedDict[_Place, str] = OrderedDict()
        self._waiting: dict[_Place, list[Callable[[], None]]] = {}
        self._asked: OrderedDict[_Place, None] = OrderedDict()
        self._unwedged: OrderedDict[tuple[PersonId, str], float] = OrderedDict()
        self._queue: deque[tuple[int, bytes]] = deque()
        self._working = False
        self._idle = asyncio.Event()
        self._idle.set()

    # To-device events ----------------------------------------------------------------------------------------

    def keep(self, events: tuple[bytes, ...]) -> tuple[list[Write], list[tuple[int, bytes]]]:
        """The writes that keep what came for our devices, and what to give to `take` when it is on disk."""
        rows = [(new_id(), raw) for raw in events]
        return [self._store.keys.add_to_device(id, raw) for id, raw in rows], rows

    def take(self, rows: list[tuple[int, bytes]]) -> None:
        """Open what is on disk, in order and in the background."""
        if not rows:
            return
        self._queue += rows
        if not self._working:
            self._working = True
            self._idle.clear()
            self._spawn(self._work())

    async def recover(self) -> None:
        """Take up what the last run left."""
        self.take(await self._store.keys.to_device())

    async def caught_up(self) -> None:
        """Return when everything that has come so far is opened."""
        await self._idle.wait()

    async def _work(self) -> None:
        try:
            while self._queue:
                id, raw = self._queue.popleft()
                writes: list[Write] = []
                try:
                    writes = await self._take(raw)
                except BridgeError as error:
                    log.info("to_device_unopened", why=error.notice)
                except Exception as error:  # one event's trouble is not its neighbours'
                    log.error("to_device_fault", kind=type(error).__name__, exc_info=error)
                # One unit: the ratchet that has moved on, the key that it brought, and that it is done.
                self._store.commit(*writes, self._store.keys.done_to_device(id))
        finally:
            self._working = False
            self._idle.set()

    async def _take(self, raw: bytes) -> list[Write]:
        try:
            event = contents.to_device(raw)
        except (msgspec.MsgspecError, RecursionError):
            raise PeerMisbehaved("a to-device event that is none") from None
        machine = await self._machines.local(event.to)
        if machine is None or machine.device != event.device:
            raise PeerMisbehaved("a to-device event for a device that is not ours")
        if event.type == "m.room.encrypted":
            return await self._olm(machine, event)
        if event.type in ("m.room_key.withheld", "org.matrix.room_key.withheld"):
            if not machine.only_sends:
                self._refused(event)
        else:
            self._other(machine, event.sender, event.type, event.content, False)
        return []

    async def _olm(self, machine: Machine, event: contents.ToDevice) -> list[Write]:
        try:
            content = contents.olm_content(event.content)
        except (msgspec.MsgspecError, RecursionError):
            raise PeerMisbehaved("an Olm message that is none") from None
        try:
            found = machine.peek(event.sender, content)
            # What is sent to somebody's own device is theirs to read, in rooms that may be none of ours.
            key = None if machine.only_sends else _key(found, content.sender_key)
        except Undecryptable:
            self._wedged(machine, event.sender, content.sender_key)
            raise
        if key is not None:
            await self._recall(key.place)
        # From here to the commit in `_work` nothing is waited for, so that no row of this device's which was made
        # later (an answer over the same session, new one-time keys) is on disk before these.
        found, row, begun = machine.decrypt(event.sender, content, _now())
        writes = [self._store.keys.put_olm(row)]
        writes += [self._store.keys.forget_olm(old) for old in machine.surplus(content.sender_key)]
        if begun:
            writes.append(self._store.keys.put_device(machine.row()))
        if key is not None:
            writes += self._keep(key, found, content.sender_key)
        elif found.type not in KEYS:
            self._other(machine, event.sender, found.type, found.content, True)
        return writes

    def _keep(self, key: _Key, found: contents.Opened, sender_key: str) -> list[Write]:
        if key.forwarded and key.place not in self._asked:
            log.info("room_key_not_asked_for")
            return []
        room, session, sender = key.place
        row = Inbound(
            room=room,
            session=session,
            pickle=key.session.pickle(self._store.keys.pickle_key),
            sender=sender,
            sender_key=sender_key,
            signing_key=found.keys.ed25519,
            device=_enclosed(found),
        )
        # The same session from another sender is another's: whoever is in the room has its key, and could claim it.
        if (known := self._open.get(key.place)) is not None and not _is_better(row, key.session, known):
            return []
        self._remember(key.place, _Open(row, key.session))
        self._withheld.pop(key.place, None)
        for wake in self._waiting.pop(key.place, ()):
            wake()
        return [self._store.keys.put_inbound(row)]

    async def ask(self, missing: KeyMissing, machine: Machine, calls: KeyCalls) -> None:
        """Ask the devices of who made a session for its key, once: clients give it again to a device that they gave it
        to before. Raises MatrixError."""
        room, session, sender = missing.place
        if missing.place in self._asked or self._is_ours(sender):
            return
        self._asked[missing.place] = None
        while len(self._asked) > REASONS:
            self._asked.popitem(last=False)
        person = (await self._tracking.of([sender])).get(sender)
        devices = person.devices.values() if person is not None else ()
        messages = [
            (sender, device.id, contents.key_request(room, session, machine.device, device.curve25519))
            for device in devices
        ]
        await calls.send("m.room_key_request", messages, user=machine.user, device=machine.device)

    def _refused(self, event: contents.ToDevice) -> None:
        try:
            said = contents.withheld(event.content)
        except (msgspec.MsgspecError, RecursionError):
            return
        place = (said.room_id, said.session_id, event.sender)
        self._withheld[place] = said.code
        if said.code != NO_OLM:  # then the key follows, as a rule
            for wake in self._waiting.pop(place, ()):
                wake()
        while len(self._withheld) > REASONS:
            self._withheld.popitem(last=False)

    def _wedged(self, machine: Machine, sender: PersonId, sender_key: str) -> None:
        """The Olm sessions with a device are of no use: begin another, so that what it sends next can be read."""
        place, now = (machine.user, sender_key), time.monotonic()
        if now - self._unwedged.get(place, -UNWEDGE_SECONDS) < UNWEDGE_SECONDS:
            return
        self._unwedged[place] = now
        while len(self._unwedged) > REASONS:
            self._unwedged.popitem(last=False)
        self._spawn(self._mend(machine, sender, sender_key))

    async def _mend(self, machine: Machine, sender: PersonId, sender_key: str) -> None:
        try:
            person = (await self._tracking.of([sender])).get(sender)
            device = person.by_curve(sender_key) if person is not None else None
            if device is not None:
                await self._unwedge(machine, device)
        except BridgeError as error:
            log.warning("olm_not_mended", reason=error.notice)

    # Messages of rooms ----------------------------------------------------------------------------------------

    async def has(self, missing: KeyMissing) -> bool:
        """Whether that key is there by now."""
        return await self._recall(missing.place) is not None

    def wait(self, missing: KeyMissing, wake: Callable[[], None]) -> None:
        """Call `wake` once when the key comes, or the news that its maker's client keeps it."""
        self._waiting.setdefault(missing.place, []).append(wake)

    def wait_no_more(self, missing: KeyMissing, wake: Callable[[], None]) -> None:
        """Whoever waited for that key does so no longer, whether it came or not."""
        left = [other for other in self._waiting.pop(missing.place, ()) if other != wake]
        if left:
            self._waiting[missing.place] = left

    async def open(self, raw: bytes) -> bytes:
        """The event in clear, as JSON. Raises KeyMissing, Undecryptable, PeerMisbehaved with a sentence."""
        try:
            event = contents.megolm_event(raw)
            content = contents.megolm_content(event.content)
            message = MegolmMessage.from_base64(content.ciphertext)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            raise Undecryptable("The bridge cannot read this kind of encryption.") from None
        if content.algorithm != MEGOLM:
            raise Undecryptable("The bridge cannot read this kind of encryption.")
        place = (event.room_id, content.session_id, event.sender)
        found = await self._find(place)
        if not self._is_ours(event.sender):
            await self._check(found.row)
        try:
            opened = found.session.decrypt(message)
        except ValueError:
            raise Undecryptable(WITHHELD["m.unauthorised"]) from None
        first = await self._store.keys.stands_first(*place, opened.message_index, event.event_id)
        if first is False:
            raise PeerMisbehaved("an encrypted event that was said before")
        if first is None:
            await self._store.commit(self._store.keys.saw(*place, opened.message_index, event.event_id))
        return contents.decrypted(raw, opened.plaintext)

    async def _find(self, place: _Place) -> _Open:
        found = await self._recall(place)
        if found is None:
            await self.caught_up()
            found = await self._recall(place)
        if found is None:
            raise self.missing(place)
        return found

    def missing(self, place: _Place) -> KeyMissing:
        """Why a session's key is not there, as far as its maker's client has said."""
        code = self._withheld.get(place, "")
        return KeyMissing(WITHHELD.get(code, NO_KEY), place, withheld=bool(code))

    async def _recall(self, place: _Place) -> _Open | None:
        found = self._open.get(place)
        if found is None:
            row = await self._store.keys.inbound(*place)
            found = self._open.get(place)  # it may have come while we looked
            if found is None and row is not None:
                found = _Open(row, InboundGroupSession.from_pickle(row.pickle, self._store.keys.pickle_key))
        if found is not None:
            self._remember(place, found)
        return found

    def _remember(self, place: _Place, found: _Open) -> None:
        self._open[place] = found
        self._open.move_to_end(place)
        while len(self._open) > KEPT:
            self._open.popitem(last=False)

    async def _check(self, row: Inbound) -> None:
        """Whether the session was made by a device that is believed. Raises Untrusted."""
        person = (await self._tracking.of([row.sender])).get(row.sender)
        if (why := self._doubt(row, person)) is not None:
            # It may be newer than what is known of its owner's devices, or verified a moment ago.
            person = await self._tracking.anew(row.sender)
            why = self._doubt(row, person)
        if why is not None:
            raise Untrusted(why)

    def _doubt(self, row: Inbound, person: Person | None) -> str | None:
        """Why a session is not believed; None where it is.

        A device that is not there any more is judged by the keys that came along with the session: it is said of them,
        as of those that the homeserver lists, by its owner's identity that they are the owner's.
        """
        device = person.by_curve(row.sender_key) if person is not None else None
        why = UNTRUSTED
        if device is None and self._trust is Trust.ALL:
            return None  # the key came over Olm in its owner's name
        if device is None and person is not None:
            device = enclosed(row.sender, row.device, person)
            why = SIGNED_OUT
        if device is None or (device.curve25519, device.ed25519) != (row.sender_key, row.signing_key):
            return why
        return None if is_trusted(device, self._trust) else why


def _enclosed(found: contents.Opened) -> bytes:
    """The sender's device keys, JSON; b"" where they did not come along."""
    keys = bytes(found.sender_device_keys)
    return keys if keys != b"null" and len(keys) <= LONGEST_KEYS else b""


def _key(found: contents.Opened, sender_key: str) -> _Key | None:
    """The room key in an Olm message; None where there is none, or none that can be used."""
    if found.type not in KEYS:
        return None
    key: contents.RoomKey | contents.ForwardedKey
    try:
        if found.type == "m.room_key":
            key = made = contents.room_key(found.content)
            session = InboundGroupSession(SessionKey(key.session_key))
            sound = made.session_id == session.session_id
        else:
            # From the device that made the session; from any other it would prove nothing.
            key = again = contents.forwarded_key(found.content)
            session = InboundGroupSession.import_session(ExportedSessionKey(key.session_key))
            sound = again.sender_key == sender_key
    except (msgspec.MsgspecError, RecursionError, ValueError):
        sound = False
    if not sound or key.algorithm != MEGOLM:
        log.info("room_key_unusable")
        return None
    return _Key((key.room_id, session.session_id, found.sender), session, found.type != "m.room_key")


def _is_better(row: Inbound, session: InboundGroupSession, known: _Open) -> bool:
    """Whether a key that came again opens more than the one we have, and is from the same device."""
    same = (row.sender, row.sender_key) == (known.row.sender, known.row.sender_key)
    return same and session.first_known_index < known.session.first_known_index


def _now() -> int:
    return time.time_ns() // 1_000_000
