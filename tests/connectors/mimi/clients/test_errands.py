"""What other providers make us do: one thing that goes wrong is not the end of the others."""

from __future__ import annotations

import asyncio

import structlog
from structlog.testing import capture_logs

from connectors.mimi.clients.errands import Errands


async def test_an_errand_that_breaks_is_its_own_end_alone():
    done: list[str] = []
    begun, over = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await over.wait()
        done.append("slow")

    async def broken() -> None:
        await begun.wait()
        over.set()
        raise KeyError("of a stranger")

    async def last() -> None:
        done.append("last")
        running.cancel()

    with capture_logs() as logs:
        errands = Errands(structlog.get_logger())
        for errand in (slow, broken):
            errands.later(errand)
        running = asyncio.create_task(errands.run())
        while "slow" not in done:  # noqa: ASYNC110 - the errands themselves are what is looked at
            await asyncio.sleep(0)
        errands.later(last)
        await asyncio.gather(running, return_exceptions=True)
    assert done == ["slow", "last"]
    assert [(e["event"], e["kind"]) for e in logs] == [("mimi_errand_failed", "KeyError")]


async def test_what_came_before_anybody_did_errands_is_done_when_somebody_does():
    done = asyncio.Event()
    errands = Errands(structlog.get_logger())

    async def errand() -> None:
        done.set()

    errands.later(errand)
    running = asyncio.create_task(errands.run())
    await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
