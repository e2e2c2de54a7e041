"""What the README tells a stranger to do works on a real Synapse."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridgekit.cli import main
from bridgekit.testing.servers.process import free_port
from bridgekit.testing.servers.synapse import synapse


async def test_init_install_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config = str(tmp_path / "config.yaml")
    monkeypatch.setenv("BRIDGEKIT__APPSERVICE__LISTEN", f"127.0.0.1:{free_port()}")

    async def bridgekit(*words: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        status = await asyncio.to_thread(main, words)
        return status, [line for line in capsys.readouterr().out.splitlines() if line]

    async with synapse(server_name="hs.test") as homeserver:
        status, _ = await bridgekit(
            "init", "--dir", str(tmp_path), "--server-name", "hs.test",
            "--homeserver-url", homeserver.base_url, "--network", "parrot=echo",
        )  # fmt: skip
        assert status == 0
        status, lines = await bridgekit("check", "-c", config)
        assert status == 1
        assert [line.split()[:2] for line in lines if line.startswith("FAIL")] == [["FAIL", "homeserver"]], (
            lines
        )
        await homeserver.add_appservice(tmp_path / "registration.yaml")
        status, lines = await bridgekit("check", "-c", config)
        assert status == 0, lines
        assert [line.split()[0] for line in lines] == ["ok"] * 5
