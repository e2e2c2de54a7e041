"""An empty store on each engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridgekit.store import SealingKey, Store
from bridgekit.testing.servers.postgres import Postgres


@pytest.fixture
def key() -> SealingKey:
    return SealingKey.generate()


async def empty_database(engine: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The address of a new database."""
    if engine == "sqlite":
        return f"sqlite:///{folder / 'store.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return await server.create_database()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "postgres":
        request.getfixturevalue("postgres")  # here, because it cannot start inside a running loop
    return name


@pytest.fixture
async def url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return await empty_database(engine, request, tmp_path)


@pytest.fixture
async def store(url: str, key: SealingKey) -> AsyncIterator[Store]:
    opened = await Store.open(url, key)
    yield opened
    await opened.close()
