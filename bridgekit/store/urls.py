"""Which driver opens which address."""

from __future__ import annotations

from pathlib import Path

from bridgekit.store.driver import Driver, unusable

_FORMS = "A database address is sqlite:///file.db, sqlite:////folder/file.db or postgresql://user:password@host/name."


def sqlite_path(url: str) -> Path | None:
    """The file of a `sqlite:` address (three slashes: relative, four: absolute); None for PostgreSQL.

    Raises ConfigError for an address that is none.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ("postgresql", "postgres"):
        return None
    if scheme != "sqlite" or not rest.startswith("/") or rest in ("/", "/:memory:"):
        raise unusable(_FORMS)
    return Path(rest[1:])


async def connect(url: str, *, at_leisure: bool = False) -> Driver:
    """Open the database, locked against a second bridge; `at_leisure`: a read may take hours. Raises ConfigError."""
    path = sqlite_path(url)
    if path is not None:
        from bridgekit.store.sqlite import SqliteDriver

        return await SqliteDriver.open(path)
    from bridgekit.store.postgres import PostgresDriver

    return await PostgresDriver.open(url, at_leisure=at_leisure)
