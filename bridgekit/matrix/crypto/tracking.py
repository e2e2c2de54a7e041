"""Other people's devices: shared by all of ours, asked for once in a run, and again when they change.

What was known in the last run is kept to notice a new identity, and for a server that is away; it is never taken for
current, for a homeserver does not repeat what it could not tell (catchup).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto import devices
from bridgekit.matrix.crypto.asking import ask_for
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.devices import Person
from bridgekit.store import Store
from bridgekit.store.statements import Write

log = structlog.get_logger(__name__)

AT_ONCE = 200
ANEW_SECONDS = 5.0
AGAIN_SECONDS = 60.0
"""After which a server that did not answer is asked again."""
REFUSED_SECONDS = 2.0
"""After which is asked again what the homeserver refused to answer; each time that it does so, twice as long after."""
SILENT_SECONDS = 10.0
"""After which somebody is asked for again for whom the homeserver had an error instead of an answer."""


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
        self._silent: dict[PersonId, float] = {}  # for whom the homeserver failed to answer, and when
        self._refused = 0.0  # for how many seconds nobody is asked for, since the homeserver refused
        self._refused_until = 0.0
        self._asked: dict[PersonId, float] = {}
        self._lock = asyncio.Lock()
        self.version = 0

    def changed(self, users: Iterable[PersonId]) -> None:
        """These have other devices now."""
        for user in users:
            self._changed.add(user)
            self._current.discard(user)
            self._silent.pop(user, None)
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
                silent = [user for user in unknown if user in self._silent]
                others = [user for user in unknown if user not in self._silent]
                for start in range(0, len(others), AT_ONCE):
                    await self._ask(others[start : start + AT_ONCE])
                for user in silent:
                    await self._ask([user], tries=1)
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

    async def reachable(self, users: Iterable[PersonId]) -> dict[PersonId, Person]:
        """The same for a message that they shall read: while the homeserver fails to answer for every one of them, and
        nothing was ever known, it is waited for, for nobody could."""
        asked = list(users)
        while True:
            known = await self.of(asked)
            if known or not asked or any(user not in self._silent for user in asked):
                return known
            await asyncio.sleep(SILENT_SECONDS)

    def _may_ask(self, user: PersonId, now: float) -> bool:
        if now < self._refused_until:
            return False
        failed = self._failed.get(user.partition(":")[2], -AGAIN_SECONDS)
        silent = self._silent.get(user, -SILENT_SECONDS)
        return now - failed >= AGAIN_SECONDS and now - silent >= SILENT_SECONDS

    @property
    def lacking_seconds(self) -> float:
        """In how many seconds to ask again, where somebody's devices were not to be had; 0 where nothing is lacking."""
        if self._refused:
            return self._refused
        return AGAIN_SECONDS if self._failed or self._silent else 0.0

    async def _recall(self, user: PersonId) -> None:
        if user in self._people:
            return
        if (found := await self._store.keys.theirs(user)) is not None:
            self._people[user] = devices.decode(found)

    async def _ask(self, users: list[PersonId], tries: int | None = None) -> None:
        """Ask for their devices; with `tries` all together, and no more often than that."""
        self._changed.difference_update(users)

        async def query(some: Sequence[PersonId], times: int) -> devices.Answer:
            return await self._calls.query(some, user=self._bot, tries=tries or times)

        try:
            answers, silent = await ask_for(users, query)
        except BridgeError as error:
            log.warning("devices_not_known", reason=error.notice)
            self._changed.update(users)
            self._refused = min(max(2 * self._refused, REFUSED_SECONDS), AGAIN_SECONDS)
            self._refused_until = asyncio.get_running_loop().time() + self._refused
            return
        self._refused = self._refused_until = 0.0
        now = asyncio.get_running_loop().time()
        self._silent |= dict.fromkeys(silent, now)
        self._changed.update(silent)
        writes: list[Write] = []
        for some, answer in answers:
            for user in some:
                self._silent.pop(user, None)
                writes += self._learn(user, answer, now)
        self.version += 1
        if writes:
            self._store.commit(*writes)

    def _learn(self, user: PersonId, answer: devices.Answer, now: float) -> list[Write]:
        """What an answer says of somebody; the writes that keep it."""
        server = user.partition(":")[2]
        if server in answer.failures:
            self._failed[server] = now
            return []
        self._failed.pop(server, None)
        before = self._people.get(user)
        person = devices.person(user, answer, before)
        self._people[user] = person
        if user not in self._changed:  # it may have changed again while we asked
            self._current.add(user)
        if before is not None and before.master and before.master != person.master:
            self._reset(user)
        return [self._store.keys.put_theirs(user, devices.encode(person))] if person != before else []
