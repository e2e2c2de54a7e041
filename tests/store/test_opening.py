"""Opening a store: what is refused, with which sentence, and what an old database becomes."""

import asyncio
import errno
import os
import sqlite3
import time
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from bridgekit.contract.errors import ConfigError
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.store import SealingKey, Store, sqlite
from bridgekit.store.driver import Driver
from bridgekit.store.keys import Keys
from bridgekit.store.migrate import Migration, migrate, migrations, statements
from bridgekit.store.rows import Stay
from bridgekit.store.statements import Value, insert
from bridgekit.store.tables import META, TABLES, TRANSACTIONS
from bridgekit.store.urls import connect
from bridgekit.testing.servers.process import free_port
from tests.store.samples import CHAT, NETWORK, SECRET, ghost, link, login, portal

FROZEN = Path(__file__).parent / "frozen"


async def test_a_second_bridge_on_the_same_database_is_refused(url: str, key: SealingKey):
    store = await Store.open(url, key)
    with pytest.raises(ConfigError, match="Another bridgekit runs on this database"):
        await Store.open(url, key)
    await store.commit(store.kv.put("a", "b", b"c"))
    await store.close()
    await (await Store.open(url, key)).close()


async def test_a_refused_open_lets_go_of_the_database(url: str, key: SealingKey):
    await (await Store.open(url, key)).close()
    with pytest.raises(ConfigError):
        await Store.open(url, SealingKey.generate())
    await (await Store.open(url, key)).close()


async def test_a_database_newer_than_the_code_is_refused(url: str, key: SealingKey):
    await (await Store.open(url, key)).close()
    driver = await connect(url)
    await driver.script([("INSERT INTO schema_version VALUES ($1)", (999,))])
    await driver.close()
    with pytest.raises(ConfigError, match=r"schema 999.*up to \d+: run the newer"):
        await Store.open(url, key)


async def test_a_migration_that_fails_leaves_nothing_behind(url: str):
    driver = await connect(url)
    first = Migration(1, "0001_good.sql", "CREATE TABLE good (a BIGINT);\n")
    broken = Migration(2, "0002_broken.sql", "CREATE TABLE half (a BIGINT);\nCREATE TABLE good (a BIGINT);\n")
    whole = Migration(2, "0002_whole.sql", "CREATE TABLE half (a BIGINT);\n")
    with pytest.raises((sqlite3.Error, asyncpg.PostgresError)):
        await migrate(driver, [first, broken])
    assert await migrate(driver, [first, whole]) == 1
    assert await migrate(driver, [first, whole]) == 0
    assert await driver.fetch("SELECT a FROM half") == []
    await driver.close()


async def test_the_tables_have_the_columns_that_the_code_writes(url: str, key: SealingKey):
    await (await Store.open(url, key)).close()
    driver = await connect(url)
    listing = (
        "SELECT name, type, pk FROM pragma_table_info('{0}')"
        if driver.dialect == "sqlite"
        else "SELECT column_name, data_type, 0 FROM information_schema.columns WHERE table_name = '{0}'"
    )
    for table in (META, *TABLES):
        found = {name: kind.lower() for name, kind, _ in await driver.fetch(listing.format(table.name))}
        same = {"integer": "bigint", "blob": "bytea"}
        assert {name: same.get(kind, kind) for name, kind in found.items()} == {
            column.name: column.type for column in table.columns
        }
        if driver.dialect == "sqlite":
            keys = {name for name, _, pk in await driver.fetch(listing.format(table.name)) if pk}
            assert keys == {column.name for column in table.columns[: table.keys]}
    await driver.close()


def test_migrations_are_numbered_without_a_gap():
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_line_may_be_for_one_database_alone():
    sql = "CREATE TABLE a ( -- words\n  b BLOB -- sqlite\n  b BYTEA -- postgres\n)\n"
    sql += "WITHOUT ROWID -- sqlite\n;\nDROP TABLE c;\n"
    assert statements(sql, "sqlite") == ["CREATE TABLE a (\n  b BLOB\n)\nWITHOUT ROWID", "DROP TABLE c"]
    assert statements(sql, "postgres") == ["CREATE TABLE a (\n  b BYTEA\n)", "DROP TABLE c"]


async def test_the_first_schema_with_its_data_becomes_todays(url: str, tmp_path: Path):
    """frozen/0001.sql is what version 1 wrote. It never changes; every later schema must take it over."""
    key = SealingKey.load_or_create(
        tmp_path / "none", environ={"BRIDGEKIT_KEY": (FROZEN / "0001.key.txt").read_text()}
    )
    driver = await connect(url)
    dump = (FROZEN / "0001.sql").read_text()
    await driver.script([(sql, ()) for sql in statements(dump, driver.dialect)])
    await driver.close()
    store = await Store.open(url, key)
    (row,) = await store.inbox.pending()
    assert (row.body, row.receiver) == (SECRET.encode(), "login-1")
    (parked,) = await store.inbox.parked(10)
    assert (parked.row.body, parked.error) == (SECRET.encode(), "Traceback: ValueError")
    assert await store.outbox.of(row.id) == {0: "sending"}
    latest = await store.copies.latest(NETWORK, CHAT)
    assert latest is not None
    assert [copy.id for copy in await store.copies.of(NETWORK, CHAT, latest.id)] == ["one", "$one"]
    assert await store.portals.all() == [portal()]
    assert await store.links.all() == [link()]
    assert await store.ghosts.all(NETWORK) == [ghost()]
    assert await store.members.of(portal().room) == {ghost().mxid: Stay("join")}
    assert await store.logins.all() == [login()]
    assert await store.kv.get("example", "state") == SECRET.encode()
    await store.close()


async def test_what_any_version_wrote_comes_through_all_later_ones(url: str, key: SealingKey):
    """A row in each table as it was when the table was new."""
    driver = await connect(url)
    steps, filled = migrations(), set[str]()
    for number in range(1, len(steps) + 1):
        await migrate(driver, steps[:number])
        filled = await fill(driver, filled)
    for table in TABLES:
        assert [row[0] for row in await driver.fetch(f"SELECT count(*) FROM {table.name}")] == [1], table.name
    place, keys = (ChatId("x"), "x", PersonId("x"), 1), Keys(driver, key)
    assert await keys.stands_first(*place, MessageId("x")) is True
    assert await keys.stands_first(*place, MessageId("y")) is False
    await driver.close()


async def test_the_no_of_matrix_is_known_among_those_of_older_versions(url: str, key: SealingKey):
    """Until version 16 only its wording told it from the no of an operator."""
    driver = await connect(url)
    await migrate(driver, migrations()[:15])
    columns = (
        "id, network, chat, scopes, person, name, account, at, wording, lost, until, ended, ended_by, granted"
    )
    row = "'irc', '#chat', 'bridge', 'x', 'x', '', 1, $2, 0, 0, 0, '', $3"
    said = [(1, "!bridge revoke, in the Matrix room", 0), (2, "Do you agree?", 0), (3, "Do you agree?", 1)]
    await driver.script([(f"INSERT INTO consents ({columns}) VALUES ($1, {row})", one) for one in said])
    await driver.close()
    store = await Store.open(url, key)
    assert [consent.withholds() for consent in await store.consents.all()] == [True, False, False]
    await store.close()


async def fill(driver: Driver, before: set[str]) -> set[str]:
    """A row in each table that was not there before; all there are."""
    new: dict[str, dict[str, Value]] = {}
    for table, column, kind in await driver.fetch(_COLUMNS[driver.dialect]):
        if table not in before:
            value: Value = 1 if kind.lower() in ("bigint", "integer") else "x"
            new.setdefault(table, {})[column] = b"x" if kind.lower() in ("blob", "bytea") else value
    del new["schema_version"]
    for table, row in new.items():
        marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"
        await driver.script([(sql, tuple(row.values()))])
    return before | set(new)


_COLUMNS = {
    "sqlite": "SELECT t.name, c.name, c.type FROM sqlite_master AS t, pragma_table_info(t.name) AS c "
    "WHERE t.type = 'table'",
    "postgres": "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns "
    "WHERE table_schema = 'public'",
}


@pytest.mark.parametrize(
    "url", ["store.db", "mysql://x", "sqlite:", "sqlite://store.db", "sqlite:///", "sqlite:///:memory:"]
)
async def test_an_address_of_another_kind_is_refused(url: str, key: SealingKey):
    with pytest.raises(ConfigError, match="A database address is sqlite:///"):
        await Store.open(url, key)


async def test_a_relative_sqlite_address_is_a_file_here(tmp_path: Path, key: SealingKey, monkeypatch):
    monkeypatch.chdir(tmp_path)
    await (await Store.open("sqlite:///here.db", key)).close()
    assert (tmp_path / "here.db").exists()


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, key: SealingKey):
    with pytest.raises(ConfigError, match=r"cannot be opened: .*No such file"):
        await Store.open(f"sqlite:///{tmp_path}/nowhere/store.db", key)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, key: SealingKey):
    (tmp_path / "store.db").write_text("This is a letter and no database. " * 100)
    with pytest.raises(ConfigError, match="not a database") as refused:
        await Store.open(f"sqlite:///{tmp_path}/store.db", key)
    assert not refused.value.passing
    held = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [path for path in held if path.startswith(str(tmp_path))], "nothing is left open"


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, errno.ENOSPC])
async def test_a_disk_that_is_full_is_no_fault_of_the_config(
    tmp_path: Path, key: SealingKey, monkeypatch: pytest.MonkeyPatch, code: int
):
    """Where the disk is full, SQLite cannot make its shared memory either, and calls that an I/O error."""
    full: Exception = OSError(code, "No space left on device")
    if code != errno.ENOSPC:
        full = sqlite3.OperationalError("disk I/O error")
        full.sqlite_errorcode = code

    def fails(_path: Path) -> sqlite3.Connection:
        raise full

    monkeypatch.setattr(sqlite, "open_connection", fails)
    with pytest.raises(ConfigError, match="cannot be opened") as refused:
        await Store.open(f"sqlite:///{tmp_path}/store.db", key)
    assert refused.value.passing


async def test_a_disk_that_is_full_in_a_migration_is_told(tmp_path: Path):
    driver = await connect(f"sqlite:///{tmp_path}/store.db")
    await driver.script([("PRAGMA max_page_count = 8", ())])
    steps = [
        Migration(1, "0001_little.sql", "CREATE TABLE little (a BIGINT);\n"),
        Migration(2, "0002_much.sql", "CREATE TABLE much AS SELECT randomblob(100000) AS a;\n"),
    ]
    with pytest.raises(
        ConfigError, match=r"store\.db cannot be written: database or disk is full"
    ) as refused:
        await migrate(driver, steps)
    assert refused.value.passing
    await driver.script([("PRAGMA max_page_count = 1000", ())])
    assert await migrate(driver, steps) == 1
    await driver.close()


async def test_a_postgresql_whose_disk_is_full_in_a_migration_is_told(postgres):
    driver = await connect(await postgres.create_database())
    full = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;\n"
    with pytest.raises(ConfigError, match="cannot be written: could not extend file") as refused:
        await migrate(driver, [Migration(1, "0001_much.sql", full)])
    assert refused.value.passing
    assert await migrate(driver, [Migration(1, "0001_little.sql", "CREATE TABLE little (a BIGINT);\n")]) == 1
    await driver.close()


async def test_what_an_upgrade_does_to_a_database_with_data_is_logged_as_it_begins(tmp_path: Path):
    """It may take long, and the bridge says nothing else meanwhile."""
    driver = await connect(f"sqlite:///{tmp_path}/store.db")
    steps = [Migration(n, f"000{n}_step.sql", f"CREATE TABLE t{n} (a BIGINT);\n") for n in (1, 2)]
    with capture_logs() as logs:
        assert await migrate(driver, steps[:1]) == 1
        assert logs == []
        assert await migrate(driver, steps) == 1
    assert [(entry["event"], entry["step"], entry["of"]) for entry in logs] == [("schema_changes", 2, 2)]
    await driver.close()


async def test_a_postgresql_that_is_not_there_is_refused_at_once(key: SealingKey):
    with pytest.raises(ConfigError, match="PostgreSQL database cannot be opened") as refused:
        await Store.open(f"postgresql://someone:{SECRET}@127.0.0.1:{free_port()}/x", key)
    assert refused.value.passing


async def test_a_postgresql_database_that_is_not_there_is_refused(postgres, key: SealingKey):
    with pytest.raises(ConfigError, match='"nowhere" does not exist') as refused:
        await Store.open(postgres.dsn("nowhere"), key)
    assert not refused.value.passing


async def test_transactions_of_last_week_are_forgotten_when_the_store_opens(url: str, key: SealingKey):
    store = await Store.open(url, key)
    await store.commit(store.transactions.record("new"))
    await store.close()
    driver = await connect(url)
    week_ago = time.time_ns() // 1_000_000 - 7 * 24 * 3600 * 1000
    rows = [("old", week_ago, "[]"), ("6 days", week_ago + 10**8, "[]")]
    await driver.load(insert(TRANSACTIONS), rows)
    await driver.close()
    store = await Store.open(url, key)
    await asyncio.sleep(0)  # housekeeping starts
    await store.commit()
    assert [await store.transactions.seen(txn) for txn in ("old", "6 days", "new")] == [False, True, True]
    await store.close()
