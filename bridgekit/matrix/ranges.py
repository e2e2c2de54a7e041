"""Which part of a file is asked for: a single byte range (RFC 9110 14; pure)."""

from __future__ import annotations

import re

_SINGLE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """No byte of the part is in the file: 416."""


def part_of(size: int, asked: str | None) -> range | None:
    """The offsets that a Range header names in a file of `size` bytes; None where it is ignored.

    Ignored is what is invalid (RFC 9110 14.2), and what names several parts, which nobody has to serve (14.3).
    Raises Unsatisfiable.
    """
    found = _SINGLE.fullmatch(asked or "")
    first, last = found.groups() if found is not None else ("", "")
    if not first and not last:
        return None
    if not first:
        part = range(max(0, size - int(last)), size)
    elif last and int(last) < int(first):
        return None
    else:
        part = range(int(first), min(size, int(last) + 1) if last else size)
    if not part:
        raise Unsatisfiable
    return part
