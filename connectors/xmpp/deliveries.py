"""Fates of what was sent: the room's echo, an error stanza, or silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from xml.etree.ElementTree import Element

from bridgekit.contract.errors import Disconnected, SendRejected, SendUncertain
from bridgekit.contract.ids import MessageId
from connectors.xmpp.stanzas import explain

ECHO_SECONDS = 30.0


class NotThere(SendRejected):
    """The room does not have the speaker (XEP-0045, 7.4: only an occupant may send)."""


class Deliveries:
    """What is under way, by the bare address that it went to and its id on the wire."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], asyncio.Future[MessageId]] = {}
        self._why: dict[tuple[str, str], Callable[[Element, str], str]] = {}
        self._lost = False

    def expect(
        self, to: str, id: str, why: Callable[[Element, str], str] = explain.saying
    ) -> asyncio.Future[MessageId]:
        """Called before it is sent; `why` explains a refusal. Raises Disconnected."""
        if self._lost:
            raise Disconnected("The connection to the XMPP server was lost.")
        waiter: asyncio.Future[MessageId] = asyncio.get_running_loop().create_future()
        self._waiting[to, id], self._why[to, id] = waiter, why
        return waiter

    def arrived(self, to: str, id: str, name: MessageId) -> bool:
        """The room showed it to everybody; False where nobody waits for that."""
        waiter = self._waiting.get((to, id))
        if waiter is None or waiter.done():
            return False
        waiter.set_result(name)
        return True

    def refused(self, stanza: Element, to: str) -> bool:
        """An error stanza came for it."""
        waiter = self._waiting.get((to, stanza.get("id", "")))
        if waiter is None or waiter.done():
            return False
        gone = explain.condition(stanza)[0] == "not-acceptable"
        waiter.set_exception(
            (NotThere if gone else SendRejected)(self._why[to, stanza.get("id", "")](stanza, to))
        )
        return True

    async def fate(self, to: str, id: str, seconds: float = ECHO_SECONDS) -> MessageId:
        """What became of it. Raises SendRejected, SendUncertain; cancelled too, because it is on its way."""
        waiter = self._waiting[to, id]
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            raise SendUncertain(f"{to} did not say whether it arrived.") from None
        except asyncio.CancelledError:
            raise SendUncertain("The bridge did not wait for the answer: it may have arrived.") from None
        finally:
            self.forget(to, id)

    def forget(self, to: str, id: str) -> None:
        """Nobody waits for it any more."""
        waiter = self._waiting.pop((to, id), None)
        self._why.pop((to, id), None)
        if waiter is not None and waiter.done() and not waiter.cancelled():
            waiter.exception()

    def lost(self) -> None:
        """The connection is gone: what is under way may have arrived."""
        self._lost = True
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(SendUncertain("The connection was lost before XMPP confirmed it."))
