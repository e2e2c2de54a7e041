"""matrix-nio and the bridge in encrypted rooms of a real Synapse: every message is read, on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.testing.servers.synapse import Synapse
from tests.runtime.fake_network import says
from tests.scenarios.encryption.home import home
from tests.scenarios.encryption.nio_client import nio_client


@pytest.mark.timeout(180)
async def test_what_is_said_in_an_encrypted_room_crosses_both_ways(synapse: Synapse, tmp_path: Path) -> None:
    place = await home(synapse, tmp_path, "alice")
    async with place.bridge(), nio_client(synapse, place.accounts["alice"], tmp_path / "nio") as alice:
        room = await place.linked(alice)
        await alice.say(room, "hello, town")
        await place.town.until(lambda: "hello, town" in "".join(place.town.said()))
        place.town.emit(says("Bob", "hello, Alice"))
        await alice.until(lambda: alice.said_by(room, place.ghost("bob")))
        assert alice.said_by(room, place.ghost("bob")) == ["hello, Alice"]
        assert alice.unread == []
        assert all(event.decrypted for event in alice.events if event.sender == place.ghost("bob"))
