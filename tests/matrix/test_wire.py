"""The connection pool: framing, reuse, loss, and what may be asked again."""

import asyncio

import pytest

from bridgekit.matrix.wire import AnswerLost, NotSent, Pool
from tests.matrix.homeservers import answer, read_request, scripted


async def get(
    pool: Pool, target: str = "/x", seconds: float = 60.0, method: str = "GET", body: bytes | None = None
):
    request = pool.request(method, target, b"Authorization: Bearer t\r\n", body)
    return await pool.exchange(request, seconds=seconds)


async def test_a_request_is_one_whole_http_message():
    seen: list[bytes] = []

    async def talk(reader, writer):
        seen.append(await read_request(reader))
        writer.write(answer(b'{"a":1}'))

    async with scripted(talk) as url:
        pool = Pool(url + "/prefix/")
        got = await get(pool, "/y?z=1", method="PUT", body=b'{"b":2}')
        pool.close()
    assert (got.status, got.body) == (200, b'{"a":1}')
    host = url.removeprefix("http://")
    assert seen == [
        f"PUT /prefix/y?z=1 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer t\r\n"
        f"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n".encode()
        + b'{"b":2}'
    ]


async def test_a_connection_is_kept_and_used_again():
    connections = 0

    async def talk(reader, writer):
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(answer(b"1"))

    async with scripted(talk) as url:
        pool = Pool(url)
        assert [(await get(pool)).body for _ in range(5)] == [b"1"] * 5
        pool.close()
    assert connections == 1


async def test_connection_close_is_obeyed():
    connections = 0

    async def talk(reader, writer):
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(answer(b"1", "200 OK", "Connection: close"))
        await asyncio.sleep(5)  # it leaves the closing to us

    async with scripted(talk) as url:
        pool = Pool(url)
        assert [(await get(pool)).body for _ in range(3)] == [b"1"] * 3
    assert connections == 3


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!", b"!"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!", b"!"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", b"until the end"),
    ],
)
@pytest.mark.parametrize("piecewise", [False, True])
async def test_every_way_of_framing_an_answer_is_understood(raw, body, piecewise):
    """RFC 9112 6.3, "Message Body Length"."""

    async def talk(reader, writer):
        await read_request(reader)
        for piece in [raw[i : i + 1] for i in range(len(raw))] if piecewise else [raw]:
            writer.write(piece)
            await writer.drain()
            if piecewise:
                await asyncio.sleep(0)

    async with scripted(talk) as url:
        assert (await get(Pool(url))).body == body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_half_an_answer_and_none_at_all_are_lost_answers(raw):
    async def talk(reader, writer):
        await read_request(reader)
        writer.write(raw)
        await writer.drain()

    async with scripted(talk) as url:
        with pytest.raises(AnswerLost):
            await get(Pool(url), method="PUT", body=b"{}")


async def test_a_slow_answer_is_lost_and_its_connection_is_never_used_again():
    async def talk(reader, writer):
        await read_request(reader)
        await asyncio.sleep(0.1)
        writer.write(answer(b"late"))
        await read_request(reader)
        writer.write(answer(b"second on the first connection"))

    async with scripted(talk) as url:
        pool = Pool(url)
        with pytest.raises(AnswerLost, match="no answer in time"):
            await get(pool, seconds=0.02)
        assert (await get(pool)).body == b"late"  # of its own, new connection


async def test_each_request_on_a_connection_has_its_own_time():
    """A connection has one timer: it neither ends a later request too early, nor a hurried one too late."""

    async def talk(reader, writer):
        for pause in (0.0, 0.3):
            await read_request(reader)
            await asyncio.sleep(pause)
            writer.write(answer(b"1"))
        await read_request(reader)
        await asyncio.sleep(60)

    async with scripted(talk) as url:
        pool = Pool(url)
        assert (await get(pool, seconds=0.2)).body == b"1"
        assert (await get(pool, seconds=60)).body == b"1"  # while the first one's time runs out
        with pytest.raises(AnswerLost, match="no answer in time"):
            await get(pool, seconds=0.1, method="PUT")
        pool.close()


async def test_a_cancelled_request_gives_up_its_connection_and_its_slot():
    async def talk(reader, writer):
        while b"/slow" not in await read_request(reader):
            writer.write(answer(b"1"))
        await asyncio.sleep(5)

    async with scripted(talk) as url:
        pool = Pool(url, limit=1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await get(pool, "/slow")
        assert (await get(pool)).body == b"1"


async def test_nothing_listening_means_not_sent():
    async with scripted(lambda reader, writer: asyncio.sleep(0)) as url:
        pass
    with pytest.raises(NotSent):
        await get(Pool(url))


async def test_a_get_on_a_connection_that_went_stale_is_asked_again_and_a_put_is_not():
    """RFC 9112 9.3.1: a client may repeat by itself only what is safe, when an idle connection turns out dead."""
    requests = 0

    async def talk(reader, writer):
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(answer(b"first"))
        await read_request(reader)  # and hangs up without a word
        requests += 1

    async with scripted(talk) as url:
        pool = Pool(url)
        await get(pool)
        assert (await get(pool)).body == b"first"
        assert requests == 3
        with pytest.raises(AnswerLost):
            await get(pool, method="PUT", body=b"{}")
        assert requests == 4


async def test_no_more_connections_are_opened_than_allowed():
    open_now = most = 0

    async def talk(reader, writer):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            while True:
                await read_request(reader)
                await asyncio.sleep(0.01)
                writer.write(answer(b"1"))
        finally:
            open_now -= 1

    async with scripted(talk) as url:
        pool = Pool(url, limit=3)
        assert len(await asyncio.gather(*(get(pool) for _ in range(20)))) == 20
        pool.close()
    assert most == 3


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/a\nb"])
async def test_a_target_that_is_not_quoted_never_reaches_the_wire(target):
    with pytest.raises(ValueError):
        await get(Pool("http://127.0.0.1:1"), target)


@pytest.mark.parametrize("url", ["", "localhost", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError):
        Pool(url)
