"""Files that a hub fetches for a peer."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from bridgekit.contract.errors import BridgeError, NotAllowed
from connectors.mimi.certificates import Authority
from connectors.mimi.service import downloads
from connectors.mimi.service.downloads import Downloads


class _Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[tuple[int, Downloads]]:
    """A server of files, and the way to it."""
    authority = Authority(tmp_path, now=datetime.datetime.now(datetime.UTC))
    credentials = authority.issue("files.b.example")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(credentials.certificate, credentials.key)

    async def give(request: web.Request) -> web.Response:
        if request.path == "/away":
            raise web.HTTPFound("/file")
        return web.Response(body=b"x" * 200_000)

    app = web.Application()
    app.router.add_get("/{name}", give)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening, ssl_context=serving).start()
    calling = ssl.create_default_context(cafile=authority.path)
    made = Downloads(
        lambda: {"files.b.example"},
        set,
        lambda: aiohttp.TCPConnector(resolver=_Here(), ssl=calling, force_close=True),
    )
    yield listening.getsockname()[1], made
    await runner.cleanup()


async def test_a_file_is_passed_on_piece_by_piece(place: tuple[int, Downloads]):
    port, made = place
    async with made.open(f"https://files.b.example:{port}/file") as download:
        assert download.size == 200_000
        assert b"".join([chunk async for chunk in download.chunks()]) == b"x" * 200_000


async def test_a_redirect_is_not_followed(place: tuple[int, Downloads]):
    port, made = place
    with pytest.raises(BridgeError, match="answers 302"):
        async with made.open(f"https://files.b.example:{port}/away"):
            pass


async def test_a_file_that_is_too_large_is_not_passed_on(
    place: tuple[int, Downloads], monkeypatch: pytest.MonkeyPatch
):
    port, made = place
    monkeypatch.setattr(downloads, "MAX_OCTETS", 100_000)
    with pytest.raises(BridgeError, match="larger"):
        async with made.open(f"https://files.b.example:{port}/file"):
            pass


async def test_a_name_that_points_into_our_own_network_is_not_followed():
    made = Downloads(lambda: {"localhost.localdomain", "localhost"}, set)
    with pytest.raises(BridgeError):
        async with made.open("https://localhost/file"):
            pass


def test_what_lies_under_a_peers_domain_is_its_own():
    made = Downloads(set, lambda: {"b.example"})
    assert made.check("https://cdn.b.example/x").host == "cdn.b.example"
    with pytest.raises(NotAllowed):
        made.check("https://notb.example/x")
