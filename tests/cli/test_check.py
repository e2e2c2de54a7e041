"""`bridgekit check` tells what is right and what is not, one line each."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from bridgekit.cli import main
from bridgekit.config import load
from bridgekit.contract.ids import LoginId, NetworkId, PersonId
from bridgekit.contract.people import Login
from bridgekit.store import LoginRow, SealingKey, Store
from bridgekit.testing.homeserver import FakeHomeserver


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRIDGEKIT__APPSERVICE__LISTEN", f"127.0.0.1:{free_port()}")
    main(["init", "--dir", str(tmp_path), "--server-name", "hs.test", "--network", "parrot=echo"])
    main(["registration", "--write", "-c", str(tmp_path / "config.yaml")])
    return tmp_path


async def check(folder: Path) -> int:
    return await asyncio.to_thread(main, ["check", "-c", str(folder / "config.yaml")])


async def test_five_lines_when_all_is_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async with FakeHomeserver(folder / "registration.yaml") as homeserver:
        monkeypatch.setenv("BRIDGEKIT__HOMESERVER__URL", homeserver.url)
        capsys.readouterr()
        status = await check(folder)
        out = capsys.readouterr().out
    assert status == 0, out
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["ok", "config"],
        ["ok", "registration"],
        ["ok", "store"],
        ["ok", "homeserver"],
        ["ok", "encryption"],
    ]
    assert "1 network, 0 links" in out


async def test_a_homeserver_with_other_tokens_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async with FakeHomeserver(folder / "registration.yaml") as homeserver:
        monkeypatch.setenv("BRIDGEKIT__HOMESERVER__URL", homeserver.url)
        monkeypatch.setenv("BRIDGEKIT__APPSERVICE__AS_TOKEN", "another-one")
        capsys.readouterr()
        assert await check(folder) == 1
        out = capsys.readouterr().out
    assert "FAIL  registration  `as_token` differs" in out
    assert "FAIL  homeserver" in out
    assert "another-one" not in out


async def test_what_is_not_there_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (folder / "registration.yaml").unlink()
    (folder / "bridgekit.key").write_text("no key")
    monkeypatch.setenv("BRIDGEKIT__HOMESERVER__URL", f"http://127.0.0.1:{free_port()}")
    capsys.readouterr()
    assert await check(folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "config"],
        ["FAIL", "registration"],
        ["FAIL", "store"],
        ["FAIL", "homeserver"],
    ]
    assert "write it with: bridgekit registration --write" in lines[1]


def test_a_config_that_is_no_use_ends_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.yaml").write_text("homeserver: {}\n")
    assert main(["check", "-c", str(tmp_path / "config.yaml")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("FAIL  config") for line in lines)


async def test_what_an_earlier_config_left_in_the_database_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    config = load(folder / "config.yaml")
    key = SealingKey.load_or_create(config.store.key_file)
    store = await Store.open(config.store.url.get_secret_value(), key)
    login = Login(id=LoginId("town/alice"), owner=PersonId("@alice:hs.test"))
    row = LoginRow(login=login, network=NetworkId("town"), state="wanted", reason="")
    bot = store.kv.put("bridge.self", "bot", b"@postman:hs.test")
    await store.commit(store.logins.put(row), bot)
    await store.close()
    async with FakeHomeserver(folder / "registration.yaml") as homeserver:
        monkeypatch.setenv("BRIDGEKIT__HOMESERVER__URL", homeserver.url)
        capsys.readouterr()
        assert await check(folder) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert len(lines) == 2
    assert "the bot was @postman:hs.test and will be @bridgebot:hs.test" in lines[0]
    assert "town is not in the config, and 1 account of it remain" in lines[1]


async def test_a_registration_without_devices_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = folder / "registration.yaml"
    file.write_text(file.read_text().replace("io.element.msc4190: true", "io.element.msc4190: false"))
    async with FakeHomeserver(file) as homeserver:
        monkeypatch.setenv("BRIDGEKIT__HOMESERVER__URL", homeserver.url)
        capsys.readouterr()
        assert await check(folder) == 1
        out = capsys.readouterr().out
    assert "FAIL  registration  `io.element.msc4190` is not true" in out
    assert "FAIL  encryption    The homeserver does not let the bridge make devices" in out
