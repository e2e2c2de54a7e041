"""Files from strangers' addresses: fetched within limits, and never from our own network."""

import socket
from collections.abc import Callable

import pytest

from bridgekit.contract.addresses import is_public
from bridgekit.matrix import fetch
from bridgekit.matrix.fetch import FetchRefused, fetch_remote
from tests.matrix.homeservers import answer, one_room, read_request, scripted

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 200_000


def serving(*answers: bytes):
    left = list(answers)
    seen: list[bytes] = []

    async def talk(reader, writer):
        seen.append(await read_request(reader))
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return talk, seen


async def whole(
    url: str, limit: int = 1_000_000, *, allow_private: bool = True
) -> tuple[str, str, int | None, bytes]:
    async with fetch_remote(url, limit, allow_private=allow_private) as file:
        return file.mime, file.name, file.size, b"".join([piece async for piece in file.chunks()])


async def test_a_file_comes_with_its_true_type_and_its_name():
    talk, seen = serving(answer(PNG, "200 OK", "Content-Type: text/html"))
    async with scripted(talk) as url:
        assert await whole(f"{url}/dir/k%C3%A4tzchen.png?x=1") == ("image/png", "kätzchen.png", len(PNG), PNG)
    assert b"accept-encoding: identity" in seen[0].lower()
    assert b"cookie" not in seen[0].lower()


async def test_a_file_streams_from_its_address_into_matrix():
    talk, _ = serving(answer(PNG))
    async with scripted(talk) as url, one_room() as (_, client, _room):
        async with fetch_remote(url + "/a.png", 1_000_000, allow_private=True) as file:
            mxc = await client.upload(file.chunks(), file.mime, file.name, size=file.size)
        async with client.download(mxc) as stored:
            assert b"".join([piece async for piece in stored.chunks()]) == PNG


async def test_the_name_that_the_server_gives_counts_and_harms_nobody():
    talk, _ = serving(
        answer(b"x", "200 OK", 'Content-Disposition: attachment; filename="../../etc/pass\\wd"')
    )
    async with scripted(talk) as url:
        _, name, _, _ = await whole(f"{url}/a")
        assert "/" not in name
        assert "\\" not in name


@pytest.mark.parametrize("said", [True, False])
async def test_a_file_past_the_limit_is_refused_whether_or_not_it_says_its_size(said):
    raw = answer(PNG) if said else b"HTTP/1.0 200 OK\r\n\r\n" + PNG
    talk, _ = serving(raw)
    async with scripted(talk) as url:
        with pytest.raises(FetchRefused, match="larger than"):
            await whole(url, 100_000)
        assert (await whole(url, len(PNG)))[3] == PNG


async def test_redirects_are_followed_five_times():
    hop = [answer(b"", "302 Found", f"Location: /hop{n}") for n in range(5)]
    talk, seen = serving(*hop, answer(b"there"))
    async with scripted(talk) as url:
        assert (await whole(url))[3] == b"there"
        assert len(seen) == 6
    talk, _ = serving(answer(b"", "302 Found", "Location: /again"))
    async with scripted(talk) as url:
        with pytest.raises(FetchRefused, match="circles"):
            await whole(url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://x/y",
        "gopher://x",
        "javascript:1",
        "//x/y",
        "",
        "http://",
        "http://user:pw@198.51.100.1/",
        "http://[::1",
        "http://x:99999/",
    ],
)
async def test_addresses_that_are_no_web_addresses_are_refused(url):
    with pytest.raises(FetchRefused):
        await whole(url, allow_private=False)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "localhost",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a00:1]",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
async def test_our_own_network_is_not_fetched_from_under_any_name(host):
    connected = False

    async def talk(reader, writer):
        nonlocal connected
        connected = True

    async with scripted(talk) as url:
        port = url.rpartition(":")[2]
        with pytest.raises(FetchRefused, match="private network"):
            await whole(f"http://{host}:{port}/", allow_private=False)
    assert not connected


async def test_a_redirect_into_our_own_network_is_not_followed(monkeypatch):
    talk, seen = serving(answer(b"", "302 Found", "Location: http://127.0.0.2:1/"))
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    async with scripted(talk) as url:
        with pytest.raises(FetchRefused, match="private network"):
            await whole(url, allow_private=False)
    assert len(seen) == 1


async def test_a_name_that_resolves_to_something_else_a_moment_later_gains_nothing(monkeypatch):
    """DNS rebinding: what the resolver found was public, what is connected to is not."""
    monkeypatch.setattr(fetch, "is_public", _true_for_each_resolved_address())
    with pytest.raises(FetchRefused, match="private network"):
        await whole("http://localhost:1/", allow_private=False)


def _true_for_each_resolved_address() -> Callable[[str], bool]:
    answers = iter([True] * len(socket.getaddrinfo("localhost", 1, socket.AF_UNSPEC, socket.SOCK_STREAM)))
    return lambda address: next(answers, False)


async def test_what_is_packed_unasked_is_refused():
    talk, _ = serving(answer(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"))
    async with scripted(talk) as url:
        with pytest.raises(FetchRefused, match="packs"):
            await whole(url)


async def test_errors_of_the_server_and_the_line_are_sentences():
    talk, _ = serving(answer(b"no", "404 Not Found"))
    async with scripted(talk) as url:
        with pytest.raises(FetchRefused, match="404"):
            await whole(url)
    with pytest.raises(FetchRefused, match=r"could not be fetched \(.*\)\.$"):
        await whole(url)  # nothing listens any more
    talk, _ = serving(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
    async with scripted(talk) as url:
        with pytest.raises(FetchRefused):
            await whole(url)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["", "x", "fe80::1%eth0", "255.255.255.255", "::8.8.8.8", "ff02::1", "2001:db8::1", "192.0.2.1"],
)
def test_all_others_are_not(address):
    assert not is_public(address)
