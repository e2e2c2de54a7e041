"""What is said when something is missing."""

from __future__ import annotations

import pytest

from bridgekit.core.wording import missed

NOON = 1_767_268_800_000
"""2026-01-01, 12:00 UTC."""


@pytest.mark.parametrize(
    ("seconds", "times"),
    [
        (0, "2026-01-01 12:00:00 and 12:00:00"),
        (95, "2026-01-01 12:00:00 and 12:01:35"),
        (600, "2026-01-01 12:00 and 12:10"),
        (86_400, "2026-01-01 12:00 and 2026-01-02 12:00"),
    ],
)
def test_a_short_time_is_told_to_the_second_and_a_long_one_to_the_minute(seconds: int, times: str):
    assert missed("Why.", NOON, NOON + seconds * 1000) == (
        f"Why. What was said there between {times} UTC, if anything, is missing here."
    )


@pytest.mark.parametrize("at", [-(2**62), -1, 2**62])
def test_no_time_of_a_clock_that_is_wrong_breaks_the_sentence(at: int):
    assert " UTC, if anything" in missed("Why.", at, at)
