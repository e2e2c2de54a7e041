"""Rooms of version 12 (MSC4289), where those who made a room stand in no list of power levels."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from tests.runtime.running import BOT, SERVER, said, world


@pytest.fixture(autouse=True)
def version_12(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridgekit.testing.homeserver.creation.DEFAULT_VERSION", "12")


async def test_the_room_of_a_direct_chat_is_made_in_a_room_version_with_creators(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        alice = await place.homeserver.user("alice").ready()
        side = PortalKey(NetworkId("echo"), ChatId("bob"), LoginId("echo/alice"))
        room = await bridge.making.direct(side, Person(id=PersonId("bob"), name="bob"), PersonId(alice.id))
        assert set(place.homeserver.joined(room)) == {BOT, f"@_bk_echo_bob:{SERVER}"}
        assert place.homeserver.invitations(alice.id) == [room]


@pytest.mark.parametrize("name", ["zoe", "mallory"])
async def test_who_made_the_room_may_link_it(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as place, place.bridge():
        zoe = place.homeserver.user("zoe")
        levels = {"users": {BOT: 100}}
        room = await zoe.create_room(preset="public_chat", invite=[BOT], power_level_content_override=levels)
        await place.homeserver.wait_for(
            lambda e: e.room_id == room and e.state_key == BOT and e.content.get("membership") == "join"
        )
        asker = place.homeserver.user(name)
        if name != "zoe":
            await asker.join(room)
        await asker.send(room, "!bridge link echo #talk")
        wanted = "now linked" if name == "zoe" else "You need power level 50"
        await said(place, lambda e: e.room_id == room and e.sender == BOT and wanted in e.body)
