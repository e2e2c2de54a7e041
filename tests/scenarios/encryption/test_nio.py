"""matrix-nio and the bridge in encrypted rooms of a real Synapse: every message is read, on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.runtime.encryption.standins import WHY
from bridgekit.testing.nio_client import nio_client
from bridgekit.testing.servers.synapse import Synapse
from tests.runtime.fake_network import person, says
from tests.runtime.running import until
from tests.scenarios.encryption.home import home


async def test_what_is_said_in_an_encrypted_room_crosses_both_ways(synapse: Synapse, tmp_path: Path) -> None:
    place = await home(synapse, tmp_path, "alice")
    async with place.bridge(), nio_client(synapse, place.accounts["alice"], tmp_path / "nio") as alice:
        room = await place.linked(alice)
        await alice.say(room, "hello, town")
        await place.town.until(lambda: "hello, town" in "".join(place.town.said()), 60)
        place.town.emit(says("Bob", "hello, Alice"))
        await alice.until(lambda: alice.said_by(room, place.ghost("bob")))
        assert alice.said_by(room, place.ghost("bob")) == ["hello, Alice"]
        assert alice.unread == []
        assert all(event.decrypted for event in alice.events if event.sender == place.ghost("bob"))


@pytest.mark.timeout(240)
async def test_what_somebody_says_from_elsewhere_is_said_by_a_ghost_that_is_believed(
    synapse: Synapse, tmp_path: Path
) -> None:
    """Decision 0016: unasked, the bridge makes no device for Alice's own user, and leaves her identity alone."""
    place = await home(synapse, tmp_path, "alice", double_puppets=True)
    async with (
        place.bridge() as bridge,
        nio_client(synapse, place.accounts["alice"], tmp_path / "nio") as alice,
    ):
        room = await place.linked(alice)

        async def known() -> list[Any]:
            """Her devices and identity as the homeserver shows them."""
            keys = await alice.call("POST", "/keys/query", {"device_keys": {alice.id: []}})
            devices = (await alice.call("GET", "/devices"))["devices"]
            return [keys, sorted(device["device_id"] for device in devices)]

        before = await known()
        login = await bridge.accounts.open(NetworkId("town"), PersonId(alice.id))
        await until(lambda: login in place.town.sessions, 60)
        me = person("phone")
        place.town.emit(says("alice", "from my phone", sender=me, own=login))
        await alice.until(lambda: alice.said_by(room, place.ghost("phone")) == ["from my phone"])
        (event,) = [event for event in alice.events if event.sender == place.ghost("phone")]
        assert event.decrypted
        assert await alice.is_vouched_for(event)
        assert await known() == before
        invited = await place.invited(alice)
        await alice.call("POST", f"/rooms/{invited}/join", {})
        await alice.until(lambda: alice.said_by(invited, place.bot))
        assert WHY in alice.said_by(invited, place.bot)
