"""Signed JSON, with the vectors of the specification's appendices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.matrix.crypto.signing import SigningKey, canonical, from_base64, is_signed, unpadded

# Matrix specification, appendices, "Signing JSON": the seed of the examples, and what it signs.
SEED = from_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ({"one": 1, "two": "Two"}, '{"one":1,"two":"Two"}'),
        ({"b": "2", "a": "1"}, '{"a":"1","b":"2"}'),
        ({"本": 2, "日": 1}, '{"日":1,"本":2}'),
        ({"a": "日"}, '{"a":"日"}'),
        ({"a": None}, '{"a":null}'),
        ({"a": 1, "signatures": {}, "unsigned": {"b": 2}}, '{"a":1}'),
    ],
)
def test_canonical_json_is_what_the_appendix_says(value: dict[str, object], text: str) -> None:
    assert canonical(value) == text.encode()


def test_the_examples_of_the_specification_are_signed_like_that() -> None:
    key = SigningKey(SEED)
    empty = key.sign({}, "domain", "1")["signatures"]["domain"]["ed25519:1"]
    assert empty == "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"
    two = key.sign({"one": 1, "two": "Two"}, "domain", "1")["signatures"]["domain"]["ed25519:1"]
    assert two == "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"


def test_a_signature_holds_for_its_owner_its_key_and_its_words_alone() -> None:
    key, other = SigningKey(bytes(32)), SigningKey(bytes(31) + b"1")
    signed = key.sign({"a": 1}, "@ann:x")
    assert is_signed(signed, "@ann:x", key.public, key.public)
    assert not is_signed(signed, "@bob:x", key.public, key.public)
    assert not is_signed(signed, "@ann:x", key.public, other.public)
    assert not is_signed({**signed, "a": 2}, "@ann:x", key.public, key.public)
    assert is_signed({**signed, "unsigned": {"a": 2}}, "@ann:x", key.public, key.public)
    both = other.sign(signed, "@ann:x")
    assert is_signed(both, "@ann:x", key.public, key.public)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_whatever_stands_where_signatures_should_is_no_signature(value: dict[str, object]) -> None:
    for signatures in (value, {"@ann:x": value}, {"@ann:x": {"ed25519:A": value}}):
        assert not is_signed({"a": 1, "signatures": signatures}, "@ann:x", "A", unpadded(bytes(32)))
        assert not is_signed({**value, "signatures": {"@ann:x": {"ed25519:A": "AA"}}}, "@ann:x", "A", "A")
