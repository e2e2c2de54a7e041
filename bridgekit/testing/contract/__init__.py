"""The suite that every connector must pass, ours or a third party's: subclass `ConnectorContract` and give it a `Peer`.

class TestMine(ConnectorContract):
    @pytest.fixture
    def connector(self): return my_connector.connector

    @pytest.fixture
    def config(self, server): return MyConfig(port=server.port)

    @pytest.fixture
    def peer(self, server): return MyPeer(server)
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{part}" for part in ("bench", "failing", "hearing", "naming", "speaking"))
)

from bridgekit.testing.contract.bench import Bench, opened  # noqa: E402
from bridgekit.testing.contract.peer import Ability, Peer  # noqa: E402
from bridgekit.testing.contract.suite import ConnectorContract  # noqa: E402

__all__ = ["Ability", "Bench", "ConnectorContract", "Peer", "opened"]
