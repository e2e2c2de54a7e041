"""Other bridges: whether a room is bridged to a chat already, so that nothing is bridged twice and no loop begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridgekit.contract.ids import PersonId
from bridgekit.core import wording

BRIDGE_TYPES = frozenset({"m.bridge", "uk.half-shot.bridge"})
"""MSC2346, stable and as it was first written."""


def bridged_already(state: Iterable[Mapping[str, Any]], me: PersonId, *, names: frozenset[str]) -> str | None:
    """Why the room must not be linked: a sentence, if another bridge says in the room's `state` (whole events) that
    it bridges one of the chats called `names` (the chat's id and name). None where none does. Raises nothing.

    A bridge that has left the room says nothing any more: only what joined users have said counts.
    """
    events = [event for event in state if isinstance(event.get("type"), str)]
    joined = {
        str(event.get("state_key"))
        for event in events
        if event.get("type") == "m.room.member" and _content(event).get("membership") == "join"
    }
    wanted = {name.casefold() for name in names if name}
    for event in events:
        content = _content(event)
        if event.get("type") not in BRIDGE_TYPES:
            continue
        bot = content.get("bridgebot") or event.get("sender")
        if not isinstance(bot, str) or bot == me or bot not in joined:
            continue
        channel = content.get("channel")
        if not isinstance(channel, Mapping):
            continue
        called = {str(channel.get(key, "")).casefold() for key in ("id", "displayname")}
        if called & wanted:
            return wording.bridged_already(str(channel.get("displayname") or channel.get("id")), bot)
    return None


def _content(event: Mapping[str, Any]) -> Mapping[str, Any]:
    content = event.get("content")
    return content if isinstance(content, Mapping) else {}
