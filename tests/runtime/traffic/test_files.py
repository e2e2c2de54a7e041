"""Files and their captions, in both directions."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridgekit.contract.filekeys import gcm
from bridgekit.contract.people import File
from bridgekit.contract.verbs import PostMessage
from bridgekit.testing.homeserver import RateLimit
from tests.runtime.fake_network import Town, TownConfig, TownConnector, says
from tests.runtime.running import (
    BOT,
    PNG,
    by,
    ghost,
    has_fate,
    linked,
    said,
    town_world,
    until,
    web_server,
)


async def test_a_picture_of_the_network_is_a_picture_in_the_room(tmp_path: Path) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, _), town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        file = File(uri=f"{url}/cat.png", name="cat.png", mime="application/x-lie")
        town.emit(says("Bob", "my cat", file=file))
        event = await said(place, by(ghost("bob"), "my cat"))
        assert event.content["msgtype"] == "m.image"
        assert event.content["filename"] == "cat.png"
        assert event.content["info"] == {"mimetype": "image/png", "size": len(PNG)}
        medium = place.homeserver.app.media.get("hs.test", event.content["url"].rpartition("/")[2])
        assert medium.content == PNG


async def test_a_file_that_its_network_keeps_encrypted_is_opened_on_the_way(tmp_path: Path) -> None:
    """The key comes with the file (`contract.filekeys`); one that was changed on its way is not shown."""
    town, secret, iv = Town(), bytes(range(32)), bytes(range(12))
    there = AESGCM(secret).encrypt(iv, PNG, None)
    changed = there[:-1] + bytes([there[-1] ^ 1])
    web = web_server(tmp_path, true=there, false=changed)
    async with web as (url, _), town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        town.emit(says("Bob", "mine", file=File(uri=f"{url}/true", name="cat.png", key=gcm(secret, iv))))
        event = await said(place, by(ghost("bob"), "mine"))
        assert event.content["info"]["mimetype"] == "image/png"
        medium = place.homeserver.app.media.get("hs.test", event.content["url"].rpartition("/")[2])
        assert medium.content == PNG
        town.emit(says("Bob", "not mine", file=File(uri=f"{url}/false", name="b.png", key=gcm(secret, iv))))
        event = await said(place, by(ghost("bob"), "not mine"))
        assert event.content["msgtype"] == "m.text"
        assert "was changed on its way" in event.body


async def test_a_file_that_cannot_be_had_is_linked_and_its_caption_is_kept(tmp_path: Path) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, _), town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        town.emit(says("Bob", "look", file=File(uri=f"{url}/missing.png", name="missing.png")))
        event = await said(place, by(ghost("bob"), "look"))
        assert event.content["msgtype"] == "m.text"
        assert event.body == (
            f"look\nmissing.png: {url}/missing.png (The file could not be fetched (its server says 404))"
        )


async def test_a_file_that_is_too_large_is_linked(tmp_path: Path) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, _), town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        town.emit(says("Bob", "", file=File(uri=f"{url}/large.bin", name="large.bin")))
        event = await said(place, by(ghost("bob"), "large.bin"))
        assert event.body.startswith(f"large.bin: {url}/large.bin (The file is larger than 50 MiB")


async def test_a_homeserver_that_asks_to_slow_down_gets_the_file_a_little_later_or_it_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = Town()
    async with web_server(tmp_path) as (url, asked), town_world(tmp_path, town) as place, place.bridge():
        await linked(place)
        place.homeserver.fault("POST */upload", RateLimit(retry_after_ms=100), times=2)
        town.emit(says("Bob", "my cat", file=File(uri=f"{url}/cat.png", name="cat.png")))
        event = await said(place, by(ghost("bob"), "my cat"))
        assert event.content["msgtype"] == "m.image"
        assert asked == ["/cat.png"] * 3  # a stream is read once
        monkeypatch.setattr("bridgekit.matrix.files.SECONDS", 0.5)
        place.homeserver.fault("POST */upload", RateLimit(retry_after_ms=60_000))
        town.emit(says("Bob", "another", file=File(uri=f"{url}/cat.png", name="cat.png")))
        event = await said(place, by(ghost("bob"), "another"))
        assert event.body.startswith(f"another\ncat.png: {url}/cat.png (")


async def test_a_file_inside_our_own_network_is_not_fetched(tmp_path: Path) -> None:
    from bridgekit.matrix.fetch import fetch_remote

    town = Town()
    async with web_server(tmp_path) as (url, asked), town_world(tmp_path, town) as place:
        place.fetch = fetch_remote
        async with place.bridge():
            await linked(place)
            town.emit(says("Bob", "", file=File(uri=f"{url}/cat.png", name="cat.png")))
            event = await said(place, by(ghost("bob"), "cat.png"))
            assert "private network" in event.body
            assert asked == []


async def test_a_file_of_the_room_is_a_link_that_works_on_the_network(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more["public"] = {"url": f"http://127.0.0.1:{place.port}"}
        async with place.bridge():
            alice, room = await linked(place)
            await alice.send_file(room, PNG, name="cat.png", mimetype="image/png")
            await town.until(town.said)
            [words] = town.said()
            assert words.startswith("<alice> cat.png (108 bytes): http://127.0.0.1:")
            async with aiohttp.ClientSession() as session, session.get(words.rpartition(" ")[2]) as answer:
                assert (answer.status, await answer.read()) == (200, PNG)


async def test_a_caption_of_the_room_stands_before_the_link(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place:
        place.more["public"] = {"url": "https://bridge.example"}
        async with place.bridge():
            alice, room = await linked(place)
            url = await alice.upload(PNG, name="cat.png")
            content = {"msgtype": "m.image", "body": "my cat", "filename": "cat.png", "url": url}
            await alice.send(room, content)
            await town.until(town.said)
            [words] = town.said()
            assert words.startswith("<alice> my cat\ncat.png: https://bridge.example/_bridgekit/media/")


async def test_without_a_public_address_the_sender_of_a_file_reads_why_it_was_not_sent(
    tmp_path: Path,
) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        event = await alice.send_file(room, PNG, name="cat.png", mimetype="image/png")
        fate = await said(place, has_fate(event))
        assert fate.content["status"] == "FAIL_PERMANENT"
        await said(place, by(BOT, "no public address to link to: cat.png was not sent"))
        assert town.said() == []


async def test_a_network_that_takes_files_is_given_the_file_itself(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, files=True)
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        await alice.send_file(room, PNG, name="cat.png", mimetype="image/png")
        await town.until(lambda: [p for p in town.done(PostMessage) if p.content.file])
        [post] = [p for p in town.done(PostMessage) if p.content.file]
        assert post.content.file is not None
        network = place.connectors["town"].networks[-1]  # type: ignore[attr-defined]
        async with network.host.open_media(post.content.file) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == PNG


async def test_what_another_network_says_at_length_and_a_third_cannot_carry_is_no_fault_of_the_address(
    tmp_path: Path,
) -> None:
    """Its words have no event yet to which a link could lead; that the bridge had no address was not true."""
    town, village = Town(), Town()
    village.can = msgspec.structs.replace(village.can, max_lines=2, max_bytes=2000)
    async with town_world(tmp_path, town) as place:
        place.networks["village"] = {"connector": "village", "config": TownConfig(), "name": "Village"}
        place.connectors["village"] = TownConnector(village)
        place.more["public"] = {"url": "https://bridge.example"}
        async with place.bridge() as bridge:
            alice, room = await linked(place)
            await alice.send(room, "!bridge link village #talk")
            await until(lambda: len(bridge.parts.passage.passing) == 2)
            words = "\n".join(f"line {n}" for n in range(100))
            town.emit(says("Bob", words))
            await said(place, by(ghost("bob"), words))
            told = await said(place, by(BOT, "too long for Village"))
            assert "could not be shown everywhere: " in told.body
            assert "only what is said on Matrix is put under a link: send it in parts." in told.body
            assert village.said() == []
