"""The store: every repository over one open database, and the commits that make writes happen together."""

from __future__ import annotations

import asyncio
import time

import structlog

from bridgekit.store import ids
from bridgekit.store.agreements import Agreements, Asks, Blocks, Consents, Nods, OptOuts, Waiting
from bridgekit.store.canary import check_key, look_at_key
from bridgekit.store.driver import CLOSE_WITHIN, Driver, StoreError, Unit, settle
from bridgekit.store.keys import Keys
from bridgekit.store.migrate import left_to_do, migrate
from bridgekit.store.registry import Ghosts, KeyValues, Links, Logins, Members, Portals
from bridgekit.store.sealing import SealingKey
from bridgekit.store.statements import Write
from bridgekit.store.traffic import Amendments, Copies, Inbox, Outbox, Overdue, Transactions
from bridgekit.store.urls import connect

log = structlog.get_logger()

_UNWRITTEN = (
    "The database took nothing any more when the bridge stopped. The homeserver sends again what was not taken from "
    "it; what a network said in that time is not known."
)
_KEEP_TRANSACTIONS_MS = 7 * 24 * 3600 * 1000
_KEEP_OVERDUE_MS = 365 * 24 * 3600 * 1000
"""A homeserver may keep a transaction until the bridge is away the next time, and send it only then."""
_HOUSEKEEPING_EVERY = 3600.0
_FORGET_WHAT_NO_LONGER_WAITS = (
    "DELETE FROM held WHERE NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.id = held.number)"
)


class Store:
    """An open store. Use it from one event loop, and `close` it."""

    def __init__(self, driver: Driver, key: SealingKey) -> None:
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._collected: list[Unit] = []
        self._closed = False
        self._housekeeping: asyncio.Task[None] | None = None
        self.outbox = Outbox(driver, before=ids.new_id())
        self.inbox = Inbox(driver, key, self.outbox)
        self.transactions = Transactions(driver)
        self.overdue = Overdue(driver)
        self.amendments = Amendments(driver)
        self.copies = Copies(driver)
        self.portals = Portals(driver)
        self.links = Links(driver)
        self.ghosts = Ghosts(driver)
        self.members = Members(driver)
        self.logins = Logins(driver, key)
        self.kv = KeyValues(driver, key)
        self.agreements = Agreements(driver)
        self.consents = Consents(driver)
        self.asks = Asks(driver)
        self.optouts = OptOuts(driver)
        self.blocks = Blocks(driver)
        self.nods = Nods(driver)
        self.held = Waiting(driver)
        self.keys = Keys(driver, key)

    @classmethod
    async def open(cls, url: str, key: SealingKey) -> Store:
        """Open (and make or migrate) the database: `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://...`.

        Raises ConfigError, with a sentence: it cannot be reached, another bridgekit runs on it, it was sealed with
        another key, its schema is newer than this code.
        """
        driver = await connect(url)
        try:
            if (await left_to_do(driver))[0]:
                await look_at_key(driver, key)  # before anything is changed
            await migrate(driver)
            await check_key(driver, key)
            newest = await driver.fetch(
                "SELECT max(id) FROM (SELECT max(id) AS id FROM inbox UNION ALL SELECT max(message) FROM copies "
                "UNION ALL SELECT max(id) FROM consents UNION ALL SELECT max(id) FROM asks "
                "UNION ALL SELECT max(id) FROM agreements "
                "UNION ALL SELECT max(id) FROM to_device) AS ids"
            )
            ids.never_below(newest[0][0] or 0)
            await driver.script([(_FORGET_WHAT_NO_LONGER_WAITS, ())])
        except BaseException:
            await driver.close()
            raise
        store = cls(driver, key)
        store._housekeeping = asyncio.create_task(store._keep_house(), name="store-housekeeping")
        return store

    @classmethod
    async def look(cls, url: str, key: SealingKey) -> tuple[Store, int]:
        """Open a database that is there, and change nothing in it; also how many migrations it has not seen.

        Where there are any, what its repositories need may not be there. Raises ConfigError like `open`.
        """
        driver = await connect(url)
        try:
            version, left = await left_to_do(driver)
            if version:
                await look_at_key(driver, key)
        except BaseException:
            await driver.close()
            raise
        return cls(driver, key), left

    @property
    def trouble(self) -> str | None:
        """Why writes wait just now (the database is away, its disk is full); None while they do not."""
        return self._driver.trouble

    @property
    def failures(self) -> int:
        """How many commits failed since the store was opened."""
        return self._driver.failures

    def commit(self, *writes: Write) -> asyncio.Future[None]:
        """Make the writes happen, all or none, after everything that was committed before.

        The future resolves when they are on disk; it may be left alone: a failure (StoreError) is logged and
        counted either way. Cancelling the future does not take the writes back.
        """
        future = self._loop.create_future()
        if self._closed:
            self._driver.failures += settle([Unit(writes, future)], {0: StoreError("The store is closed.")})
            return future
        if not self._collected:
            # All commits of one turn of the event loop go to the writer together.
            self._loop.call_soon(self.hurry)
        self._collected.append(Unit(writes, future))
        return future

    def hurry(self) -> None:
        """Somebody waits for what was just committed: let the writer begin with it at once."""
        units, self._collected = self._collected, []
        if units:
            self._driver.submit(units)

    async def close(self, within: float = CLOSE_WITHIN) -> None:
        """Write what was committed, in so many seconds, and let go of the database. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self.hurry()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, return_exceptions=True)
        before = self.failures
        await self._driver.close(within)
        if lost := self.failures - before:
            log.error("store_closed_unwritten", commits=lost, reason=_UNWRITTEN)

    async def _keep_house(self) -> None:
        while True:
            now = time.time_ns() // 1_000_000
            self.commit(
                self.transactions.prune(now - _KEEP_TRANSACTIONS_MS),
                self.overdue.prune(now - _KEEP_OVERDUE_MS),
                self.amendments.prune(),
            )
            await asyncio.sleep(_HOUSEKEEPING_EVERY)
