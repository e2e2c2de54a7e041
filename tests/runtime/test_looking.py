"""What the admin listener tells of a running bridge's rooms and devices, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridgekit.cli import asking
from tests.runtime.running import BOT
from tests.runtime.test_secrecy import BOB, Scene, scene


async def get(now: Scene, path: str, token: str | None = None) -> tuple[int, dict[str, Any]]:
    shown = now.bridge.admin_token if token is None else token
    headers = {"Authorization": f"Bearer {shown}"} if shown else {}
    url = f"http://{now.bridge.admin_address}/api/v1{path}"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as answer:
        return answer.status, await answer.json()


async def test_each_rooms_label_is_the_one_of_its_state(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        status, found = await get(now, "/rooms")
        state = now.place.homeserver.state(now.room, "org.bridgekit.protection")
        assert state is not None
        (room,) = found["rooms"]
        words = room.pop("words")
        assert (status, room) == (200, {"room": now.room, **state})
        assert words.startswith("Messages in this room are encrypted up to the bridge.")


async def test_the_fingerprints_of_ours_are_those_that_people_see(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        _, found = await get(now, "/devices")
        assert [one["user"] for one in found["devices"]] == sorted([BOB, BOT])
        (seen,) = now.alice.devices_of(BOB)
        _, bob = await get(now, f"/devices?user={BOB}")
        identity = now.place.homeserver.keys.identities[BOB]["master_key"]["keys"]
        assert bob == {
            "user": BOB,
            "device": seen.id,
            "device_key": seen.ed25519,
            "identity": next(iter(identity.values())),
        }
        assert await get(now, "/devices?user=@alice:hs.test") == (
            404,
            {"error": "@alice:hs.test has no device of the bridge's."},
        )


@pytest.mark.parametrize("path", ["/rooms", "/devices", f"/devices?user={BOT}"])
async def test_who_has_not_the_key_is_told_nothing(tmp_path: Path, path: str) -> None:
    async with scene(tmp_path) as now:
        for shown in ("", "wrong"):
            status, found = await get(now, path, shown)
            assert (status, list(found)) == (401, ["error"])


async def test_the_command_prints_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with scene(tmp_path) as now:
        url = f"http://{now.bridge.admin_address}/api/v1/rooms"
        assert await asking._ask(url, now.bridge.admin_token) == 0
        assert f'"room":"{now.room}"' in capsys.readouterr().out
        assert await asking._ask(url, "wrong") == 1
    assert await asking._ask(url, "") == 1
    assert capsys.readouterr().err == f"The bridge does not answer at {url}. It has to run.\n"
