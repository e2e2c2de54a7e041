"""Meeting: people's clients ask for the keys of whoever comes or has a new device, and need a moment for that.

What a new device says before they have the answer stays unread where insecure devices are excluded: such a client looks
at it once, finds nobody who vouches for it, and does not look again when it knows better (matrix-js-sdk 43). No
homeserver tells when somebody has asked. So the bridge asks as they do, and gives them some times as long as it took.
"""

from __future__ import annotations

import asyncio
import contextlib

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.tasks import Spawn

LEAST_SECONDS = 0.2
"""For the way of the news to the clients, and for what they compute."""
TIMES = 2
"""They are told while the homeserver tells others, and may be in the middle of asking for somebody else."""
MOST_SECONDS = 2.0
"""Whoever wants to speak waits no longer than that, whatever the homeserver takes."""


class Meetings:
    """Who of ours was just seen for the first time."""

    def __init__(self, calls: KeyCalls, *, bot: PersonId, spawn: Spawn) -> None:
        self._calls = calls
        self._bot = bot
        self._spawn = spawn
        self._under_way: dict[PersonId, asyncio.Event] = {}

    def begin(self, user: PersonId) -> None:
        """From now on people see the user, or a new device of theirs."""
        over = self._under_way[user] = asyncio.Event()
        self._spawn(self._meet(user, over))

    async def _meet(self, user: PersonId, over: asyncio.Event) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOST_SECONDS):
                    clock = asyncio.get_running_loop().time
                    began = clock()
                    with contextlib.suppress(BridgeError):
                        await self._calls.query([user], user=self._bot, tries=1)
                    await asyncio.sleep(LEAST_SECONDS + TIMES * (clock() - began))
        finally:
            over.set()
            if self._under_way.get(user) is over:
                del self._under_way[user]

    async def over(self, user: PersonId) -> None:
        """Return when people have had the time to ask for the user's keys; mostly at once."""
        while (meeting := self._under_way.get(user)) is not None:
            await meeting.wait()
