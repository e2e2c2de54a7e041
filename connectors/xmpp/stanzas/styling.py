"""Message Styling (XEP-0393): marks in plain text become styles, and styles marks."""

from __future__ import annotations

import re

from bridgekit.contract.text import Span, Style, Text

STYLES = frozenset({Style.BOLD, Style.ITALIC, Style.STRIKE, Style.CODE, Style.CODE_BLOCK, Style.QUOTE})
_MARKS = {"*": Style.BOLD, "_": Style.ITALIC, "~": Style.STRIKE, "`": Style.CODE}
_WRITTEN = {style: mark for mark, style in _MARKS.items()}
_ANY_MARK = re.compile("[*_~`]")
_FENCE = "```"
_DEEPEST = 4
"""Spans within spans; deeper ones are left as they are."""


def read(body: str) -> Text:
    """The styles of a body. Marks of spans fall away; so do fences and quotation marks of blocks."""
    if not any(c in body for c in "*_~`>"):
        return Text(body)
    out = _Writer()
    lines = body.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(_FENCE):
            end = next((i for i in range(at + 1, len(lines)) if lines[i] == _FENCE), None)
            last = end if end is not None else len(lines)
            inside = lines[at + 1 : last]
            if inside:
                start = out.size
                out.text("\n".join(inside))
                out.span(start, Style.CODE_BLOCK, line[3:].strip() or None)
                out.newline()
                at = last + 1
                continue
        if line.startswith(">"):
            last = at
            while last < len(lines) and lines[last].startswith(">"):
                last += 1
            start = out.size
            for i in range(at, last):
                quoted = lines[i][1:]
                _spans(out, quoted[1:] if quoted.startswith(" ") else quoted)
                if i < last - 1:
                    out.newline()
            out.span(start, Style.QUOTE, None)
            out.newline()
            at = last
            continue
        _spans(out, line)
        out.newline()
        at += 1
    return out.result()


class _Writer:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._spans: list[Span] = []
        self.size = 0

    def text(self, words: str) -> None:
        self._parts.append(words)
        self.size += len(words)

    def newline(self) -> None:
        self.text("\n")

    def span(self, start: int, style: Style, value: str | None) -> None:
        if self.size > start:
            self._spans.append(Span(start, self.size, style, value))

    def result(self) -> Text:
        body = "".join(self._parts)[:-1]  # one newline stands behind every line
        return Text(body, tuple(s for s in self._spans if s.start < s.end <= len(body)))


def _spans(out: _Writer, line: str) -> None:
    _Line(out, line).read(0, len(line))


class _Line:
    """One line on its way through (XEP-0393, 5.2): each of its marks is looked at once, from left to right."""

    def __init__(self, out: _Writer, line: str) -> None:
        self._out = out
        self._line = line
        self._places = [found.start() for found in _ANY_MARK.finditer(line)]
        self._next = 0
        # 5.2: "The closing styling directive MUST NOT be preceded by a whitespace character"; the nearest comes last.
        self._closing: dict[str, list[int]] = {mark: [] for mark in _MARKS}
        for at in reversed(self._places):
            if at and not line[at - 1].isspace():
                self._closing[line[at]].append(at)

    def read(self, start: int, end: int, depth: int = 0) -> None:
        """Write the stretch `start:end` with its spans."""
        out, line, places = self._out, self._line, self._places
        plain_from = start
        while self._next < len(places) and places[self._next] < end:
            at = places[self._next]
            self._next += 1
            close = self._close(at, start, end) if depth <= _DEEPEST else -1
            if close < 0:
                continue
            out.text(line[plain_from:at])
            begin = out.size
            if line[at] == "`":
                out.text(line[at + 1 : close])
            else:
                self.read(at + 1, close, depth + 1)
            while self._next < len(places) and places[self._next] <= close:
                self._next += 1
            out.span(begin, _MARKS[line[at]], None)
            plain_from = close + 1
        out.text(line[plain_from:end])

    def _close(self, at: int, start: int, end: int) -> int:
        """Where the span ends that a mark opens; -1 where it opens none.

        An opening mark stands at the start, behind whitespace or behind another one, and no space is behind it.
        """
        line = self._line
        if at > start and not line[at - 1].isspace() and line[at - 1] not in _MARKS:
            return -1
        if at + 2 >= end or line[at + 1].isspace() or line[at + 1] == line[at]:  # "**" opens nothing
            return -1
        closing = self._closing[line[at]]
        while closing and closing[-1] <= at + 1:
            closing.pop()
        return closing[-1] if closing and closing[-1] < end else -1


def write(text: Text) -> str:
    """The body with marks, where marks can say it: a span is written only where it would be read again."""
    body = text.body
    blocks = [s for s in text.spans if s.style in (Style.CODE_BLOCK, Style.QUOTE)]
    notes: list[tuple[int, int, str]] = []
    for span in text.spans:
        mark = _WRITTEN.get(span.style)
        start, end = span.start, span.end
        while start < end and body[start].isspace():
            start += 1
        while end > start and body[end - 1].isspace():
            end -= 1
        inside = body[start:end]
        if (
            mark is None
            or not inside
            or "\n" in inside
            or mark in inside
            or (start and not body[start - 1].isspace() and body[start - 1] not in "([{>\"'")
            or any(b.style is Style.CODE_BLOCK and b.start <= start < b.end for b in blocks)
        ):
            continue
        notes.append((start, 1, mark))
        notes.append((end, -1, mark))
    for span in blocks:
        if (span.start and body[span.start - 1] != "\n") or (span.end < len(body) and body[span.end] != "\n"):
            continue
        if span.style is Style.CODE_BLOCK:
            notes.append((span.start, 2, f"{_FENCE}{span.value or ''}\n"))
            notes.append((span.end, -2, f"\n{_FENCE}"))
        else:
            lines = [span.start, *(i + 1 for i in range(span.start, span.end - 1) if body[i] == "\n")]
            notes += [(i, 3, "> ") for i in lines]
    return _woven(body, notes)


def _woven(body: str, notes: list[tuple[int, int, str]]) -> str:
    """The body with marks put in: what closes stands before what opens, and blocks stand outside of spans."""
    if not notes:
        return body
    opening: list[str] = []
    parts: list[str] = []
    last = 0
    places: dict[int, list[tuple[int, str]]] = {}
    for at, kind, mark in notes:
        places.setdefault(at, []).append((kind, mark))
    for place, here in sorted(places.items()):
        parts.append(body[last:place])
        closing = [mark for kind, mark in here if kind == -1]
        for mark in reversed([m for m in opening if m in closing]):
            parts.append(mark)
            opening.remove(mark)
        parts += [mark for kind, mark in here if kind == -2]
        parts += [mark for kind, mark in here if kind == 3]
        parts += [mark for kind, mark in here if kind == 2]
        for mark in [mark for kind, mark in here if kind == 1]:
            parts.append(mark)
            opening.append(mark)
        last = place
    parts.append(body[last:])
    return "".join(parts)
