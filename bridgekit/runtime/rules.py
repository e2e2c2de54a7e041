"""What the config says of links and networks, as the rules that the core decides by."""

from __future__ import annotations

from collections.abc import Mapping

from bridgekit.config import Ceiling, Config
from bridgekit.config import Link as StaticLink
from bridgekit.config.types import rate_of
from bridgekit.contract.connector import Network, OwnAccounts
from bridgekit.contract.ids import NetworkId, PortalKey
from bridgekit.contract.policy import Exposure
from bridgekit.core.direct import Direct
from bridgekit.core.exposure import SECRET, Bound, JoinRule
from bridgekit.core.gate import GateMode, GateRules
from bridgekit.core.membership import Mode
from bridgekit.core.scopes import Policy
from bridgekit.core.shield import ShieldRules
from bridgekit.store.rows import Link


class Rules:
    """The rules of every link. `members`, `grant_roles` and what is written at single links can be read anew; the rest
    is as it was at the start."""

    def __init__(self, config: Config, networks: Mapping[NetworkId, Network]) -> None:
        """`networks` are those of the config; it may be filled later, before `read`, without which nothing is known
        of single links."""
        self._sections = config.networks
        self._networks = networks
        self._links: dict[PortalKey, StaticLink] = {}  # what the config says of single links
        self._of_networks: dict[NetworkId, Mode] = {}
        self._grants: frozenset[NetworkId] = frozenset()
        self.gates: dict[NetworkId, GateRules] = {}

    def read(self, config: Config) -> None:
        """Take over what may change while the bridge runs."""
        self._grants = frozenset(id for id, section in config.networks.items() if section.grant_roles)
        self._of_networks = {id: section.members for id, section in config.networks.items()}
        # By what the config calls it: what a chat calls itself is for its own people to choose.
        self._links = {
            PortalKey(id, found[0]): link
            for id, section in config.networks.items()
            for link in section.links
            if id in self._networks and (found := self._networks[id].chat_id(link.chat)) is not None
        }

    def mode(self, side: PortalKey) -> Mode:
        """Whose ghosts are wanted in the room of a link."""
        own = self._links.get(side)
        of_link = own.members if own is not None else None
        return of_link or self._of_networks.get(side.network, Mode.GRADUAL)

    def grants(self, network: NetworkId) -> bool:
        """Whether a role that is given in Matrix is given on the network too."""
        return network in self._grants

    def consent(self, network: NetworkId) -> Policy:
        """Whether a network's chats are asked before they are linked."""
        section = self._sections.get(network)
        return section.consent if section is not None else Policy.REQUIRED

    def direct(self, network: NetworkId) -> Direct:
        """Between whom private conversations may begin there."""
        section = self._sections.get(network)
        return section.direct if section is not None else Direct.OFF

    def gate(self, network: NetworkId) -> GateRules:
        """Who may read there."""
        if network not in self.gates:
            # Where everybody has an account of their own, nobody reads without one.
            automatic = self._networks[network].own_accounts is OwnAccounts.AUTOMATIC
            usual = GateMode.PAUSE if automatic else GateMode.RELAY_ALLOWED
            self.gates[network] = GateRules(mode=self._sections[network].gate or usual)
        return self.gates[network]

    def ceiling(self, link: Link) -> Bound:
        """How open a chat's room may be at most: the meet of the network's bound and the link's own."""
        section = self._sections.get(link.key.network)
        if section is None:
            return SECRET
        bound, own = _bound(section.ceiling), self._links.get(link.key)
        return bound.meet(_bound(own.ceiling)) if own is not None and own.ceiling is not None else bound

    def shield(self, link: Link) -> ShieldRules | None:
        """The shield of a link: its own, or the network's; None where there is none."""
        section = self._sections.get(link.key.network)
        if section is None:
            return None
        own = self._links.get(link.key)
        wanted = (own.shield if own is not None else None) or section.shield
        if wanted is None:
            return None
        return ShieldRules(
            person=rate_of(wanted.person),
            link=rate_of(wanted.link),
            joins=rate_of(wanted.joins),
            patience=wanted.patience * 1000,
            quarantine=wanted.quarantine,
        )


def _bound(ceiling: Ceiling) -> Bound:
    return Bound(
        history=Exposure[ceiling.history.name],
        join=JoinRule[ceiling.join.name],
        guests=True,
        listed=ceiling.listed,
        findable=True,
        media=ceiling.media,
    )
