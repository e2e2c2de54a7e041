"""The ident server of RFC 1413."""

import asyncio

import pytest

from bridgekit.testing.servers.process import free_port
from connectors.irc.ident import IdentServer, ident_of


async def ask(server: IdentServer, question: bytes, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(host, server.port)
    writer.write(question)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.fixture
async def server():
    async with IdentServer("127.0.0.1:0").held() as held:
        yield held


async def test_an_announced_socket_is_named(server):
    """RFC 1413: `<port-on-server>, <port-on-client> : USERID : <opsys> : <user-id>`."""
    server.announce(40001, 6667, "alice1a2b3")
    assert await ask(server, b"40001, 6667\r\n") == b"40001 , 6667 : USERID : UNIX : alice1a2b3\r\n"


@pytest.mark.parametrize("address", ["[::]", ""])
async def test_a_server_asks_from_the_family_that_we_came_by(address):
    async with IdentServer(f"{address}:{free_port()}").held() as server:
        server.announce(40001, 6667, "alice1a2b3")
        for host in ("127.0.0.1", "::1"):
            assert b"alice1a2b3" in await ask(server, b"40001, 6667\r\n", host)


async def test_an_unknown_socket_has_no_user(server):
    assert await ask(server, b"40001,6667\r\n") == b"40001 , 6667 : ERROR : NO-USER\r\n"


async def test_a_forgotten_socket_has_no_user(server):
    server.announce(40001, 6667, "alice")
    server.forget(40001, 6667)
    assert await ask(server, b"40001,6667\r\n") == b"40001 , 6667 : ERROR : NO-USER\r\n"


async def test_a_question_waits_for_a_socket_that_is_still_opening(server):
    """The IRC server asks before `connect` has returned to us."""
    with server.opening():
        question = asyncio.create_task(ask(server, b"40001,6667\r\n"))
        await asyncio.sleep(0.05)
        assert not question.done()
        server.announce(40001, 6667, "alice")
        assert b"USERID : UNIX : alice" in await question


async def test_a_question_does_not_wait_longer_than_the_opening(server):
    with server.opening():
        question = asyncio.create_task(ask(server, b"40001,6667\r\n"))
        await asyncio.sleep(0.05)
    assert b"NO-USER" in await question


@pytest.mark.parametrize("question", [b"x\r\n", b"0,1\r\n", b"70000,6667\r\n", b"1\r\n", b",\r\n"])
async def test_a_question_that_makes_no_sense_is_an_invalid_port(server, question):
    assert b"ERROR : INVALID-PORT" in await ask(server, question)


async def test_an_endless_question_is_dropped(server):
    assert await ask(server, b"9" * 5000) == b""


async def test_it_serves_as_long_as_anybody_holds_it():
    server = IdentServer("127.0.0.1:0")
    async with server.held():
        async with server.held():
            pass
        assert b"NO-USER" in await ask(server, b"1,1\r\n")


def test_each_user_has_an_ident_of_their_own():
    """Two localparts that look alike on IRC, on the same or on different servers."""
    names = {
        ident_of(user)
        for user in ("@alice:a.org", "@alice:b.org", "@Alice:a.org", "@al-ice:a.org", "@ålice:a")
    }
    assert len(names) == 5
    assert all(name.isascii() and name.isalnum() and len(name) <= 10 for name in names)
    assert ident_of("@alice:a.org").startswith("alice")
    assert ident_of("@---:a.org").startswith("m")
