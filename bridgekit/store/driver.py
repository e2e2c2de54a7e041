"""What a database must do for the repositories: read, and write units in group commits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec
import structlog

from bridgekit.contract.errors import BridgeError, ConfigError
from bridgekit.store.statements import Params, Statement, Value, Write

log = structlog.get_logger()

Dialect = Literal["sqlite", "postgres"]

LOCKED = "Another bridgekit runs on this database: stop that one first, or give each its own database."
CLOSE_WITHIN = 10.0
"""Seconds that `close` gives the last writes, if nobody says otherwise."""


def unusable(sentence: str, *, passing: bool = False) -> ConfigError:
    """The database cannot be used as configured, and why; `passing`: not now."""
    return ConfigError([("", sentence)], passing=passing)


class StoreError(BridgeError):
    """One unit could not be written, and nothing of it is on disk; or the store is closed."""


class Unit(msgspec.Struct, frozen=True, eq=False):
    """Writes that happen together or not at all, and the future that says so."""

    writes: Sequence[Write]
    future: asyncio.Future[None]


def settle(units: Sequence[Unit], errors: dict[int, Exception]) -> int:
    """Resolve the units' futures; `errors` are by position. Return how many failed. Failures are logged here."""
    failures: Counter[tuple[tuple[str, ...], str]] = Counter()
    for position, unit in enumerate(units):
        future = unit.future
        if position not in errors:
            if not future.done():
                future.set_result(None)
            continue
        error = errors[position]
        tables = tuple(sorted({write.statement.table.name for write in unit.writes}))
        failures[tables, type(error).__name__] += 1
        if not future.done():
            # The type alone: a database's own words may quote the values.
            refused = StoreError(f"The database refused a write ({type(error).__name__}).")
            failed = error if isinstance(error, StoreError) else refused
            failed.__cause__ = error if failed is not error else None
            future.set_exception(failed)
            future.exception()  # it is logged: asyncio need not complain that nobody looked
    for (names, kind), count in failures.items():
        log.error("store_write_failed", tables=list(names), error=kind, units=count)
    return len(errors)


class Reader(Protocol):
    """Reads with `$1` parameters."""

    async def fetch(self, sql: str, *params: Value) -> list[Sequence[Any]]:
        """All rows. Sees everything whose commit has resolved."""
        ...


class Driver(Reader, Protocol):
    """One open database, locked against a second bridge."""

    dialect: Dialect
    trouble: str | None  # why writes are waiting just now; None while they are not
    failures: int  # units that failed

    def submit(self, units: list[Unit]) -> None:
        """Write the units in order, in as few transactions as there is time for; resolve each future once durable.

        A unit that the database refuses fails alone, with StoreError. While the database is away (or its disk is
        full) everything waits, and nothing is lost or reordered.
        """
        ...

    async def script(self, statements: Sequence[tuple[str, Params]]) -> None:
        """Run statements of one's own in one transaction, outside the group commits (migrations, copies)."""
        ...

    async def load(self, statement: Statement, rows: Sequence[Params]) -> None:
        """Insert many rows in one transaction (copies)."""
        ...

    async def close(self, within: float = CLOSE_WITHIN) -> None:
        """Write what was submitted, then let go of the database. What cannot be written in so many seconds fails."""
        ...
