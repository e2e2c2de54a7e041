"""What events say for the public, as long as nobody has taken it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.client import MatrixClient


def _nobody(user: PersonId, since: int) -> bool:
    return False


class Unredacted:
    """Reads events anew for each reader of a link. `is_erased` says of a sender whether they were erased after the link
    was made, by the erasure that they had behind them then: the time that an event bears is its server's word."""

    def __init__(self, client: MatrixClient, *, is_erased: Callable[[PersonId, int], bool] = _nobody) -> None:
        self._client = client
        self._is_erased = is_erased

    async def events(self, room: ChatId, id: MessageId, since: int) -> list[dict[str, Any]]:
        """The event, and behind an edit the message that it edits: a homeserver redacts the one without the other, and
        who takes a message back means both. Empty where there is nothing (any more). Raises BridgeError."""
        event = await self._client.event(room, id)
        if event is None or not self._stands(event, since):
            return []
        edited = _edited(event["content"])
        if edited is None:
            return [event]
        original = await self._client.event(room, edited)
        return [event, original] if original is not None and self._stands(original, since) else []

    def _stands(self, event: dict[str, Any], since: int) -> bool:
        content, sender = event.get("content"), event.get("sender")
        if not isinstance(content, dict) or not content or not isinstance(sender, str):
            return False
        return not self._is_erased(PersonId(sender), since)


def said_in(event: dict[str, Any]) -> dict[str, Any]:
    """What an event says: of an edit its new content."""
    content: dict[str, Any] = event["content"]
    edited = content.get("m.new_content")
    return edited if isinstance(edited, dict) else content


def _edited(content: dict[str, Any]) -> MessageId | None:
    relation = content.get("m.relates_to")
    if not isinstance(relation, dict) or relation.get("rel_type") != "m.replace":
        return None
    target = relation.get("event_id")
    return MessageId(target) if isinstance(target, str) else None
