"""TLS presentation language: numbers, vectors, choices."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.wire.tls import (
    BOOL,
    OPAQUE,
    U8,
    U16,
    UTF8,
    Codec,
    Reader,
    choice,
    many,
    optional,
    struct,
    vector,
    write_length,
)


class A(msgspec.Struct, frozen=True):
    x: int


class B(msgspec.Struct, frozen=True):
    y: bytes


EITHER: Codec[A | B] = choice(A | B, U8, {1: struct(A, x=U16), 2: struct(B, y=OPAQUE)})


@pytest.mark.parametrize(
    ("length", "octets"),
    [
        (0, "00"),
        (37, "25"),
        (63, "3f"),
        (64, "4040"),
        (15293, "7bbd"),
        (16383, "7fff"),
        (16384, "80004000"),
        (494878333, "9d7f3e7d"),
        (2**30 - 1, "bfffffff"),
    ],
)
def test_a_length_takes_as_few_octets_as_it_can(length: int, octets: str):
    """The first values are RFC 9000's examples, which RFC 9420 2.1.2 shares."""
    out = bytearray()
    write_length(length, out)
    assert out.hex() == octets
    assert Reader(bytes(out)).length() == length


@pytest.mark.parametrize("octets", ["4000", "403f", "8000003f", "80003fff", "c0", "c000000000000000"])
def test_a_longer_form_of_a_length_is_refused(octets: str):
    with pytest.raises(PeerMisbehaved):
        Reader(bytes.fromhex(octets)).length()


def test_a_vector_counts_octets():
    assert vector(U16).encode((1, 2)) == b"\x04\x00\x01\x00\x02"
    assert vector(U16).decode(b"\x04\x00\x01\x00\x02") == (1, 2)
    with pytest.raises(PeerMisbehaved, match="ends too early"):
        vector(U16).decode(b"\x03\x00\x01\x00")


@pytest.mark.parametrize("octets", [b"\x01\x00", b"\x03\x00\x01", b"", b"\x01\x00\x01\x00", b"\x02\x02a"])
def test_what_is_no_choice_or_is_not_whole_is_refused(octets: bytes):
    with pytest.raises(PeerMisbehaved):
        EITHER.decode(octets)


def test_a_choice_is_told_by_its_tag():
    assert EITHER.decode(b"\x01\x00\x05") == A(5)
    assert EITHER.encode(B(b"z")) == b"\x02\x01z"


def test_there_is_no_third_truth():
    with pytest.raises(PeerMisbehaved):
        BOOL.decode(b"\x02")
    with pytest.raises(PeerMisbehaved):
        optional(U8).decode(b"\x02\x00")


@pytest.mark.parametrize("octets", [b"\x01\xff", b"\x01\x00", b"\x02\xed\xa0"])
def test_text_is_utf_8_without_nul(octets: bytes):
    with pytest.raises(PeerMisbehaved):
        UTF8.decode(octets)


def test_what_does_not_fit_is_no_value():
    with pytest.raises(ValueError, match="does not fit"):
        U8.encode(256)
    with pytest.raises(ValueError, match="NUL"):
        UTF8.encode("a\0b")
    with pytest.raises(ValueError, match="nothing"):
        many(U8).encode(())
    with pytest.raises(ValueError, match="empty list"):
        vector(U8, least=1).encode(())


@given(st.binary(max_size=40))
def test_any_octets_raise_nothing_but_peer_misbehaved(octets: bytes):
    codec = vector(EITHER)
    try:
        found = codec.decode(octets)
    except PeerMisbehaved:
        return
    assert codec.encode(found) == octets
