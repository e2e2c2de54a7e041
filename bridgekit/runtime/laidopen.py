"""What was said in encrypted rooms, for the public listener: opened anew for each reader, while that is agreed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.engine import Engine


class _Clear(msgspec.Struct):
    content: dict[str, Any] = {}


_clear = msgspec.json.Decoder(_Clear).decode


class LaidOpen:
    """`bridgekit.matrix.media.Sealed` over the bridge's own keys: nothing of it is kept."""

    def __init__(self, client: MatrixClient, engine: Engine, holds: Callable[[ChatId, int], bool]) -> None:
        self._client = client
        self._engine = engine
        self._holds = holds

    def holds(self, room: ChatId, agreement: int) -> bool:
        return self._holds(room, agreement)

    async def content(self, room: ChatId, event_id: MessageId) -> dict[str, Any]:
        event = await self._client.event(room, event_id)
        raw = msgspec.json.encode({**(event or {}), "room_id": room, "event_id": event_id})
        if event is not None and event.get("type") == "m.room.encrypted" and event.get("content"):
            raw = await self._engine.open(raw)
        try:
            return _clear(raw).content
        except msgspec.MsgspecError:
            return {}
