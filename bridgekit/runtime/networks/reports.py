"""Reports of abuse: kept until an admin has dealt with them; the admins are told of each once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from bridgekit.contract.errors import BridgeError, Disconnected, NotAllowed
from bridgekit.contract.ids import MATRIX, NetworkId, PersonId
from bridgekit.contract.reports import AbuseReport
from bridgekit.core import wording
from bridgekit.runtime.clock import now
from bridgekit.store import Store
from bridgekit.store.statements import Write

log = structlog.get_logger(__name__)

KEPT = "bridge.reports"
"""Where they are kept, by their number; no network is called so."""
LAST = "last"
"""The key of the last number that was given: none is given twice."""
MOST = 1000
"""Of one network. What is more takes the place of the oldest that the admins were told of, and else is refused."""
KEEP_MS = 90 * 24 * 3600 * 1000
"""How long one is kept that the admins were told of and have not dealt with."""
NOTE = 2000
"""Characters of a reporter's words that are kept."""
AT_ONCE = 10
PAUSE = 60.0
"""Seconds between two notices."""


class Filed(msgspec.Struct, frozen=True):
    """A report with the number by which admins speak of it, and whether they were told."""

    number: int
    network: NetworkId
    report: AbuseReport
    told: bool = False


class Reports:
    """`tell` says words to the admins, and raises BridgeError where nobody could be told; `came` counts a report."""

    def __init__(
        self,
        store: Store,
        *,
        tell: Callable[[str], Awaitable[None]],
        came: Callable[[NetworkId], None],
        label: Callable[[NetworkId], str],
    ) -> None:
        self._store = store
        self._tell = tell
        self._came = came
        self._label = label
        self._filed: dict[int, Filed] = {}
        self._last = 0
        self._more = asyncio.Event()

    async def load(self) -> None:
        """Take up what is stored."""
        rows = await self._store.kv.items(KEPT)
        self._last = int(rows.pop(LAST, b"0"))
        found = [msgspec.msgpack.decode(raw, type=Filed) for raw in rows.values()]
        self._filed = {filed.number: filed for filed in sorted(found, key=lambda filed: filed.number)}
        self._more.set()

    @property
    def open(self) -> list[Filed]:
        """All that nobody has dealt with, the oldest first."""
        return list(self._filed.values())

    def counts(self) -> dict[NetworkId, int]:
        """How many are open, by network."""
        return dict(Counter(filed.network for filed in self._filed.values()))

    async def file(self, network: NetworkId, report: AbuseReport) -> None:
        """Keep one; on disk when this returns. Raises Disconnected where too many wait until the admins are told."""
        writes = self._make_room(network)
        self._last += 1
        note = report.note[:NOTE]
        filed = Filed(self._last, network, msgspec.structs.replace(report, note=note))
        self._filed[filed.number] = filed
        last = self._store.kv.put(KEPT, LAST, str(filed.number).encode())
        await self._store.commit(*writes, last, self._kept(filed))
        self._came(network)
        log.warning("abuse_reported", network=network, number=filed.number, proven=report.proven)
        self._more.set()

    def _make_room(self, network: NetworkId) -> list[Write]:
        of_theirs = [filed for filed in self._filed.values() if filed.network == network]
        if len(of_theirs) < MOST:
            return []
        oldest = next((filed for filed in of_theirs if filed.told), None)
        if oldest is None:
            raise Disconnected("Too many reports wait to be read.", retry_after=PAUSE)
        log.warning("abuse_report_dropped", network=network, number=oldest.number)
        return [self._drop(oldest.number)]

    async def settle(self, number: int) -> None:
        """An admin has dealt with it: it is forgotten. Raises NotAllowed where there is none of that number."""
        if number not in self._filed:
            raise NotAllowed(wording.no_such_report(number))
        await self._store.commit(self._drop(number))
        log.info("abuse_report_settled", number=number)

    async def erase(self, side: NetworkId, person: PersonId) -> None:
        """Nothing is kept of what somebody who is erased has reported, or was reported for."""
        theirs = [
            filed.number
            for filed in self._filed.values()
            if side in (MATRIX, filed.network) and person in (filed.report.accused, filed.report.reporter)
        ]
        await self._forget(theirs)

    async def _forget(self, numbers: list[int]) -> None:
        if numbers:
            await self._store.commit(*map(self._drop, numbers))

    async def keep_telling(self) -> None:
        """Tell the admins of what is new, until cancelled; where nobody can be told now, again later."""
        while True:
            self._more.clear()
            await self._forget([f.number for f in self.open if f.told and f.report.at < now() - KEEP_MS])
            untold = [filed for filed in self.open if not filed.told]
            if not untold:
                await self._more.wait()
                continue
            await self._tell_of(untold[:AT_ONCE], more=max(0, len(untold) - AT_ONCE))
            await asyncio.sleep(PAUSE)

    async def _tell_of(self, untold: list[Filed], *, more: int) -> None:
        lines = [wording.abuse_report(f.number, self._label(f.network), f.report) for f in untold]
        try:
            await self._tell(wording.abuse_reported(lines, more=more))
        except BridgeError as problem:
            log.info("abuse_report_not_told", reason=problem.notice)
            return
        told = [msgspec.structs.replace(f, told=True) for f in untold if f.number in self._filed]
        self._filed |= {filed.number: filed for filed in told}
        await self._store.commit(*map(self._kept, told))

    def _kept(self, filed: Filed) -> Write:
        return self._store.kv.put(KEPT, f"{filed.number:012d}", msgspec.msgpack.encode(filed))

    def _drop(self, number: int) -> Write:
        self._filed.pop(number, None)
        return self._store.kv.put(KEPT, f"{number:012d}", None)
