"""A chat that is linked to a room, in both of which people talk, and what can be seen of the room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridgekit.contract.facts import ChatVisibility
from bridgekit.contract.ids import ChatId, NetworkId, PortalKey
from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import PostMessage
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import Human
from tests.runtime.fake_network import TALK, Town, now
from tests.runtime.running import World, ghost, linked, town_world

SECRET = Visibility(known=True, exposure=Exposure.JOINED, entry=Entry.OPEN, listed=False, detail="+s")
HISTORY, JOINS, GUESTS = "m.room.history_visibility", "m.room.join_rules", "m.room.guest_access"
SIDE = PortalKey(NetworkId("town"), TALK)


@asynccontextmanager
async def talking(
    folder: Path, town: Town, power: int = 100, **section: Any
) -> AsyncIterator[tuple[World, Bridge, Human, str]]:
    async with town_world(folder, town, **section) as place, place.bridge() as bridge:
        alice, room = await linked(place, power=power)
        yield place, bridge, alice, room


def says_of_itself(seen: Visibility, chat: ChatId = TALK) -> ChatVisibility:
    return ChatVisibility(chat=chat, at=now(), visibility=seen)


def history(place: World, room: str) -> str:
    return str((place.homeserver.state(room, HISTORY) or {}).get("history_visibility"))


def joins(place: World, room: str) -> str:
    return str((place.homeserver.state(room, JOINS) or {}).get("join_rule"))


def lines(place: World, room: str, who: str = ghost("bob")) -> list[str]:
    """What somebody said in the room."""
    return [e.body for e in place.homeserver.messages(room) if e.sender == who]


def notices(town: Town) -> list[str]:
    """What the bridge itself said in the chat."""
    return [
        post.content.text.body for post in town.done(PostMessage) if post.chat == TALK and not post.speaker
    ]
