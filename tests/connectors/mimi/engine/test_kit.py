"""The conformance kit against our own provider and against a careless one; and the demo."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
from aiohttp import web

from connectors.mimi.kit.calling import Caller
from connectors.mimi.kit.conformance import Outcome, Result, examine
from connectors.mimi.kit.report import Report, to_html
from connectors.mimi.service.peers import DIRECTORY_PATH, directory
from connectors.mimi.testing.cast import Client
from connectors.mimi.testing.demo import main
from connectors.mimi.wire.users import ConsentEntry, ConsentOperation
from tests.connectors.mimi.engine.ears import town


async def test_our_own_provider_passes_every_check(tmp_path: Path):
    async with town(tmp_path, "a.example", "b.example") as made:
        a, b = made["a.example"], made["b.example"]
        bob = Client("bob", "a.example")
        await a.provider.publish(bob.user, bob.uri, [bob.package() for _ in range(4)])
        asking = "mimi://b.example/u/conformance"
        await a.provider.agree(ConsentEntry(ConsentOperation.GRANT, asking, bob.user))
        caller = Caller("a.example", a.addresses["a.example"], "b.example", b.credentials)
        told: list[Result] = []
        results = await examine(caller, bob.user, told.append)
    assert told == results
    assert [(r.number, r.title, r.detail) for r in results if r.outcome is not Outcome.PASSED] == []
    assert len(results) > 20
    assert all(r.section for r in results)


async def test_a_provider_that_says_yes_to_everything_fails(tmp_path: Path):
    async with town(tmp_path, "a.example", "b.example") as made:
        credentials = made["a.example"].credentials
        listening = socket.create_server(("127.0.0.1", 0))
        base = f"https://127.0.0.1:{listening.getsockname()[1]}"

        async def yes(request: web.Request) -> web.Response:
            if request.path == DIRECTORY_PATH:
                return web.json_response(directory(base + "/v1"))
            return web.Response(body=b"yes")

        app = web.Application()
        app.router.add_route("*", "/{anything:.*}", yes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.SockSite(runner, listening, ssl_context=credentials.server()).start()
        caller = Caller("a.example", base, "b.example", made["b.example"].credentials)
        results = await examine(caller, None, lambda result: None)
        await runner.cleanup()
    failed = {r.title for r in results if r.outcome is Outcome.FAILED}
    assert "A From that names another provider than the certificate is refused" in failed
    assert "A body with something behind its end is refused" in failed
    assert "The hub fetches nothing from its own network" in failed
    passed = {r.title for r in results if r.outcome is Outcome.PASSED}
    assert passed == {
        "The directory is there and names every endpoint",
        "Each endpoint is an https template with its variable",
        "Who shows no certificate does not get in",
    }
    assert json.loads(json.dumps(to_html(Report("a", "b", "c", "d", results)))).count("failed") > 15


def test_the_demo_plays_to_its_end(capsys: pytest.CaptureFixture[str]):
    assert main(once=True) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out
    assert "24 checks passed" in out


async def test_a_peer_that_is_not_there_fails_in_words(tmp_path: Path):
    async with town(tmp_path, "a.example", "b.example") as made:
        caller = Caller("a.example", "https://127.0.0.1:1", "b.example", made["b.example"].credentials)
        async with asyncio.timeout(60):
            results = await examine(caller, None, lambda result: None)
    assert results[0].outcome is Outcome.FAILED
    assert "cannot be reached" in results[0].detail
    assert Outcome.PASSED not in {result.outcome for result in results}
