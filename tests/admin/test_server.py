"""The admin listener answers what it promises."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from bridgekit import __version__
from bridgekit.admin.metrics import Metrics
from bridgekit.admin.server import Part, application, serve
from bridgekit.config import Address
from bridgekit.contract.errors import ConfigError

HERE = Address("127.0.0.1", 0)


async def get(app: web.Application, path: str) -> tuple[int, str, bytes]:
    async with (
        serve(app, HERE) as address,
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}") as response,
    ):
        return response.status, response.headers["Content-Type"], await response.read()


async def test_it_is_live_while_it_answers():
    app = application(Metrics(), lambda: {"store": Part(ok=False)})
    status, kind, body = await get(app, "/health/live")
    assert (status, kind) == (200, "application/json")
    assert body == f'{{"live":true,"version":"{__version__}"}}'.encode()


async def test_it_is_ready_when_every_needed_part_is():
    states = {
        "homeserver": Part(ok=True),
        "network.libera": Part(ok=False, detail="connecting", needed=False),
    }
    status, _, body = await get(application(Metrics(), lambda: states), "/health/ready")
    assert status == 200
    assert (
        body
        == (
            f'{{"ready":true,"version":"{__version__}","parts":{{"homeserver":{{"ok":true}},'
            '"network.libera":{"ok":false,"detail":"connecting","needed":false}}}'
        ).encode()
    )


async def test_it_is_not_ready_when_a_needed_part_is_not():
    async def look() -> dict[str, Part]:
        return {"homeserver": Part(ok=True), "store": Part(ok=False, detail="The disk is full.")}

    status, _, body = await get(application(Metrics(), look), "/health/ready")
    assert status == 503
    assert b'"ready":false' in body
    assert b"The disk is full." in body


async def test_metrics_are_in_the_text_format():
    status, kind, body = await get(application(Metrics(), dict), "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert f'bridgekit_info{{version="{__version__}"}} 1.0' in body.decode().splitlines()


async def test_later_parts_have_their_own_prefix():
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    def whole() -> web.Application:
        api = web.Application()
        api.router.add_get("/v1", hello)
        return application(Metrics(), dict, {"/api": api})

    assert (await get(whole(), "/api/v1"))[2] == b"hello"
    assert (await get(whole(), "/secret"))[0] == 404


async def test_an_address_that_is_taken_is_a_sentence():
    app = application(Metrics(), dict)
    async with serve(app, HERE) as taken:
        with pytest.raises(ConfigError, match=f"admin.listen: nothing can listen on {taken}: "):
            async with serve(application(Metrics(), dict), taken, "admin.listen"):
                pass
