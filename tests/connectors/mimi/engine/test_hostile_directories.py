"""What a peer says of where its endpoints are (draft-ietf-mimi-protocol-06 5.1) may be anything, and harms only it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from bridgekit.contract.errors import BridgeError
from bridgekit.testing.host import FakeHost
from connectors.mimi.service.hub import Delivery
from connectors.mimi.service.outbox import Outbox
from connectors.mimi.service.peers import Answer, Endpoint
from connectors.mimi.service.server import Server
from connectors.mimi.testing.cast import ROOM
from connectors.mimi.wire.mls import ContentType, PrivateMessage
from connectors.mimi.wire.rooms import ApplicationFanout
from tests.connectors.mimi.engine.ears import town

PLACES = (
    "https://",
    "https://[",
    "https:///x",
    "https://a:99999999/",
    "https://a:b/",
    "https://\ud800/",
    f"https://{'a' * 300}.example/",
    "https://a..b/",
    "https://a b/",
    "https://a/\r\nX: y",
    "https://\u2603.example/\u2603",
    "http://a.example/",
    "https://b.example:0/",
)
DOCUMENTS = [
    b"",
    b"\xff",
    b'{"notify": "https://b.example/\xff"}',
    b'{"notify": 1}',
    b'{"notify": [[], {}], "version": 2}',
    b"[" * 50_000,
    *(json.dumps({"notify": place}).encode() for place in PLACES),
]


async def test_a_directory_that_leads_nowhere_is_an_error_of_the_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    documents: list[bytes] = []

    async def told(self: Server, request: web.Request) -> web.Response:
        return web.Response(body=documents[-1])

    monkeypatch.setattr(Server, "_directory", told)
    async with town(tmp_path, "a.example", "b.example") as made:
        peers = made["a.example"].peers
        for document in DOCUMENTS:
            documents.append(document)
            peers._directories.clear()
            with pytest.raises(BridgeError):
                await peers.post("b.example", Endpoint.NOTIFY, ROOM, b"")


async def test_what_a_directory_says_besides_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A later version of the draft may have more to say there."""
    answer = Server._directory

    async def told(self: Server, request: web.Request) -> web.Response:
        said = json.loads((await answer(self, request)).body)  # type: ignore[arg-type]
        return web.json_response({"version": 2, "more": {"notify": []}, **said})

    monkeypatch.setattr(Server, "_directory", told)
    async with town(tmp_path, "a.example", "b.example") as made:
        found = await made["a.example"].peers.directory("b.example")
    assert set(found) == set(Endpoint)


async def test_a_peer_that_cannot_be_told_anything_keeps_nobody_else_from_hearing():
    heard = asyncio.Event()
    tries = 0

    async def send(to: str, room: str, body: bytes) -> Answer:
        nonlocal tries
        if to == "bad.example":
            tries += 1
            raise ValueError("a bug that nobody has thought of")
        heard.set()
        return Answer(201, b"")

    outbox = Outbox(host := FakeHost(), send)

    async def post(to: str) -> None:
        message = PrivateMessage(b"g", 1, ContentType.APPLICATION, b"", b"", b"")
        rows, go = outbox.prepare([Delivery(to, ROOM, ApplicationFanout(1, message))], int(host.now() * 1000))
        await host.put_all(rows)
        go()

    running = asyncio.create_task(outbox.run())
    try:
        async with asyncio.timeout(60):
            await post("bad.example")
            while tries < 2:
                outbox.alive("bad.example")
                await asyncio.sleep(0)
            await post("good.example")
            await heard.wait()
        assert outbox.waiting >= 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
