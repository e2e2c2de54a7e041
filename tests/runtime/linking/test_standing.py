"""Links of the config: passwords, and rooms that the config moves."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.facts import ChatClosed
from bridgekit.contract.ids import ChatId, NetworkId, PortalKey
from bridgekit.contract.verbs import Join, Leave
from tests.runtime.fake_network import TALK, Town, now, says
from tests.runtime.running import BOT, World, by, ghost, said, town_world, until

SIDE = PortalKey(NetworkId("town"), TALK)
PASSWORD = "open-sesame"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for moments."""
    monkeypatch.setattr("bridgekit.runtime.linking.standing.FIRST_WAIT", 0.2)


async def test_a_link_of_the_config_brings_the_chats_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every start, and when it has changed: a network forgets, and so may a connector."""
    caplog.set_level(logging.DEBUG)
    town = Town()
    async with town_world(tmp_path, town) as place:
        room = await place.homeserver.user("alice").create_room(preset="public_chat")
        link = {"chat": "#talk", "room": room, "password": PASSWORD}
        place.networks["town"]["links"] = [link]
        async with place.bridge() as bridge:
            await until(lambda: SIDE in bridge.registry.links)
            assert [join.secret for join in town.done(Join)] == [PASSWORD]
        async with place.bridge() as bridge:
            await town.until(lambda: len(town.done(Join)) == 2)
            link["password"] = "another-word"
            assert bridge.reload(place.config()) == []
            await town.until(lambda: len(town.done(Join)) == 3)
            assert [join.secret for join in town.done(Join)] == [PASSWORD, PASSWORD, "another-word"]
            assert len(bridge.registry.links) == 1
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert PASSWORD.encode() not in on_disk
    assert PASSWORD not in caplog.text + capsys.readouterr().out


async def test_a_chat_that_was_lost_for_its_password_opens_with_the_right_one(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="public_chat")
        place.networks["town"]["links"] = [link := {"chat": "#talk", "room": room}]
        async with place.bridge() as bridge:
            await until(lambda: SIDE in bridge.registry.links)
            town.emit(ChatClosed(chat=TALK, at=now(), reason="#talk needs a key."))
            await said(place, by(BOT, "#talk needs a key."))
            link["password"] = PASSWORD
            bridge.reload(place.config())
            await until(lambda: bridge.registry.links[SIDE].state == "open")
            await alice.send(room, "there you are")
            await town.until(lambda: town.said() == ["<alice> there you are"])


async def test_a_link_of_the_config_moves_to_another_room(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        one = await alice.create_room(preset="public_chat")
        two = await alice.create_room(preset="public_chat")
        place.networks["town"]["links"] = [link := {"chat": "#talk", "room": one}]
        async with place.bridge() as bridge:
            await until(lambda: SIDE in bridge.registry.links)
            town.emit(says("Bob", "here"))
            await said(place, lambda e: e.room_id == one and e.sender == ghost("bob") and e.body == "here")
            link["room"] = two
            assert bridge.reload(place.config()) == []
            await until(lambda: (now_there := bridge.registry.links.get(SIDE)) and now_there.room == two)
            assert bridge.registry.links[SIDE].static
            assert bridge.registry.links_of(ChatId(one)) == []
            town.emit(says("Bob", "and there"))
            await said(place, lambda e: e.sender == ghost("bob") and e.body == "and there")
            (last,) = [e for e in place.homeserver.messages(two) if e.body == "and there"]
            assert last.sender == ghost("bob")
            await until(lambda: "leave" in [
                e.content.get("membership")
                for e in place.homeserver.timeline(one)
                if e.state_key == ghost("bob")
            ])  # fmt: skip
            await alice.send(two, "found you")
            await town.until(lambda: town.said() == ["<alice> found you"])
        assert len(town.done(Leave)) == 1


async def test_a_link_stays_in_its_room_until_its_new_one_lets_the_bridge_in(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        one = await alice.create_room(preset="public_chat")
        two = await alice.create_room(preset="private_chat")
        place.networks["town"]["links"] = [link := {"chat": "#talk", "room": one}]
        async with place.bridge() as bridge:
            await until(lambda: SIDE in bridge.registry.links)
            link["room"] = two
            bridge.reload(place.config())
            await asyncio.sleep(0.3)
            await alice.send(one, "still here")
            await town.until(lambda: town.said() == ["<alice> still here"])
            await alice.invite(two, BOT)
            await until(lambda: (there := bridge.registry.links.get(SIDE)) and there.room == two)


async def test_a_room_that_puts_the_bridge_out_has_the_last_word_over_the_config(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bridge does not come back by itself, not after a restart either; the admin is told, and an invitation
    mends it."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        room = await alice.create_room(preset="public_chat")
        place.networks["town"]["links"] = [{"chat": "#talk", "room": room}]
        async with place.bridge() as bridge:
            await until(lambda: SIDE in bridge.registry.links)
            await alice.kick(room, BOT)
            await until(lambda: SIDE not in bridge.registry.links)
            await town.until(lambda: town.done(Leave))
            assert bridge.parts.standing.missing() == [
                f"#talk on town: the room {room} has put the bridge out; invite {BOT} there"
            ]
        async with place.bridge() as bridge:
            await place.homeserver.settled()
            await asyncio.sleep(0.5)
            assert place.homeserver.members(room)[BOT] == "leave"
            assert bridge.parts.standing.missing() != []
            await alice.invite(room, BOT)
            await until(lambda: SIDE in bridge.registry.links)
            assert bridge.parts.standing.missing() == []
            town.emit(says("Bob", "back"))
            await said(place, by(ghost("bob"), "back"))


async def test_a_link_that_the_config_gains_later_has_its_own_ceiling_at_once(tmp_path: Path) -> None:
    """And one whose ceiling is lowered while the bridge runs is brought down to it."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        alice = place.homeserver.user("alice")
        first, second = [await alice.create_room(preset="public_chat") for _ in range(2)]
        for room in (first, second):
            await alice.invite(room, BOT)
            await alice.set_power(room, BOT, 100)
        place.networks["town"]["links"] = [{"chat": "#talk", "room": first}]
        async with place.bridge() as bridge:
            await until(lambda: SIDE in bridge.registry.links)
            town.emit(says("Bob", "here"))
            await said(place, by(ghost("bob"), "here"))
            assert joins(place, first) == "public"
            closed = {"join": "invite"}
            place.networks["town"]["links"] = [
                {"chat": "#talk", "room": first, "ceiling": closed},
                {"chat": "#other", "room": second, "ceiling": closed},
            ]
            assert bridge.reload(place.config()) == []
            await until(lambda: (joins(place, first), joins(place, second)) == ("invite", "invite"))


async def test_what_needs_a_restart_is_told_until_there_was_one(tmp_path: Path) -> None:
    """The next reload is about something else, and what runs is still as it was."""
    async with town_world(tmp_path, Town()) as place:
        link: dict[str, Any] = {
            "chat": "#talk",
            "room": await place.homeserver.user("alice").create_room(preset="public_chat"),
        }
        place.networks["town"]["links"] = [link]
        async with place.bridge() as bridge:
            place.networks["town"]["direct"] = "off"
            place.more["messages"] = {"history": 3, "omission": "nothing"}
            changed = [f"{key} has changed: restart the bridge for that." for key in (
                "messages.omission", "messages.history", "networks.town",
            )]  # fmt: skip
            assert bridge.reload(place.config()) == changed
            place.networks["town"]["name"] = "City"
            assert bridge.reload(place.config()) == changed
            place.networks["town"]["direct"] = "known"
            link["shield"] = {}
            place.more["messages"] = {}
            assert bridge.reload(place.config()) == [
                "networks.town.links has changed: restart the bridge for that."
            ]
            del link["shield"]
            assert bridge.reload(place.config()) == []


def joins(place: World, room: str) -> str:
    """The room's join rule."""
    content = place.homeserver.state(room, "m.room.join_rules")
    return str(content["join_rule"]) if content else ""
