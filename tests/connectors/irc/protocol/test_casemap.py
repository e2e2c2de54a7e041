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
    ],
)
def test_each_casemapping_folds_its_own_characters(mapping: str, folded: str) -> None:
    assert fold("#A[]\\~é", mapping) == folded
    assert fold(string.ascii_uppercase, mapping) == string.ascii_lowercase


@given(st.text(), st.sampled_from(["rfc1459", "rfc1459-strict", "ascii"]))
def test_folding_twice_changes_nothing(name: str, mapping: str) -> None:
    assert fold(fold(name, mapping), mapping) == fold(name, mapping)
