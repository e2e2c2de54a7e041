"""Cuts neutral text for networks that bound a message: into lines, and into pieces that fit."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from bridgekit.contract.text import Span, Text

_NEWLINE = re.compile(r"\r\n|\r|\n")
_LINK = re.compile(r"\S{0,8}https?://\S{1,2000}")


@cache
def _grapheme() -> Any:
    """Its module takes 4 MB of memory, so it is loaded for the first text that must be cut."""
    import regex

    return regex.compile(r"\X")


def lines(text: Text) -> list[Text]:
    """The lines of `text` with their styles; empty lines are left out. CR, LF and CRLF all end a line."""
    body = text.body
    if "\n" not in body and "\r" not in body:
        return [text] if body else []
    ranges: list[tuple[int, int]] = []
    start = 0
    for newline in _NEWLINE.finditer(body):
        if newline.start() > start:
            ranges.append((start, newline.start()))
        start = newline.end()
    if start < len(body):
        ranges.append((start, len(body)))
    return _cut(text, ranges)


def by_bytes(text: Text, limit: int) -> list[Text]:
    """`pieces` of at most `limit` UTF-8 bytes each."""
    return pieces(text, limit, utf8_size)


def utf8_size(text: Text) -> int:
    """The body's length in UTF-8 bytes."""
    body = text.body
    return len(body) if body.isascii() else len(body.encode("utf-8", "surrogatepass"))


def pieces(text: Text, limit: int, cost: Callable[[Text], int]) -> list[Text]:
    """Cut `text` into pieces whose `cost` is at most `limit`.

    `cost` should not fall when a piece grows (bytes on the wire, say). A cut is made at a newline in the second
    half of a full piece, else at a space in its last third, else before a link that the cut would break and that
    fits a piece, else between two graphemes (UAX #29), and inside a grapheme only where that grapheme alone is too
    long. The one newline or space at a cut is dropped, nothing
    else is. Raise ValueError where not even one code point fits.
    """
    body = text.body
    if not body:
        return []
    if cost(text) <= limit:
        return [text]
    found: list[Text] = []
    start, reach = 0, max(1, limit)
    while start < len(body):
        piece, skipped, reach = _next(text, start, reach, limit, cost)
        found.append(piece)
        start += len(piece.body) + skipped
    return found


def _next(
    text: Text, start: int, reach: int, limit: int, cost: Callable[[Text], int]
) -> tuple[Text, int, int]:
    """The piece at `start`, how many separators follow it, and a guess for the reach of the next."""
    left = len(text.body) - start
    # Gallop: few calls where pieces are alike, and never much more than a piece in hand.
    while True:
        window = text.slice(start, start + min(reach, left))
        if cost(window) > limit:
            break
        if reach >= left:
            return window, 0, reach
        reach *= 2
    ends = _boundaries(window.body)
    # The last grapheme of a window may go on behind it: what is cut there was not known to be whole.
    size = _longest(window, ends, limit, cost)
    if size == 0:
        if (size := _longest(window, range(1, ends[0] + 1), limit, cost)) == 0:
            raise ValueError(f"a limit of {limit} has no room for one character")
        return window.slice(0, size), 0, max(reach, 1)
    at = _last("\n", window.body, ends, max(1, size // 2), size)
    if at <= 0:
        if text.body[start + size] in " \n" and _is_boundary(text.body, start + size):
            return window.slice(0, size), 1, size * 2
        at = _last(" ", window.body, ends, max(1, size * 2 // 3), size)
    if at <= 0:
        at = _before_link(text, start, window, ends, size, limit, cost)
    if at > 0 and cost(shorter := window.slice(0, at)) <= limit:
        return shorter, 1, size * 2
    return window.slice(0, size), 0, size * 2


def _before_link(
    text: Text,
    start: int,
    window: Text,
    ends: Sequence[int],
    size: int,
    limit: int,
    cost: Callable[[Text], int],
) -> int:
    """Where the separator before a link is that a cut at `size` would break and a piece of its own has room for."""
    at = max(_last(separator, window.body, ends, 1, size) for separator in "\n ")
    link = _LINK.match(text.body, start + at + 1) if at > 0 else None
    return at if link is not None and cost(text.slice(*link.span())) <= limit else -1


def _last(separator: str, body: str, ends: Sequence[int], low: int, high: int) -> int:
    """Where the last `separator` in `low:high` is that is a whole grapheme, -1 if there is none."""
    at = body.rfind(separator, low, high)
    while at > 0 and not _stands_alone(ends, at):
        at = body.rfind(separator, low, at)
    return at


def _boundaries(body: str) -> list[int] | range:
    """Where the graphemes of `body` end, in code points."""
    if body.isascii() and "\r" not in body:
        return range(1, len(body) + 1)
    return [match.end() for match in _grapheme().finditer(body)]


def _is_boundary(body: str, at: int) -> bool:
    """Whether the separator at `at` is a grapheme of its own: no combining mark sits on it."""
    match = _grapheme().match(body, at)
    return match is not None and match.end() == at + 1


def _stands_alone(ends: Sequence[int], at: int) -> bool:
    """Whether the character at `at` is a whole grapheme."""
    if isinstance(ends, range):
        return True
    index = bisect_right(ends, at)  # the first end behind `at`
    return ends[index] == at + 1 and (index == 0 or ends[index - 1] == at)


def _longest(window: Text, ends: Sequence[int], limit: int, cost: Callable[[Text], int]) -> int:
    """The largest of `ends` whose prefix fits, 0 if none does. The whole window is known not to fit."""
    low, high = 0, len(ends)  # ends[low - 1] fits, ends[high - 1] does not
    if ends[-1] < len(window.body):
        high += 1
    while high - low > 1:
        middle = (low + high) // 2
        if cost(window.slice(0, ends[middle - 1])) <= limit:
            low = middle
        else:
            high = middle
    return ends[low - 1] if low else 0


def _cut(text: Text, ranges: Iterable[tuple[int, int]]) -> list[Text]:
    """The stretches `ranges` (in order, apart) of `text`, in one pass over its spans."""
    body = text.body
    if not text.spans:
        return [Text(body[start:end]) for start, end in ranges]
    coming = sorted(enumerate(text.spans), key=lambda item: -item[1].start)
    open_: list[tuple[int, Span]] = []
    found: list[Text] = []
    for start, end in ranges:
        while coming and coming[-1][1].start < end:
            open_.append(coming.pop())
        open_ = [item for item in open_ if item[1].end > start]
        open_.sort(key=lambda item: item[0])
        found.append(
            Text(
                body[start:end],
                tuple(
                    Span(max(s.start, start) - start, min(s.end, end) - start, s.style, s.value)
                    for _, s in open_
                ),
            )
        )
    return found
