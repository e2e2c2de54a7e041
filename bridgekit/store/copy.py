"""Moves a whole store between SQLite and PostgreSQL, and makes backups of a running one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg

from bridgekit.store.canary import COPYING, check_sealed_with
from bridgekit.store.driver import Driver, Reader, StoreError, unusable
from bridgekit.store.migrate import Migration, migrate, migrations, unseen, version_of
from bridgekit.store.sealing import SealingKey
from bridgekit.store.snapshot import Snapshot, open_read_only, snapshot
from bridgekit.store.statements import Table, insert
from bridgekit.store.tables import META, TABLES
from bridgekit.store.traffic import COMPARED
from bridgekit.store.urls import connect, sqlite_path


async def copy(source_url: str, target_url: str, key: SealingKey) -> dict[str, int]:
    """Copy everything into an empty database; return the rows of each table. No bridge may run on either.

    What is sealed stays sealed with the same key. Raises ConfigError: the target is not empty, the key is not the
    source's, the source has an old schema, a bridge runs on one of them. A copy that breaks off leaves a target
    that no bridge accepts.
    """
    if (path := sqlite_path(source_url)) is not None and not path.exists():
        raise unusable(f"There is no database {path}.")
    source = await connect(source_url)  # its lock: nobody writes what would then be missing
    try:
        async with snapshot(source_url) as seen:
            await _require_newest_schema(seen)
            await check_sealed_with(seen, key)
            target = await connect(target_url, at_leisure=True)
            try:
                await migrate(target)
                return await _fill(seen, target)
            finally:
                await target.close()
    finally:
        await source.close()


async def backup(url: str, path: Path | str) -> None:
    """Write the store, as it is at one moment, into a new SQLite file (mode 0600). The bridge may be running.

    The sealing key is not part of it: keep that, too. Raises ConfigError; also where a newer bridgekit has written it,
    or it is damaged.
    """
    path = Path(path)
    if path.exists():
        raise unusable(f"{path} exists already: a backup goes into a new file.")
    draft = path.with_name(path.name + ".part")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL, 0o600))
        source = sqlite_path(url)
        if source is not None:
            async with snapshot(url) as seen:
                await _steps_left(seen)  # what a newer bridgekit keeps is not for this one to copy
            await asyncio.to_thread(_backup_sqlite, source, draft)
        else:
            await _backup_postgres(url, draft)
        await asyncio.to_thread(_forget_compared, draft)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.rename(path)
    except (OSError, sqlite3.Error) as error:
        raise unusable(f"The backup {path} cannot be written: {error}.") from error
    finally:
        for left in ("", "-wal", "-shm", ".lock"):
            draft.with_name(draft.name + left).unlink(missing_ok=True)


def _backup_sqlite(source: Path, draft: Path) -> None:
    with closing(open_read_only(source)) as reading, closing(sqlite3.connect(draft)) as writing:
        # All pages in one step are one moment; in WAL mode that keeps no writer waiting.
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = DELETE")  # one file, without -wal and -shm
        found = writing.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":  # pages are copied as they are, and nobody looks at a backup before it is needed
        raise unusable(
            f"The database {source} is damaged: no backup of it was written. Restore an earlier one."
        )


def _forget_compared(draft: Path) -> None:
    """What comes after the backup is not in it; whoever restores it must not take all of that for left behind."""
    with closing(sqlite3.connect(draft)) as writing, writing:
        writing.execute("DELETE FROM kv WHERE namespace = ? AND key = ?", COMPARED)


async def _backup_postgres(url: str, draft: Path) -> None:
    async with snapshot(url) as seen:
        await _require_newest_schema(seen)
        target = await connect(f"sqlite:///{draft}")
        try:
            await migrate(target)
            await _fill(seen, target)
        finally:
            await target.close()


async def _fill(seen: Snapshot, target: Driver) -> dict[str, int]:
    for table in (META, *TABLES):
        if await _count(target, table):
            raise unusable(f"The target is not empty (table {table.name}): copy into a new database.")
    await target.script([("INSERT INTO meta (name, value) VALUES ($1, $2)", (COPYING, b"1"))])
    copied: dict[str, int] = {}
    for table in TABLES:
        columns, statement = ", ".join(column.name for column in table.columns), insert(table)
        try:
            async for rows in seen.chunks(f"SELECT {columns} FROM {table.name}"):
                await target.load(statement, rows)
        except (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StoreError(f"The table {table.name} could not be copied: {error}") from error
        copied[table.name] = await _count(target, table)
        expected = await _count(seen, table)
        if copied[table.name] != expected:
            raise StoreError(f"{copied[table.name]} of {expected} rows of {table.name} arrived.")
    async for rows in seen.chunks("SELECT name, value FROM meta"):
        await target.load(insert(META), rows)
    await target.script([("DELETE FROM meta WHERE name = $1", (COPYING,))])
    return copied


async def _require_newest_schema(seen: Snapshot) -> None:
    if left := await _steps_left(seen):
        raise unusable(
            f"The source has an older schema, {len(left)} behind this bridgekit: "
            "run `bridgekit db migrate` on it first."
        )


async def _steps_left(seen: Snapshot) -> list[Migration]:
    """The migrations that the source has not seen. Raises ConfigError where it is none of ours, or too new."""
    try:
        version = await version_of(seen)
    except (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if isinstance(error, asyncpg.UndefinedTableError) or _is_foreign(error):
            raise unusable("The source is no bridgekit database.") from None
        raise unusable(f"The source cannot be read: {error}.") from error
    return unseen(version, migrations())


def _is_foreign(error: Exception) -> bool:
    """Whether SQLite could read the file, and found none of our tables, or no database at all."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB)


async def _count(reader: Reader, table: Table) -> int:
    return int((await reader.fetch(f"SELECT count(*) FROM {table.name}"))[0][0])
