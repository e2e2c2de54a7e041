"""Loops: what the bridge itself said on one side and hears on another is not passed on, and people are told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.core import wording
from bridgekit.core.rates import Buckets, Rate
from bridgekit.core.repeats import Repeats
from bridgekit.runtime.clock import now
from bridgekit.runtime.registry import Registry
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

REMEMBERED = 5000
"""Messages that were said last, on all sides together: an echo comes within seconds."""
TELLS = Rate(1, 3_600_000)
ECHO = 60_000
"""Milliseconds within which words that come back are the bridge's own, where no id says so."""
ONCE = Rate(1, 600_000)
"""Whoever quotes the bridge word for word is heard; who does it twice in ten minutes is another mouth of its own."""


class Loops:
    """Ids are a network's own, but the same network seen over two connections shows the same ids on both. Where there
    are none, or where words are heard sooner than their id is known, the words tell, with the name that the bridge
    put before them."""

    def __init__(
        self,
        registry: Registry,
        *,
        label: Callable[[NetworkId], str],
        say: Callable[[ChatId, str], Coroutine[Any, Any, None]],
        spawn: Spawn,
    ) -> None:
        self._registry = registry
        self._label = label
        self._say = say
        self._spawn = spawn
        self._said: OrderedDict[MessageId, PortalKey] = OrderedDict()
        self._words: OrderedDict[tuple[PortalKey, str], int] = OrderedDict()
        self._told: Buckets[PortalKey] = Buckets(TELLS)
        self._quotes: Buckets[tuple[PortalKey, PersonId]] = Buckets(ONCE)
        self._repeats = Repeats()
        self._logged: Buckets[tuple[ChatId, PersonId]] = Buckets(TELLS)

    def saying(self, side: PortalKey, words: str) -> None:
        """The bridge is about to say something on a side in somebody's name, which stands before it."""
        if line := _first(words):
            self._words[side, line] = now()
            self._words.move_to_end((side, line))
            if len(self._words) > REMEMBERED:
                self._words.popitem(last=False)

    def said(self, side: PortalKey, id: MessageId) -> None:
        """The bridge has said something on a side, which the network calls so."""
        self._said[id] = side
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def repeated(self, room: ChatId, side: PortalKey, number: int, fact: Fact) -> str:
        """Why a fact of any side of the room is not passed on: somebody else's relay repeats there what the bridge has
        passed on already; "" where none does."""
        if not isinstance(fact, facts.Message) or not self._repeats.hear(room, number, fact, now()):
            return ""
        if self._logged.take((room, fact.sender.id), now()):
            log.warning("relay_repeats", network=side.network, room=room)
        return wording.repeated(fact.sender.name)

    def is_ours(self, side: PortalKey, fact: Fact) -> bool:
        """Whether a fact is what the bridge itself said elsewhere: the two sides are one chat."""
        if not isinstance(fact, facts.Message):
            return False
        link = self._registry.links.get(side)
        other = self._said.get(fact.id) or (self._echoed(link, fact) if link is not None else None)
        if other is None or other == side:
            return False
        twin = self._registry.links.get(other)
        if link is not None and self._told.take(side, now()):
            log.warning("loop_detected", network=side.network, other=other.network)
            name = twin.name if twin is not None else str(other.chat)
            words = wording.loop(link.name, self._label(side.network), name, self._label(other.network))
            self._spawn(self._say(link.room, f"⚠ {words}"))
        return True

    def _echoed(self, link: Link, fact: facts.Message) -> PortalKey | None:
        """On which other side of the room the bridge has just said that, where the same voice repeats it again."""
        if fact.own is not None or fact.replayed:
            return None
        line, since = _first(fact.content.text.body), now() - ECHO
        for other in self._registry.links_of(link.room):
            if other.key != link.key and self._words.get((other.key, line), 0) > since:
                return None if self._quotes.take((link.key, fact.sender.id), now()) else other.key
        return None


def _first(words: str) -> str:
    """The first line, which is all that some networks carry at once."""
    return words.strip().partition("\n")[0].strip()
