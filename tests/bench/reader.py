"""Somebody who reads an encrypted room over the client-server API: our own Olm machine, driven from the other side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from vodozemac import GroupSession, InboundGroupSession, MegolmMessage, SessionKey

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto import contents, devices
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.signing import Json

CLIENT = "/_matrix/client/v3"
PICKLE_KEY = bytes(32)
ENCRYPTION = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}


class Unreadable(Exception):
    """An event that this device cannot decrypt, or whose sender nobody vouches for."""


class Reader:
    """One cross-signed device. Keys come in with `sync`; `words` decrypts."""

    def __init__(self, session: aiohttp.ClientSession, machine: Machine) -> None:
        self.id = machine.user
        self.machine = machine
        self._session = session
        self._keys: dict[str, InboundGroupSession] = {}
        self._makers: dict[str, tuple[PersonId, str]] = {}  # who sent a key, and with which identity key
        self._people: dict[PersonId, devices.Person] = {}
        self._out: dict[str, tuple[GroupSession, set[str]]] = {}
        self._since = ""
        self._txn = 0

    async def call(
        self, method: str, path: str, body: Json | None = None, query: dict[str, str] | None = None
    ) -> Any:
        """One call of the client-server API; its answer. Raises aiohttp.ClientError."""
        async with self._session.request(method, f"{CLIENT}{path}", json=body, params=query) as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read())

    async def publish(self) -> None:
        """Have everybody know this device, and the identity that signs it."""
        await self.call("POST", "/keys/device_signing/upload", self.machine.identity())
        self.machine.more_keys(50, fallback=True)
        body = {"device_keys": self.machine.device_keys, **self.machine.unpublished()}
        await self.call("POST", "/keys/upload", body)
        self.machine.confirm()

    async def devices_of(self, user: PersonId) -> devices.Person:
        """Somebody's devices as they are now."""
        found = await self.call("POST", "/keys/query", {"device_keys": {user: []}})
        self._people[user] = devices.person(user, msgspec.convert(found, devices.Answer))
        return self._people[user]

    async def sync(self, seconds: float = 0) -> list[Json]:
        """What has come, at most `seconds` from now: keys are kept, and the events of all rooms returned."""
        query = {"timeout": str(int(seconds * 1000)), **({"since": self._since} if self._since else {})}
        found = await self.call("GET", "/sync", None, query)
        self._since = found["next_batch"]
        for event in found.get("to_device", {}).get("events", ()):
            self._take(event)
        rooms = found.get("rooms", {}).get("join", {})
        return [event for room in rooms.values() for event in room["timeline"]["events"]]

    async def catch_up(self) -> None:
        """Take all keys that wait."""
        while True:
            known = len(self._keys)
            await self.sync()
            if len(self._keys) == known:
                return

    def _take(self, event: Json) -> None:
        if event["type"] != "m.room.encrypted":
            return
        content = msgspec.convert(event["content"], contents.OlmContent)
        found, _, _ = self.machine.decrypt(PersonId(event["sender"]), content, time.time_ns() // 1_000_000)
        if found.type == "m.room_key":
            key = contents.room_key(found.content)
            self._keys[key.session_id] = InboundGroupSession(SessionKey(key.session_key))
            self._makers[key.session_id] = found.sender, content.sender_key

    async def words(self, sender: str, content: Json) -> str:
        """The body of an encrypted message. Raises Unreadable."""
        session = content["session_id"]
        if session not in self._keys:
            raise Unreadable(f"no key of {sender}")
        maker, key = self._makers[session]
        if maker not in self._people:
            await self.devices_of(maker)
        device = self._people[maker].by_curve(key)
        if maker != sender or device is None or not device.cross_signed:
            raise Unreadable(f"nobody vouches for what {sender} says")
        opened = self._keys[session].decrypt(MegolmMessage.from_base64(content["ciphertext"]))
        return str(msgspec.json.decode(opened.plaintext)["content"].get("body", ""))

    async def say(self, room: str, words: str, to: PersonId) -> None:
        """Say something that one other can read."""
        group, given = self._out.setdefault(room, (GroupSession(), set()))
        for device in (await self.devices_of(to)).devices.values():
            if device.id in given:
                continue
            given.add(device.id)
            claim = {"one_time_keys": {to: {device.id: "signed_curve25519"}}}
            keys = (await self.call("POST", "/keys/claim", claim))["one_time_keys"][to][device.id]
            assert self.machine.begin(device, next(iter(keys.values())), 1) is not None
            key = contents.room_key_content(ChatId(room), group.session_id, group.session_key.to_base64())
            message, _ = self.machine.encrypt(device, "m.room_key", key)
            await self._put("sendToDevice/m.room.encrypted", {"messages": {to: {device.id: message}}})
        content = {"msgtype": "m.text", "body": words}
        sealed = contents.encrypted(
            content,
            ciphertext=group.encrypt(contents.plaintext(ChatId(room), "m.room.message", content)).to_base64(),
            session=group.session_id,
            sender_key=self.machine.curve25519,
            device=self.machine.device,
        )
        await self._put(f"rooms/{quote(room)}/send/m.room.encrypted", sealed)

    async def _put(self, path: str, body: Json) -> None:
        self._txn += 1
        await self.call("PUT", f"/{path}/bench{self._txn}", body)

    async def meet(self, user: PersonId) -> None:
        """Return when somebody has a device. Raises TimeoutError."""
        async with asyncio.timeout(60):
            while not (await self.devices_of(user)).devices:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


@asynccontextmanager
async def reading(url: str, user: str, password: str = "") -> AsyncIterator[Reader]:
    """A new device of somebody who has an account, published, while the block lasts."""
    machine = Machine(Machine.new(PersonId(user), PICKLE_KEY), [], PICKLE_KEY)
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
        "device_id": machine.device,
    }
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(60)) as session:
        async with session.post(f"{CLIENT}/login", json=login) as answer:
            answer.raise_for_status()
            token = (await answer.json())["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        reader = Reader(session, machine)
        await reader.publish()
        yield reader
