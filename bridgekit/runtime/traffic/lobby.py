"""The lobby: facts of chats that have no room yet, in order, until it is known whether there will be one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract.errors import BridgeError, HomeserverUnavailable, MatrixRateLimited
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, PortalKey
from bridgekit.matrix.translate import Encrypted, StateChanged, Unreadable
from bridgekit.runtime.cases import Case
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

FULL = 2000
"""Facts of one chat that wait here; more wait on disk."""
FIRST_WAIT = 2.0
LONGEST_WAIT = 60.0
"""Seconds between two tries to make a room while the homeserver cannot."""

Unlinked = Callable[[PortalKey, Fact], Coroutine[Any, Any, ChatId | None]]
"""Makes the room for a chat that has none; None where this fact is no reason for one."""


class Lobby:
    """`deliver` hands a fact to its room; `forget` is told of facts that need none, `park` of those that had to
    wait in vain."""

    def __init__(
        self,
        *,
        unlinked: Unlinked,
        deliver: Callable[[ChatId, PortalKey, Case], None],
        forget: Callable[[Case], None],
        park: Callable[[Case, str], None],
        spawn: Spawn,
    ) -> None:
        self._unlinked = unlinked
        self._deliver = deliver
        self._forget = forget
        self._park = park
        self._spawn = spawn
        self._waiting: dict[PortalKey, deque[Case]] = {}

    def __contains__(self, side: PortalKey) -> bool:
        """Whether facts of the chat wait here; what comes later must wait behind them."""
        return side in self._waiting

    def is_full(self, side: PortalKey) -> bool:
        """Whether further facts of the chat had better wait on disk."""
        return len(self._waiting.get(side, ())) >= FULL

    @property
    def waiting(self) -> int:
        """How many facts wait, of all chats."""
        return sum(len(cases) for cases in self._waiting.values())

    def wait(self, side: PortalKey, case: Case) -> None:
        """Let a fact wait behind the others of its chat."""
        waiting = self._waiting.get(side)
        if waiting is not None:
            waiting.append(case)
            return
        self._waiting[side] = deque([case])
        self._spawn(self._open_door(side))

    async def _open_door(self, side: PortalKey) -> None:
        waiting = self._waiting[side]
        try:
            while waiting:
                room = await self._room(side, waiting[0])
                if room is None:
                    self._forget(waiting.popleft())
                    continue
                while waiting:
                    self._deliver(room, side, waiting.popleft())
        except BridgeError as error:
            log.warning("portal_not_made", network=side.network, reason=error.notice)
            self._park_all(waiting, error.notice)
        except Exception as error:
            log.exception("portal_fault", network=side.network, kind=type(error).__name__)
            self._park_all(waiting, f"{type(error).__name__} while its room was made")
        del self._waiting[side]

    async def _room(self, side: PortalKey, case: Case) -> ChatId | None:
        if isinstance(case.fact, StateChanged | Encrypted | Unreadable):
            return None
        wait = FIRST_WAIT
        while True:
            try:
                return await self._unlinked(side, case.fact)
            except (HomeserverUnavailable, MatrixRateLimited) as error:
                log.warning("portal_waits", network=side.network, reason=error.notice, retry_in=wait)
                await asyncio.sleep(max(wait, error.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT)

    def _park_all(self, waiting: deque[Case], why: str) -> None:
        while waiting:
            self._park(waiting.popleft(), why)
