"""A whole bridge on the echo network: what is said comes back as a ghost's words."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.runtime.running import BOT, World, world


async def linked(place: World, chat: str = "#talk") -> tuple[object, str]:
    """Alice's room, linked to an echo chat."""
    alice = place.homeserver.user("alice")
    room = await alice.create_room(preset="public_chat", invite=[BOT])
    await place.homeserver.wait_for(
        lambda e: e.type == "m.room.member" and e.state_key == BOT and e.content["membership"] == "join", 5
    )
    await alice.set_power(room, BOT, 100)
    await alice.send(room, f"!bridge link echo {chat}")
    await place.homeserver.wait_for(lambda e: e.sender == BOT and "now linked" in e.body, 5)
    return alice, room


async def test_what_is_said_comes_back(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        said = await alice.send(room, "hello")
        echo = await place.homeserver.wait_for(
            lambda e: e.sender.startswith("@_bk_echo_") and e.body == "hello", 5
        )
        assert echo.room_id == room
        status = await place.homeserver.wait_for(
            lambda e: (
                e.type == "com.beeper.message_send_status" and e.content["m.relates_to"]["event_id"] == said
            ),
            5,
        )
        assert status.content["status"] == "SUCCESS"
        assert place.homeserver.unknown_calls == []
        await asyncio.sleep(0.1)
        assert await bridge.store.inbox.count() == 0
