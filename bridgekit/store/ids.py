"""Where new row ids come from: time-ordered 63-bit integers."""

from __future__ import annotations

import time

_SEQUENCE_BITS = 21  # 42 bits of milliseconds last until the year 2109; 2 million ids fit into each
_last = 0


def new_id() -> int:
    """A positive id below 2**63, greater than every one before it in this process.

    It starts with the milliseconds since the epoch; `Store.open` raises the floor above every id in the database
    (`never_below`), so a clock that was set back gives no id twice.
    """
    global _last
    _last = max(_last + 1, id_at(time.time_ns() // 1_000_000))
    return _last


def id_at(ms: int) -> int:
    """The first id of a time (ms), by a clock that was never set."""
    return ms << _SEQUENCE_BITS


def never_below(floor: int) -> None:
    """All ids from now on are greater than `floor`."""
    global _last
    _last = max(_last, floor)
