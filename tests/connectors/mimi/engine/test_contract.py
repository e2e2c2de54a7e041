"""The MIMI connector keeps the contract, as a follower in a room of another provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridgekit.contract.connector import Connector
from bridgekit.testing.contract import ConnectorContract
from bridgekit.testing.servers.process import free_port
from connectors.mimi.config import MimiConfig
from connectors.mimi.connector import connector
from connectors.mimi.testing.far_side import BRIDGE, FarSide, Ground, far_side


class TestMimi(ConnectorContract):
    @pytest.fixture
    def port(self) -> int:
        return free_port()

    @pytest.fixture
    async def both(self, tmp_path: Path, port: int) -> AsyncIterator[tuple[FarSide, Ground]]:
        async with far_side(tmp_path, port) as made:
            yield made

    @pytest.fixture
    def peer(self, both: tuple[FarSide, Ground]) -> FarSide:
        return both[0]

    @pytest.fixture
    def connector(self) -> Connector:
        return connector

    @pytest.fixture
    def config(self, both: tuple[FarSide, Ground], port: int) -> MimiConfig:
        ground = both[1]
        return MimiConfig(
            domain=BRIDGE,
            certificate=ground.certificate,
            key=ground.key,
            authorities=ground.authorities,
            listen="127.0.0.1",
            port=port,
            public_url=f"https://127.0.0.1:{port}",
            peers=ground.peers,
        )
