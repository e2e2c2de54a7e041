"""PostgreSQL: one writing connection with group commits, two reading ones; all of them come back by themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import asyncpg
import structlog

from bridgekit.store.driver import CLOSE_WITHIN, LOCKED, Dialect, StoreError, Unit, settle, unusable
from bridgekit.store.statements import Params, Run, Statement, Value, arrange

log = structlog.get_logger()

T = TypeVar("T")

_READERS = 2
_GROUP = 4096  # units in one transaction at most
_LOCK = 0x6272_6964_6765  # pg_try_advisory_lock takes any number; it is held per database
_ANSWER_WITHIN = 60.0
_AT_LEISURE = 24 * 3600.0  # seconds for what goes through whole tables: migrations, copies, backups
_ASK_AFTER = 10.0  # seconds without a write after which the server is asked whether it is there
_SLOW = 10.0  # seconds after which a write that has no answer counts as one that waits
_PARTING = 0.2  # seconds for the server to hear that we go, where no time is left
_SETTINGS = {
    "application_name": "bridgekit",
    # Without these the server would keep the lock of a bridge whose machine vanished for two hours.
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "client_min_messages": "warning",
}
# SQLSTATE classes and codes that speak of the server and not of the data: connection, resources, intervention,
# a standby that is read-only.
_PASSING = ("08", "53", "57", "25006")


_CLOSED = "The store was closed while the database was away."


class Away(Exception):
    """The server cannot be used just now."""


class PostgresDriver:
    """One PostgreSQL database, as Driver has it."""

    dialect: Dialect = "postgres"

    def __init__(self, dsn: str, writer: asyncpg.Connection, *, at_leisure: bool = False) -> None:
        self.trouble: str | None = None
        self.failures = 0
        self._dsn = dsn
        self._at_leisure = at_leisure
        self._writer: asyncpg.Connection | None = writer
        self._writing = asyncio.Lock()  # one transaction at a time on the writing connection
        self._idle: list[asyncpg.Connection] = []
        self._reading = asyncio.Semaphore(_READERS)
        self._units: list[Unit] = []
        self._work = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._write_forever(), name="store-writer")

    @classmethod
    async def open(cls, dsn: str, *, at_leisure: bool = False) -> PostgresDriver:
        """Connect and take the database's lock; `at_leisure`: a read may take hours. Raises ConfigError."""
        try:
            writer = await connect(dsn, at_leisure=at_leisure)
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            said = f"The PostgreSQL database cannot be opened: {_reason(error)}."
            raise unusable(said, passing=_passes(error)) from error
        try:
            # A bridge that was killed a moment ago may not have been missed yet.
            for _ in range(20):
                if await _lock(writer):
                    return cls(dsn, writer, at_leisure=at_leisure)
                await asyncio.sleep(0.1)
            raise unusable(LOCKED, passing=True)  # its server may not have missed yet who had it
        except BaseException:
            writer.terminate()
            raise

    # Reading

    async def fetch(self, sql: str, *params: Value) -> list[Sequence[Any]]:
        async with self._reading:
            return await self._persist(partial(self._read, sql, params), writes=False)

    async def _read(self, sql: str, params: Params) -> list[Sequence[Any]]:
        connection = self._idle.pop() if self._idle else await self._reach()
        try:
            rows: list[Any] = await connection.fetch(sql, *params)
        except BaseException as error:
            away = _away(error, connection)
            connection.terminate()
            if away is not None:
                raise away from error
            raise
        self._idle.append(connection)
        return rows

    async def _reach(self) -> asyncpg.Connection:
        """Connect to a server that was there before: whatever stands in the way passes. Raises Away."""
        try:
            return await connect(self._dsn, at_leisure=self._at_leisure)
        except Exception as error:
            raise Away(_reason(error)) from error

    # Writing

    def submit(self, units: list[Unit]) -> None:
        self._units += units
        self._work.set()

    async def script(self, statements: Sequence[tuple[str, Params]]) -> None:
        async def job(connection: asyncpg.Connection) -> None:
            for sql, params in statements:
                await connection.execute(sql, *params, timeout=_AT_LEISURE)

        await self._transact(job)

    async def load(self, statement: Statement, rows: Sequence[Params]) -> None:
        async def job(connection: asyncpg.Connection) -> None:
            await _perform(connection, Run(statement, list(rows)))

        await self._transact(job)

    async def _transact(self, job: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        async with self._writing:
            writer = await self._writer_now()
            try:
                async with writer.transaction():
                    await job(writer)
            except Exception as error:
                if (away := _away(error, writer)) is None:
                    raise
                raise unusable(f"The database cannot be written: {away}.", passing=True) from error

    async def close(self, within: float = CLOSE_WITHIN) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + within
        self._closing = True
        self._work.set()
        try:
            async with asyncio.timeout(within):
                await asyncio.shield(self._task)
        except TimeoutError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        connections = [*self._idle, *([self._writer] if self._writer else [])]
        left = max(until - clock(), _PARTING)
        await asyncio.gather(*(_close(connection, left) for connection in connections))

    async def _write_forever(self) -> None:
        while not self._closing or self._units:
            try:
                async with asyncio.timeout(_ASK_AFTER):
                    await self._work.wait()
            except TimeoutError:
                await self._write([])  # is it still there, and its lock ours?
            self._work.clear()
            while units := self._units[:_GROUP]:
                del self._units[:_GROUP]
                await self._write(units)

    async def _write(self, units: list[Unit]) -> None:
        errors: dict[int, Exception] = {}
        slow = asyncio.get_running_loop().call_later(_SLOW, self._miss)
        try:
            async with self._writing:
                errors = await self._persist(partial(self._group, units), writes=True)
        except asyncio.CancelledError:  # `close` waits no longer
            units += self._units
            self._units = []
            errors = dict.fromkeys(range(len(units)), StoreError(_CLOSED))
            raise
        except Exception as error:
            errors = dict.fromkeys(range(len(units)), error)
        finally:
            slow.cancel()
            self.failures += settle(units, errors)

    def _wait(self, reason: str) -> None:
        """Writes wait just now."""
        if self.trouble is None:
            log.error("store_waits", reason=reason)
        self.trouble = f"The database cannot be used: {reason}."

    def _miss(self) -> None:
        """A write has had no answer for a while. Where one says why, that is known better."""
        if self.trouble is None:
            self._wait("it does not answer")

    async def _group(self, units: list[Unit]) -> dict[int, Exception]:
        """Write the group; return the error of each unit that could not be, by position."""
        writer = await self._writer_now()
        try:
            try:
                runs = arrange(unit.writes for unit in units)
                if len(runs) == 1:  # one statement is a transaction of its own
                    await _perform(writer, runs[0])
                else:
                    await writer.execute("BEGIN")
                    for run in runs:
                        await _perform(writer, run)
                    await writer.execute("COMMIT")
                return {}
            except Exception as error:
                if _away(error, writer) is not None:
                    raise
            # One of them is bad: find it, and let the others pass.
            if writer.is_in_transaction():
                await writer.execute("ROLLBACK")
            errors: dict[int, Exception] = {}
            await writer.execute("BEGIN")
            await self._divide(writer, units, 0, errors)
            await writer.execute("COMMIT")
            return errors
        except BaseException as error:
            # Nobody knows what the server has seen: begin anew on another connection. Statements may be repeated.
            away = _away(error, writer)
            self._drop_writer()
            if away is not None:
                raise away from error
            raise

    async def _divide(
        self, writer: asyncpg.Connection, units: list[Unit], first: int, errors: dict[int, Exception]
    ) -> None:
        await writer.execute("SAVEPOINT part")
        try:
            for run in arrange(unit.writes for unit in units):
                await _perform(writer, run)
        except Exception as error:
            if _away(error, writer) is not None:
                raise
            await writer.execute("ROLLBACK TO part")
            if len(units) == 1:
                errors[first] = error
            else:
                middle = len(units) // 2
                await self._divide(writer, units[:middle], first, errors)
                await self._divide(writer, units[middle:], first + middle, errors)
        await writer.execute("RELEASE part")

    async def _writer_now(self) -> asyncpg.Connection:
        """The writing connection, with the lock. Raises Away while another bridge has it."""
        if self._writer is None or self._writer.is_closed():
            self._drop_writer()
            writer = await self._reach()
            try:
                if not await _lock(writer):
                    raise Away(LOCKED)
            except BaseException as error:
                away = _away(error, writer)  # a server that goes down the moment that it let us in
                writer.terminate()
                if away is not None and away is not error:
                    raise away from error
                raise
            self._writer = writer
        return self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.terminate()
            self._writer = None

    async def _persist(self, attempt: Callable[[], Awaitable[T]], *, writes: bool) -> T:
        """Try until the server is there. Raises StoreError for what another try would not change."""
        wait = 0.05
        while True:
            try:
                result = await attempt()
            except Away as away:
                if self._closing:
                    raise StoreError(_CLOSED) from away
                if writes:
                    self._wait(str(away))
                await asyncio.sleep(wait * random.uniform(0.7, 1.3))
                wait = min(wait * 2, 5.0)
                continue
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise StoreError(f"The database refused: {_reason(error)}") from error
            if writes and self.trouble is not None:
                self.trouble = None
                log.info("store_writes_again")
            return result


async def connect(dsn: str, *, at_leisure: bool = False) -> asyncpg.Connection:
    """A connection with our settings; `at_leisure`: a statement may take hours. Raises what asyncpg raises."""
    within = _AT_LEISURE if at_leisure else _ANSWER_WITHIN
    return await asyncpg.connect(dsn, timeout=10, command_timeout=within, server_settings=_SETTINGS)


async def _lock(connection: asyncpg.Connection) -> bool:
    """Lock the database for as long as this connection lives; False where another one has it."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK))


async def _close(connection: asyncpg.Connection, within: float) -> None:
    try:
        await connection.close(timeout=within)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


async def _perform(connection: asyncpg.Connection, run: Run) -> None:
    """Execute one run in one round trip."""
    statement, rows = run.statement, run.lasting
    if len(rows) == 1:
        await connection.execute(statement.sql, *rows[0])
    elif statement.bulk is None:
        await connection.executemany(statement.sql, rows)
    elif statement.bulk == "delete":
        await connection.execute(statement.unnest, [row[0] for row in rows])
    else:
        await connection.execute(statement.unnest, *map(list, zip(*rows, strict=True)))


def _away(error: BaseException, connection: asyncpg.Connection) -> Away | None:
    """The error as Away where the server is gone, full or read-only, so that the same may go well later."""
    if isinstance(error, Away):
        return error
    if _passes(error) or (isinstance(error, Exception) and connection.is_closed()):
        return Away(_reason(error))
    return None


def _passes(error: BaseException) -> bool:
    code = str(getattr(error, "sqlstate", "") or "")
    return isinstance(error, OSError | TimeoutError) or code.startswith(_PASSING)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, asyncpg.InternalClientError):  # it ended just as something was asked
        return "the connection was lost"
    said = str(error).partition("\n")[0]  # the details and hints come in further lines
    return said.rstrip(".") or type(error).__name__
