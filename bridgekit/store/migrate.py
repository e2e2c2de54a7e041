"""Brings a database to the newest schema: numbered SQL files, each in one transaction with its version."""

from __future__ import annotations

import re
from importlib.resources import files

import msgspec
import structlog

from bridgekit.store.driver import Dialect, Driver, Reader, unusable
from bridgekit.store.statements import Params

log = structlog.get_logger(__name__)

_VERSION = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)"
_IS_THERE: dict[Dialect, str] = {
    "sqlite": "SELECT name FROM sqlite_master WHERE name = 'schema_version'",
    "postgres": "SELECT relname::text FROM pg_class WHERE oid = to_regclass('schema_version')",
}
_ONLY = re.compile(r"--\s*(sqlite|postgres)\s*$")


class Migration(msgspec.Struct, frozen=True, order=True):
    """One step: its number, its file's name, and its SQL for all databases."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All steps there are, in order; their numbers are 1, 2, 3 ..."""
    found = sorted(
        Migration(int(file.name[:4]), file.name, file.read_text("utf-8"))
        for file in files("bridgekit.store.migrations").iterdir()
        if re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", file.name)
    )
    assert [step.number for step in found] == list(range(1, len(found) + 1)), "a migration is missing"
    return found


def statements(sql: str, dialect: Dialect) -> list[str]:
    """The statements of a migration for one database.

    A line that ends with `-- sqlite` or `-- postgres` is for that database alone; a semicolon at the end of a line
    ends a statement.
    """
    lines: list[str] = []
    for line in sql.splitlines():
        only = _ONLY.search(line)
        if only is None or only[1] == dialect:
            lines.append(line.partition("--")[0].rstrip())
    return [text for part in re.split(r";\n", "\n".join(lines) + "\n") if (text := part.strip())]


async def version_of(reader: Reader) -> int:
    """The number of the last migration that the database has seen; 0 for an empty one."""
    found = await reader.fetch("SELECT coalesce(max(version), 0) FROM schema_version")
    return int(found[0][0])


async def left_to_do(driver: Driver) -> tuple[int, int]:
    """The version of a database that is only looked at, and how many steps it has not seen. Raises ConfigError if it
    is too new."""
    version = await version_of(driver) if await driver.fetch(_IS_THERE[driver.dialect]) else 0
    return version, len(unseen(version, migrations()))


def unseen(version: int, steps: list[Migration]) -> list[Migration]:
    """The steps that a database of this version has not seen. Raises ConfigError if it is too new."""
    newest = steps[-1].number if steps else 0
    if version > newest:
        raise unusable(
            f"This database has schema {version}, and this bridgekit knows schemas up to {newest}: "
            "run the newer bridgekit that wrote it, or restore a backup."
        )
    return [step for step in steps if step.number > version]


async def migrate(driver: Driver, steps: list[Migration] | None = None) -> int:
    """Run the steps that the database has not seen; return how many. Raises ConfigError if it is too new."""
    steps = migrations() if steps is None else steps
    await driver.script([(_VERSION, ())])
    version = await version_of(driver)
    todo = unseen(version, steps)
    for step in todo:
        if version:
            log.info("schema_changes", step=step.number, of=steps[-1].number)
        script: list[tuple[str, Params]] = [(sql, ()) for sql in statements(step.sql, driver.dialect)]
        script.append(("INSERT INTO schema_version VALUES ($1)", (step.number,)))
        await driver.script(script)
    return len(todo)
