"""Whether the homeserver is there and knows the bridge is asked now and then, where nothing else would show it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from bridgekit.contract.errors import BridgeError, MatrixError
from bridgekit.contract.ids import PersonId
from bridgekit.core import wording
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now, steady

log = structlog.get_logger(__name__)

EVERY = 30.0
"""Seconds without a good answer until the homeserver is asked."""
FIRST_AGAIN = 1.0
"""Seconds until it is asked again where there was none; each later one waits twice as long, up to `EVERY`."""
PATIENCE = 10.0
"""Seconds that an answer may take."""
WORTH_TELLING = 600_000
"""Milliseconds: a shorter absence is a restart, of which nobody has to be told."""


class Heartbeat:
    """`tell` puts words before one of `admins`, and raises MatrixError."""

    def __init__(
        self,
        client: MatrixClient,
        *,
        admins: Callable[[], Collection[PersonId]],
        tell: Callable[[PersonId, str], Awaitable[None]],
    ) -> None:
        self._client = client
        self._admins = admins
        self._tell = tell

    async def run(self) -> None:
        """Ask whenever nothing was heard for a while, until cancelled; admins hear of an absence when it is over."""
        pause, again = EVERY, FIRST_AGAIN
        trouble, since, refused = "", 0, False
        while True:
            await asyncio.sleep(pause)
            if await self._is_well():
                if trouble:
                    await self._over(trouble, since, refused)
                trouble, refused, again = "", False, FIRST_AGAIN
                pause = self._client.homeserver.heard + EVERY - steady()
            else:
                since = since if trouble else now()
                trouble = self._client.trouble or trouble
                refused = refused or bool(self._client.homeserver.refused)
                pause, again = again, min(again * 2, EVERY)

    async def _is_well(self) -> bool:
        """Whether the homeserver has done lately, or does now, what it is asked for."""
        if self._client.available and steady() - self._client.homeserver.heard < EVERY:
            return True
        try:
            await self._client.whoami(timeout=PATIENCE)
        except MatrixError:
            return False
        return True

    async def _over(self, trouble: str, since: int, refused: bool) -> None:
        until = now()
        if not refused and until - since < WORTH_TELLING:
            return
        words = wording.homeserver_trouble(trouble, since, until)
        for admin in self._admins():
            try:
                await self._tell(admin, words)
            except BridgeError as error:
                log.info("admin_not_told", reason=error.notice)
