"""Other people's devices: shared by all of ours, asked for once in a run, and again when they change.

What was known in the last run is kept to notice a new identity, and for a server that is away; it is never taken for
current, for a homeserver does not repeat what it could not tell (catchup).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import devices
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.devices import Person
from bridgekit.store import Store
from bridgekit.store.statements import Write

log = structlog.get_logger(__name__)

AT_ONCE = 200
ANEW_SECONDS = 5.0
AGAIN_SECONDS = 60.0
"""After which a server that did not answer is asked again."""


class Tracking:
    """What is known of people's devices. `version` counts up whenever that may have become something else."""

    def __init__(
        self, store: Store, calls: KeyCalls, *, bot: PersonId, reset: Callable[[PersonId], None]
    ) -> None:
        """`reset` is told of everybody whose identity was replaced."""
        self._store = store
        self._calls = calls
        self._bot = bot
        self._reset = reset
        self._people: dict[PersonId, Person] = {}
        self._current: set[PersonId] = set()
        self._changed: set[PersonId] = set()  # in this run, and not asked for since
        self._failed: dict[str, float] = {}  # servers that did not answer, and when
        self._asked: dict[PersonId, float] = {}
        self._lock = asyncio.Lock()
        self.version = 0

    def changed(self, users: Iterable[PersonId]) -> None:
        """These have other devices now."""
        for user in users:
            self._changed.add(user)
            self._current.discard(user)
            self.version += 1

    def all_changed(self) -> None:
        """Some have other devices now, and nobody can say who."""
        self._changed |= self._current
        self._current.clear()
        self.version += 1

    async def of(self, users: Iterable[PersonId]) -> dict[PersonId, Person]:
        """Everybody's devices as they are now; of whom nothing can be learnt, what was known last."""
        asked = list(users)
        if any(user not in self._current for user in asked):
            async with self._lock:  # one question for all who want to know
                for user in asked:
                    await self._recall(user)
                now = asyncio.get_running_loop().time()
                unknown = [user for user in asked if user not in self._current and self._may_ask(user, now)]
                for start in range(0, len(unknown), AT_ONCE):
                    await self._ask(unknown[start : start + AT_ONCE])
        return {user: self._people[user] for user in asked if user in self._people}

    async def anew(self, user: PersonId) -> Person | None:
        """Somebody's devices, asked for whatever is known; but not every moment."""
        async with self._lock:
            await self._recall(user)
            now = asyncio.get_running_loop().time()
            if now - self._asked.get(user, -ANEW_SECONDS) >= ANEW_SECONDS:
                self._asked[user] = now
                await self._ask([user])
        return self._people.get(user)

    def _may_ask(self, user: PersonId, now: float) -> bool:
        failed = self._failed.get(user.partition(":")[2])
        return failed is None or now - failed > AGAIN_SECONDS

    @property
    def is_lacking(self) -> bool:
        """Whether a server has not answered: then the next message asks again."""
        return bool(self._failed)

    async def _recall(self, user: PersonId) -> None:
        if user in self._people:
            return
        if (found := await self._store.keys.theirs(user)) is not None:
            self._people[user] = devices.decode(found)

    async def _ask(self, users: list[PersonId]) -> None:
        self._changed.difference_update(users)
        try:
            answer = await self._calls.query(users, user=self._bot)
        except BridgeError as error:
            log.warning("devices_not_known", reason=error.notice)
            self._changed.update(users)
            return
        writes: list[Write] = []
        for user in users:
            server = user.partition(":")[2]
            if server in answer.failures:
                self._failed[server] = asyncio.get_running_loop().time()
                continue
            self._failed.pop(server, None)
            before = self._people.get(user)
            now = devices.person(user, answer, before)
            self._people[user] = now
            if user not in self._changed:  # it may have changed again while we asked
                self._current.add(user)
            if now != before:
                writes.append(self._store.keys.put_theirs(user, devices.encode(now)))
            if before is not None and before.master and before.master != now.master:
                self._reset(user)
        self.version += 1
        if writes:
            self._store.commit(*writes)
