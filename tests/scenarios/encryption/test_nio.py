"""matrix-nio and the bridge in encrypted rooms of a real Synapse: every message is read, on both sides."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.runtime.standins import WHY
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


@pytest.mark.timeout(400)
async def test_every_message_is_read_through_restarts_new_devices_and_many_ghosts(
    synapse: Synapse, tmp_path: Path
) -> None:
    """Nothing unread: 20 ghosts that speak at once, the bridge and the homeserver restarted, Alice on a new device."""
    place = await home(synapse, tmp_path, "alice")
    names = [f"p{n}" for n in range(20)]
    async with nio_client(synapse, place.accounts["alice"], tmp_path / "first") as alice:
        async with place.bridge():
            room = await place.linked(alice)
            for name in names:
                place.town.emit(says(name, f"{name} is here"))
            for name in names:
                await alice.until(partial(alice.said_by, room, place.ghost(name)), 90)
        await alice.say(room, "while you were out")
        async with place.bridge() as bridge:
            await place.town.until(lambda: "while you were out" in "".join(place.town.said()), 60)
            place.town.emit(says("p0", "back again"))
            await alice.until(lambda: "back again" in alice.said_by(room, place.ghost("p0")))
            await synapse.restart()
            place.town.emit(says("p1", "and the homeserver"))
            await alice.until(lambda: "and the homeserver" in alice.said_by(room, place.ghost("p1")), 90)
            await alice.say(room, "still here")
            await place.town.until(lambda: "still here" in "".join(place.town.said()), 60)
            second = nio_client(synapse, place.accounts["alice"], tmp_path / "second", other=alice)
            async with second as again:
                await place.knows(bridge, again)
                place.town.emit(says("p2", "to both of your devices"))
                for one in (alice, again):
                    await one.until(
                        lambda one=one: "to both of your devices" in one.said_by(room, place.ghost("p2"))  # type: ignore[misc]
                    )
                await again.say(room, "from the other one")
                await place.town.until(lambda: "from the other one" in "".join(place.town.said()), 60)
        assert alice.unread == []


@pytest.mark.timeout(240)
async def test_what_somebody_says_from_elsewhere_is_said_by_a_ghost_that_is_believed(
    synapse: Synapse, tmp_path: Path
) -> None:
    """Decision 0016: the bridge makes no device for Alice's own user, and leaves her identity alone."""
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
