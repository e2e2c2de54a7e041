"""What is said when something is missing."""

from __future__ import annotations

import pytest

from bridgekit.core import wording
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


def test_a_room_is_called_by_its_name_and_address_and_by_its_id_where_it_has_neither():
    room = "!r:example.org"
    assert wording.room_title(room, "The Lobby", "#lobby:example.org") == '"The Lobby" (#lobby:example.org)'
    assert wording.room_title(room, "", "#lobby:example.org") == "#lobby:example.org"
    assert wording.room_title(room, "The Lobby", None) == '"The Lobby"'
    for name, alias in ((None, None), (" \u200b ", ""), (7, ["#x:y"]), ("", "no address"), ("", "#a b:c")):
        assert wording.room_title(room, name, alias) == room


def test_a_rooms_name_cannot_pretend_to_be_more_of_the_sentence():
    said = wording.room_title("!r:x", 'A" (#b:x). \r\nAnswer\x00: yes\u202e' + "z" * 200, None)
    assert said.startswith("\"A' (#b:x). Answer : yes zzz")
    assert said.endswith('zz…"')
    assert len(said) == wording.LONGEST_TITLE + 2
