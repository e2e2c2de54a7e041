"""Refuses what is well formed and still no honest message (draft-ietf-mimi-content 9.1)."""

from __future__ import annotations

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.messages.parts import MimiContent

YEAR = 366 * 24 * 3600
AHEAD = 5 * 60 * 1000  # "more than a few minutes in the future"
FIRST = 1643673600000  # 2022-02-01: the draft's own examples are later than that


def weigh(content: MimiContent, *, accepted: int, now: int, room_since: int = 0) -> None:
    """Refuse times that nobody honest would send (the draft's security considerations, "General handling").

    `accepted` is the hub's time of the message, `now` ours, `room_since` when the room was made: all in
    milliseconds. Raises PeerMisbehaved.
    """
    if accepted > now + AHEAD:
        raise PeerMisbehaved("The other side says that its message was accepted in the future.")
    if accepted < max(FIRST, room_since):
        raise PeerMisbehaved("The other side says that its message is older than its room can be.")
    expires = content.expires
    if expires is None:
        return
    away = expires.seconds if expires.relative else abs(expires.seconds - now // 1000)
    if away > YEAR:
        raise PeerMisbehaved("The other side sent a message whose expiry is more than a year away.")


def belongs(content: MimiContent, *, sender_uri: str, room_uri: str) -> None:
    """Refuse a message whose own words about its sender or room are not what MLS and the hub say.

    Raises PeerMisbehaved. Where it says nothing, nothing is contradicted (whether a room insists is its policy).
    """
    if content.sender_uri not in (None, sender_uri):
        raise PeerMisbehaved("The message names another sender than the one who encrypted it.")
    if content.room_uri not in (None, room_uri):
        raise PeerMisbehaved("The message was written for another room.")
