"""What the tests of the Matrix shell share: a registration, a client with short waits, and servers that misbehave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.registration import Document, build
from bridgekit.testing.homeserver import FakeHomeserver

BOT = PersonId("@bk_bot:hs.test")
GHOST = PersonId("@_bk_anna:hs.test")
BACKOFF = (0.02, 0.1)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def registration(url: str | None = None) -> Document:
    """The registration that these tests install."""
    return build(
        id="bridgekit",
        url=url,
        as_token="as-secret",
        hs_token="hs-secret",
        sender_localpart="bk_bot",
        server_name="hs.test",
        protocols=("testnet",),
    )


def client_of(url: str) -> MatrixClient:
    """A client that waits a fiftieth of a second where it would wait a second."""
    return MatrixClient(url, "as-secret", bot=BOT, backoff=BACKOFF)


async def make_ghost(client: MatrixClient, room: ChatId, localpart: str = "_bk_anna") -> PersonId:
    """Register a ghost and have it join."""
    await client.register(localpart)
    ghost = PersonId(f"@{localpart}:hs.test")
    await client.join(room, user=ghost)
    return ghost


@contextlib.asynccontextmanager
async def one_room() -> AsyncIterator[tuple[FakeHomeserver, MatrixClient, ChatId]]:
    """A fake homeserver, a client of it, and a public room with the bot and a ghost."""
    async with FakeHomeserver(registration()) as hs, client_of(hs.url) as client:
        room = await client.create_room(preset="public_chat")
        await make_ghost(client, room)
        yield hs, client, room


@contextlib.asynccontextmanager
async def scripted(talk: Talk) -> AsyncIterator[str]:
    """A TCP server that does what `talk` says with each connection; gives its http address."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head


def answer(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
