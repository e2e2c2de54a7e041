"""Files and long texts for the public, and their way to and from the homeserver."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridgekit.contract.errors import HomeserverUnavailable, MatrixRefused
from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.crypto.attachments import Sealing
from bridgekit.matrix.fetch import FetchRefused
from bridgekit.matrix.gate import DOUBTS
from bridgekit.matrix.links import Links
from bridgekit.matrix.media import PublicMedia
from bridgekit.testing.homeserver import Drop, FakeHomeserver
from tests.matrix.homeservers import GHOST, answer, client_of, one_room, read_request, scripted

KEY = b"k" * 32
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000


async def bytes_of(client: MatrixClient, mxc: str) -> tuple[str, bytes]:
    async with client.download(mxc) as file:
        return file.mime, b"".join([piece async for piece in file.chunks()])


async def slowly(data: bytes, step: int = 50_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        await asyncio.sleep(0)
        yield data[at : at + step]


@pytest.mark.parametrize("way", ["whole", "streamed with its size", "streamed without"])
async def test_a_file_goes_up_and_comes_down_unharmed(way):
    async with one_room() as (_, client, _room):
        stream = PNG if way == "whole" else slowly(PNG)
        size = len(PNG) if way == "streamed with its size" else None
        mxc = await client.upload(stream, "image/png", "kätzchen & co.png", size=size, user=GHOST)
        assert mxc.startswith("mxc://hs.test/")
        assert await bytes_of(client, mxc) == ("image/png", PNG)


async def test_an_upload_says_its_length_because_synapse_asks_for_it():
    seen: list[bytes] = []

    async def talk(reader, writer):
        seen.append(await read_request(reader))
        writer.write(answer(b'{"content_uri":"mxc://x/y"}'))

    async with scripted(talk) as url, client_of(url) as client:
        await client.upload(slowly(b"abc"), "x/y\r\nEvil: 1", "a\nb")
    head = seen[0].partition(b"\r\n\r\n")[0].lower()
    assert b"content-length: 3" in head
    assert b"content-type: application/octet-stream" in head
    assert b"chunked" not in head
    assert b"evil" not in head
    assert b"filename=a%0ab" in head


@pytest.mark.parametrize("size", [2, 4])
async def test_a_stream_that_is_not_as_long_as_it_was_said_to_be_is_no_upload(size):
    async with one_room() as (_, client, _room):
        for _ in range(DOUBTS):
            with pytest.raises(MatrixRefused, match="size"):
                await client.upload(slowly(b"abc", 1), "x/y", size=size)
        assert client.available  # it is not the homeserver's fault


async def test_a_stream_that_ends_in_an_error_ends_the_upload_with_that_error():
    async def refused() -> AsyncIterator[bytes]:
        yield b"abc"
        raise FetchRefused("The file is larger than 1 MiB and was not fetched.")

    async with one_room() as (_, client, _room):
        for size in (None, 100):
            with pytest.raises(FetchRefused):
                await client.upload(refused(), "x/y", size=size)


async def test_a_homeserver_without_authenticated_media_is_asked_the_old_way():
    paths: list[str] = []

    async def talk(reader, writer):
        while True:
            path = (await read_request(reader)).split()[1].decode()
            paths.append(path)
            if "/client/v1/" in path:
                writer.write(answer(b'{"errcode":"M_UNRECOGNIZED"}', "404 Not Found"))
            else:
                writer.write(answer(b"old", "200 OK", "Content-Type: text/plain"))

    async with scripted(talk) as url, client_of(url) as client:
        assert await bytes_of(client, "mxc://x/y") == ("text/plain", b"old")
        assert await bytes_of(client, "mxc://x/y") == ("text/plain", b"old")
    old = "/_matrix/media/v3/download/x/y"
    assert paths == ["/_matrix/client/v1/media/download/x/y", old, old]


async def test_a_download_that_breaks_off_is_an_error_and_not_a_short_file():
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    async with scripted(talk) as url, client_of(url) as client:
        with pytest.raises(HomeserverUnavailable):
            await bytes_of(client, "mxc://x/y")


async def test_a_missing_file_and_a_bad_address_are_refused():
    async with one_room() as (_, client, _room):
        for mxc in ("mxc://hs.test/nothing", "https://x/y"):
            with pytest.raises(MatrixRefused):
                await bytes_of(client, mxc)


# The public side


class Stage(SimpleNamespace):
    hs: FakeHomeserver
    client: MatrixClient
    room: str
    links: Links
    http: TestClient[web.Request, web.Application]
    clock: SimpleNamespace


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with one_room() as (hs, client, room):
        clock = SimpleNamespace(now=1_700_000_000.0)
        links = Links("https://b.example", KEY, 86400, now=lambda: clock.now)
        app = web.Application()
        app.add_routes(PublicMedia(links, client, limit=1_000_000).routes())
        async with TestClient(TestServer(app)) as http:
            yield Stage(hs=hs, client=client, room=room, links=links, http=http, clock=clock)


def path(link: str | None) -> str:
    assert link is not None
    return link.removeprefix("https://b.example")


async def test_a_signed_link_shows_the_file_and_lets_it_do_nothing(stage):
    mxc = await stage.client.upload(PNG, "image/png", user=GHOST)
    async with stage.http.get(path(stage.links.media(mxc, "kätzchen.png"))) as response:
        assert (response.status, await response.read()) == (200, PNG)
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Content-Length"] == str(len(PNG))
        assert response.headers["Content-Disposition"].startswith("inline; ")
        assert "filename*=UTF-8''k%C3%A4tzchen.png" in response.headers["Content-Disposition"]
        assert response.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "noindex" in response.headers["X-Robots-Tag"]
    async with stage.http.head(path(stage.links.media(mxc, "kätzchen.png"))) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == str(len(PNG))


@pytest.mark.parametrize(
    ("mime", "kind"),
    [
        ("text/html", "attachment"),
        ("image/svg+xml", "attachment"),
        ("application/pdf", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("video/mp4", "inline"),
        ("audio/ogg", "inline"),
        ("text/plain", "inline"),
    ],
)
async def test_only_what_no_browser_runs_is_shown_in_place(stage, mime, kind):
    mxc = await stage.client.upload(b"<script>", mime)
    async with stage.http.get(path(stage.links.media(mxc, "x"))) as response:
        assert response.headers["Content-Disposition"].startswith(f"{kind};")
        assert response.headers["Content-Type"].partition(";")[0] == mime


async def test_forged_links_are_404_and_expired_ones_410(stage):
    mxc = await stage.client.upload(PNG, "image/png")
    good = path(stage.links.media(mxc, "a.png"))
    text = path(stage.links.text(stage.room, "$e"))
    for link in (
        good.replace("a.png", "a.html"),
        good[:30] + "A" + good[31:],
        f"{text.replace('text', 'media')}/a.png",
        text[:-1],
    ):
        async with stage.http.get(link) as response:
            assert response.status == 404
    stage.clock.now += 86400 + 3600
    for link in (good, text):
        async with stage.http.get(link) as response:
            assert response.status == 410


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-70000", 100, 70_001),
        ("Bytes=65536-", 65_536, len(PNG)),
        ("bytes=-10", len(PNG) - 10, len(PNG)),
        (f"bytes=-{2 * len(PNG)}", 0, len(PNG)),
        (f"bytes=500000-{10 * len(PNG)}", 500_000, len(PNG)),
    ],
)
async def test_a_player_gets_the_part_it_asks_for(stage, asked, first, end):
    """RFC 9110 14.2, 15.3.7: some players play nothing without."""
    mxc = await stage.client.upload(PNG, "video/mp4")
    async with stage.http.get(path(stage.links.media(mxc, "a.mp4")), headers={"Range": asked}) as response:
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(PNG)}"
        assert response.headers["Content-Length"] == str(end - first)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert (response.status, await response.read()) == (206, PNG[first:end])


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=5-2"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=-"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=١-"},
        {"Range": "bytes=0-1", "If-Range": '"some tag"'},
    ],
)
async def test_what_is_no_single_range_gets_the_whole_file(stage, headers):
    """RFC 9110 14.2: an invalid Range is ignored, several may be; 13.1.5: no tag of ours is that one."""
    mxc = await stage.client.upload(PNG, "video/mp4")
    async with stage.http.get(path(stage.links.media(mxc, "a.mp4")), headers=headers) as response:
        assert (response.status, await response.read()) == (200, PNG)
        assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("asked", [f"bytes={len(PNG)}-", "bytes=-0"])
async def test_a_part_behind_the_end_is_416_and_says_where_the_end_is(stage, asked):
    """RFC 9110 15.5.17."""
    mxc = await stage.client.upload(PNG, "video/mp4")
    async with stage.http.get(path(stage.links.media(mxc, "a.mp4")), headers={"Range": asked}) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{len(PNG)}"


class Agreed:
    """Every room's people have agreed to links, and every event holds one file."""

    def __init__(self, file: dict[str, Any]) -> None:
        self._file = file

    def holds(self, room: ChatId, agreement: int) -> bool:
        return True

    async def content(self, room: ChatId, event_id: MessageId, since: int) -> dict[str, Any]:
        return {"file": self._file, "info": {"mimetype": "video/mp4"}}


@asynccontextmanager
async def sealed(stage: Stage, *, end: bytes = b"") -> AsyncIterator[tuple[TestClient[Any, Any], str]]:
    """A listener, and a link to PNG as an encrypted file, whose last bytes the media store changed to `end`."""
    sealing = Sealing()
    whole = b"".join([piece async for piece in sealing.through(slowly(PNG))])
    mxc = await stage.client.upload(whole[: len(whole) - len(end)] + end, "application/octet-stream")
    file = {**msgspec.json.decode(sealing.key()), "url": mxc}
    app = web.Application()
    app.add_routes(PublicMedia(stage.links, stage.client, sealed=Agreed(file)).routes())
    link = path(stage.links.sealed_media(ChatId(stage.room), MessageId("$e"), 1, "a.mp4"))
    async with TestClient(TestServer(app)) as http:
        yield http, link


@pytest.mark.parametrize(("asked", "first", "end"), [("0-1", 0, 2), ("70000-80000", 70_000, 80_001)])
async def test_a_part_of_an_encrypted_file_is_in_clear(stage, asked, first, end):
    async with (
        sealed(stage) as (http, link),
        http.get(link, headers={"Range": f"bytes={asked}"}) as response,
    ):
        assert (response.status, await response.read()) == (206, PNG[first:end])


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=70000-80000"}])
async def test_an_encrypted_file_that_was_changed_is_never_whole_and_no_part_of_it_either(stage, headers):
    """The hash is over all of it: nobody may take a part for whole before it is known."""
    async with sealed(stage, end=b"changed") as (http, link):
        with pytest.raises(aiohttp.ClientError):
            async with http.get(link, headers=headers) as response:
                await response.read()


async def test_a_file_past_the_limit_is_refused(stage):
    mxc = await stage.client.upload(b"x" * 1_000_001, "image/png")
    async with stage.http.get(path(stage.links.media(mxc, "a.png"))) as response:
        assert response.status == 413


async def test_a_file_that_is_gone_is_404_and_a_homeserver_that_is_gone_503(stage):
    link = path(stage.links.media("mxc://hs.test/nothing", "a.png"))
    async with stage.http.get(link) as response:
        assert response.status == 404
    await stage.hs.pause()
    async with stage.http.get(link) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_long_message_is_shown_as_plain_text_to_people_and_not_to_search_engines(stage):
    words = "<b>many</b> words é\n" * 500
    event = await stage.client.send(
        stage.room, "m.room.message", {"msgtype": "m.text", "body": words}, txn="t"
    )
    async with stage.http.get(path(stage.links.text(stage.room, event))) as response:
        assert (response.status, await response.text()) == (200, words)
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "noindex" in response.headers["X-Robots-Tag"]


async def edited(stage: Stage, original: MessageId) -> MessageId:
    content = {
        "body": "* new",
        "m.new_content": {"body": "new"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": original},
    }
    return await stage.client.send(ChatId(stage.room), "m.room.message", content, txn="t")


@pytest.mark.parametrize("taken", ["the edit", "the message"])
async def test_an_edit_shows_its_new_words_until_it_or_its_message_is_redacted(stage, taken):
    """Client-Server API, "Redactions": redacting a message does not touch its edits, and means them all the same."""
    original = await stage.client.send(stage.room, "m.room.message", {"body": "old"}, txn="o")
    event = await edited(stage, original)
    link = path(stage.links.text(stage.room, event))
    async with stage.http.get(link) as response:
        assert await response.text() == "new"
    await stage.client.redact(stage.room, event if taken == "the edit" else original, txn="r")
    async with stage.http.get(link) as response:
        assert response.status == 404


async def test_a_link_to_an_events_file_works_until_the_event_is_redacted(stage):
    mxc = await stage.client.upload(PNG, "image/png", user=GHOST)
    event = await stage.client.send(stage.room, "m.room.message", {"body": "a.png", "url": mxc}, txn="f")
    edit = await edited(stage, event)  # its words alone: the file is where it was
    links = [path(stage.links.file(stage.room, one, "a.png")) for one in (event, edit)]
    for link in links:
        async with stage.http.get(link) as response:
            assert (response.status, await response.read()) == (200, PNG)
    await stage.client.redact(stage.room, event, txn="r")
    for link in links:
        async with stage.http.get(link) as response:
            assert (response.status, await response.text()) == (404, "This file is no longer there.")


async def test_a_file_that_breaks_off_upstream_breaks_off_here(stage):
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nContent-Type: image/png\r\n\r\n" + b"x" * 5000
        )

    async with scripted(talk) as url, client_of(url) as client:
        app = web.Application()
        app.add_routes(PublicMedia(stage.links, client).routes())
        async with TestClient(TestServer(app)) as http:
            with pytest.raises(aiohttp.ClientError):
                async with http.get(path(stage.links.media("mxc://x/y", "a"))) as response:
                    await response.read()


async def test_an_upload_whose_answer_is_lost_raises_and_is_not_sure():
    async with one_room() as (hs, client, _):
        hs.fault("POST */upload", Drop(after_effect=True), times=1)
        with pytest.raises(HomeserverUnavailable) as caught:
            await client.upload(b"x", "text/plain")
        assert not caught.value.certain


async def test_readers_who_hang_up_are_no_sign_of_a_homeserver_in_trouble(stage):
    mxc = await stage.client.upload(b"x" * 900_000, "image/png")
    link = path(stage.links.media(mxc, "a.png"))
    host, port = stage.http.server.host, stage.http.server.port
    for _ in range(DOUBTS + 2):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET {link} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readexactly(100)
        writer.transport.abort()
        await asyncio.sleep(0.01)
    assert stage.client.available
    async with stage.http.get(link) as response:
        assert len(await response.read()) == 900_000
