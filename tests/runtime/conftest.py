"""Where a bridge under test keeps what it must not forget: on SQLite, and on PostgreSQL where it can be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridgekit.testing.servers.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "postgres":
        request.getfixturevalue("postgres")  # here, because it cannot start inside a running loop
    return name


@pytest.fixture
async def database(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The section `store` of a config, with a new database; put it into `World.more`."""
    url = f"sqlite:///{tmp_path}/bridge.db"
    if engine == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = await server.create_database()
    return {"store": {"url": url, "key_file": str(tmp_path / "bridge.key")}}
