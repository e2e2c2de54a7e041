"""`bridgekit check` tells what is right and what is not, one line each."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from pathlib import Path

import pytest

from bridgekit.admin.metrics import Metrics
from bridgekit.admin.server import Part, application, serve
from bridgekit.cli import main
from bridgekit.config import load
from bridgekit.contract.ids import LoginId, NetworkId, PersonId
from bridgekit.contract.people import Login
from bridgekit.store import LoginRow, SealingKey, Store
from bridgekit.store.migrate import left_to_do, migrations
from bridgekit.store.urls import connect
from bridgekit.testing.homeserver import FakeHomeserver
from bridgekit.testing.servers.postgres import Postgres
from bridgekit.testing.servers.process import free_port


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRIDGEKIT__APPSERVICE__LISTEN", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("BRIDGEKIT__ADMIN__LISTEN", f"127.0.0.1:{free_port()}")
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


async def test_a_database_that_is_new_on_a_server_is_looked_at_only(
    folder: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    url = await postgres.create_database()
    monkeypatch.setenv("BRIDGEKIT__STORE__URL", url)
    capsys.readouterr()
    await check(folder)
    assert "note  store         the next start brings the database up to date" in capsys.readouterr().out
    driver = await connect(url)
    assert await left_to_do(driver) == (0, len(migrations()))
    await driver.close()


async def test_looking_makes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = {path.name for path in folder.iterdir()}
    capsys.readouterr()
    await check(folder)
    assert "ok    store         bridgekit.db will be made at the first start" in capsys.readouterr().out
    (folder / "bridgekit.key").unlink()
    await check(folder)
    out = capsys.readouterr().out
    assert "ok    store         bridgekit.key and bridgekit.db will be made at the first start" in out
    assert {path.name for path in folder.iterdir()} == before - {"bridgekit.key"}


async def test_a_database_without_its_key_is_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    config = load(folder / "config.yaml")
    await (await Store.open(config.store.url.get_secret_value(), SealingKey.generate())).close()
    capsys.readouterr()
    assert await check(folder) == 1
    assert "FAIL  store         This database was sealed with another key" in capsys.readouterr().out
    config.store.key_file.unlink()
    assert await check(folder) == 1
    assert "cannot be read without the key that it was made with" in capsys.readouterr().out
    assert not config.store.key_file.exists()


async def test_why_the_running_bridge_cannot_write_is_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    config = load(folder / "config.yaml")
    key = SealingKey.load(config.store.key_file)
    assert key is not None
    store = await Store.open(config.store.url.get_secret_value(), key)
    trouble = "The database cannot be written: database or disk is full."
    app = application(Metrics(), lambda: {"store": Part(ok=False, detail=trouble)})
    async with serve(app, config.admin.listen):
        capsys.readouterr()
        assert await check(folder) == 1
    await store.close()
    assert f"FAIL  store         {trouble}" in capsys.readouterr().out


async def test_an_old_database_is_left_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]):
    config = load(folder / "config.yaml")
    url, key = config.store.url.get_secret_value(), SealingKey.load(config.store.key_file)
    assert key is not None
    await (await Store.open(url, key)).close()
    database = sqlite3.connect(folder / "bridgekit.db")
    database.execute("DELETE FROM schema_version WHERE version = (SELECT max(version) FROM schema_version)")
    database.commit()
    before = database.execute("SELECT * FROM schema_version").fetchall()
    capsys.readouterr()
    await check(folder)
    assert (
        "note  store         the next start brings the database up to date (1 step)"
        in capsys.readouterr().out
    )
    assert database.execute("SELECT * FROM schema_version").fetchall() == before
    database.close()


async def test_a_folder_in_which_no_database_can_be_made_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("BRIDGEKIT__STORE__URL", "sqlite:///nowhere/bridge.db")
    capsys.readouterr()
    assert await check(folder) == 1
    assert "is no folder that this user may write" in capsys.readouterr().out


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


WITHOUT_SLIXMPP = """\
import sys
sys.modules["slixmpp"] = None
from bridgekit.cli import main
sys.exit(main())
"""


async def test_a_network_whose_package_is_missing_is_told_in_the_words_in_which_the_bridge_refuses_to_run(
    folder: Path,
):
    config = folder / "config.yaml"
    text = re.sub(
        r"\n  parrot:\n(    .*\n)*",
        "\n  parrot: {connector: xmpp, mode: component, jid: matrix.hs.test, secret: s}\n",
        config.read_text(),
    )
    config.write_text(text)

    async def says(word: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WITHOUT_SLIXMPP, word, "-c", str(config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    (checked, out, _), (ran, _, refused) = await says("check"), await says("run")
    assert "FAIL  config        networks.parrot: XMPP needs the package slixmpp" in out
    assert out.splitlines()[0].endswith(f": {refused.strip()}")
    assert "ok    store" in out  # the rest is told, too
    assert (checked, ran) == (1, 2)


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
    assert "note  registration  `bridgekit registration --write` writes it anew" in out
    assert "FAIL  encryption    The homeserver does not let the bridge make devices" in out
