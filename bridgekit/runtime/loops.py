"""Loops: what the bridge itself said on one side and hears on another is not passed on, and people are told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PortalKey
from bridgekit.core import wording
from bridgekit.core.rates import Buckets, Rate
from bridgekit.runtime.lenient import now
from bridgekit.runtime.registry import Registry

log = structlog.get_logger(__name__)

REMEMBERED = 5000
"""Messages that were said last, on all sides together: an echo comes within seconds."""
TELLS = Rate(1, 3_600_000)


class Loops:
    """Ids are a network's own, but the same network seen over two connections shows the same ids on both."""

    def __init__(
        self,
        registry: Registry,
        *,
        label: Callable[[NetworkId], str],
        say: Callable[[ChatId, str], Coroutine[Any, Any, None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._registry = registry
        self._label = label
        self._say = say
        self._spawn = spawn
        self._said: OrderedDict[MessageId, PortalKey] = OrderedDict()
        self._told: Buckets[PortalKey] = Buckets(TELLS)

    def said(self, side: PortalKey, id: MessageId) -> None:
        """The bridge has said something on a side, which the network calls so."""
        self._said[id] = side
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def is_ours(self, side: PortalKey, fact: Fact) -> bool:
        """Whether a fact is what the bridge itself said elsewhere: the two sides are one chat."""
        if not isinstance(fact, facts.Message):
            return False
        other = self._said.get(fact.id)
        if other is None or other == side:
            return False
        link, twin = self._registry.links.get(side), self._registry.links.get(other)
        if link is not None and self._told.take(side, now()):
            log.warning("loop_detected", network=side.network, other=other.network)
            name = twin.name if twin is not None else str(other.chat)
            words = wording.loop(link.name, self._label(side.network), name, self._label(other.network))
            self._spawn(self._say(link.room, f"⚠ {words}"))
        return True
