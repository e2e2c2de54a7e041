"""The doorstep: what people of a network say to the bridge's own account there, in private."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Kind
from bridgekit.core.rates import Buckets, Rate
from bridgekit.runtime.clock import now
from bridgekit.runtime.linking.portals import Portals
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

PER_PERSON = Rate(1, 10 * 60_000)
PER_NETWORK = Rate(5, 60_000)
"""Explanations, so that nobody can make the bridge write to others, or flood its own connection."""

Listener = Callable[[PortalKey, facts.Message], bool]
"""Takes words that were meant for it, and says whether they were."""


class Doorstep:
    """Words go to the `listeners` in turn; those that nobody takes are answered with what the bridge is.

    What a machine says is never answered (RFC 2812 3.3.2 asks that of a NOTICE): two bridges would explain
    themselves to each other for ever.
    """

    def __init__(
        self,
        portals: Portals,
        *,
        me: PersonId,
        label: Callable[[NetworkId], str],
        spawn: Spawn,
    ) -> None:
        self.listeners: list[Listener] = []
        self._portals = portals
        self._me = me
        self._label = label
        self._spawn = spawn
        self._people: Buckets[PortalKey] = Buckets(PER_PERSON)
        self._networks: Buckets[NetworkId] = Buckets(PER_NETWORK)

    def overhear(self, side: PortalKey, fact: Fact) -> None:
        """A fact of a chat that has no room."""
        self._portals.overhear(side, fact)
        if not isinstance(fact, facts.Message) or not fact.private or side.receiver is not None:
            return
        if fact.replayed or fact.own is not None or fact.sender.bot or fact.content.kind is Kind.NOTICE:
            return
        if any(listener(side, fact) for listener in self.listeners):
            return
        if self._people.take(side, now()) and self._networks.take(side.network, now()):
            log.info("doorstep_explained", network=side.network)
            self._spawn(self._portals.announce(side, self._explanation(side.network)))

    def _explanation(self, network: NetworkId) -> str:
        return (
            f"I am {self._me}, a bridge between {self._label(network)} and Matrix: I pass on what is said in the chats "
            "that are linked, and nobody reads what is written to me. Say !bridge in a chat where I am, "
            "and I tell what it is linked to."
        )
