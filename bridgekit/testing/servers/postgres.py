"""A real PostgreSQL with a data folder of its own, restartable in place."""

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from bridgekit.testing.servers.process import (
    ServerUnavailable,
    Service,
    find_program,
    free_port,
    private_directory,
    run,
    unprivileged_user,
)

SUPERUSER = "bridgekit"


def find_binaries() -> tuple[Path, Path]:
    """`initdb` and `postgres` of one version, Debian's newest first. Raises ServerUnavailable where there is none."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    folders = sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
    found = find_program("initdb", *folders)
    if found is None or not (server := found.resolve().parent / "postgres").exists():
        raise ServerUnavailable(
            "PostgreSQL is not installed: run `make servers`, or apt-get install postgresql."
        )
    return found, server


class Postgres:
    """A database server on 127.0.0.1. Stopping and starting it keeps port and data."""

    def __init__(self, folder: Path, binary: Path, user: str | None) -> None:
        self.port = free_port()
        self.data = folder / "data"
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": folder,
            "max_connections": 100,
            # A test's data may die with the machine; a killed process loses nothing by this.
            "fsync": "off",
        }
        self.service = Service(
            name="PostgreSQL",
            argv=[binary, "-D", self.data, *(f"--{key}={value}" for key, value in options.items())],
            ready=self._ready,
            log=folder / "postgres.log",
            user=user,
            stop_signal=signal.SIGINT,  # "fast shutdown": TERM would wait for every client to leave
        )
        self._databases = 0

    def dsn(self, database: str = "postgres") -> str:
        """The address of a database, as asyncpg reads it (no password: everybody on loopback is trusted)."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    async def create_database(self, name: str | None = None) -> str:
        """Make an empty database (of that name, else of a new one) and return its address."""
        self._databases += 1
        chosen = name or f"test_{self._databases}"
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", chosen):
            raise ValueError(f"{chosen!r} is no plain database name")
        connection = await asyncpg.connect(self.dsn())
        try:
            await connection.execute(f"CREATE DATABASE {chosen} TEMPLATE template0")
        finally:
            await connection.close()
        return self.dsn(chosen)

    async def start(self) -> None:
        """Start and return once it takes queries. Raises ServerFailed."""
        await self.service.start()

    async def stop(self) -> None:
        """End the server with its connections; the data stays."""
        await self.service.stop()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self.service.kill()

    async def _ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn(), timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True


@asynccontextmanager
async def postgres() -> AsyncIterator[Postgres]:
    """A PostgreSQL that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed."""
    initdb, binary = find_binaries()
    user = unprivileged_user("postgres")
    with private_directory("postgres", user) as folder:
        server = Postgres(folder, binary, user)
        options = ["-A", "trust", "-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--no-sync"]
        await run([initdb, *options, "-D", server.data], log=folder / "initdb.log", user=user)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
