"""Somebody with matrix-nio (Olm and Megolm by vodozemac), and an identity that signs their device."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import nio
from nio.crypto.attachments import decrypt_attachment

from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import devices
from bridgekit.matrix.crypto.signing import SEED_BYTES, Json, SigningKey
from bridgekit.testing.servers.synapse import Account, Synapse

_NO_GAPS = {"room": {"timeline": {"limit": 1000}}}
"""nio does not read what a sync leaves out, and without a filter that is all but the last ten events of a room."""


class NioClient:
    """A client that syncs while its block lasts.

    `read` is (room, sender, body) of what it could decrypt or read, `unread` (room, sender) of what it could not.
    """

    def __init__(self, client: Any, synapse: Synapse, token: str) -> None:
        self.client = client
        self.id: str = client.user_id
        self.read: list[tuple[str, str, str]] = []
        self.unread: list[tuple[str, str]] = []
        self.events: list[Any] = []
        self.identity: SigningKey | None = None
        self._synapse = synapse
        self.token = token
        client.add_event_callback(self._message, nio.RoomMessage)
        client.add_event_callback(self._undecrypted, nio.MegolmEvent)

    def _message(self, room: Any, event: Any) -> None:
        self.events.append(event)
        self.read.append((room.room_id, event.sender, event.body))

    def _undecrypted(self, room: Any, event: Any) -> None:
        self.unread.append((room.room_id, event.sender))

    def said_by(self, room: str, sender: str) -> list[str]:
        """What somebody said in a room, as far as it could be read."""
        return [body for where, who, body in self.read if (where, who) == (room, sender)]

    async def until(self, holds: Callable[[], object], seconds: float = 60) -> None:
        """Wait for what the next syncs bring. Raises AssertionError with what has come."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():  # noqa: ASYNC110 - nio tells of events, not of what a test waits for
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(
                f"not so for {self.id} in {seconds:g} s; the last that came are {self.read[-30:]}, of which could "
                f"not be read {self.unread}"
            ) from None

    async def call(self, method: str, path: str, body: Json | None = None) -> Any:
        """A call of the client-server API that nio has not."""
        return await self._synapse.request(method, f"/_matrix/client/v3{path}", body, token=self.token)

    async def is_vouched_for(self, event: Any) -> bool:
        """Whether the device that sent an event is signed by its owner's identity, as the homeserver shows them."""
        found = await self.call("POST", "/keys/query", {"device_keys": {event.sender: []}})
        owner = devices.person(PersonId(event.sender), devices.answer(msgspec.json.encode(found)))
        device = owner.by_curve(event.sender_key)
        return device is not None and device.cross_signed

    async def encrypted_room(self, *invite: str, **options: Any) -> str:
        """A room that is encrypted from the start."""
        state = [
            {
                "type": "m.room.encryption",
                "state_key": "",
                "content": {"algorithm": "m.megolm.v1.aes-sha2", **options},
            }
        ]
        body = {"preset": "private_chat", "invite": list(invite), "initial_state": state}
        return str((await self.call("POST", "/createRoom", body))["room_id"])

    async def say(self, room: str, words: str, **more: Any) -> str:
        """Say something, encrypted to every device that nio knows in the room."""
        content = {"msgtype": "m.text", "body": words, **more}
        sent = await self.client.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
        assert isinstance(sent, nio.RoomSendResponse), sent
        return str(sent.event_id)

    async def share(self, room: str, data: bytes, name: str, mime: str) -> str:
        """Send a file, encrypted as clients encrypt it in such a room."""
        sent, keys = await self.client.upload(
            lambda *_: BytesIO(data), mime, encrypt=True, filesize=len(data)
        )  # its name is the homeserver's business as little as what is in it
        assert isinstance(sent, nio.UploadResponse), sent
        about = {"mimetype": mime, "size": len(data)}
        kind = "m.image" if mime.startswith("image/") else "m.file"
        return await self.say(room, name, msgtype=kind, info=about, file={**keys, "url": sent.content_uri})

    async def open_file(self, event: Any) -> bytes:
        """The file of an encrypted message, in clear."""
        found = await self.client.download(event.url)
        assert isinstance(found, nio.DownloadResponse), found
        clear: bytes = decrypt_attachment(found.body, event.key["k"], event.hashes["sha256"], event.iv)
        return clear

    async def make_identity(self) -> SigningKey:
        """Make an identity, as a client does on its first login; its self-signing key."""
        master, self_signing, user_signing = (SigningKey(secrets.token_bytes(SEED_BYTES)) for _ in range(3))

        def key(usage: str, which: SigningKey) -> Json:
            keys = {f"ed25519:{which.public}": which.public}
            return {"user_id": self.id, "usage": [usage], "keys": keys}

        await self.call(
            "POST",
            "/keys/device_signing/upload",
            {
                "master_key": master.sign(key("master", master), self.id),
                "self_signing_key": master.sign(key("self_signing", self_signing), self.id),
                "user_signing_key": master.sign(key("user_signing", user_signing), self.id),
            },
        )
        return self_signing

    async def sign_device(self, self_signing: SigningKey) -> None:
        """Have the identity sign this device."""
        found = await self.call("POST", "/keys/query", {"device_keys": {self.id: []}})
        device = self.client.device_id
        keys = found["device_keys"][self.id][device]
        keys.pop("unsigned", None)
        signed = self_signing.sign(keys, self.id)
        answer = await self.call("POST", "/keys/signatures/upload", {self.id: {device: signed}})
        assert not answer["failures"], answer


@contextlib.asynccontextmanager
async def nio_client(
    synapse: Synapse,
    account: Account,
    folder: Path,
    *,
    verified: bool = True,
    other: NioClient | None = None,
) -> AsyncIterator[NioClient]:
    """Log in on a new device, publish its keys, and sync; `other` is on a device of the same person."""
    folder.mkdir(exist_ok=True)
    config = nio.AsyncClientConfig(store_sync_tokens=True, encryption_enabled=True)
    login = await synapse.login(account.user_id[1:].partition(":")[0], account.password)
    client = nio.AsyncClient(
        synapse.base_url, account.user_id, device_id=login.device_id, store_path=str(folder), config=config
    )
    client.restore_login(login.user_id, login.device_id, login.access_token)
    person = NioClient(client, synapse, login.access_token)
    await client.sync(timeout=0)
    if client.should_upload_keys:
        await client.keys_upload()
    if verified:
        person.identity = other.identity if other is not None else await person.make_identity()
        assert person.identity is not None
        await person.sign_device(person.identity)
    task = asyncio.create_task(
        client.sync_forever(timeout=5000, sync_filter=_NO_GAPS), name=f"sync of {login.user_id}"
    )
    try:
        yield person
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
