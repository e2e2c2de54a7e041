"""Neutral rich text: a plain body and the styles that lie over it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec


class Style(StrEnum):
    """What a stretch of text looks like or is."""

    BOLD = "bold"
    ITALIC = "italic"
    UNDERLINE = "underline"
    STRIKE = "strike"
    CODE = "code"
    COLOR = "color"  # value: "#rrggbb"
    BACKGROUND = "background"  # value: "#rrggbb"
    SPOILER = "spoiler"  # value: the reason, if one was given
    LINK = "link"  # value: the URL
    MENTION = "mention"  # value: the PersonId on the side that the text stands on
    CODE_BLOCK = "code_block"  # value: the language, if one was given; whole lines
    QUOTE = "quote"  # whole lines


class Span(msgspec.Struct, frozen=True, array_like=True):
    """`style` over `body[start:end]`; offsets count code points."""

    start: int
    end: int
    style: Style
    value: str | None = None


class Text(msgspec.Struct, frozen=True):
    """A body and its spans. Spans may overlap; 0 <= start < end <= len(body)."""

    body: str
    spans: tuple[Span, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.body)

    def slice(self, start: int, end: int) -> Text:
        """The stretch `start:end` with the styles that lie over it."""
        body = self.body[start:end]
        if not body:
            return Text("")
        end = start + len(body)
        return Text(
            body,
            tuple(
                Span(max(s.start, start) - start, min(s.end, end) - start, s.style, s.value)
                for s in self.spans
                if s.start < end and s.end > start
            ),
        )

    def keep(self, styles: frozenset[Style]) -> Text:
        """The same words with only the styles in `styles`."""
        if all(s.style in styles for s in self.spans):
            return self
        return Text(self.body, tuple(s for s in self.spans if s.style in styles))

    def map_values(self, style: Style, change: Callable[[str], str | None]) -> Text:
        """Replace the value of each span of `style`; a span whose new value is None falls away."""
        if not any(s.style is style for s in self.spans):
            return self
        spans: list[Span] = []
        for s in self.spans:
            if s.style is not style:
                spans.append(s)
            elif s.value is not None and (value := change(s.value)) is not None:
                spans.append(Span(s.start, s.end, s.style, value))
        return Text(self.body, tuple(spans))


def plain(body: str) -> Text:
    """Text without any style."""
    return Text(body)


def styled(body: str, style: Style, value: str | None = None) -> Text:
    """`body` under one style; an empty body carries none."""
    return Text(body, (Span(0, len(body), style, value),) if body else ())


def join(*parts: Text | str) -> Text:
    """The parts one after the other."""
    body: list[str] = []
    spans: list[Span] = []
    at = 0
    for part in parts:
        if isinstance(part, str):
            body.append(part)
            at += len(part)
            continue
        body.append(part.body)
        spans += [Span(s.start + at, s.end + at, s.style, s.value) for s in part.spans]
        at += len(part.body)
    return Text("".join(body), tuple(spans))


def excerpt(text: Text, limit: int) -> str:
    """The first line in at most `limit` characters, with an ellipsis where something was cut."""
    line, _, rest = text.body.strip().partition("\n")
    if len(line) > limit:
        return line[: limit - 1].rstrip() + "…"
    return f"{line} …" if rest.strip() else line
