"""Names that are one name."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.irc.protocol.casemap import fold


@pytest.mark.parametrize(
    ("mapping", "folded"),
    [
        ("rfc1459", "#a{}|^é"),
        ("rfc1459-strict", "#a{}|~é"),
        ("ascii", "#a[]\\~é"),
        ("rfc7613", "#a{}|^é"),
        ("", "#a{}|^é"),
        ("rfc8265", "#a[]\\~é"),
    ],
)
def test_each_casemapping_folds_its_own_characters(mapping: str, folded: str) -> None:
    assert fold("#A[]\\~é", mapping) == folded
    assert fold(string.ascii_uppercase, mapping) == string.ascii_lowercase


@given(st.text(), st.sampled_from(["rfc1459", "rfc1459-strict", "ascii", "rfc8265"]))
def test_folding_twice_changes_nothing(name: str, mapping: str) -> None:
    assert fold(fold(name, mapping), mapping) == fold(name, mapping)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("#Ünï", "#ünÏ", True),
        ("#ΟΔΟΣ", "#οδοσ", True),
        ("#ΟΔΟΣ", "#οδος", False),
        ("#\uff21b", "#ab", True),  # full width
        ("#e\u0301x", "#éx", True),
        ("#K1", "#k1", True),
        ("#a[b", "#a{b", False),
        ("#ff", "#\ufb00", False),
    ],
)
def test_names_beyond_ascii_are_one_as_ergo_has_it(one: str, other: str, same: bool) -> None:
    """Read off an Ergo 2.15 with casemapping precis: which channel one is in after JOIN."""
    assert (fold(one, "rfc8265") == fold(other, "rfc8265")) == same
