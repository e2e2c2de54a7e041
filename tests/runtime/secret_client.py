"""Somebody's client in encrypted rooms of the fake homeserver: the same Olm machine, driven from the other side."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from vodozemac import ExportedSessionKey, GroupSession, InboundGroupSession, MegolmMessage, SessionKey

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto import contents, devices
from bridgekit.matrix.crypto.devices import Device
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.signing import Json
from bridgekit.testing.homeserver import Event, FakeHomeserver, Human

PICKLE_KEY = bytes(32)
ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}


class SecretClient:
    """One device of a person. `withheld` are the codes with which keys were refused to it, `verification` the events
    that came in clear for one."""

    def __init__(self, homeserver: FakeHomeserver, human: Human, *, verified: bool = True) -> None:
        self.homeserver = homeserver
        self.human = human
        self.id = PersonId(human.id)
        self.machine = Machine(Machine.new(self.id, PICKLE_KEY), [], PICKLE_KEY)
        self.withheld: list[str] = []
        self.requests: list[Json] = []
        self.verification: list[tuple[str, Json]] = []
        self.keys: dict[str, InboundGroupSession] = {}
        self.senders: dict[str, Device] = {}
        self._out: dict[str, tuple[GroupSession, str]] = {}  # with the key as it was at first
        self._gave: set[tuple[str, str]] = set()
        homeserver.app.devices.setdefault(self.id, {})[self.machine.device] = {
            "device_id": self.machine.device
        }
        self.machine.more_keys(10, fallback=True)
        body = {"device_keys": self.machine.device_keys, **self.machine.unpublished()}
        homeserver.keys.upload(self.id, self.machine.device, body)
        self.machine.confirm()
        if verified:
            homeserver.keys.upload_identity(self.id, self.machine.identity())

    def vouched_for_by(self, other: SecretClient) -> None:
        """Have the identity of another device of the same person sign this one."""
        other.vouch_for(self.machine.device)

    def vouch_for(self, device: str) -> None:
        """Have this person's identity sign another device of theirs, as clients do after a verification."""
        assert self.machine._identity is not None
        keys = self.homeserver.keys.devices[self.id][device]
        signature = keys["signatures"][self.id][f"ed25519:{device}"]
        bare = {**keys, "signatures": {self.id: {f"ed25519:{device}": signature}}}
        self.homeserver.keys.sign({self.id: {device: self.machine._identity.sign(bare)}})

    def devices_in(self, room: str) -> list[Device]:
        """Everybody's devices in a room, but this one."""
        users = [PersonId(user) for user in self.homeserver.joined(room)]
        answer = devices.answer(msgspec.json.encode(self.homeserver.keys.query(self.id, users, {})))
        return [
            device
            for user in users
            for device in devices.person(user, answer).devices.values()
            if device.curve25519 != self.machine.curve25519
        ]

    def share(self, room: str, to: list[Device] | None = None) -> None:
        """Send the room's key, from its first message on, to all devices in it (to these)."""
        group, key = self._group(room)
        content = contents.room_key_content(ChatId(room), group.session_id, key)
        to = self.devices_in(room) if to is None else to
        self._gave |= {(device.user, device.id) for device in to}
        self.tell(to, "m.room_key", content)

    def tell(self, to: list[Device], type: str, content: Json) -> None:
        """Send an encrypted event to devices."""
        for device in to:
            if not self.machine.knows(device.curve25519):
                claimed = self.homeserver.keys.claim({device.user: {device.id: "signed_curve25519"}})
                keys = claimed["one_time_keys"][device.user][device.id]
                assert self.machine.begin(device, next(iter(keys.values())), 1) is not None
            message, _ = self.machine.encrypt(device, type, content)
            self.send(device.user, device.id, "m.room.encrypted", message)

    def send(self, user: str, device: str, type: str, content: Json) -> None:
        """Send an event to one device as it is."""
        scope = (self.id, self.machine.device, f"{id(content)}{len(self.homeserver.keys._txns)}")
        self.homeserver.keys.send(scope, self.id, type, {user: {device: content}})

    def sealed(self, room: str, content: Json, type: str = "m.room.message") -> Json:
        """The content of m.room.encrypted; the key is not shared by it."""
        group, _ = self._group(room)
        message = group.encrypt(contents.plaintext(ChatId(room), type, content))
        return contents.encrypted(
            content,
            ciphertext=message.to_base64(),
            session=group.session_id,
            sender_key=self.machine.curve25519,
            device=self.machine.device,
        )

    async def say(self, room: str, words: str, *, shared: bool = True, **more: Any) -> str:
        """Say something to everybody whose device is known now."""
        if shared:
            self.share(room)
        content = {"msgtype": "m.text", "body": words, **more}
        return await self.human.send(room, self.sealed(room, content), "m.room.encrypted")

    def _group(self, room: str) -> tuple[GroupSession, str]:
        if room not in self._out:
            group = GroupSession()
            self._out[room] = group, group.session_key.to_base64()
        return self._out[room]

    def rotate(self, room: str) -> None:
        """Use a new session from now on."""
        self._out.pop(room, None)

    def sign_out(self) -> None:
        """End the session: the homeserver forgets the device."""
        del self.homeserver.app.devices[self.id][self.machine.device]
        self.homeserver.keys.forget(self.id, self.machine.device)

    # What comes ----------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take what was sent to this device."""
        for event in self.homeserver.keys.take(self.id, self.machine.device):
            if event["type"] == "m.room_key.withheld":
                self.withheld.append(event["content"]["code"])
            if event["type"].startswith("m.key.verification."):
                self.verification.append((event["type"], event["content"]))
            if event["type"] == "m.room_key_request":
                self._answer(PersonId(event["sender"]), event["content"])
            if event["type"] != "m.room.encrypted":
                continue
            content = msgspec.convert(event["content"], contents.OlmContent)
            found, _, _ = self.machine.decrypt(PersonId(event["sender"]), content, 2)
            if found.type == "m.forwarded_room_key":
                again = contents.forwarded_key(found.content)
                session = InboundGroupSession.import_session(ExportedSessionKey(again.session_key))
                self.keys[session.session_id] = session
                self.senders[session.session_id] = self._device(found.sender, content.sender_key)
            if found.type == "m.room_key":
                key = contents.room_key(found.content)
                self.keys[key.session_id] = InboundGroupSession(SessionKey(key.session_key))
                self.senders[key.session_id] = self._device(found.sender, content.sender_key)

    def answers(self) -> bool:
        """Answer whatever this device was asked."""
        self.collect()
        return True

    def _answer(self, user: PersonId, asked: Json) -> None:
        """Give a session's key once more to a device that has had it, as matrix-rust-sdk does."""
        self.requests.append(asked)
        body = asked["body"]
        # matrix-rust-sdk does not even read a request without it.
        assert body["sender_key"] == self.machine.curve25519
        group, key = self._out[body["room_id"]]
        device = asked["requesting_device_id"]
        if group.session_id != body["session_id"] or (user, device) not in self._gave:
            return
        exported = InboundGroupSession(SessionKey(key)).export_at(0)
        assert exported is not None
        content = {
            **contents.room_key_content(body["room_id"], group.session_id, exported.to_base64()),
            "sender_key": self.machine.curve25519,
            "sender_claimed_ed25519_key": self.machine.ed25519,
            "forwarding_curve25519_key_chain": [],
        }
        self.tell(
            [d for d in self.devices_in(body["room_id"]) if d.id == device], "m.forwarded_room_key", content
        )

    def ask(self, room: str, event: Event) -> None:
        """Ask the sender's devices for the key of an encrypted event, which this device has not or has lost."""
        session = event.content["session_id"]
        self.keys.pop(session, None)
        for device in self.devices_of(event.sender):
            content = contents.key_request(ChatId(room), session, self.machine.device, device.curve25519)
            self.send(event.sender, device.id, "m.room_key_request", content)

    def _device(self, user: PersonId, curve25519: str) -> Device:
        answer = devices.answer(msgspec.json.encode(self.homeserver.keys.query(self.id, [user], {})))
        device = devices.person(user, answer).by_curve(curve25519)
        assert device is not None, "the sender's device is not published"
        return device

    def read(self, event: Event) -> Json:
        """What an encrypted event says: {"type", "content"}. Raises KeyError where its key has not come."""
        self.collect()
        session = self.keys[event.content["session_id"]]
        opened = session.decrypt(MegolmMessage.from_base64(event.content["ciphertext"]))
        found: Json = msgspec.json.decode(opened.plaintext)
        assert found["room_id"] == event.room_id
        device = self.senders[event.content["session_id"]]
        assert (device.user, device.cross_signed) == (event.sender, True), "a client would show a red shield"
        return found

    def devices_of(self, user: str) -> list[Device]:
        """Somebody's devices."""
        answer = devices.answer(msgspec.json.encode(self.homeserver.keys.query(self.id, [user], {})))
        return list(devices.person(PersonId(user), answer).devices.values())

    def events_of(self, room: str, sender: str, type: str) -> list[Json]:
        """The contents of somebody's encrypted events of one type."""
        return [
            said["content"]
            for event in self.homeserver.timeline(room)
            if event.type == "m.room.encrypted"
            and event.sender == sender
            and (said := self.read(event))["type"] == type
        ]

    def words(self, room: str, sender: str) -> list[str]:
        """What somebody said in a room, in order; what cannot be read raises KeyError."""
        found = []
        for event in self.homeserver.timeline(room):
            if event.type == "m.room.encrypted" and event.sender == sender:
                said = self.read(event)
                if said["type"] == "m.room.message":
                    found.append(said["content"]["body"])
        return found

    def has_keys_of(self) -> set[str]:
        """Whose sessions this device can read."""
        self.collect()
        return {device.user for device in self.senders.values()}

    def words_readable(self, room: str, sender: str) -> list[str]:
        """What of somebody's words this device has the keys of."""
        self.collect()
        found = []
        for event in self.homeserver.timeline(room):
            if event.sender == sender and event.content.get("session_id") in self.keys:
                with contextlib.suppress(ValueError):  # the key may begin later
                    said = self.read(event)
                    if said["type"] == "m.room.message":
                        found.append(said["content"]["body"])
        return found

    def position(self, event: Event) -> int:
        """The place of an encrypted event in its session."""
        return MegolmMessage.from_base64(event.content["ciphertext"]).message_index()
