"""A store moves between the engines whole, and a backup is one moment of a running one."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bridgekit.contract.errors import ConfigError
from bridgekit.store import SealingKey, Store
from bridgekit.store import postgres as postgres_driver
from bridgekit.store.copy import backup, copy
from bridgekit.store.migrate import Migration, migrate, migrations, statements
from bridgekit.store.snapshot import snapshot
from bridgekit.store.tables import TABLES
from bridgekit.store.urls import connect
from tests.store.conftest import empty_database
from tests.store.samples import NETWORK, everything, inbox_row


async def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    driver = await connect(url)
    found = {
        table.name: sorted(
            (tuple(row) for row in await driver.fetch(f"SELECT * FROM {table.name}")), key=repr
        )
        for table in TABLES
    }
    await driver.close()
    return found


async def filled(url: str, key: SealingKey) -> None:
    store = await Store.open(url, key)
    await store.commit(*everything(store))
    await asyncio.gather(*(store.commit(store.inbox.add(inbox_row(b"%d" % n))) for n in range(2500)))
    await store.close()


@pytest.fixture
async def other_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database on the other engine."""
    return await empty_database({"sqlite": "postgres", "postgres": "sqlite"}[engine], request, tmp_path)


@pytest.fixture(autouse=True)
def server(postgres):
    return postgres


async def test_a_copy_has_every_row_and_opens_with_the_same_key(url: str, other_url: str, key: SealingKey):
    await filled(url, key)
    copied = await copy(url, other_url, key)
    assert copied["inbox"] == 2502
    assert set(copied) == {table.name for table in TABLES}
    assert min(copied.values()) >= 1
    assert await contents(other_url) == await contents(url)
    store = await Store.open(other_url, key)
    assert len(await store.logins.all()) == 1
    assert len(await store.inbox.pending(limit=5000)) == 2501
    await store.commit(*everything(store))
    await store.close()


async def test_a_target_that_is_not_empty_is_refused(url: str, other_url: str, key: SealingKey):
    await filled(url, key)
    await (await Store.open(other_url, key)).close()
    with pytest.raises(ConfigError, match="not empty"):
        await copy(url, other_url, key)


async def test_a_copy_with_the_wrong_key_is_refused(url: str, other_url: str, key: SealingKey):
    await filled(url, key)
    with pytest.raises(ConfigError, match="another key"):
        await copy(url, other_url, SealingKey.generate())


async def test_a_copy_of_a_running_store_is_refused(url: str, other_url: str, key: SealingKey):
    store = await Store.open(url, key)
    with pytest.raises(ConfigError, match="Another bridgekit"):
        await copy(url, other_url, key)
    await store.close()


async def test_a_copy_that_broke_off_is_no_store(url: str, other_url: str, key: SealingKey, monkeypatch):
    await filled(url, key)

    async def break_off(*_: object) -> int:
        raise asyncio.CancelledError

    target = await connect(other_url)
    await migrate(target)
    with monkeypatch.context() as patch:
        patch.setattr(type(target), "load", break_off)
        await target.close()
        with pytest.raises(asyncio.CancelledError):
            await copy(url, other_url, key)
    with pytest.raises(ConfigError, match="broke off half way"):
        await Store.open(other_url, key)


async def test_a_source_that_is_not_there_is_refused_and_not_made(tmp_path: Path, key: SealingKey):
    with pytest.raises(ConfigError, match="There is no database"):
        await copy(f"sqlite:///{tmp_path}/none.db", f"sqlite:///{tmp_path}/target.db", key)
    with pytest.raises(ConfigError, match="There is no database"):
        await backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "backup.db")
    assert list(tmp_path.iterdir()) == []


async def test_an_old_schema_is_not_copied(tmp_path: Path, key: SealingKey):
    sqlite3.connect(tmp_path / "old.db").close()
    with pytest.raises(ConfigError, match="no bridgekit database"):
        await copy(f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/target.db", key)


async def test_a_source_that_cannot_be_read_is_not_called_another_thing(tmp_path: Path, key: SealingKey):
    source = tmp_path / "damaged.db"
    with closing(sqlite3.connect(source)) as writing:
        writing.execute("CREATE TABLE schema_version (version)")
    with source.open("r+b") as file:
        file.seek(100)  # behind the header: the tree of tables
        file.write(b"\xff" * 100)
    with pytest.raises(ConfigError, match="The source cannot be read: database disk image is malformed"):
        await backup(f"sqlite:///{source}", tmp_path / "backup.db")


async def test_what_a_newer_bridgekit_wrote_is_for_that_one_to_copy(
    url: str, key: SealingKey, tmp_path: Path
):
    driver = await connect(url)
    await migrate(driver)
    await driver.script([("INSERT INTO schema_version VALUES ($1)", (999,))])
    await driver.close()
    folder = tmp_path / "backups"
    folder.mkdir()
    for attempt in backup(url, folder / "backup.db"), copy(url, f"sqlite:///{folder}/target.db", key):
        with pytest.raises(ConfigError, match=r"schema 999.*run the newer bridgekit"):
            await attempt
    assert list(folder.iterdir()) == []


async def test_before_an_upgrade_the_old_database_is_kept_as_it_is(tmp_path: Path):
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as database:
        database.executescript("".join(f"{one};\n" for one in statements(migrations()[0].sql, "sqlite")))
        database.executescript(
            "CREATE TABLE schema_version (version BIGINT); INSERT INTO schema_version VALUES (1)"
        )
    await backup(f"sqlite:///{old}", tmp_path / "backup.db")
    with closing(sqlite3.connect(tmp_path / "backup.db")) as kept:
        assert kept.execute("SELECT version FROM schema_version").fetchall() == [(1,)]


async def test_a_damaged_database_leaves_no_backup_that_looks_like_one(tmp_path: Path, key: SealingKey):
    store = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", key)
    await store.commit(*(store.kv.put("a", str(n), bytes(5000)) for n in range(200)))
    await store.close()
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek(-300_000, 2)
        file.write(b"\xff" * 100_000)
    with pytest.raises(ConfigError, match="is damaged: no backup of it was written"):
        await backup(f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "backup.db")
    assert not list(tmp_path.glob("backup*"))


async def test_a_backup_of_a_running_store_is_one_moment_in_one_file(
    url: str, key: SealingKey, tmp_path: Path
):
    store = await Store.open(url, key)
    await store.commit(*everything(store))
    stop = False

    async def keep_writing() -> None:
        n = 0
        while not stop:
            n += 1
            await store.commit(store.kv.put("left", "n", b"%d" % n), store.kv.put("right", "n", b"%d" % n))

    writing = asyncio.create_task(keep_writing())
    await asyncio.sleep(0.05)
    folder = tmp_path / "backups"
    folder.mkdir()
    path = folder / "backup.db"
    await backup(url, path)
    stop = True
    await writing
    assert [file.name for file in folder.iterdir()] == ["backup.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    restored = await Store.open(f"sqlite:///{path}", key)
    assert await restored.ghosts.all(NETWORK) == await store.ghosts.all(NETWORK)
    assert await restored.logins.all() == await store.logins.all()
    assert await restored.kv.get("left", "n") == await restored.kv.get("right", "n") is not None
    await restored.close()
    await store.close()
    with pytest.raises(ConfigError, match="exists already"):
        await backup(url, path)


async def test_a_database_of_years_has_the_time_that_it_takes(postgres, monkeypatch: pytest.MonkeyPatch):
    """A migration, and counting what a copy has brought, go through tables that are larger than the memory; what a
    room waits for does not."""
    monkeypatch.setattr(postgres_driver, "_ANSWER_WITHIN", 0.1)
    url = await postgres.create_database()
    steps = [Migration(1, "0001_slow.sql", "SELECT pg_sleep(0.5);\n")]
    driver = await connect(url)
    assert await migrate(driver, steps) == 1
    await driver.close()
    driver = await connect(url, at_leisure=True)
    assert len(await driver.fetch("SELECT pg_sleep(0.5)")) == 1
    await driver.close()
    async with snapshot(url) as seen:
        assert len(await seen.fetch("SELECT pg_sleep(0.5)")) == 1
