"""What a room is called that the bridge made for a chat, and what its chat is called where people renamed the room."""

from __future__ import annotations

from bridgekit.core.ghosts import clipped, shown

LONGEST_NAME = 200
"""Code points of a chat's name."""


def room_name(chat: str, label: str) -> str:
    """The name of the room of a chat that people of the network `label` call `chat`: `#lounge (Libera)`."""
    return f"{clipped(shown(chat), LONGEST_NAME)} ({label})"


def chat_name(room: str, label: str = "") -> str:
    """What a room's new name says of its chats: without the network `label` where the bridge had put that there;
    "" where nothing of it can be seen."""
    name = shown(room)
    return clipped(name.removesuffix(f" ({label})") if label else name, LONGEST_NAME)
