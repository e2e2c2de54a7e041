"""Writes as values: constant SQL with `$1` parameters, and how a batch of them becomes few long runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal

import msgspec

Value = int | str | bytes | None
Params = tuple[Value, ...]
Bulk = Literal["insert", "upsert", "delete"]


def storable(text: str) -> str:
    """Free text as every database takes it: without NUL (PostgreSQL) and without lone surrogates (UTF-8)."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


class Column(msgspec.Struct, frozen=True):
    """A column's name and its PostgreSQL type: "bigint", "text" or "bytea"."""

    name: str
    type: str


class Table(msgspec.Struct, frozen=True):
    """A table's columns in the order of `INSERT`; the first `keys` of them are the primary key."""

    name: str
    columns: tuple[Column, ...]
    keys: int


def table(name: str, keys: int, /, **columns: str) -> Table:
    """A table by its columns: `table("kv", 2, namespace="text", key="text", value="bytea")`."""
    return Table(name, tuple(Column(column, kind) for column, kind in columns.items()), keys)


class Statement:
    """One constant SQL statement.

    The rule that lets a batch be arranged: a statement touches only rows of its own table whose first key column
    equals its first parameter; one that touches more is `wide`. And every statement may be repeated at once with
    the same outcome, because after a connection that broke in COMMIT nobody knows whether it took place.
    """

    def __init__(
        self, on: Table, sql: str, *, bulk: Bulk | None = None, tail: str = "", wide: bool = False
    ) -> None:
        self.table = on
        self.sql = sql
        self.bulk = bulk
        self.wide = wide
        self._tail = tail
        self._rows: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"Statement({self.sql!r})"

    @cached_property
    def unnest(self) -> str:
        """The PostgreSQL form of a whole run: one array parameter for each column."""
        columns = self.table.columns
        if self.bulk == "delete":
            return f"DELETE FROM {self.table.name} WHERE {columns[0].name} = ANY($1::{columns[0].type}[])"
        arrays = ", ".join(f"${n}::{column.type}[]" for n, column in enumerate(columns, 1))
        return f"{_into(self.table)} SELECT * FROM unnest({arrays}) {self._tail}"

    def rows(self, count: int) -> str:
        """The SQLite form of `count` rows in one statement, with `?` parameters."""
        if (sql := self._rows.get(count)) is None:
            columns = self.table.columns
            if self.bulk == "delete":
                sql = f"DELETE FROM {self.table.name} WHERE {columns[0].name} IN ({', '.join('?' * count)})"
            else:
                row = f"({', '.join('?' * len(columns))})"
                sql = f"{_into(self.table)} VALUES {', '.join([row] * count)} {self._tail}"
            self._rows[count] = sql
        return sql


def _into(on: Table) -> str:
    return f"INSERT INTO {on.name} ({', '.join(column.name for column in on.columns)})"


def _values(on: Table) -> str:
    return f"{_into(on)} VALUES ({', '.join(f'${n}' for n in range(1, len(on.columns) + 1))})"


def insert(on: Table) -> Statement:
    """Insert a row; where its key exists already, the old row stays."""
    tail = "ON CONFLICT DO NOTHING"
    return Statement(on, f"{_values(on)} {tail}", bulk="insert", tail=tail)


def upsert(on: Table) -> Statement:
    """Insert a row, or replace the one with its key."""
    keys = ", ".join(column.name for column in on.columns[: on.keys])
    changes = ", ".join(f"{column.name} = excluded.{column.name}" for column in on.columns[on.keys :])
    tail = f"ON CONFLICT ({keys}) DO UPDATE SET {changes}"
    return Statement(on, f"{_values(on)} {tail}", bulk="upsert", tail=tail)


def delete(on: Table, keys: int = 1) -> Statement:
    """Delete the rows whose first `keys` key columns have these values."""
    where = " AND ".join(f"{column.name} = ${n}" for n, column in enumerate(on.columns[:keys], 1))
    return Statement(on, f"DELETE FROM {on.name} WHERE {where}", bulk="delete" if keys == 1 else None)


class Write(msgspec.Struct, frozen=True):
    """A change that has not happened yet: `store.commit` makes it happen. `also` happens with it."""

    statement: Statement
    params: Params
    also: Write | None = None


class Run(msgspec.Struct):
    """One statement for many rows, in order."""

    statement: Statement
    rows: list[Params]

    @property
    def lasting(self) -> list[Params]:
        """The rows without those of which nothing would be left: an upsert sets the whole row, so the last one counts.

        (PostgreSQL also refuses a statement that changes a row twice.)
        """
        if self.statement.bulk != "upsert" or len(self.rows) == 1:
            return self.rows
        keys = self.statement.table.keys
        return list({row[:keys]: row for row in self.rows}.values())


def arrange(units: Iterable[Sequence[Write]]) -> list[Run]:
    """Put equal statements together without changing the outcome.

    Two writes keep their order if they may touch the same row; all others commute, so a write joins the latest run
    of its statement unless a later run touches its key.
    """
    runs: list[Run] = []
    latest: dict[Statement, int] = {}
    touched: dict[str, dict[Value, int]] = {}
    for unit in units:
        for first in unit:
            write: Write | None = first
            while write is not None:
                statement, params = write.statement, write.params
                keys = touched.get(statement.table.name)
                if keys is None:
                    keys = touched[statement.table.name] = {}
                at = latest.get(statement, -1)
                if statement.wide:
                    at = latest[statement] = len(runs)
                    runs.append(Run(statement, [params]))
                    # Nothing of this table may move to before it.
                    for other, run in latest.items():
                        if other.table is statement.table and run < at:
                            latest[other] = -1
                else:
                    key = params[0]
                    if at < 0 or at < keys.get(key, 0):
                        at = latest[statement] = len(runs)
                        runs.append(Run(statement, [params]))
                    else:
                        runs[at].rows.append(params)
                    keys[key] = at
                write = write.also
    return runs
