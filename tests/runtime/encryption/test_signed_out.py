"""What a device said that is signed out before it is read: believed or not by the keys that came along (MSC4147)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.matrix.crypto.machine import Machine
from tests.runtime.fake_network import Town
from tests.runtime.running import BOT, has_fate, said, town_world, until
from tests.runtime.secret_client import PICKLE_KEY, SecretClient
from tests.runtime.secret_rooms import linked, running


async def test_what_a_verified_device_said_before_it_was_signed_out_is_passed_on(tmp_path: Path) -> None:
    """She writes while the bridge is away, and signs out: nobody lists her device any more."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            alice, room = await linked(place)
            alice.rotate(room)
            alice.share(room)
            await place.homeserver.settled()
        event = await alice.say(room, "and good-bye", shared=False)
        alice.sign_out()
        async with running(place):
            fate = await said(place, has_fate(event))
            assert (fate.content["status"], town.said()) == ("SUCCESS", ["<alice> and good-bye"])


@pytest.mark.parametrize("had_one", [True, False], ids=["another identity since", "no identity ever"])
async def test_a_signature_that_is_not_of_their_identity_of_today_does_not_count(
    tmp_path: Path, had_one: bool
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with running(place):
            alice, room = await linked(place)
            carol = SecretClient(place.homeserver, place.homeserver.user("carol"), verified=had_one)
            await carol.human.join(room)
            carol.share(room, carol.devices_of(BOT))
            await place.homeserver.settled()
        event = await carol.say(room, "and good-bye", shared=False)
        carol.sign_out()
        if had_one:
            stranger = Machine(Machine.new(carol.id, PICKLE_KEY), [], PICKLE_KEY)
            place.homeserver.keys.upload_identity(carol.id, stranger.identity())
        async with running(place) as bridge:
            fate = await said(place, has_fate(event))
            assert (fate.content["status"], town.said()) == ("FAIL_PERMANENT", [])
            assert bridge.engine.tally.unread == {"untrusted": 1, "unreadable": 0}
            await until(lambda: any("is signed out by now" in words for words in alice.words(room, BOT)))
