"""What was said in encrypted rooms, for the public listener: opened anew for each reader, while that is agreed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.unredacted import Unredacted


class _Clear(msgspec.Struct):
    content: dict[str, Any] = {}


_clear = msgspec.json.Decoder(_Clear).decode


class LaidOpen:
    """`bridgekit.matrix.media.Sealed` over the bridge's own keys: nothing of it is kept."""

    def __init__(self, unredacted: Unredacted, engine: Engine, holds: Callable[[ChatId, int], bool]) -> None:
        self._unredacted = unredacted
        self._engine = engine
        self._holds = holds

    def holds(self, room: ChatId, agreement: int) -> bool:
        return self._holds(room, agreement)

    async def content(self, room: ChatId, event_id: MessageId, since: int) -> dict[str, Any]:
        events = await self._unredacted.events(room, event_id, since)
        if not events:
            return {}
        raw = msgspec.json.encode({**events[0], "room_id": room, "event_id": event_id})
        if events[0].get("type") == "m.room.encrypted":
            raw = await self._engine.open(raw)
        try:
            return _clear(raw).content
        except msgspec.MsgspecError:
            return {}
