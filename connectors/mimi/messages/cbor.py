"""Holds octets to the one CBOR encoding that MIMI content allows, before anything decodes them.

draft-ietf-mimi-content 6.1 and 6.2: deterministic encoding (RFC 8949 4.2.1) and a smaller data model. What a
library would do on its own with a tag of a stranger (build an expression, a date, a reference) never happens:
tags are allowed in extensions only, and those stay octets.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from bridgekit.contract.errors import PeerMisbehaved

MAX_KEY = 2**53 - 1  # 6.2: an integer key is exact as a double, too
MAX_TEXT_KEY = 255
MAX_NESTING = 16  # far more than any part or extension may have; each has its own limit


class Major(IntEnum):
    """CBOR's major types (RFC 8949 3.1)."""

    UNSIGNED = 0
    NEGATIVE = 1
    OCTETS = 2
    TEXT = 3
    ARRAY = 4
    MAP = 5
    TAG = 6
    OTHER = 7


def check(octets: bytes, at: int = 0, *, nesting: int = MAX_NESTING, tags: bool = False) -> int:
    """Check the item at `at` and return where it ends.

    `nesting` is how many arrays, maps and tags may stand inside one another. Raises PeerMisbehaved for anything
    but a whole item in its only form.
    """
    major, value, begin = _head(octets, at)
    match major:
        case Major.UNSIGNED | Major.NEGATIVE:
            return begin
        case Major.OCTETS | Major.TEXT:
            end = begin + value
            if end > len(octets):
                raise _cut()
            if major is Major.TEXT:
                _text(octets[begin:end])
            return end
        case Major.OTHER:
            return _other(octets, at)
        case Major.ARRAY:
            if nesting < 1:
                raise PeerMisbehaved("The other side sent content that is nested too deeply.")
            for _ in range(value):
                begin = check(octets, begin, nesting=nesting - 1, tags=tags)
            return begin
        case Major.MAP:
            return entries(octets, at, nesting=nesting, tags=tags)[1]
        case Major.TAG:
            if not tags:
                raise PeerMisbehaved("The other side sent content with a tag where none may be.")
            if nesting < 1:
                raise PeerMisbehaved("The other side sent content that is nested too deeply.")
            _big(value, octets, begin)
            return check(octets, begin, nesting=nesting - 1, tags=tags)


def entries(
    octets: bytes, at: int, *, nesting: int = MAX_NESTING, tags: bool = False
) -> tuple[list[tuple[bytes, bytes]], int]:
    """Check the map at `at`: its keys and values, as they are encoded, and where it ends. Raises PeerMisbehaved."""
    major, count, begin = _head(octets, at)
    if major is not Major.MAP:
        raise PeerMisbehaved("The other side sent content with something else where a map belongs.")
    if nesting < 1:
        raise PeerMisbehaved("The other side sent content that is nested too deeply.")
    found: list[tuple[bytes, bytes]] = []
    last = b""
    for _ in range(count):
        kind, number, _ = _head(octets, begin)
        if kind not in (Major.UNSIGNED, Major.NEGATIVE, Major.OCTETS, Major.TEXT):
            raise PeerMisbehaved("The other side sent content with a map key of a type that none may have.")
        # A negative integer n is written as -1 - n (RFC 8949 3.1).
        if kind <= Major.NEGATIVE and number > MAX_KEY - kind:
            raise PeerMisbehaved("The other side sent content with a map key that is too large.")
        middle = check(octets, begin, nesting=0)
        key = octets[begin:middle]
        if key <= last:  # 4.2.1: sorted by the octets of the key; the same one twice is not sorted either
            raise PeerMisbehaved("The other side sent content whose map is not in order, or has a key twice.")
        last = key
        begin = check(octets, middle, nesting=nesting - 1, tags=tags)
        found.append((key, octets[middle:begin]))
    return found, begin


def head(major: Major, value: int) -> bytes:
    """The first octets of an item in the shortest form; `value` is its number, length or count."""
    first = major << 5
    if value < 24:
        return bytes((first | value,))
    for info, size in ((24, 1), (25, 2), (26, 4)):
        if value < 1 << 8 * size:
            return bytes((first | info,)) + value.to_bytes(size)
    return bytes((first | 27,)) + value.to_bytes(8)


def _head(octets: bytes, at: int) -> tuple[Major, int, int]:
    if at >= len(octets):
        raise _cut()
    major, info = Major(octets[at] >> 5), octets[at] & 0x1F
    if info < 24:
        return major, info, at + 1
    if info > 27:
        raise PeerMisbehaved("The other side sent content in the indefinite form, which MIMI does not allow.")
    size = 1 << (info - 24)
    raw = octets[at + 1 : at + 1 + size]
    if len(raw) < size:
        raise _cut()
    value = int.from_bytes(raw)
    if major is not Major.OTHER and (value < 24 or (size > 1 and value < 1 << 4 * size)):
        raise PeerMisbehaved("The other side sent content with a number that is not in its shortest form.")
    return major, value, at + 1 + size


def _other(octets: bytes, at: int) -> int:
    """Simple values and floating point."""
    info = octets[at] & 0x1F
    if info < 24:
        if info < 20:
            raise PeerMisbehaved("The other side sent content with a value that has no meaning.")
        return at + 1
    _, value, end = _head(octets, at)
    if info == 24:
        if value < 32:  # RFC 8949 3.3: these have a shorter form, or none
            raise PeerMisbehaved("The other side sent content with a value that has no meaning.")
        return end
    raw = octets[at + 1 : end]
    (number,) = struct.unpack({25: ">e", 26: ">f", 27: ">d"}[info], raw)
    # 6.2: one NaN only, and every number in the shortest form that keeps it.
    if number != number:
        shortest = raw == b"\x7e\x00"
    else:
        shortest = info == 25 or not _fits(number, ">e" if info == 26 else ">f")
    if not shortest:
        raise PeerMisbehaved("The other side sent content with a number that is not in its shortest form.")
    return end


def _fits(number: float, form: str) -> bool:
    try:
        return bool(struct.unpack(form, struct.pack(form, number))[0] == number)
    except OverflowError:
        return False


def _big(tag: int, octets: bytes, at: int) -> None:
    """RFC 8949 3.4.3: a big number has no leading zero, and is none where a plain integer would do."""
    if tag not in (2, 3):
        return
    major, size, begin = _head(octets, at)
    if major is not Major.OCTETS or size < 9 or octets[begin : begin + 1] == b"\0":
        raise PeerMisbehaved("The other side sent content with a number that is not in its shortest form.")


def _text(raw: bytes) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise PeerMisbehaved("The other side sent content with text that is not UTF-8.") from None


def _cut() -> PeerMisbehaved:
    return PeerMisbehaved("The other side sent content that ends too early.")
