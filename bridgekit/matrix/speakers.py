"""Speakers first: who waits to say something new, and whoever does other things meanwhile and gives way to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Speakers:
    """Those of ours who cannot speak yet and want to: they are being made, let in, or given keys."""

    def __init__(self) -> None:
        self._waiting = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Somebody waits to speak, until the block ends."""
        self._waiting += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._quiet.set()

    async def give_way(self, seconds: float) -> None:
        """Return when nobody waits to speak, and at the latest then: one whom the homeserver keeps waiting holds up
        nobody else."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
