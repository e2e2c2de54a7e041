"""Files and long messages of encrypted rooms: sealed on their way, and under a link only where that was agreed to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from nio.crypto.attachments import decrypt_attachment, encrypt_attachment

from bridgekit.contract.ids import ChatId, NetworkId
from bridgekit.contract.people import File
from bridgekit.core.protection import STATE_TYPE
from bridgekit.runtime.bridge import Bridge
from tests.runtime.fake_network import Town, TownNetwork, says
from tests.runtime.running import BOT, PNG, has_fate, said, town_world, until, web_server
from tests.runtime.secret_client import SecretClient
from tests.runtime.secret_rooms import BOB, Scene, linked, running, scene


async def test_a_file_of_the_network_is_sealed_and_only_its_key_holders_see_it(tmp_path: Path) -> None:
    async with web_server(tmp_path) as (url, _), scene(tmp_path) as now:
        file = File(uri=f"{url}/cat.png", name="cat.png")
        now.town.emit(says("Bob", "my cat", file=file))
        await until(lambda: now.alice.words(now.room, BOB) == ["my cat"])
        content = now.alice.read(now.sealed_by(BOB)[0])["content"]
        assert (content["msgtype"], content["info"]["mimetype"], "url" in content) == (
            "m.image",
            "image/png",
            False,
        )
        media = now.place.homeserver.app.media
        stored = media.get("hs.test", content["file"]["url"].rpartition("/")[2])
        key = content["file"]
        assert decrypt_attachment(stored.content, key["key"]["k"], key["hashes"]["sha256"], key["iv"]) == PNG
        assert (stored.content_type, stored.name) == ("application/octet-stream", None)


def picture_of(sealed: dict[str, Any], mxc: str) -> dict[str, Any]:
    info = {"mimetype": "image/png", "size": len(PNG)}
    return {"msgtype": "m.image", "body": "cat.png", "info": info, "file": {**sealed, "url": mxc}}


async def shows_a_picture(alice: SecretClient, room: str) -> str:
    """Alice's client encrypts and uploads a picture, and shows it in the room; its event."""
    sealed, key = encrypt_attachment(PNG)
    mxc = await alice.human.upload(sealed, mimetype="application/octet-stream")
    alice.share(room)
    return await alice.human.send(room, alice.sealed(room, picture_of(key, mxc)), "m.room.encrypted")


async def test_a_sealed_file_is_opened_for_the_network_that_takes_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        sealed, key = encrypt_attachment(b"a picture")
        mxc = await now.alice.human.upload(sealed, mimetype="application/octet-stream")
        file = File(uri=mxc, name="cat.png", key=msgspec.json.encode({**key, "url": mxc}))
        network = now.bridge._parts.networks[NetworkId("town")]
        assert isinstance(network, TownNetwork)
        async with network.host.open_media(file) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"a picture"


LONG = "\n".join(f"line {n}" for n in range(100))


@asynccontextmanager
async def with_links(folder: Path, *, agree: bool = True) -> AsyncIterator[Scene]:
    """A bridge with a public address, and a town that takes no files and no long messages."""
    town = Town()
    town.can = msgspec.structs.replace(town.can, max_lines=2, max_bytes=2000)
    async with town_world(folder, town) as place:
        place.more["public"] = {"url": "https://bridge.example"}
        async with running(place) as bridge:
            alice, room = await linked(place, agree=agree)
            yield Scene(place, town, bridge, alice, room)


async def agreed_to_files(now: Scene) -> None:
    def answers() -> int:
        return len([w for w in now.alice.words(now.room, BOT) if "may be put under addresses" in w])

    before = answers()
    await now.alice.say(now.room, "!bridge agree files")
    await until(lambda: answers() > before)


async def got(bridge: Bridge, link: str) -> tuple[int, bytes]:
    """What the public listener answers to who follows a link."""
    url = link.replace("https://bridge.example", f"http://{bridge.address}")
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.read()


def links_in(town: Town) -> list[str]:
    return [
        word for line in town.said() for word in line.split() if word.startswith("https://bridge.example/")
    ]


async def test_nothing_of_an_encrypted_room_is_put_under_a_link_before_somebody_agrees(
    tmp_path: Path,
) -> None:
    """Not even where the network may read it: an address can be read by whoever has it, for as long as it stands."""
    async with with_links(tmp_path) as now:
        for event in (await now.alice.say(now.room, LONG), await shows_a_picture(now.alice, now.room)):
            assert (await said(now.place, has_fate(event))).content["status"] == "FAIL_PERMANENT"
        await until(
            lambda: len([w for w in now.alice.words(now.room, BOT) if "`!bridge agree files`" in w]) == 2
        )
        await now.alice.say(now.room, "\n".join(f"line {n}" for n in range(4)))
        await now.town.until(now.town.said)
        assert now.town.said() == ["<alice> line 0\nline 1\nline 2\nline 3"]


async def test_what_was_agreed_to_is_linked_until_it_is_taken_back(tmp_path: Path) -> None:
    """Files and long messages are opened for each reader anew: no key is in a link, and nothing stays behind."""
    async with with_links(tmp_path) as now:
        await agreed_to_files(now)
        label = now.place.homeserver.state(now.room, STATE_TYPE)
        assert label is not None
        assert label["files"] == "linked"
        await now.alice.say(now.room, LONG)
        picture = await shows_a_picture(now.alice, now.room)
        await now.town.until(lambda: len(links_in(now.town)) == 2)
        text, file = links_in(now.town)
        assert await got(now.bridge, text) == (200, LONG.encode())
        assert await got(now.bridge, file) == (200, PNG)
        await now.alice.human.redact(now.room, picture)
        assert (await got(now.bridge, file))[0] == 404
        await now.alice.say(now.room, "!bridge disagree files")
        await until(lambda: any("open nothing any more" in w for w in now.alice.words(now.room, BOT)))
        assert (await got(now.bridge, text))[0] == 410
        event = await now.alice.say(now.room, LONG)
        assert (await said(now.place, has_fate(event))).content["status"] == "FAIL_PERMANENT"
        await agreed_to_files(now)
        assert (await got(now.bridge, text))[0] == 410, "an agreement of its own: what was closed stays so"
        first, ended, again = await now.bridge.store.agreements.all()
        assert (ended.scope, ended.person, ended.ended_by) == ("files", now.alice.id, now.alice.id)
        assert (first.ended, again.ended, bool(ended.ended)) == (0, 0, True)


async def test_an_agreement_to_links_outlives_a_restart_and_ends_with_the_last_link(tmp_path: Path) -> None:
    town = Town()
    town.can = msgspec.structs.replace(town.can, max_lines=2, max_bytes=2000)
    async with town_world(tmp_path, town) as place:
        place.more["public"] = {"url": "https://bridge.example"}
        async with running(place) as bridge:
            alice, room = await linked(place)
            await agreed_to_files(Scene(place, town, bridge, alice, room))
            await alice.say(room, LONG)
            await town.until(lambda: links_in(town))
        (link,) = links_in(town)
        async with running(place) as bridge:
            assert await got(bridge, link) == (200, LONG.encode())
            await alice.say(room, "!bridge unlink town #talk")
            await until(lambda: any("no longer linked" in words for words in alice.words(room, BOT)))
            assert (await got(bridge, link))[0] == 410


async def test_an_agreement_to_links_lets_no_words_out(tmp_path: Path) -> None:
    """Where nobody has agreed that the room's words go to the chat, they do not go there by an address either."""
    async with with_links(tmp_path, agree=False) as now:
        await agreed_to_files(now)
        for event in (await now.alice.say(now.room, LONG), await shows_a_picture(now.alice, now.room)):
            assert (await said(now.place, has_fate(event))).content["status"] == "FAIL_PERMANENT"
        assert now.town.said() == []


async def test_the_links_of_a_room_that_is_replaced_end(tmp_path: Path) -> None:
    async with with_links(tmp_path) as now:
        await agreed_to_files(now)
        await now.alice.say(now.room, LONG)
        await now.town.until(lambda: links_in(now.town))
        (link,) = links_in(now.town)
        assert (await got(now.bridge, link))[0] == 200
        new = await now.alice.human.upgrade(now.room, "11")
        await now.alice.human.invite(new, BOT)
        await until(lambda: now.bridge._parts.registry.links_of(ChatId(new)))
        async with asyncio.timeout(60):
            while (await got(now.bridge, link))[0] == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (await got(now.bridge, link))[0] == 410
        assert now.bridge._parts.protecting.laid_open(ChatId(new)) is None


async def test_who_may_not_change_the_room_cannot_agree_to_links(tmp_path: Path) -> None:
    async with with_links(tmp_path) as now:
        mallory = SecretClient(now.place.homeserver, now.place.homeserver.user("mallory"))
        await mallory.human.join(now.room)
        for word in ("agree", "disagree"):
            await mallory.say(now.room, f"!bridge {word} files")
        await until(
            lambda: len([w for w in now.alice.words(now.room, BOT) if "You need power level" in w]) == 2
        )
        assert now.bridge._parts.protecting.laid_open(ChatId(now.room)) is None
