"""A bridge to which nothing happens knows all the same how its homeserver is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridgekit.runtime.bridge import Bridge
from tests.runtime.running import BOT, World, said, until, world


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridgekit.runtime.intake.heartbeat.EVERY", 0.2)
    monkeypatch.setattr("bridgekit.runtime.intake.heartbeat.FIRST_AGAIN", 0.05)


async def readiness(bridge: Bridge) -> tuple[int, dict[str, Any], str]:
    async with aiohttp.ClientSession(f"http://{bridge.admin_address}") as session:
        async with session.get("/health/ready") as answer:
            status, parts = answer.status, (await answer.json())["parts"]
        async with session.get("/metrics") as answer:
            return status, parts["homeserver"], await answer.text()


async def idle(place: World, bridge: Bridge) -> None:
    """Return when the bridge has settled in and asks for nothing any more but how its homeserver is."""
    await until(lambda: place.homeserver.calls["GET account/whoami"] >= 3, 20)


async def test_an_idle_bridge_notices_that_its_homeserver_is_gone_and_that_it_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        await idle(place, bridge)
        status, homeserver, metrics = await readiness(bridge)
        assert (status, homeserver) == (200, {"ok": True})
        assert "bridgekit_homeserver_up 1.0" in metrics
        assert "bridgekit_store_up 1.0" in metrics

        await place.homeserver.pause()
        await until(lambda: not bridge.client.available)
        status, homeserver, metrics = await readiness(bridge)
        assert (status, homeserver) == (503, {"ok": False, "detail": "The homeserver does not answer."})
        assert "bridgekit_homeserver_up 0.0" in metrics

        await place.homeserver.resume()
        await until(lambda: bridge.client.available)
        status, homeserver, metrics = await readiness(bridge)
        assert (status, homeserver) == (200, {"ok": True})
        assert "bridgekit_homeserver_up 1.0" in metrics


async def test_an_idle_bridge_notices_that_its_token_was_revoked_and_tells_its_admin_once(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as place, place.bridge() as bridge:
        await idle(place, bridge)
        place.homeserver.know_appservices(False)
        await until(lambda: not bridge.client.available)
        status, homeserver, metrics = await readiness(bridge)
        assert status == 503
        assert "does not know the bridge's token" in homeserver["detail"]
        assert "bridgekit_homeserver_up 0.0" in metrics

        place.homeserver.know_appservices(True)
        await until(lambda: bridge.client.available)
        assert "bridgekit_homeserver_up 1.0" in (await readiness(bridge))[2]
        await said(place, lambda e: e.sender == BOT and "does not know the bridge's token" in e.body)
        beats = place.homeserver.calls["GET account/whoami"]
        await until(lambda: place.homeserver.calls["GET account/whoami"] >= beats + 3)
        told = [e for e in place.homeserver.events() if e.sender == BOT and "the bridge's token" in e.body]
        assert len(told) == 1


async def test_a_bridge_that_is_answered_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridgekit.runtime.intake.heartbeat.EVERY", 30.0)
    async with world(tmp_path) as place, place.bridge() as bridge:
        await until(lambda: bridge.client.homeserver.heard)
        assert place.homeserver.calls["GET account/whoami"] == 0
