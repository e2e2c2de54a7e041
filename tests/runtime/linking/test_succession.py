"""The bot under another name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from structlog.testing import capture_logs

from bridgekit.contract.ids import ChatId, NetworkId, PortalKey
from bridgekit.runtime.linking.succession import bot_before
from bridgekit.testing.homeserver import Fail
from tests.runtime.fake_network import Town, says
from tests.runtime.running import BOT, SERVER, World, by, ghost, linked, membership, said, town_world, until

NEW = f"@postman:{SERVER}"


def rename(place: World) -> None:
    """The config and the homeserver's registration give the bot another name."""
    place.more["bot"] = "postman"
    msgspec.structs.force_setattr(place.homeserver.registrations[0], "sender_localpart", "postman")


async def test_the_new_bot_follows_into_a_public_room_and_somebody_is_told_that_it_lacks_power(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
        rename(place)
        with capture_logs() as logs:
            async with place.bridge() as bridge:
                await said(place, membership(NEW, "join"))
                told = await said(place, by(NEW, "Please ask me into these rooms"))
                assert f"was {BOT} and is {NEW} now" in told.body
                assert room in told.body
                async with asyncio.timeout(60):
                    while await bot_before(bridge.store, bridge.bot) is not None:  # noqa: ASYNC110 - the store tells nobody
                        await asyncio.sleep(0.02)
                await alice.send(room, "hello")
                await town.until(lambda: town.said() == ["<alice> hello"])
                await alice.send(room, "!bridge status")
                await said(place, by(NEW, "#talk on Town: open"))
        assert [(e["before"], e["now"]) for e in logs if e["event"] == "bot_changed"] == [(BOT, NEW)]
        with capture_logs() as logs:
            async with place.bridge():
                await until(lambda: any(entry["event"] == "homeserver_reaches_us" for entry in logs))
        assert not [entry for entry in logs if entry["event"] == "bot_changed"]


async def test_a_ghost_asks_the_new_bot_in_and_passes_on_the_power_that_it_has_itself(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            town.emit(says("Bob", "hello"))
            await said(place, by(ghost("bob"), "hello"))
            await alice.set_power(room, ghost("bob"), 100)
            await alice.set_state(room, "m.room.join_rules", {"join_rule": "invite"})
        rename(place)
        async with place.bridge():
            await said(place, membership(NEW, "join"))
            levels = await said(
                place, lambda e: e.type == "m.room.power_levels" and e.content["users"].get(NEW) == 100
            )
            assert levels.sender == ghost("bob")
            await alice.send(room, "!bridge status")
            await said(place, by(NEW, "#talk on Town: open"))
        assert not [e for e in place.homeserver.messages(room) if "Please ask me into" in e.body]


async def test_power_levels_that_are_strings_are_passed_on_as_old_rooms_mean_them(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            town.emit(says("Bob", "hello"))
            await said(place, by(ghost("bob"), "hello"))
            users = {alice.id: 100, BOT: 100, ghost("bob"): "100"}
            await alice.set_state(room, "m.room.power_levels", {"users": users, "state_default": "50"})
        rename(place)
        async with place.bridge():
            levels = await said(
                place, lambda e: e.type == "m.room.power_levels" and e.content["users"].get(NEW) == 100, 20
            )
            assert levels.sender == ghost("bob")


async def test_a_homeserver_that_is_away_at_the_wrong_moment_keeps_nothing_else_from_starting(
    tmp_path: Path,
) -> None:
    """What the config links stands all the same; the rooms are taken over at the next start."""
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, _ = await linked(place)
        other = await alice.create_room(preset="public_chat")
        place.networks["town"]["links"] = [{"chat": "#other", "room": other}]
        rename(place)
        # It is asked whose token that is at the start, and then who the bot is.
        place.homeserver.faults.add("GET */account/whoami", Fail(status=502), user=None)
        async with place.bridge() as bridge:
            await until(lambda: PortalKey(NetworkId("town"), ChatId("#other")) in bridge.registry.links, 20)
            assert await bot_before(bridge.store, bridge.bot) == BOT


async def test_where_the_homeserver_knows_only_the_old_bot_nothing_is_taken_over_yet(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            _, room = await linked(place)
        place.more["bot"] = "postman"
        with capture_logs() as logs:
            async with place.bridge():
                await until(lambda: any(e["event"] in ("homeserver_check", "bot_refused") for e in logs))
        rename(place)
        async with place.bridge():
            await said(place, lambda e: membership(NEW, "join")(e) and e.room_id == room)
