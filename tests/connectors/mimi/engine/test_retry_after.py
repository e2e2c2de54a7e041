"""Who says when to come again is left alone until then (RFC 9110 10.2.3; draft-ietf-mimi-protocol-06 5.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from bridgekit.contract.errors import Disconnected
from bridgekit.testing.host import FakeHost
from connectors.mimi.service.hub import Delivery
from connectors.mimi.service.outbox import Outbox
from connectors.mimi.service.peers import Answer, Endpoint
from connectors.mimi.service.server import Server
from connectors.mimi.testing.cast import ROOM
from connectors.mimi.wire import users
from connectors.mimi.wire.mls import ContentType, PrivateMessage
from connectors.mimi.wire.rooms import FANOUTS, ApplicationFanout
from tests.connectors.mimi.engine.ears import town
from tests.connectors.mimi.engine.test_provider import Scene


@pytest.mark.parametrize("status", [429, 503])
async def test_nothing_more_is_asked_of_that_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
):
    asked: list[str] = []

    async def busy(self: Server, request: web.Request, *_: object) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Retry-After": "3600"})

    monkeypatch.setattr(Server, "_key_material", busy)
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin()
        claim = users.KEY_MATERIAL_REQUEST.encode(scene.claim())
        for number in range(5):
            if not number:
                code, _ = await scene.post(scene.a, scene.b, Endpoint.KEY_MATERIAL, scene.bob.user, claim)
                assert code == status
                continue
            with pytest.raises(Disconnected) as told:
                await scene.post(scene.a, scene.b, Endpoint.KEY_MATERIAL, scene.bob.user, claim)
            assert 3000 < (told.value.retry_after or 0) <= 3600
        assert len(asked) == 1
        query = users.IDENTIFIER_REQUEST.encode(users.IdentifierRequest((users.Handle("x"),)))
        code, _ = await scene.post(scene.a, scene.b, Endpoint.IDENTIFIER_QUERY, "b.example", query)
        assert code == 200, "another endpoint is asked"


async def test_a_hub_hands_on_how_long_the_targets_provider_wants_to_be_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with town(tmp_path, "a.example", "b.example") as made:
        scene = Scene(made)
        await scene.begin()
        monkeypatch.setattr(scene.a.peers, "post", _answers(Answer(429, b"", 77.0)))
        with pytest.raises(Disconnected) as told:
            await scene.a.provider.key_material(scene.claim(), "a.example")
        assert told.value.retry_after == 77.0


def _answers(answer: Answer) -> Callable[..., Awaitable[Answer]]:
    async def post(*_: object) -> Answer:
        return answer

    return post


async def test_what_waits_is_not_sent_sooner_because_the_peer_was_heard_of(monkeypatch: pytest.MonkeyPatch):
    """Who is away is tried as soon as they are heard of; who asked to be left alone is not."""
    tried = asyncio.Event()
    calls: list[str] = []

    async def send(to: str, room: str, body: bytes) -> Answer:
        calls.append(to)
        tried.set()
        return Answer(503, b"", 3600.0 if to == "busy.example" else None)

    outbox = Outbox(host := FakeHost(), send)
    message = PrivateMessage(b"g", 1, ContentType.APPLICATION, b"", b"", b"")
    fanout = ApplicationFanout(1, message)
    deliveries = [Delivery(to, ROOM, fanout) for to in ("busy.example", "away.example")]
    rows, go = outbox.prepare(deliveries, int(host.now() * 1000))
    await host.put_all(rows)
    go()
    running = asyncio.create_task(outbox.run())
    try:
        async with asyncio.timeout(60):
            while calls.count("away.example") < 4:
                tried.clear()
                outbox.alive("away.example")
                outbox.alive("busy.example")
                await asyncio.sleep(0.01)
        assert calls.count("busy.example") == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_letter_that_is_too_large_for_the_peer_is_given_up_and_the_next_one_is_sent():
    """RFC 9110 15.5.14: it gets no smaller; what was sent together with others is tried alone first."""
    taken: list[int] = []
    done = asyncio.Event()
    message = PrivateMessage(b"g", 1, ContentType.APPLICATION, b"", b"", b"")
    fanouts = [
        ApplicationFanout(at, msgspec.structs.replace(message, ciphertext=bytes(size)))
        for at, size in ((1, 10), (2, 900), (3, 10))
    ]

    async def send(to: str, room: str, body: bytes) -> Answer:
        if len(body) > 500:
            return Answer(413, b"")
        taken.extend(fanout.accepted for fanout in FANOUTS.decode(body))
        if 3 in taken:
            done.set()
        return Answer(201, b"")

    outbox = Outbox(host := FakeHost(), send)
    rows, go = outbox.prepare([Delivery("b.example", ROOM, each) for each in fanouts], int(host.now() * 1000))
    await host.put_all(rows)
    go()
    running = asyncio.create_task(outbox.run())
    try:
        async with asyncio.timeout(60):
            await done.wait()
            while outbox.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert taken == [1, 3]
        assert not host.kept
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
