"""What the config says of links and networks about their people: whose ghosts are wanted, who gives roles."""

from __future__ import annotations

from collections.abc import Mapping

from bridgekit.config import Config
from bridgekit.contract.connector import Network
from bridgekit.contract.ids import NetworkId, PortalKey
from bridgekit.core.membership import Mode


class Modes:
    """The config's `members` by link, and `grant_roles` by network."""

    def __init__(self, networks: Mapping[NetworkId, Network]) -> None:
        self._networks = networks
        self._of_links: dict[PortalKey, Mode] = {}
        self._of_networks: dict[NetworkId, Mode] = {}
        self._grants: frozenset[NetworkId] = frozenset()

    def read(self, config: Config) -> None:
        """Take over what the config says now."""
        self._grants = frozenset(id for id, section in config.networks.items() if section.grant_roles)
        self._of_networks = {id: section.members for id, section in config.networks.items()}
        self._of_links = {
            PortalKey(id, found[0]): link.members
            for id, section in config.networks.items()
            for link in section.links
            if link.members is not None
            and id in self._networks
            and (found := self._networks[id].chat_id(link.chat)) is not None
        }

    def of(self, side: PortalKey) -> Mode:
        """The mode of a link."""
        return self._of_links.get(side) or self._of_networks.get(side.network, Mode.GRADUAL)

    def grants(self, network: NetworkId) -> bool:
        """Whether a role that is given in Matrix is given on the network too."""
        return network in self._grants
