"""A database as it is at one moment, read beside a bridge that may be running."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import asyncpg

from bridgekit.store.driver import Reader, unusable
from bridgekit.store.postgres import connect
from bridgekit.store.sqlite import numbered
from bridgekit.store.statements import Params, Value
from bridgekit.store.urls import sqlite_path

_CHUNK = 5000


class Snapshot(Reader, Protocol):
    """All reads see the same moment."""

    def chunks(self, sql: str) -> AsyncIterator[list[Params]]:
        """The rows, some at a time."""
        ...


class _Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *params: Value) -> list[Sequence[Any]]:
        return self._connection.execute(numbered(sql), params).fetchall()

    async def chunks(self, sql: str) -> AsyncIterator[list[Params]]:
        cursor = self._connection.execute(sql)
        while rows := await asyncio.to_thread(cursor.fetchmany, _CHUNK):
            yield rows


class _Postgres:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *params: Value) -> list[Sequence[Any]]:
        rows: list[Any] = await self._connection.fetch(sql, *params)
        return rows

    async def chunks(self, sql: str) -> AsyncIterator[list[Params]]:
        cursor = await self._connection.cursor(sql)
        while rows := await cursor.fetch(_CHUNK):
            yield [tuple(row) for row in rows]


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot change the file. Raises ConfigError where there is none."""
    if not path.exists():
        raise unusable(f"There is no database {path}.")
    try:
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise unusable(f"The database {path} cannot be opened: {error}.") from error


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Snapshot]:
    """The database at this moment; it takes no lock. Raises ConfigError."""
    path = sqlite_path(url)
    if path is not None:
        with closing(open_read_only(path)) as reading:
            reading.execute("BEGIN")
            yield _Sqlite(reading)
        return
    try:
        connection = await connect(url, at_leisure=True)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unusable(f"The PostgreSQL database cannot be opened: {error}.") from error
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield _Postgres(connection)
    finally:
        await connection.close(timeout=5)
