"""The clocks of the runtime."""

from __future__ import annotations

import asyncio
import time


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def steady() -> float:
    """Seconds of the loop's clock, which nobody sets back; it counts from anywhere."""
    return asyncio.get_running_loop().time()
