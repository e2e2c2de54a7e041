"""Rates: token buckets over a clock that is passed in, and a bounded number of them by key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)


class Rate(msgspec.Struct, frozen=True):
    """`count` at once, and as many again in every `per` milliseconds."""

    count: int
    per: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.per < 1:
            raise ValueError("a rate is at least one in some time")


class Bucket:
    """What is left of a rate. Times are milliseconds; a clock that goes backwards gives nothing and takes nothing."""

    __slots__ = ("_at", "_left", "rate")

    def __init__(self, rate: Rate, now: int) -> None:
        self.rate = rate
        self._left = float(rate.count)
        self._at = now

    def _refill(self, now: int) -> None:
        if now > self._at:
            self._left = min(self.rate.count, self._left + (now - self._at) * self.rate.count / self.rate.per)
            self._at = now

    def take(self, now: int) -> bool:
        """Take one, if there is one."""
        self._refill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait(self, now: int) -> int:
        """Milliseconds until there is one; 0 where there is one now."""
        self._refill(now)
        if self._left >= 1:
            return 0
        return int((1 - self._left) * self.rate.per / self.rate.count) + 1

    def owe(self, now: int) -> int:
        """Take one that may not be there yet; milliseconds until it is."""
        wait = self.wait(now)
        self._left -= 1
        return wait


class Buckets(Generic[K]):
    """One bucket for each key. Of many keys the least recently used is forgotten: its bucket is then a full one."""

    def __init__(self, rate: Rate, *, limit: int = 5000) -> None:
        self._rate = rate
        self._limit = limit
        self._of: OrderedDict[K, Bucket] = OrderedDict()

    def of(self, key: K, now: int) -> Bucket:
        """The key's bucket."""
        bucket = self._of.get(key)
        if bucket is None:
            bucket = self._of[key] = Bucket(self._rate, now)
            if len(self._of) > self._limit:
                self._of.popitem(last=False)
        else:
            self._of.move_to_end(key)
        return bucket

    def take(self, key: K, now: int) -> bool:
        """Take one from the key's bucket, if there is one."""
        return self.of(key, now).take(now)
