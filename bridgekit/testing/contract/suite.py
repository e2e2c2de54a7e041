"""The suite itself: the fixtures that hold its parts together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridgekit.contract.connector import Connector, Network
from bridgekit.contract.ids import NetworkId
from bridgekit.contract.people import Login
from bridgekit.testing.contract.bench import Bench, chat_called, opened
from bridgekit.testing.contract.failing import FailingContract
from bridgekit.testing.contract.hearing import HearingContract
from bridgekit.testing.contract.naming import NamingContract
from bridgekit.testing.contract.peer import Peer
from bridgekit.testing.contract.speaking import SpeakingContract
from bridgekit.testing.host import FakeHost


class ConnectorContract(NamingContract, HearingContract, SpeakingContract, FailingContract):
    """Every promise of `bridgekit.contract.connector`, as tests.

    A connector's test subclasses it and provides three fixtures: `connector`, `config` (of the manifest's config
    type; without flood control, or the checks take as long as it says) and `peer` (`bridgekit.testing.contract.Peer`).
    `login` may give an account to try. It needs pytest-asyncio with `asyncio_mode = "auto"`.
    """

    @pytest.fixture
    def connector(self) -> Connector:
        raise NotImplementedError("provide a fixture `connector`")

    @pytest.fixture
    def config(self) -> Any:
        raise NotImplementedError("provide a fixture `config`")

    @pytest.fixture
    def peer(self) -> Peer:
        raise NotImplementedError("provide a fixture `peer`")

    @pytest.fixture
    def login(self) -> Login | None:
        """One Matrix user's own account on the network, where there are such accounts."""
        return None

    @pytest.fixture
    def host(self) -> FakeHost:
        return FakeHost()

    @pytest.fixture
    def network(self, connector: Connector, config: Any, host: FakeHost, peer: Peer) -> Network:
        """The network, with the peer's shared chat linked."""
        host.network = NetworkId(connector.manifest.id)
        network = connector.network(config, host)
        host.linked[:] = [chat_called(network, peer.shared)]
        return network

    @pytest.fixture
    async def bench(self, network: Network, peer: Peer) -> AsyncIterator[Bench]:
        """The relay, connected, read, and in the shared chat."""
        async with opened(network, peer) as bench:
            await bench.enter(bench.shared)
            yield bench
