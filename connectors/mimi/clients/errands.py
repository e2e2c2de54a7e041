"""Errands: work that whoever has it done must not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import structlog

Errand = Callable[[], Coroutine[Any, Any, None]]


class Errands:
    """Done side by side, in the order in which they came. Most of them begin with what another provider has sent: what
    breaks in one is its own end alone, and is logged."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._queue: asyncio.Queue[Errand] = asyncio.Queue()

    def later(self, errand: Errand) -> None:
        """Do it soon; what comes before `run` waits for that."""
        self._queue.put_nowait(errand)

    async def run(self) -> NoReturn:
        """Do them until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                errand = await self._queue.get()
                group.create_task(self._do(errand), name="mimi errand")

    async def _do(self, errand: Errand) -> None:
        try:
            await errand()
        except Exception as error:
            self._log.exception("mimi_errand_failed", kind=type(error).__name__)
