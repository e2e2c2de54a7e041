"""What is left of a network that was taken out of the config, and how it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from bridgekit.contract.connector import LoginField
from bridgekit.contract.ids import ChatId
from bridgekit.testing.homeserver import Human
from connectors.echo.connector import EchoConfig
from connectors.echo.connector import connector as echo
from tests.runtime.fake_network import Town, says
from tests.runtime.running import (
    BOT,
    World,
    by,
    ghost,
    linked,
    membership,
    said,
    town_world,
    townsfolk,
    until,
)

SECRET = LoginField(name="password", title="password", password=True)


@asynccontextmanager
async def without_the_town(folder: Path) -> AsyncIterator[tuple[World, Human, str]]:
    """A room that is linked to two chats in town, where Alice has an account; the town is not in the config now."""
    town = Town()
    town.fields = (SECRET,)
    async with town_world(folder, town) as place:
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.send(room, "!bridge link town #Other")
            await said(place, by(BOT, "now linked to #other"))
            town.emit(says("Bob", "hello"))
            await said(place, by(ghost("bob"), "hello"))
            await alice.send(room, "!bridge login town password=sesame")
            await until(lambda: bridge.registry.logins)
            await bridge.store.commit(bridge.store.kv.put("town", "memory", b"what the connector keeps"))
        place.networks = {"echo": {"connector": "echo", "config": EchoConfig()}}
        place.connectors = {**place.connectors, "echo": echo}
        yield place, alice, room


async def test_what_is_left_is_said_at_the_start_and_when_somebody_asks(tmp_path: Path) -> None:
    async with without_the_town(tmp_path) as (place, alice, room):
        with capture_logs() as logs:
            async with place.bridge():
                await alice.send(room, "!bridge status")
                status = (await said(place, by(BOT, "Your account on town"))).body
                assert "#other on town: this network is not in the bridge's configuration any more." in status
                assert "`!bridge unlink town #talk` takes the link away." in status
                assert "`!bridge logout town` takes the account away." in status
                await alice.send(room, "!bridge networks")
                await said(place, by(BOT, "2 links and 1 account of it remain. `!bridge forget town`"))
                await alice.send(room, "anybody?")
                await said(place, by(BOT, "town is not configured any more."))
        (entry,) = [entry for entry in logs if entry["event"] == "network_not_configured"]
        assert (entry["network"], entry["links"], entry["accounts"]) == ("town", 2, 1)


async def test_links_and_accounts_go_one_by_one(tmp_path: Path) -> None:
    async with without_the_town(tmp_path) as (place, alice, room), place.bridge() as bridge:
        await alice.send(room, "!bridge unlink town #OTHER")
        await said(place, by(BOT, "no longer linked to #other on town"))
        assert [link.name for link in bridge.registry.links_of(ChatId(room))] == ["#talk"]
        await alice.send(room, "!bridge logout town")
        await said(place, by(BOT, "was taken away from the bridge, with its password"))
        assert bridge.registry.logins == {}
        await alice.send(room, "!bridge link echo #talk")
        await said(place, by(BOT, "now linked to #talk on echo"))


async def test_an_admin_takes_everything_away(tmp_path: Path) -> None:
    async with without_the_town(tmp_path) as (place, alice, room), place.bridge() as bridge:
        zoe = place.homeserver.user("zoe")
        await zoe.join(room)
        await zoe.send(room, "!bridge forget town")
        await said(place, by(BOT, "Only an admin"))
        await alice.send(room, "!bridge forget echo")
        await said(place, by(BOT, "something is left of town"))
        await alice.send(room, "!bridge forget town")
        await said(place, by(BOT, "Nothing is left of town: 2 links and 1 account were taken away."))
        assert bridge.registry.links == {}
        assert bridge.registry.logins == {}
        assert await bridge.store.kv.items("town") == {}
        await said(place, membership(ghost("bob"), "leave"))
        await alice.send(room, "!bridge forget town")
        await said(place, by(BOT, "Nothing is left of any network that is not configured."))
        on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        assert b"sesame" not in on_disk


async def test_a_network_that_comes_back_finds_its_links(tmp_path: Path) -> None:
    async with without_the_town(tmp_path) as (place, alice, room):
        town = Town()
        async with place.bridge():
            await alice.send(room, "lost")
            await said(place, by(BOT, "town is not configured any more."))
        townsfolk(place, town)
        async with place.bridge():
            await alice.send(room, "back")
            await town.until(lambda: town.said("#other") == ["back"])
