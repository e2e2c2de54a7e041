"""Ghosts that are asked into rooms."""

from __future__ import annotations

from pathlib import Path

from tests.runtime.running import SERVER, is_echo, said, world


async def test_what_is_said_as_soon_as_the_ghost_is_there_is_heard(tmp_path: Path) -> None:
    """The ghost joins before the room is linked: words in between must wait for the link and not go to nobody."""
    echo = f"@_bk_echo_echo:{SERVER}"
    async with world(tmp_path) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[echo])
        await place.homeserver.wait_for(
            lambda e: e.room_id == room and e.state_key == echo and e.content.get("membership") == "join"
        )
        await alice.send(room, "are you there?")
        heard = await said(place, is_echo("are you there?"))
        assert (heard.room_id, heard.sender) == (room, echo)
