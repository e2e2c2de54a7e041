"""An event loop whose clock is put forward instead of waited for: an hour of waiting passes in a moment."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Warp(selectors.SelectSelector):
    """Looks at what is ready, and never waits for it: time passes instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class WarpedLoop(asyncio.SelectorEventLoop):
    """For what waits for times alone: nothing outside the process has any time here."""

    def __init__(self) -> None:
        self._warp = _Warp()
        super().__init__(self._warp)

    def time(self) -> float:
        return self._warp.now


def run_warped(work: Coroutine[Any, Any, None]) -> None:
    """Run it to its end."""
    with asyncio.Runner(loop_factory=WarpedLoop) as runner:
        runner.run(work)
