"""Messages that are to go at a time: kept until then, and taken back (draft-ietf-mimi-content-08, "Expiring")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.connector import Host
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId
from connectors.mimi.clients import telling
from connectors.mimi.messages.parts import MimiContent
from connectors.mimi.translate import name

PREFIX = "expiry/"
LOOK = 3600.0
"""Seconds after which the clock is looked at again in any case."""


class Due(msgspec.Struct, frozen=True, array_like=True):
    """`user` sent the message `id` in `room`; it goes at `at`, seconds since the epoch."""

    room: str
    user: str
    id: str
    at: int


class Expiring:
    """`note` what expires before it is told, and let `run` be a task of its owner's."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._more = asyncio.Event()

    async def note(self, content: MimiContent, *, id: bytes, room: str, user: str) -> bool:
        """False where the time has come already, and the message is to be disregarded.

        Of an edit the expiry does not count: only its body may change anything.
        """
        expires = content.expires
        if expires is None or content.replaces is not None:
            return True
        now = int(self._host.now())
        # The one who reads is the bridge: when people do, their clients need not say.
        at = now + expires.seconds if expires.relative else expires.seconds
        if at <= now and not expires.relative:
            return False
        due = Due(room, user, name(id), at)
        await self._host.put(f"{PREFIX}{at:010d}/{due.id}", msgspec.msgpack.encode(due))
        self._more.set()
        return True

    async def run(self, tell: Callable[[Fact], None]) -> None:
        """Take back what is due, until cancelled."""
        while True:
            self._more.clear()
            wait = LOOK
            for key, raw in sorted((await self._host.items(PREFIX)).items()):
                due = msgspec.msgpack.decode(raw, type=Due)
                left = due.at - self._host.now()
                if left > 0:
                    wait = min(wait, left)
                    break
                tell(
                    facts.Retraction(
                        chat=ChatId(due.room),
                        at=due.at * 1000,
                        sender=telling.person(due.user),
                        target=MessageId(due.id),
                        reason="expired",
                        own=True,
                    )
                )
                await self._host.put(key, None)
            try:
                async with asyncio.timeout(wait):
                    await self._more.wait()
            except TimeoutError:
                pass
