"""Whether the homeserver speaks to this process: another one may run on the same registration, with a store of its own.

Both would give the bot and the ghosts an identity, and each would undo the other's. Nothing on this side tells them
apart, but a ping does (MSC2659): the homeserver sends it to the one address that it knows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog

from bridgekit.contract.errors import HomeserverUnavailable, MatrixRefused

log = structlog.get_logger(__name__)

ELSEWHERE = (
    "Another process answers the homeserver for this registration, so this one makes no keys: it would replace the "
    "other's. Stop one of the two; each bridge needs a registration of its own."
)


class Addressee:
    """What is known of who the homeserver speaks to."""

    def __init__(self, ping: Callable[[str], Awaitable[object]]) -> None:
        """`ping` has the homeserver call the registration's address with a transaction id, and raises MatrixError."""
        self._ping = ping
        self._asking = asyncio.Lock()
        self._sent = ""
        self._came = False
        self._settled = False

    def pinged(self, txn: str | None) -> None:
        """A ping has come here."""
        if txn is not None and txn == self._sent:
            self._came = True

    async def ask(self) -> Literal["us", "nobody knows"]:
        """Find out, once in a run. "nobody knows" where the homeserver knows no ping, or reaches nobody.

        Raises MatrixRefused with a sentence while somebody else answers, and HomeserverUnavailable.
        """
        async with self._asking:
            if not self._settled:
                self._sent, self._came = secrets.token_hex(8), False
                try:
                    await self._ping(self._sent)
                except HomeserverUnavailable:
                    raise
                except MatrixRefused as error:
                    log.warning("ping_refused", reason=error.notice)
                else:
                    if not self._came:
                        raise MatrixRefused(ELSEWHERE)
                self._settled = True
        return "us" if self._came else "nobody knows"
