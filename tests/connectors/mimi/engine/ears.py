"""The users of a provider, who only listen; and the town of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from connectors.mimi.service.server import Rates
from connectors.mimi.testing import houses
from connectors.mimi.testing.houses import House, Town
from connectors.mimi.wire.rooms import Fanout
from connectors.mimi.wire.users import (
    AbuseReport,
    ConsentEntry,
    IdentifierRequest,
    IdentifierResponse,
    QueryCode,
)


class Ears:
    """The users of a provider, who only listen."""

    def __init__(self) -> None:
        self.fanouts: list[tuple[str, Fanout]] = []
        self.entries: list[ConsentEntry] = []
        self.reports: list[tuple[AbuseReport, int]] = []
        self.something = asyncio.Event()

    async def heard(self, room: str, fanouts: Sequence[Fanout]) -> None:
        self.fanouts += [(room, fanout) for fanout in fanouts]
        self.something.set()

    async def asked(self, entry: ConsentEntry) -> None:
        self.entries.append(entry)

    async def find(self, request: IdentifierRequest) -> IdentifierResponse:
        return IdentifierResponse(QueryCode.NOT_FOUND)

    async def reported(self, room: str, report: AbuseReport, proven: int) -> None:
        self.reports.append((report, proven))

    async def next(self) -> Fanout:
        """The next thing that is fanned out."""
        while not self.fanouts:
            self.something.clear()
            async with asyncio.timeout(60):
                await self.something.wait()
        return self.fanouts.pop(0)[1]


def ears(house: House) -> Ears:
    """What the users of a house heard."""
    return cast(Ears, house.local)


@asynccontextmanager
async def town(folder: Path, *domains: str, claims: Rates | None = None) -> AsyncIterator[Town]:
    """Providers that are running, with users who listen."""
    async with houses.town(folder, *domains, local=lambda domain: Ears(), claims=claims) as made:
        yield made
