"""What somebody saw, thing by thing: waited for, taken once, and asked at the end for what nobody expected."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NotSeen(TimeoutError):
    """What was waited for did not come; the message says what came instead."""


class Sightings(Generic[T]):
    """A record that grows. `watch` is called with each new thing; `show` turns one into words for an error."""

    def __init__(self, *, watch: Callable[[T], None] | None = None, show: Callable[[T], str] = repr) -> None:
        self.all: list[T] = []
        self.watch = watch
        self._show = show
        self._left: list[T] = []
        self._more = asyncio.Event()

    def add(self, thing: T) -> None:
        """It was seen just now."""
        self.all.append(thing)
        self._left.append(thing)
        self._more.set()
        if self.watch is not None:
            self.watch(thing)

    async def take(self, matches: Callable[[T], bool], seconds: float = 60, what: str = "it") -> T:
        """The first one that matches and was not taken before; waits for it. Raises NotSeen."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._more.clear()
                    for at, thing in enumerate(self._left):
                        if matches(thing):
                            del self._left[at]
                            return thing
                    await self._more.wait()
        except TimeoutError:
            last = "\n".join(f"    {self._show(thing)}" for thing in self._left[-8:]) or "    nothing"
            raise NotSeen(
                f"{what} did not come in {seconds:g} s; what came and was not taken:\n{last}"
            ) from None

    def left(self, matches: Callable[[T], bool] = lambda _: True) -> list[T]:
        """What was never taken."""
        return [thing for thing in self._left if matches(thing)]

    def forget(self) -> None:
        """Take all that came so far."""
        self._left.clear()
