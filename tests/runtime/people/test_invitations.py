"""Invitations of the bot and of ghosts: they come, however long it takes, or say why they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.runtime.linking import invitations, upgrades
from bridgekit.testing.homeserver import Fail, RateLimit
from bridgekit.testing.homeserver.faults import Fault
from tests.runtime.fake_network import Town
from tests.runtime.running import (
    BOT,
    SERVER,
    by,
    emptied,
    ghost,
    is_echo,
    linked,
    membership,
    said,
    town_world,
    world,
)

JOINS = "POST */join/*"
NO_ANSWER = Fail(status=502, errcode="M_UNKNOWN")
"""Synapse's answer where the server of a room does not answer it."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for moments."""
    monkeypatch.setattr(invitations, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(upgrades, "TRIES", (0.1, 0.2))
    monkeypatch.setattr("bridgekit.matrix.transport.BACKOFF", (0.1, 0.2))
    monkeypatch.setattr("bridgekit.matrix.client.BACKOFF", (0.1, 0.2))


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


@pytest.mark.parametrize(
    "fault", [NO_ANSWER, Fail(status=504, errcode="M_UNKNOWN"), RateLimit(retry_after_ms=50)]
)
@pytest.mark.parametrize("who", [BOT, ghost("bob")])
async def test_who_cannot_come_yet_comes_later(tmp_path: Path, fault: Fault, who: str) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge():
        rule = place.homeserver.fault(JOINS, fault, times=7)
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="private_chat", is_direct=True, invite=[who])
        await said(place, lambda e: e.room_id == room and membership(who, "join")(e))
        assert rule.hits == 7


async def test_who_cannot_come_yet_comes_after_a_restart_and_who_asked_is_told_meanwhile(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        rule = place.homeserver.fault(JOINS, NO_ANSWER)
        alice = place.homeserver.user("alice")
        async with place.bridge():
            room = await alice.create_room(invite=[BOT])
            told = await said(place, by(BOT, f"I was asked into {room} and cannot come yet."))
            assert place.homeserver.members(told.room_id)[alice.id] == "invite"
            assert rule.hits
        place.homeserver.heal()
        async with place.bridge():
            await said(place, lambda e: e.room_id == room and by(BOT, "I am a bridge")(e))


@pytest.mark.parametrize("who", [BOT, ghost("bob")])
async def test_who_will_never_come_declines_and_says_why(tmp_path: Path, who: str) -> None:
    town = Town()
    async with town_world(tmp_path, town, direct="anyone") as place, place.bridge():
        place.homeserver.fault(JOINS, Fail(status=400, errcode="M_INCOMPATIBLE_ROOM_VERSION"))
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="private_chat", is_direct=True, invite=[who])
        declined = await said(place, lambda e: e.room_id == room and membership(who, "leave")(e))
        assert "too old for this room's version" in declined.content["reason"]


async def test_who_has_tried_for_a_day_declines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "PATIENCE_MS", 0)
    async with town_world(tmp_path, Town()) as place, place.bridge():
        place.homeserver.fault(JOINS, NO_ANSWER)
        room = await place.homeserver.user("alice").create_room(invite=[BOT])
        declined = await said(place, lambda e: e.room_id == room and membership(BOT, "leave")(e))
        assert declined.content["reason"]


async def test_a_fault_of_the_bridge_leaves_nobody_in_front_of_an_invitation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town_world(tmp_path, Town(), direct="anyone") as place, place.bridge() as bridge:
        monkeypatch.setattr(bridge.making, "_learn", lambda *_: 1 / 0)
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="private_chat", is_direct=True, invite=[ghost("bob")])
        declined = await said(place, lambda e: e.room_id == room and membership(ghost("bob"), "leave")(e))
        assert "fault" in declined.content["reason"]
        await emptied(bridge)
        assert await bridge.store.inbox.count_parked() == 1


@pytest.mark.parametrize("knows", [True, False])
async def test_a_room_whose_successor_cannot_be_entered_yet_is_followed_later(
    tmp_path: Path, knows: bool
) -> None:
    """The new room may be another server's, which does not answer for a while. `knows`: who replaced the old one."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        rule = place.homeserver.fault(JOINS, NO_ANSWER, times=7)
        if not knows:
            place.homeserver.fault("GET */state/m.room.tombstone*", Fail(status=403, errcode="M_FORBIDDEN"))
        new = await alice.upgrade(room, "11")
        await said(place, lambda e: e.room_id == new and membership(BOT, "join")(e))
        await alice.send(new, "here?")
        await town.until(lambda: town.said() == ["<alice> here?"])
        assert rule.hits == 7
