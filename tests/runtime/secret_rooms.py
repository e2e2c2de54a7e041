"""An encrypted room that is linked to a town, and a client in it that reads and writes there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import Event
from tests.runtime.fake_network import Town, says
from tests.runtime.running import BOT, World, ghost, said, town_world, until
from tests.runtime.secret_client import ENCRYPTION, SecretClient

BOB = ghost("bob")


class Scene:
    """A bridge with a town, and Alice with a verified client in an encrypted room that is linked to #talk."""

    def __init__(self, place: World, town: Town, bridge: Bridge, alice: SecretClient, room: str) -> None:
        self.place = place
        self.town = town
        self.bridge = bridge
        self.alice = alice
        self.room = room

    async def bob_says(self, *words: str) -> list[str]:
        """Bob speaks in the town; all that Alice has read of him once the last of it is there."""
        for word in words:
            self.town.emit(says("Bob", word))
        await until(lambda: words[-1] in self.alice.words(self.room, BOB))
        return self.alice.words(self.room, BOB)

    def sealed_by(self, sender: str) -> list[Event]:
        timeline = self.place.homeserver.timeline(self.room)
        return [event for event in timeline if event.type == "m.room.encrypted" and event.sender == sender]


@asynccontextmanager
async def running(place: World) -> AsyncIterator[Bridge]:
    """A bridge whose device is known to the homeserver."""
    async with place.bridge() as bridge:
        await until(lambda: bridge.engine.machines.is_ready(bridge.bot))
        yield bridge


@asynccontextmanager
async def scene(folder: Path, *, trust: str = "cross_signed", **options: Any) -> AsyncIterator[Scene]:
    town = Town()
    async with town_world(folder, town) as place:
        place.more["encryption"] = {"trust": trust}
        async with running(place) as bridge:
            alice, room = await linked(place, **options)
            yield Scene(place, town, bridge, alice, room)


async def linked(place: World, *, agree: bool = True, **options: Any) -> tuple[SecretClient, str]:
    human = place.homeserver.user("alice")
    alice = SecretClient(place.homeserver, human)
    content = {**ENCRYPTION, **options}
    state = [{"type": "m.room.encryption", "state_key": "", "content": content}]
    room = await human.create_room(preset="public_chat", initial_state=state, invite=[BOT])
    await said(
        place, lambda e: e.room_id == room and e.state_key == BOT and e.content["membership"] == "join"
    )
    await human.set_power(room, BOT, 100)
    await alice.say(room, "!bridge link town #talk")
    await until(lambda: any("now linked" in words for words in alice.words(room, BOT)))
    if agree:
        await alice.say(room, "!bridge agree town #talk")
        await until(lambda: any("has agreed" in words for words in alice.words(room, BOT)))
    return alice, room
