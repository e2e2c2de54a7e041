"""`bridgekit erase`, where the bridge that it asks goes away."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridgekit.cli import erase


async def test_a_bridge_that_stops_meanwhile_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(erase, "SECONDS", 0.0)

    async def begun(_request: web.Request) -> web.Response:
        return web.json_response({"done": False, "waits": ""})

    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/erasures", begun), web.get("/erasures", cut)])
    async with TestServer(app) as server:
        assert await erase._erase(str(server.make_url("/erasures")), "token", "@bob:example.org") == 1
    assert capsys.readouterr().err == (
        "The bridge does not answer any more; the erasure goes on when it runs again.\n"
    )
