"""Message Styling (XEP-0393): marks in plain text become styles, and styles marks."""

from __future__ import annotations

from bridgekit.contract.text import Span, Style, Text

STYLES = frozenset({Style.BOLD, Style.ITALIC, Style.STRIKE, Style.CODE, Style.CODE_BLOCK, Style.QUOTE})
_MARKS = {"*": Style.BOLD, "_": Style.ITALIC, "~": Style.STRIKE, "`": Style.CODE}
_WRITTEN = {style: mark for mark, style in _MARKS.items()}
_FENCE = "```"


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


def _spans(out: _Writer, line: str, depth: int = 0) -> None:
    """XEP-0393, 5.2: an opening mark at the start, behind whitespace or behind another opening mark."""
    at = plain_from = 0
    while at < len(line):
        mark = line[at]
        opens = mark in _MARKS and (at == 0 or line[at - 1].isspace() or line[at - 1] in _MARKS)
        if not opens or depth > 4 or at + 2 >= len(line) or line[at + 1].isspace():
            at += 1
            continue
        end = _closing(line, at, mark)
        if end < 0:
            at += 1
            continue
        out.text(line[plain_from:at])
        start = out.size
        if mark == "`":
            out.text(line[at + 1 : end])
        else:
            _spans(out, line[at + 1 : end], depth + 1)
        out.span(start, _MARKS[mark], None)
        at = plain_from = end + 1
    out.text(line[plain_from:])


def _closing(line: str, at: int, mark: str) -> int:
    end = line.find(mark, at + 1)
    while end >= 0 and (line[end - 1].isspace() or end == at + 1):
        if end == at + 1:
            return -1  # "**" opens nothing
        end = line.find(mark, end + 1)
    return end


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
    for place in sorted({at for at, _, _ in notes}):
        parts.append(body[last:place])
        here = [(kind, mark) for at, kind, mark in notes if at == place]
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
