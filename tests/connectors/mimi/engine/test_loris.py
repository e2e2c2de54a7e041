"""A peer that opens connections and dawdles (slow-loris) holds nothing for long, and not many of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from connectors.mimi.mls import installed
from connectors.mimi.service.peers import DIRECTORY_PATH
from connectors.mimi.service.punctual import Punctual
from connectors.mimi.testing.houses import Town, running
from tests.connectors.mimi.engine.ears import Ears

HEAD = f"GET {DIRECTORY_PATH} HTTP/1.1\r\nHost: a.example\r\nFrom: mimi@b.example\r\n".encode()
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def town(folder: Path, punctual: Punctual) -> AsyncIterator[Town]:
    made = Town(folder, installed(), "a.example", "b.example", local=lambda domain: Ears())
    async with AsyncExitStack() as stack:
        made["a.example"].punctual = punctual
        for house in made.houses.values():
            await stack.enter_async_context(running(house, made.engine))
        yield made


@asynccontextmanager
async def connected(made: Town) -> AsyncIterator[Stream]:
    """A connection of b's to a."""
    house = made["b.example"]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", made["a.example"].port, ssl=house.credentials.client(), server_hostname="a.example"
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the other end closed."""
    async with asyncio.timeout(60):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_headers_that_trickle_in_are_not_waited_for(tmp_path: Path):
    punctual = Punctual(within=1.0)
    async with town(tmp_path, punctual) as made, connected(made) as (reader, writer):

        async def trickle() -> None:
            for octet in HEAD + b"X-More: " + b"x" * 10_000:
                writer.write(bytes([octet]))
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await ended(reader) == b""
        trickling.cancel()
        assert punctual.waiting == 0
        assert await made["b.example"].peers.directory("a.example"), "others are served"


async def test_a_connection_on_which_nothing_is_said_is_closed(tmp_path: Path):
    async with town(tmp_path, Punctual(within=0.5)) as made, connected(made) as (reader, writer):
        writer.write(HEAD + b"\r\n")
        answer = await ended(reader)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1") == 1


async def test_one_peer_has_only_so_many_connections(tmp_path: Path):
    async with town(tmp_path, Punctual(at_once=3)) as made, AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(made)) for _ in range(4)]
        assert await ended(opened[3][0]) == b""
        for reader, writer in opened[:3]:
            writer.write(HEAD + b"\r\n")
            async with asyncio.timeout(60):
                assert b" 200 " in await reader.readline()
