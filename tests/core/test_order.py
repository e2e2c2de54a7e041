"""Where order is traded for speed: in one function."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bridgekit.core.order import BACKLOG, STRICT, WIDE, width


def test_a_lane_that_keeps_up_is_strict():
    assert width(STRICT, BACKLOG - 1, 1) == STRICT


def test_a_backlog_makes_it_wide():
    assert width(STRICT, BACKLOG, 1) == WIDE


def test_a_wide_lane_stays_wide_until_everything_is_done():
    assert width(WIDE, 1, 0) == WIDE
    assert width(WIDE, 0, 1) == WIDE
    assert width(WIDE, 0, 0) == STRICT


@given(st.sampled_from([STRICT, WIDE]), st.integers(0, 1000), st.integers(0, 1000))
def test_there_is_no_third_width(current: int, waiting: int, running: int):
    assert width(current, waiting, running) in (STRICT, WIDE)


def test_nobody_else_decides_about_order(repository: Path):
    """The numbers are named in core/order.py, and the lanes alone ask it."""
    asking = {
        path.relative_to(repository).as_posix()
        for path in (repository / "bridgekit").rglob("*.py")
        if "order.width(" in (words := path.read_text()) or "import WIDE" in words or "order.WIDE" in words
    }
    assert asking == {"bridgekit/runtime/traffic/lanes.py"}
