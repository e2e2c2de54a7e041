"""What was said before a chat was linked comes into its room only where its network shows it to every newcomer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import FetchHistory
from tests.runtime.fake_network import TALK, Town, says
from tests.runtime.running import BOT, by, ghost, invited, linked, said, town_world

THEN = 1_700_000_000_000


def shown(exposure: Exposure, *, known: bool = True) -> Visibility:
    return Visibility(exposure=exposure, entry=Entry.OPEN, listed=True, known=known)


async def test_a_public_past_is_brought_with_the_time_at_which_it_was_said(tmp_path: Path) -> None:
    town = Town()
    town.visible[TALK] = shown(Exposure.SHARED)
    town.history = [
        says("Bob", "one", id="a", replayed=True, at=THEN),
        says("Bob", "two", id="b", replayed=True, at=THEN + 1),
    ]
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        await said(place, by(ghost("bob"), "two"))
        assert [f.limit for f in town.done(FetchHistory)] == [25]
        heard = [e for e in place.homeserver.messages(room) if e.sender == ghost("bob")]
        assert [(e.body, e.origin_server_ts) for e in heard] == [("one", THEN), ("two", THEN + 1)]


@pytest.mark.parametrize(
    "visibility",
    [shown(Exposure.JOINED), shown(Exposure.PRESENT), shown(Exposure.SHARED, known=False), None],
    ids=["joined", "present", "not known", "nothing said"],
)
async def test_a_past_that_newcomers_do_not_see_stays_where_it_is(
    tmp_path: Path, visibility: Visibility | None
) -> None:
    town = Town()
    town.visibility = visibility
    town.history = [says("Bob", "before your time", id="a", replayed=True, at=THEN)]
    async with town_world(tmp_path, town) as place, place.bridge():
        _, room = await linked(place)
        town.emit(says("Bob", "hello", id="b"))
        await said(place, by(ghost("bob"), "hello"))
        await asyncio.sleep(0.1)
        assert town.done(FetchHistory) == []
        assert not any("before" in e.body for e in place.homeserver.messages(room))


async def test_a_past_comes_also_where_the_link_can_open_only_later(tmp_path: Path) -> None:
    """The room is open to the world, and the bridge may not change that."""
    town = Town()
    town.visible[TALK] = shown(Exposure.SHARED)
    town.history = [says("Bob", "before", id="a", replayed=True, at=THEN)]
    async with town_world(tmp_path, town) as place, place.bridge():
        alice = place.homeserver.user("alice")
        room = await invited(place, alice, power=0)
        await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "world_readable"})
        await alice.send(room, "!bridge link town #talk")
        await said(place, by(BOT, "⚠"))
        assert town.done(FetchHistory) == []
        await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "shared"})
        heard = await said(place, by(ghost("bob"), "before"))
        assert heard.origin_server_ts == THEN
        town.emit(says("Bob", "now", id="b"))
        await said(place, by(ghost("bob"), "now"))
        assert [e.body for e in place.homeserver.messages(room) if e.sender == ghost("bob")] == [
            "before",
            "now",
        ]
        assert len(town.done(FetchHistory)) == 1
