"""The normal form of styled text: what Matrix can show of it, each thing said once."""

from __future__ import annotations

import heapq
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise

from bridgekit.contract.text import Span, Style, Text
from bridgekit.matrix import permalinks

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LANGUAGE = re.compile(r"[\w+#.-]{1,40}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

ORDER: dict[Style, int] = {style: index for index, style in enumerate((Style.QUOTE, Style.CODE_BLOCK))} | {
    style: index
    for index, style in enumerate(
        (
            Style.MENTION,
            Style.LINK,
            Style.SPOILER,
            Style.COLOR,
            Style.BACKGROUND,
            Style.BOLD,
            Style.ITALIC,
            Style.UNDERLINE,
            Style.STRIKE,
            Style.CODE,
        ),
        start=2,
    )
}
"""Which style stands outside where two cover the same stretch."""

# A stretch and what lies on it.
_Piece = tuple[int, int, tuple[Style, str | None]]


def normal(text: Text) -> Text:
    """The same words with their spans in normal form.

    Blocks (QUOTE, CODE_BLOCK) cover whole lines, neither start nor end with a newline, and a code block lies
    wholly inside a quote or outside of it. Inline spans stay on one side of every block's edge, neither start
    nor end with a newline, and touching ones of the same style and value are one. No character has two values of
    one style (the later span wins), nor both a link and a mention, nor CODE in a CODE_BLOCK. Values that Matrix
    cannot show (an unsafe URL, an odd colour) are gone. `normal(normal(t)) == normal(t)`.
    """
    if not text.spans:
        return text
    body = text.body
    slots: dict[Style, list[_Piece]] = {}
    for span in text.spans:
        start, end = max(0, span.start), min(span.end, len(body))
        if start >= end:
            continue
        if body[start] == "\n" or body[end - 1] == "\n":
            start, end = _trim(body, start, end)
        look = _look(span)
        if start >= end or look is None:
            continue
        style = look[0]
        if style is Style.QUOTE or style is Style.CODE_BLOCK:
            start, end = body.rfind("\n", 0, start) + 1, _line_end(body, end)
        # A link and a mention are both <a>, which cannot be nested.
        slots.setdefault(Style.LINK if style is Style.MENTION else style, []).append((start, end, look))

    quotes = [_trimmed(body, piece) for piece in _paint(slots.pop(Style.QUOTE, []))]
    codes = list(_split(body, _paint(slots.pop(Style.CODE_BLOCK, [])), _edges(quotes)))
    edges = _edges(quotes + codes)
    found = quotes + codes
    for slot, layer in slots.items():
        if len(layer) == 1 and not edges:
            found += layer
            continue
        split = _split(body, _paint(layer), edges)
        if slot is Style.CODE and codes:
            split = _outside(split, codes)
        found += _merge(body, split, edges)
    if len(found) > 1:
        found.sort(key=lambda piece: (piece[0], -piece[1], ORDER[piece[2][0]]))
    return Text(body, tuple(Span(start, end, style, value) for start, end, (style, value) in found))


def _look(span: Span) -> tuple[Style, str | None] | None:
    """Style and value as Matrix can show them, or None."""
    style, value = span.style, span.value
    match style:
        case Style.COLOR | Style.BACKGROUND:
            return (style, value.lower()) if value and _COLOR.fullmatch(value) else None
        case Style.LINK:
            return link(value or "")
        case Style.MENTION:
            return (style, value) if value and permalinks.is_user_id(value) else None
        case Style.SPOILER:
            return style, (_CONTROL.sub(" ", value).strip() or None) if value else None
        case Style.CODE_BLOCK:
            return style, value if value and _LANGUAGE.fullmatch(value) else None
        case _:
            return style, None


def link(url: str) -> tuple[Style, str] | None:
    """What a link to `url` is: a MENTION for a user's permalink, None for a room's or an unsafe one."""
    safe = permalinks.safe(url)
    if safe is None:
        return None
    target = permalinks.named(safe)
    if not target:
        return Style.LINK, safe
    return (Style.MENTION, target) if permalinks.is_user_id(target) else None


def _paint(layer: list[_Piece]) -> list[_Piece]:
    """The pieces side by side; where they overlap the later one in the list is on top."""
    if len(layer) < 2:
        return layer
    ordered = sorted(range(len(layer)), key=lambda index: layer[index][0])
    if all(layer[a][1] < layer[b][0] for a, b in pairwise(ordered)):
        return [layer[index] for index in ordered]
    points = sorted({point for piece in layer for point in piece[:2]})
    coming = iter(ordered)
    upcoming = next(coming, None)
    top: list[tuple[int, int]] = []  # (-index, end): the latest first
    found: list[_Piece] = []
    for start, end in pairwise(points):
        while upcoming is not None and layer[upcoming][0] <= start:
            heapq.heappush(top, (-upcoming, layer[upcoming][1]))
            upcoming = next(coming, None)
        while top and top[0][1] <= start:
            heapq.heappop(top)
        if not top:
            continue
        look = layer[-top[0][0]][2]
        if found and found[-1][1] == start and found[-1][2] == look:
            found[-1] = (found[-1][0], end, look)
        else:
            found.append((start, end, look))
    return found


def _split(body: str, layer: list[_Piece], edges: list[int]) -> Iterable[_Piece]:
    """The pieces cut at `edges` and without newlines at their ends."""
    for start, end, look in layer:
        at = bisect_right(edges, start)
        while start < end:
            stop = min(end, edges[at]) if at < len(edges) else end
            piece = _trimmed(body, (start, stop, look))
            if piece[0] < piece[1]:
                yield piece
            start = stop
            at += 1


def _merge(body: str, layer: Iterable[_Piece], edges: list[int]) -> list[_Piece]:
    """Equal pieces with nothing but newlines between them become one, unless a block's edge is there."""
    found: list[_Piece] = []
    for piece in layer:
        if found:
            start, end, look = found[-1]
            gap = piece[0] - end
            if look == piece[2] and (
                gap == 0
                or (body.count("\n", end, piece[0]) == gap and not _any_between(edges, end, piece[0]))
            ):
                found[-1] = (start, piece[1], look)
                continue
        found.append(piece)
    return found


def _outside(layer: Iterable[_Piece], blocks: list[_Piece]) -> Iterable[_Piece]:
    """The pieces that lie in none of `blocks`; each piece is wholly inside one or outside of all."""
    starts = [piece[0] for piece in blocks]
    for piece in layer:
        index = bisect_right(starts, piece[0]) - 1
        if index < 0 or blocks[index][1] <= piece[0]:
            yield piece


def _edges(blocks: list[_Piece]) -> list[int]:
    return sorted({point for piece in blocks for point in piece[:2]})


def _any_between(edges: list[int], low: int, high: int) -> bool:
    index = bisect_left(edges, low)
    return index < len(edges) and edges[index] <= high


def _line_end(body: str, at: int) -> int:
    end = body.find("\n", at)
    return len(body) if end < 0 else end


def _trimmed(body: str, piece: _Piece) -> _Piece:
    return (*_trim(body, piece[0], piece[1]), piece[2])


def _trim(body: str, start: int, end: int) -> tuple[int, int]:
    """The stretch without newlines at its ends; start >= end if there is nothing else in it."""
    while start < end and body[start] == "\n":
        start += 1
    while start < end and body[end - 1] == "\n":
        end -= 1
    return start, end
