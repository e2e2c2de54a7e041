"""Tasks that the bridge owns: each ends, is cancelled at the stop, and tells of its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract.errors import BridgeError

log = structlog.get_logger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""How a part has something done beside everything else: `Tasks.spawn`, as it is handed around."""


class Tasks:
    """What runs beside everything else."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Own a task until it ends; a fault in it is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel(self) -> None:
        """End every task, and those that they begin in ending."""
        while self._tasks:
            await asyncio.sleep(0)  # what was spawned this moment begins, and takes up what it was given
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, BridgeError):
            log.warning("task_failed", kind=type(error).__name__, reason=error.notice)
        else:
            log.error("task_failed", kind=type(error).__name__, exc_info=error)
