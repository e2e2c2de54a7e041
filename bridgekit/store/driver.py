"""What a database must do for the repositories: read, and write units in group commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from bridgekit.contract.errors import BridgeError
from bridgekit.store.statements import Params, Value, Write

Dialect = Literal["sqlite", "postgres"]


class StoreError(BridgeError):
    """One unit could not be written, and nothing of it is on disk; or the store is closed."""


class Unit(msgspec.Struct, frozen=True, eq=False):
    """Writes that happen together or not at all, and the future that says so."""

    writes: Sequence[Write]
    future: asyncio.Future[None]


class Reader(Protocol):
    """Reads with `$1` parameters."""

    async def fetch(self, sql: str, *params: Value) -> list[Sequence[Any]]:
        """All rows. Sees everything whose commit has resolved."""
        ...


class Driver(Reader, Protocol):
    """One open database, locked against a second bridge."""

    dialect: Dialect
    trouble: str | None  # why writes are waiting just now; None while they are not

    def submit(self, units: list[Unit]) -> None:
        """Write the units in order, in as few transactions as there is time for; resolve each future once durable.

        A unit that the database refuses fails alone, with StoreError. While the database is away (or its disk is
        full) everything waits, and nothing is lost or reordered.
        """
        ...

    async def script(self, statements: Sequence[tuple[str, Params]]) -> None:
        """Run statements of one's own in one transaction, outside the group commits (migrations, copies)."""
        ...

    async def load(self, sql: str, rows: Sequence[Params]) -> None:
        """Run one statement for many rows in one transaction (copies)."""
        ...

    async def close(self) -> None:
        """Write what was submitted, then let go of the database. What cannot be written in 10 s fails."""
        ...
