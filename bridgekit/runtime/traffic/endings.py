"""How a case ends: its sender reads what became of it, and its row leaves the inbox, or is set aside."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Coroutine
from typing import Any

import structlog

from bridgekit.contract import facts
from bridgekit.contract.ids import ChatId
from bridgekit.runtime.cases import Case, Fate, Outcome
from bridgekit.runtime.traffic.around import Surroundings
from bridgekit.store import StoreError

log = structlog.get_logger(__name__)


class Endings:
    """The ends of one room's cases."""

    def __init__(self, room: ChatId, around: Surroundings) -> None:
        self.room = room
        self._around = around

    def finish(self, case: Case) -> None:
        """A case from which nothing follows, or nothing but words to its sender."""
        work = self._around.settled(self.room, case) if case.outcomes else None
        if work is not None:
            self._around.spawn(self.tell(case, work))
        elif case.durable:
            self._around.store.commit(self._around.store.inbox.done(case.number))

    async def tell(
        self, case: Case, work: Coroutine[Any, Any, None], written: asyncio.Future[None] | None = None
    ) -> None:
        """Tell the sender, once the fate is on disk: what they were told must not be doubted after a crash."""
        try:
            if written is not None:
                with contextlib.suppress(StoreError):  # it is logged
                    await written
            await work
        except Exception as error:
            log.error("status_failed", trace=trace(error))
        finally:
            work.close()
        if case.durable:
            self._around.store.commit(self._around.store.inbox.done(case.number))

    def park(self, case: Case, error: Exception) -> None:
        log.error(
            "fact_parked", network=case.origin.network, fact=type(case.fact).__name__, trace=trace(error)
        )
        self._around.parked(case.origin)
        if case.durable:
            self._around.store.commit(self._around.store.inbox.park(case.number, trace(error)))
        if not isinstance(case.fact, facts.Message | facts.Edit | facts.Reaction | facts.Retraction):
            return  # nobody waits for it
        case.outcomes.append(
            Outcome(case.origin, Fate.FAILED, "The bridge has a fault and could not pass this on.")
        )
        if (work := self._around.settled(self.room, case)) is not None:
            self._around.spawn(quietly(work))


async def quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:
        log.error("status_failed", trace=trace(error))


def trace(error: BaseException) -> str:
    """Where it went wrong; the message of the exception may quote what people said and is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"
