"""Repositories of end-to-end encryption: what our devices hold, what is known of others', what waits to be opened.

Everything secret is sealed. Pickles change with every message that they take part in: whoever uses one commits the new
pickle before anything made with it leaves the process, so that no ratchet ever steps twice on one place.
"""

from __future__ import annotations

import hashlib

import msgspec

from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.store.driver import Reader
from bridgekit.store.sealing import SealingKey
from bridgekit.store.statements import Statement, Write, delete, insert, upsert
from bridgekit.store.tables import (
    ENCRYPTED_ROOMS,
    MEGOLM_IN,
    MEGOLM_OUT,
    MEGOLM_SEEN,
    MEGOLM_SHARED,
    OLM,
    OUR_DEVICES,
    THEIR_KEYS,
    TO_DEVICE,
)

_DEVICE_PUT = upsert(OUR_DEVICES)
_DEVICE_REMOVE = delete(OUR_DEVICES)
_OLM_PUT = upsert(OLM)
_OLM_FORGET = delete(OLM, keys=3)
_OLM_FORGET_ALL = delete(OLM)
_OUT_PUT = upsert(MEGOLM_OUT)
_OUT_FORGET_ALL = Statement(MEGOLM_OUT, "DELETE FROM megolm_out WHERE sender = $1", wide=True)
_SHARED_PUT = upsert(MEGOLM_SHARED)
_SHARED_FORGET = delete(MEGOLM_SHARED)
_IN_PUT = upsert(MEGOLM_IN)
_IN_FORGET_ALL = Statement(
    MEGOLM_IN, "DELETE FROM megolm_in WHERE sender = $1 AND sender_key = $2", wide=True
)
_SEEN_ADD = insert(MEGOLM_SEEN)
_THEIRS_PUT = upsert(THEIR_KEYS)
_TO_DEVICE_ADD = insert(TO_DEVICE)
_TO_DEVICE_DONE = delete(TO_DEVICE)
_ROOM_PUT = upsert(ENCRYPTED_ROOMS)

_encode = msgspec.msgpack.Encoder().encode


class Secrets(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What makes one of our users who they are: the Olm account's pickle, and the seeds of the cross-signing keys; they
    are b"" for somebody's own user, whose identity is in their clients."""

    account: str
    master: bytes
    self_signing: bytes
    user_signing: bytes


class OurDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The one device of the bot, a ghost or somebody's own user. `published`: the homeserver has had its keys."""

    mxid: PersonId
    device: str
    secrets: Secrets
    published: bool


class OlmRow(msgspec.Struct, frozen=True, kw_only=True):
    """One Olm session of a device of ours (`ours` is its user) with the device whose Curve25519 key is `theirs`.

    `used` is ms of the last message that came in, which is the session to answer with (the specification's rule).
    """

    ours: PersonId
    theirs: str
    id: str
    pickle: str
    used: int


class Outbound(msgspec.Struct, frozen=True, kw_only=True):
    """What a user of ours encrypts a room's messages with. `made` is ms, `sent` counts messages, `before` is the
    session that it has replaced, "" where it is the first."""

    room: ChatId
    sender: PersonId
    session: str
    pickle: str
    made: int
    sent: int
    before: str = ""


class SharedWith(msgspec.Struct, frozen=True, kw_only=True):
    """Who has an outbound session's key: the device, its identity key, and from which message on.

    `position` -1: it was told that it does not get the key.
    """

    session: str
    user: PersonId
    device: str
    key: str
    position: int


class Inbound(msgspec.Struct, frozen=True, kw_only=True):
    """A key that opens a room's messages. `sender` and the two keys say whose device made it, as its Olm message did.

    Of a session of ours the keys are our device's. `device` is that device's keys as they came along (MSC4147), JSON;
    b"" where none did.
    """

    room: ChatId
    session: str
    pickle: str
    sender: PersonId
    sender_key: str
    signing_key: str
    device: bytes = b""


_secrets = msgspec.msgpack.Decoder(Secrets).decode


class Keys:
    """All of it; every `put` returns a Write."""

    def __init__(self, reader: Reader, key: SealingKey) -> None:
        self._reader = reader
        self._key = key
        # vodozemac pickles want a key of their own; what they are is sealed to its place all the same.
        self.pickle_key = key.derive("pickles")

    # our devices

    def put_device(self, row: OurDevice) -> Write:
        """Add the device, or replace the one of the same user."""
        sealed = self._key.seal(_encode(row.secrets), "our_devices.secrets", row.mxid)
        return Write(_DEVICE_PUT, (row.mxid, row.device, sealed, int(row.published)))

    def forget_device(self, mxid: PersonId, curve25519: str) -> list[Write]:
        """Forget the device with this identity key, its sessions with others, and what it has encrypted with."""
        return [
            Write(_OLM_FORGET_ALL, (mxid,)),
            Write(_OUT_FORGET_ALL, (mxid,)),
            Write(_IN_FORGET_ALL, (mxid, curve25519)),
            Write(_DEVICE_REMOVE, (mxid,)),
        ]

    async def device(self, mxid: PersonId) -> OurDevice | None:
        """The user's device; None if they have none."""
        sql = "SELECT device, secrets, published FROM our_devices WHERE mxid = $1"
        for device, sealed, published in await self._reader.fetch(sql, mxid):
            secrets = _secrets(self._key.open(sealed, "our_devices.secrets", mxid))
            return OurDevice(mxid=mxid, device=device, secrets=secrets, published=bool(published))
        return None

    async def device_names(self) -> dict[PersonId, str]:
        """Who of ours has a device, and what it is called."""
        found = await self._reader.fetch("SELECT mxid, device FROM our_devices ORDER BY mxid")
        return {PersonId(mxid): str(device) for mxid, device in found}

    # Olm

    def put_olm(self, row: OlmRow) -> Write:
        """Keep the session as it is now."""
        place = (row.ours, row.theirs, row.id)
        return Write(_OLM_PUT, (*place, self._key.seal(row.pickle.encode(), "olm.pickle", *place), row.used))

    def forget_olm(self, row: OlmRow) -> Write:
        """Forget the session."""
        return Write(_OLM_FORGET, (row.ours, row.theirs, row.id))

    async def olm(self, ours: PersonId) -> list[OlmRow]:
        """All sessions of one device of ours, those that heard last first."""
        sql = "SELECT theirs, id, pickle, used FROM olm WHERE ours = $1 ORDER BY used DESC, id"
        return [
            OlmRow(
                ours=ours,
                theirs=theirs,
                id=id,
                pickle=self._key.open(sealed, "olm.pickle", ours, theirs, id).decode(),
                used=used,
            )
            for theirs, id, sealed, used in await self._reader.fetch(sql, ours)
        ]

    # Megolm, out

    def put_outbound(self, row: Outbound) -> Write:
        """Keep the session as it is now, in place of the one before it."""
        sealed = self._key.seal(row.pickle.encode(), "megolm_out.pickle", row.room, row.sender)
        return Write(_OUT_PUT, (row.room, row.sender, row.session, sealed, row.made, row.sent, row.before))

    async def outbound(self, room: ChatId, sender: PersonId) -> Outbound | None:
        """What the user encrypts the room's messages with; None if there is nothing yet."""
        sql = "SELECT session, pickle, made, sent, before FROM megolm_out WHERE room = $1 AND sender = $2"
        for session, sealed, made, sent, before in await self._reader.fetch(sql, room, sender):
            pickle = self._key.open(sealed, "megolm_out.pickle", room, sender).decode()
            return Outbound(
                room=room,
                sender=sender,
                session=session,
                pickle=pickle,
                made=made,
                sent=sent,
                before=before,
            )
        return None

    def put_shared(self, row: SharedWith) -> Write:
        """Somebody has the key."""
        return Write(_SHARED_PUT, (row.session, row.user, row.device, row.key, row.position))

    def forget_shared(self, session: str) -> Write:
        """The session is long over: whoever has lost its key is not given it again."""
        return Write(_SHARED_FORGET, (session,))

    async def shared(self, session: str) -> list[SharedWith]:
        """Who has the key."""
        sql = "SELECT mxid, device, key, position FROM megolm_shared WHERE session = $1"
        return [
            SharedWith(session=session, user=user, device=device, key=key, position=position)
            for user, device, key, position in await self._reader.fetch(sql, session)
        ]

    async def count_outbound(self) -> int:
        """How many sessions of ours are kept."""
        return int((await self._reader.fetch("SELECT count(*) FROM megolm_out"))[0][0])

    # Megolm, in

    def put_inbound(self, row: Inbound) -> Write:
        """Keep the key, in place of the one of the same session."""
        place = (row.session, row.room, row.sender)
        sealed = self._key.seal(row.pickle.encode(), "megolm_in.pickle", *place)
        device = self._key.seal(row.device, "megolm_in.device", *place) if row.device else None
        return Write(_IN_PUT, (*place, row.sender_key, row.signing_key, sealed, device))

    async def inbound(self, room: ChatId, session: str, sender: PersonId) -> Inbound | None:
        """The key of somebody's session; None if it has not come."""
        sql = (
            "SELECT sender_key, signing_key, pickle, device FROM megolm_in "
            "WHERE session = $1 AND room = $2 AND sender = $3"
        )
        place = (session, room, sender)
        for sender_key, signing_key, sealed, device in await self._reader.fetch(sql, *place):
            return Inbound(
                room=room,
                session=session,
                pickle=self._key.open(sealed, "megolm_in.pickle", *place).decode(),
                sender=sender,
                sender_key=sender_key,
                signing_key=signing_key,
                device=b"" if device is None else self._key.open(device, "megolm_in.device", *place),
            )
        return None

    async def count_inbound(self) -> int:
        """How many keys are kept that open messages, our own among them."""
        return int((await self._reader.fetch("SELECT count(*) FROM megolm_in"))[0][0])

    def saw(self, room: ChatId, session: str, sender: PersonId, position: int, event: MessageId) -> Write:
        """The event stands at this place of somebody's session; the first that did stays."""
        return Write(_SEEN_ADD, (_hash(session, room, sender), position, _hash(event)))

    async def stands_first(
        self, room: ChatId, session: str, sender: PersonId, position: int, event: MessageId
    ) -> bool | None:
        """Whether this event, and no other, stood first at this place; None where none has."""
        sql = "SELECT event FROM megolm_seen WHERE place = $1 AND position = $2"
        found = await self._reader.fetch(sql, _hash(session, room, sender), position)
        return bytes(found[0][0]) == _hash(event) if found else None

    # other people's devices

    def put_theirs(self, mxid: PersonId, keys: bytes) -> Write:
        """What is known of somebody's devices."""
        return Write(_THEIRS_PUT, (mxid, keys))

    async def theirs(self, mxid: PersonId) -> bytes | None:
        """What was known last of somebody's devices; None if nothing was."""
        found = await self._reader.fetch("SELECT keys FROM their_keys WHERE mxid = $1", mxid)
        return bytes(found[0][0]) if found else None

    # what was sent to our devices

    def add_to_device(self, id: int, body: bytes) -> Write:
        """Keep a to-device event until it is opened."""
        return Write(_TO_DEVICE_ADD, (id, self._key.seal(body, "to_device.body", str(id))))

    def done_to_device(self, id: int) -> Write:
        """It is opened, and what was in it is kept."""
        return Write(_TO_DEVICE_DONE, (id,))

    async def to_device(self) -> list[tuple[int, bytes]]:
        """What waits, the oldest first."""
        found = await self._reader.fetch("SELECT id, body FROM to_device ORDER BY id")
        return [(id, self._key.open(sealed, "to_device.body", str(id))) for id, sealed in found]

    # rooms

    def put_room(self, room: ChatId, settings: bytes) -> Write:
        """The room is encrypted, and stays it; `settings` is the content of its m.room.encryption."""
        return Write(_ROOM_PUT, (room, settings))

    async def rooms(self) -> dict[ChatId, bytes]:
        """The rooms that are known to be encrypted."""
        found = await self._reader.fetch("SELECT room, settings FROM encrypted_rooms")
        return {ChatId(room): bytes(settings) for room, settings in found}


def _hash(*words: str) -> bytes:
    """16 octets, as migration 15 makes them of what was kept before."""
    return hashlib.sha256(" ".join(words).encode("utf-8", "surrogatepass")).digest()[:16]
