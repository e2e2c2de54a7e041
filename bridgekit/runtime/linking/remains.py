"""What remains of a network that is not configured any more: its links and accounts, until somebody takes them away."""

from __future__ import annotations

from collections.abc import Container

import msgspec
import structlog

from bridgekit.contract.ids import ChatId, NetworkId
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.store.rows import Link

log = structlog.get_logger(__name__)


class Remain(msgspec.Struct):
    """How much of one network is left."""

    links: int = 0
    accounts: int = 0

    def __str__(self) -> str:
        return " and ".join(
            f"{number} {thing}{'' if number == 1 else 's'}"
            for number, thing in ((self.links, "link"), (self.accounts, "account"))
            if number
        )


def remains(registry: Registry, configured: Container[NetworkId]) -> dict[NetworkId, Remain]:
    """The networks that links or accounts name, and the config does not."""
    found: dict[NetworkId, Remain] = {}
    for side in registry.links:
        if side.network not in configured:
            found.setdefault(side.network, Remain()).links += 1
    for row in registry.logins.values():
        if row.network not in configured:
            found.setdefault(row.network, Remain()).accounts += 1
    return dict(sorted(found.items()))


class Remains:
    """Names them, and clears them away. Nothing is done by itself: a network may be missing by mistake."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        portals: Portals,
        accounts: Accounts,
        configured: Container[NetworkId],
    ) -> None:
        self._store = store
        self._registry = registry
        self._portals = portals
        self._accounts = accounts
        self._configured = configured

    def are_of(self, network: NetworkId) -> bool:
        """Whether something is left of the network, and it is not configured."""
        return network in self.all()

    def all(self) -> dict[NetworkId, Remain]:
        """What is left of which network."""
        return remains(self._registry, self._configured)

    def tell(self) -> None:
        """Say it in the log, at the start."""
        for network, left in self.all().items():
            log.warning("network_not_configured", network=network, links=left.links, accounts=left.accounts)

    def link(self, room: ChatId, network: NetworkId, name: str) -> Link | None:
        """A link of the room, by what people called the chat: its network cannot be asked any more."""
        for link in self._registry.links_of(room):
            if link.key.network == network and name.casefold() in (
                link.name.casefold(),
                link.key.chat.casefold(),
            ):
                return link
        return None

    async def forget(self, network: NetworkId) -> Remain:
        """Take apart every link, forget every account with its password, and what the connector kept."""
        left = self.all().get(network, Remain())
        for link in [link for link in self._registry.links.values() if link.key.network == network]:
            await self._portals.say(
                link.room, f"This room is no longer linked to {link.name}: {network} is not bridged any more."
            )
            await self._portals.unlink(link.key, reason=f"{network} is not bridged any more")
        for row in [row for row in self._registry.logins.values() if row.network == network]:
            await self._accounts.close(network, row.login.id)
        kept = self._store.kv
        await self._store.commit(*[kept.put(network, key, None) for key in await kept.items(network)])
        log.info("network_forgotten", network=network, links=left.links, accounts=left.accounts)
        return left
