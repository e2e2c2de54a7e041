"""SQLite: one writer thread with group commits, two reader threads, WAL, fsync at every commit."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import queue
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import structlog

from bridgekit.store.driver import CLOSE_WITHIN, LOCKED, Dialect, StoreError, Unit, settle, unusable
from bridgekit.store.statements import Params, Run, Statement, Value, arrange

log = structlog.get_logger()

_READERS = 2
_GROUP = 4096  # units in one transaction at most, so that it stays well below a second
# Beside a busy event loop every group costs switches between the threads, however small it is. So after a group of at
# least _BUSY units the writer waits this long for more: less than half as many groups, a fifth less CPU per message.
_BUSY = 8
_GATHER = 0.002
_ROWS = (1, 2, 4, 8, 16, 32, 64)  # rows in one statement; 64 rows of 13 columns stay below 999 parameters
# A thread that wants the interpreter asks for it after this long. The interpreter's own 5 ms is longer than a busy
# event loop goes without a system call, and each of those starts the wait anew: a commit then took 70 to 400 ms
# beside a busy loop, and takes 2 to 20 with this (docs/decisions/0003-store.md).
_SWITCH_INTERVAL = 0.00005
# The disk or another program stands in the way, not the data: wait, and try the same again.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}
# Every so many pages a commit also writes the log back into the database, and whoever waits for that commit waits for
# that too. A message that comes alone takes seven pages, so at SQLite's own 1,000 that struck one message in 135.
_CHECKPOINT = 8000
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0  # seconds until a try is repeated that may go better later
_PRAGMAS = ("busy_timeout = 5000", "cache_size = -4096", "temp_store = MEMORY")


# The file is damaged: no other try helps, and an admin has to see it.
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


# What stands in the way of opening it, too, and is not the config's fault.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


class Passing(Exception):
    """The database cannot be used just now."""


_PARAMETER = re.compile(r"\$(\d+)")

Job = Callable[[sqlite3.Connection], None]


@lru_cache(maxsize=1024)
def numbered(sql: str) -> str:
    """`$1` as SQLite takes parameters: `?` where they stand in order, else `?1`."""
    # Python 3.12.0 to 3.12.3 warn of ?1 as if it were a name (CPython issue 117995).
    found = [int(number) for number in _PARAMETER.findall(sql)]
    return _PARAMETER.sub("?" if found == list(range(1, len(found) + 1)) else r"?\1", sql)


def open_connection(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, for whichever one thread uses it."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=5
    )
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    # As PostgreSQL has it: for migrations.
    connection.create_function("sha256", 1, lambda value: hashlib.sha256(value).digest(), deterministic=True)
    return connection


class SqliteDriver:
    """One SQLite file, as Driver has it."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path, lock: int, writer: sqlite3.Connection) -> None:
        self.trouble: str | None = None
        self.failures = 0
        self._path = path
        self._lock = lock
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[Unit] | None] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._giving_up = threading.Event()
        self._closing = False
        self._connections = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, "store-reader")
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path) -> SqliteDriver:
        """Open the file, made with mode 0600 if it is missing. Raises ConfigError."""
        lock, writer = -1, None
        try:
            lock = _take_lock(path)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            writer = open_connection(path)
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("PRAGMA synchronous = FULL")  # the plug may be pulled
            writer.execute("PRAGMA journal_size_limit = 67108864")
            writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
            writer.execute(
                "PRAGMA busy_timeout = 500"
            )  # it tries again by itself: a stop need not wait for it
        except BaseException as error:
            if writer is not None:
                writer.close()
            if lock >= 0:
                os.close(lock)
            if isinstance(error, OSError | sqlite3.Error):
                said = f"The database {path} cannot be opened: {error}."
                raise unusable(said, passing=_passes(error)) from error
            raise
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
        return cls(path, lock, writer)

    # Reading

    async def fetch(self, sql: str, *params: Value) -> list[Sequence[Any]]:
        wait = _FIRST_WAIT
        while not self._closing:
            try:
                return await self._loop.run_in_executor(self._readers, self._read, sql, params)
            except Passing:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            except sqlite3.Error as error:
                raise StoreError(f"The database could not be read: {error}") from error
        raise StoreError("The store is closed.")

    def _read(self, sql: str, params: Params) -> list[Sequence[Any]]:
        with passing():
            connection: sqlite3.Connection | None = getattr(self._connections, "reader", None)
            if connection is None:
                connection = open_connection(self._path)
                self._opened.append(connection)
                connection.execute("PRAGMA query_only = ON")
                self._connections.reader = connection
            return connection.execute(numbered(sql), params).fetchall()

    # Writing

    def submit(self, units: list[Unit]) -> None:
        self._queue.put(units)

    async def script(self, statements: Sequence[tuple[str, Params]]) -> None:
        def job(connection: sqlite3.Connection) -> None:
            for sql, params in statements:
                connection.execute(numbered(sql), params)

        await self._transact(job)

    async def load(self, statement: Statement, rows: Sequence[Params]) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(numbered(statement.sql), rows)

        await self._transact(job)

    async def _transact(self, job: Job) -> None:
        future: asyncio.Future[None] = self._loop.create_future()

        def transact(connection: sqlite3.Connection) -> None:
            error: Exception | None = None
            try:
                with self._transaction():
                    job(connection)
            except Passing as why:
                error = unusable(f"The database {self._path} cannot be written: {why}.", passing=True)
            except Exception as caught:
                error = caught
            self._loop.call_soon_threadsafe(_tell, future, error)

        self._jobs.put(transact)
        self._queue.put([])
        await future

    async def close(self, within: float = CLOSE_WITHIN) -> None:
        self._closing = True
        self._queue.put(None)
        late = self._loop.call_later(within, self._giving_up.set)
        try:
            await asyncio.to_thread(self._thread.join)
        finally:
            late.cancel()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._opened:
            connection.close()
        self._writer.close()
        os.close(self._lock)

    # The writer thread

    def _work(self) -> None:
        closing = busy = False
        while not closing:
            units: list[Unit] = []
            if busy:
                time.sleep(_GATHER)
            while (more := self._queue.get()) is not None:
                units += more
                if len(units) >= _GROUP or self._queue.empty():
                    break
            closing = more is None
            while not self._jobs.empty():
                self._jobs.get()(self._writer)
            busy = len(units) >= _BUSY
            if units:
                errors = self._write(units)
                # Only a loop that was closed before the store refuses.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._settle, units, errors)

    def _settle(self, units: list[Unit], errors: dict[int, Exception]) -> None:
        self.failures += settle(units, errors)

    def _write(self, units: list[Unit]) -> dict[int, Exception]:
        """Write the group; return the error of each unit that could not be, by position."""
        wait = _FIRST_WAIT
        while True:
            if self.trouble is not None and self._giving_up.is_set():
                return dict.fromkeys(range(len(units)), StoreError(f"The store was closed. {self.trouble}"))
            try:
                errors = self._group(units)
            except Passing as passing:
                if self.trouble is None:
                    log.error("store_waits", reason=str(passing))
                self.trouble = f"The database cannot be written: {passing}."
                self._giving_up.wait(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                continue
            except Exception as error:
                errors = dict.fromkeys(range(len(units)), error)
            if (damage := next(filter(_is_damage, errors.values()), None)) is not None:
                # Its name alone: a database's own words may quote the values.
                name = getattr(damage, "sqlite_errorname", type(damage).__name__)
                if self.trouble is None:
                    log.error("store_broken", reason=name)
                self.trouble = f"The database is damaged ({name}): stop the bridge and restore a backup."
                return errors
            if self.trouble is not None:
                self.trouble = None
                log.info("store_writes_again")
            return errors

    def _group(self, units: list[Unit]) -> dict[int, Exception]:
        try:
            if len(units) == 1 and len(units[0].writes) == 1 and units[0].writes[0].also is None:
                # One statement is a transaction by itself, and takes the interpreter back once and not three times.
                write = units[0].writes[0]
                with passing():
                    self._writer.execute(numbered(write.statement.sql), write.params)
            else:
                with self._transaction():
                    self._perform(units)
            return {}
        except Passing:
            raise
        except Exception:
            # One of them is bad: find it, and let the others pass.
            errors: dict[int, Exception] = {}
            with self._transaction():
                self._divide(units, 0, errors)
            return errors

    def _divide(self, units: list[Unit], first: int, errors: dict[int, Exception]) -> None:
        self._writer.execute("SAVEPOINT part")
        try:
            with passing():
                self._perform(units)
        except Passing:
            raise
        except Exception as error:
            self._writer.execute("ROLLBACK TO part")
            if len(units) == 1:
                errors[first] = error
            else:
                middle = len(units) // 2
                self._divide(units[:middle], first, errors)
                self._divide(units[middle:], first + middle, errors)
        self._writer.execute("RELEASE part")

    def _perform(self, units: list[Unit]) -> None:
        for run in arrange(unit.writes for unit in units):
            perform(self._writer, run)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN and COMMIT, or ROLLBACK. Raises Passing where the data is not to blame."""
        try:
            with passing():
                self._writer.execute("BEGIN IMMEDIATE")
                yield
                self._writer.execute("COMMIT")
        finally:
            if self._writer.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")


def perform(connection: sqlite3.Connection, run: Run) -> None:
    """Execute one run, many rows in one statement where it can be.

    Each statement gives the interpreter away and takes it back, which beside a busy event loop costs more than many
    rows. So the last row is repeated until there are as many as a prepared statement has: twice the same row
    inserted, put or deleted is the same as once.
    """
    rows, statement = run.lasting, run.statement
    if statement.bulk is None or len(rows) == 1:
        for row in rows:
            connection.execute(numbered(statement.sql), row)
        return
    most = _ROWS[-1]
    for at in range(0, len(rows), most):
        part = rows[at : at + most]
        size = next(size for size in _ROWS if size >= len(part))
        part += part[-1:] * (size - len(part))
        connection.execute(statement.rows(size), list(chain.from_iterable(part)))


def _is_damage(error: Exception) -> bool:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _BROKEN


@contextmanager
def passing() -> Iterator[None]:
    """Turn the errors that pass by themselves into Passing."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in _PASSING:
            raise Passing(str(error)) from error
        raise


def _tell(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _passes(error: Exception) -> bool:
    """Whether the same file may well be opened later: the disk is full, or fails now."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _take_lock(path: Path) -> int:
    """Lock the database for this process, as long as the returned descriptor is open. Raises ConfigError, OSError."""
    # Beside the file and not on it: SQLite's own locks on it go with any descriptor that is closed (POSIX fcntl).
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise unusable(LOCKED) from None
    return descriptor
