"""Who may read the networks' chats: what is more secret counts at once, what opens when it was calm for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from bridgekit.contract import facts
from bridgekit.contract.ids import NetworkId, PortalKey
from bridgekit.contract.policy import Visibility
from bridgekit.core import steady
from bridgekit.core.steady import Steady
from bridgekit.runtime.clock import now
from bridgekit.runtime.registry import Registry

log = structlog.get_logger(__name__)

TOLD_SECONDS = 3.0
"""A network that says nothing for so long of who may read a chat that is open keeps it secret."""
OVERDUE_SECONDS = 300.0
"""The same where somebody speaks in a chat of which the network has not said that it is open: with many chats, that
takes a while."""


class Visibilities:
    """`bridgekit.core.steady`, with a clock, for every chat of which something was heard since the bridge was away.

    `lowered` is told of a chat that is more secret than it was, `changed` of each that has to be compared anew, and
    `flickered` how often one has changed that is calm again.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        lowered: Callable[[PortalKey], None],
        changed: Callable[[PortalKey], None],
        flickered: Callable[[PortalKey, int], object],
    ) -> None:
        self._registry = registry
        self._lowered = lowered
        self._changed = changed
        self._flickered = flickered
        self._steady: dict[PortalKey, Steady] = {}
        self._awaited: dict[PortalKey, asyncio.TimerHandle] = {}
        self._closed: set[PortalKey] = set()  # the bridge is not in there: nothing more is said of it
        self._restless: set[PortalKey] = set()

    def __contains__(self, side: PortalKey) -> bool:
        """Whether it is known who may read a chat; one that does not say in time is known to be secret."""
        return side in self._steady

    def of(self, side: PortalKey) -> Visibility | None:
        """Who may read a chat, as far as it counts now; None where nothing was heard of it since the
        bridge was away."""
        known = self._steady.get(side)
        return known.shown if known is not None else None

    def hear(self, side: PortalKey, fact: facts.ChatVisibility | facts.ChatOpened | facts.ChatClosed) -> None:
        """A chat was opened or closed, or its network says who may read it. What is more secret counts this very
        moment."""
        if isinstance(fact, facts.ChatClosed):
            self._closed.add(side)
            self.doubt(side)
            return
        self._closed.discard(side)
        if isinstance(fact, facts.ChatOpened):
            if side in self._steady:
                self._changed(side)
            else:
                self._await_word(side, TOLD_SECONDS)
            return
        before = self._steady.get(side)
        after = self._steady[side] = steady.heard(before, fact.visibility, now())
        self._registry.visibility[side] = fact.visibility
        if after.due:
            self._wait_for_calm(side, after)
        if before is None or after.shown != before.shown:
            if before is not None and _is_lower(after.shown, before.shown):
                self._lowered(side)  # until its room is as secret
            self._changed(side)

    def lost(self, network: NetworkId) -> None:
        """What was said while the connection was lost, nobody has heard: all chats of the network are in doubt."""
        for side in [side for side in (*self._steady, *self._awaited) if side.network == network]:
            self.doubt(side)

    def doubt(self, side: PortalKey) -> None:
        """Who may read a chat is not known any more; until it is said anew, nothing passes."""
        self._stop_waiting(side)
        if self._steady.pop(side, None) is not None:
            self._lowered(side)
            self._changed(side)

    def spoken(self, side: PortalKey) -> None:
        """Something was said in a chat, and waits."""
        if side not in self._steady and side not in self._awaited:
            self._await_word(side, OVERDUE_SECONDS)

    def _await_word(self, side: PortalKey, seconds: float) -> None:
        """The bridge is in a chat, and has not heard who may read it: that is waited for a while."""
        self._stop_waiting(side)
        loop = asyncio.get_running_loop()
        self._awaited[side] = loop.call_later(seconds, self._count_as_secret, side)

    def _stop_waiting(self, side: PortalKey) -> None:
        if (timer := self._awaited.pop(side, None)) is not None:
            timer.cancel()

    async def told(self, side: PortalKey) -> None:
        """Wait until the network has said who may read a chat that was just opened, a moment at most."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TOLD_SECONDS
        while side not in self._steady and loop.time() < deadline:  # noqa: ASYNC110 - the network tells when it does
            await asyncio.sleep(0.02)
        self._steady.setdefault(side, Steady())

    def forget(self, side: PortalKey) -> None:
        """The bridge is not in the chat any more."""
        self._steady.pop(side, None)
        self._closed.discard(side)

    def _count_as_secret(self, side: PortalKey) -> None:
        del self._awaited[side]
        if side not in self._steady and side not in self._closed:
            self._steady[side] = Steady()
            self._changed(side)

    def _wait_for_calm(self, side: PortalKey, known: Steady) -> None:
        if side not in self._restless:
            self._restless.add(side)
            delay = max(0, known.due - now()) / 1000 + 0.01
            asyncio.get_running_loop().call_later(delay, self._calm, side)

    def _calm(self, side: PortalKey) -> None:
        self._restless.discard(side)
        known = self._steady.get(side)
        if known is None or not known.due:
            return
        calmed = self._steady[side] = steady.calmed(known, now())
        if calmed.due:
            self._wait_for_calm(side, calmed)
            return
        if known.flickered:
            log.warning("visibility_flipped", network=side.network, times=known.flips)
            self._flickered(side, known.flips)
        if known.restless:
            self._changed(side)


def _is_lower(one: Visibility, other: Visibility) -> bool:
    return steady.more_secret(other, one) != other
