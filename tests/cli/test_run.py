"""`bridgekit run` as a process: it starts, is healthy, reads its config again, and ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from bridgekit.cli import main
from bridgekit.testing.homeserver import FakeHomeserver
from bridgekit.testing.servers.process import free_port

CODE = "from bridgekit.cli import main; import sys; sys.exit(main())"


class Running:
    """One `bridgekit run` and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, admin: str, config: Path) -> None:
        self.process = process
        self.admin = admin
        self.config = config
        self.said: list[dict[str, object]] = []

    async def hear(self, event: str) -> dict[str, object]:
        """Wait for an event in the log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while True:
                line = await self.process.stderr.readline()
                assert line, self.said
                said = msgspec.json.decode(line)
                self.said.append(said)
                if said["event"] == event:
                    return dict(said)

    async def get(self, path: str) -> tuple[int, bytes]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.admin}{path}") as response:
            return response.status, await response.read()


@asynccontextmanager
async def running(tmp_path: Path, **env: str) -> AsyncIterator[Running]:
    config = tmp_path / "config.yaml"
    await asyncio.to_thread(
        main, ["init", "--dir", str(tmp_path), "--server-name", "hs.test", "--network", "parrot=echo"]
    )
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    text = (
        config.read_text().replace("127.0.0.1:29330", f"127.0.0.1:{port}").replace("127.0.0.1:29331", admin)
    )
    config.write_text(text.replace("format: console", "format: json"))
    await asyncio.to_thread(main, ["registration", "--write", "-c", str(config)])
    async with FakeHomeserver(tmp_path / "registration.yaml") as homeserver:
        config.write_text(config.read_text().replace("http://127.0.0.1:8008", homeserver.url))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CODE, "run", "-c", str(config),
            stderr=asyncio.subprocess.PIPE, env={**os.environ, **env},
        )  # fmt: skip
        try:
            yield Running(process, admin, config)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_it_starts_is_ready_is_checked_and_stops_on_sigterm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    async with running(tmp_path) as bridge:
        started = await bridge.hear("bridge_runs")
        assert started["networks"] == ["parrot"]
        async with asyncio.timeout(60):
            while (await bridge.get("/health/ready"))[0] != 200:  # noqa: ASYNC110  (another process's state)
                await asyncio.sleep(0.05)
        status, body = await bridge.get("/health/ready")
        assert (status, msgspec.json.decode(body)["parts"]["network.parrot"]["ok"]) == (200, True)
        assert (await bridge.get("/health/live"))[0] == 200
        assert await asyncio.to_thread(main, ["check", "-c", str(bridge.config)]) == 0
        assert "is open in the running bridge" in capsys.readouterr().out
        assert b'bridgekit_sessions{network="parrot",state="ready"} 1.0' in (await bridge.get("/metrics"))[1]
        bridge.process.send_signal(signal.SIGTERM)
        await bridge.hear("bridge_stopped")
        assert await bridge.process.wait() == 0


async def test_sighup_takes_over_what_can_change_and_refuses_a_config_with_problems(tmp_path: Path):
    async with running(tmp_path) as bridge:
        await bridge.hear("bridge_runs")
        good = bridge.config.read_text()
        bridge.config.write_text(good.replace("level: info", "level: loud"))
        bridge.process.send_signal(signal.SIGHUP)
        refused = await bridge.hear("config_refused")
        assert refused["path"] == "log.level"
        bridge.config.write_text(good.replace("prefix: _bk_", "prefix: _other_"))
        bridge.process.send_signal(signal.SIGHUP)
        reloaded = await bridge.hear("config_reloaded")
        assert reloaded["after_a_restart"] == ["appservice has changed: restart the bridge for that."]
        bridge.process.send_signal(signal.SIGINT)
        assert await bridge.process.wait() == 0


async def test_systemd_is_told_when_it_is_ready(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        async with running(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as bridge:
            assert await asyncio.to_thread(sock.recv, 100) == b"READY=1"
            bridge.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(sock.recv, 100) == b"STOPPING=1"


async def test_no_token_is_in_the_log(tmp_path: Path):
    async with running(tmp_path, BRIDGEKIT__LOG__LEVEL="debug") as bridge:
        await bridge.hear("bridge_runs")
        bridge.process.send_signal(signal.SIGTERM)
        await bridge.hear("bridge_stopped")
        said = str(bridge.said)
        tokens = re.findall(r"_token: \"?([\w-]+)", bridge.config.read_text())
    assert len(tokens) == 2
    assert not [token for token in tokens if token in said]


async def test_an_address_that_is_taken_ends_it_with_a_sentence(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "{}:{}".format(*taken.getsockname())
        async with running(tmp_path, BRIDGEKIT__ADMIN__LISTEN=address) as bridge:
            assert bridge.process.stderr is not None
            said = (await bridge.process.stderr.read()).decode()
            assert await bridge.process.wait() == 2
    assert f"nothing can listen on {address}: another program has this port" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_it_starts_ends_it(tmp_path: Path, number: signal.Signals):
    async with running(tmp_path) as bridge:
        await asyncio.sleep(0.6)
        bridge.process.send_signal(number)
        async with asyncio.timeout(60):
            await bridge.process.wait()
