"""Two whole bridges, each with its own homeserver and database: one is the hub of a room, the other follows it."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bridgekit.testing.homeserver import Event, Human
from bridgekit.testing.servers.process import free_port
from connectors.mimi.certificates import Authority
from connectors.mimi.config import MimiConfig
from connectors.mimi.connector import connector
from tests.runtime.running import BOT, World, by, has_fate, said, world
from tests.runtime.running import linked as linked_only

ROOM = "mimi://a.example/r/lobby"
LABEL = "org.bridgekit.protection"


class Pair:
    """The homeservers of both; the bridge of each is started by the tests."""

    def __init__(self, a: World, b: World) -> None:
        self.a, self.b = a, b


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    authority = Authority(tmp_path / "certificates", now=datetime.datetime.now(datetime.UTC))
    ports = {"a.example": free_port(), "b.example": free_port()}
    addresses = {domain: f"https://127.0.0.1:{port}" for domain, port in ports.items()}
    async with AsyncExitStack() as stack:
        worlds = []
        for domain, port in ports.items():
            (folder := tmp_path / domain).mkdir()
            place = await stack.enter_async_context(world(folder))
            credentials = authority.issue(domain)
            section = MimiConfig(
                domain=domain,
                certificate=credentials.certificate,
                key=credentials.key,
                authorities=authority.path,
                listen="127.0.0.1",
                port=port,
                public_url=addresses[domain],
                open_rooms=True,
                peers=addresses,
            )
            place.networks = {"mimi": {"connector": "mimi", "config": section, "name": "MIMI"}}
            place.connectors = {"mimi": connector}
            worlds.append(place)
        yield Pair(*worlds)


def of_somebody(body: str) -> Callable[[Event], bool]:
    return lambda e: e.type == "m.room.message" and e.sender.startswith("@_bk_mimi_") and body in e.body


async def linked(place: World, chat: str) -> tuple[Human, str]:
    """A room that is linked, and whose people agreed to show there, unencrypted, what is said over MLS."""
    human, room = await linked_only(place, chat)
    await human.send(room, f"!bridge agree mimi {chat}")
    await said(place, by(BOT, "has agreed"))
    return human, room


async def test_people_of_two_homeservers_talk(pair: Pair):
    async with pair.a.bridge(), pair.b.bridge():
        alice, at_a = await linked(pair.a, ROOM)
        bob, at_b = await linked(pair.b, ROOM)
        first = await alice.send(at_a, "hello over there")
        heard: Event = await said(pair.b, of_somebody("hello over there"))
        assert heard.room_id == at_b
        assert "a.example" in heard.sender
        assert (await said(pair.a, has_fate(first))).content["status"] == "SUCCESS"
        await bob.send(at_b, "hello to you")
        back: Event = await said(pair.a, of_somebody("hello to you"))
        assert (back.room_id, "b.example" in back.sender) == (at_a, True)

        await bob.react(at_b, heard.event_id, "👍")
        reaction = await said(pair.a, lambda e: e.type == "m.reaction" and e.sender.startswith("@_bk_mimi_"))
        assert reaction.content["m.relates_to"]["event_id"] == first
        await alice.edit(at_a, first, "hello out there")
        edit = await said(pair.b, lambda e: e.content.get("m.relates_to", {}).get("rel_type") == "m.replace")
        assert edit.content["m.relates_to"]["event_id"] == heard.event_id


async def test_one_that_was_away_catches_up(pair: Pair):
    async with pair.a.bridge():
        alice, at_a = await linked(pair.a, ROOM)
        async with pair.b.bridge():
            _, at_b = await linked(pair.b, ROOM)
            await alice.send(at_a, "before")
            await said(pair.b, of_somebody("before"))
        for number in range(3):
            await alice.send(at_a, f"meanwhile {number}")
        async with pair.b.bridge():
            await said(pair.b, of_somebody("meanwhile 2"), 30)
            bodies = [e.body for e in pair.b.homeserver.messages(at_b) if e.sender.startswith("@_bk_mimi_")]
    assert bodies == ["before", "meanwhile 0", "meanwhile 1", "meanwhile 2"]


async def test_the_label_of_a_room_is_the_meet_of_matrix_and_mimi(pair: Pair):
    """Clients that are hosted here have their keys here: sealed up to the bridge, and no further."""

    async def labelled(protection: str) -> dict[str, Any]:
        label = await said(
            pair.a,
            lambda e: e.type == LABEL and e.content["protection"] == protection and bool(e.content["links"]),
        )
        return dict(label.content)

    async with pair.a.bridge():
        alice, room = await linked_only(pair.a, ROOM)
        link = {"network": "mimi", "chat": ROOM, "protection": "bridge"}
        clear = await labelled("transport")
        assert (clear["matrix"], clear["links"]) == ("transport", [{**link, "agreed": False}])
        await alice.set_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
        sealed = await labelled("bridge")
        assert (sealed["matrix"], sealed["links"]) == ("bridge", [link]), (
            "nothing is lost, so nobody has to agree"
        )
