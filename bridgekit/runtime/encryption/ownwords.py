"""What the bot and the ghosts have to say for themselves, and not for anybody on a network."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.attachments import Sealing
from bridgekit.matrix.crypto.qr import Picture

_object = msgspec.json.Decoder(dict[str, Any]).decode


class OwnWords:
    """Sends events and pictures as one of ours. Both raise MatrixError, EncryptionError."""

    def __init__(
        self, client: MatrixClient, *, is_encrypted: Callable[[ChatId, PersonId], Awaitable[bool]]
    ) -> None:
        self._client = client
        self._is_encrypted = is_encrypted

    async def say(self, room: ChatId, user: PersonId, type: str, content: dict[str, Any]) -> None:
        """Send an event; encrypted where the room is."""
        await self._client.send(room, type, content, txn=f"bk.own.{time.time_ns():x}", user=user)

    async def show(self, room: ChatId, user: PersonId, picture: Picture, words: str) -> None:
        """Send a picture with words under it; its file is encrypted where the room is."""
        size = len(picture.data)
        content: dict[str, Any] = {
            "msgtype": "m.image",
            "body": words,
            "filename": "code.png",
            "info": {"mimetype": "image/png", "size": size, "w": picture.width, "h": picture.height},
            "m.mentions": {},
        }
        if await self._is_encrypted(room, user):
            sealing = Sealing()
            sealed = sealing.through(_whole(picture.data))
            url = await self._client.upload(sealed, "application/octet-stream", size=size, user=user)
            content["file"] = {**_object(sealing.key()), "url": url}
        else:
            content["url"] = await self._client.upload(picture.data, "image/png", "code.png", user=user)
        await self.say(room, user, "m.room.message", content)


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
