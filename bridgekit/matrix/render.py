"""Neutral text out to Matrix: org.matrix.custom.html, and the plain body beside it."""

from __future__ import annotations

import re
from html import escape

from bridgekit.contract.text import Span, Style, Text
from bridgekit.matrix import permalinks
from bridgekit.matrix.spans import ORDER, normal

_NBSP = "\u00a0"
_GONE = "\u0000"
# HTML collapses these spaces: the first of a line, all but the first of a run, the last of a line.
_COLLAPSING = re.compile(r"^ |(?<= ) | $", re.MULTILINE)

_SIMPLE = {
    Style.QUOTE: ("<blockquote>", "</blockquote>"),
    Style.BOLD: ("<strong>", "</strong>"),
    Style.ITALIC: ("<em>", "</em>"),
    Style.UNDERLINE: ("<u>", "</u>"),
    Style.STRIKE: ("<del>", "</del>"),
    Style.CODE: ("<code>", "</code>"),
}


def to_html(text: Text) -> str | None:
    """`formatted_body` for org.matrix.custom.html; None where no style is left and `body` is enough.

    Only what the specification lets clients show is written (Client-Server API 11.2.1.1); links that are not
    http, https, ftp, mailto, magnet or matrix are plain words. Read back by `from_html`, it is `normal(text)`.
    """
    if not text.spans:
        return None
    text = normal(text)
    if not text.spans:
        return None
    body = _prepared(text)
    starts: dict[int, list[Span]] = {}
    points: set[int] = set()
    for span in text.spans:
        starts.setdefault(span.start, []).append(span)
        points.add(span.start)
        points.add(span.end)
    out: list[str] = []
    open_: list[Span] = []
    at = 0
    for point in sorted(points):
        out.append(_words(body[at:point], open_))
        at = point
        again = _close(out, open_, point)
        for span in sorted(again + starts.get(point, []), key=_outer_first):
            out.append(_tags(span)[0])
            open_.append(span)
    out.append(_words(body[at:], open_))
    return "".join(out)


def _prepared(text: Text) -> str:
    """The body, one character for one: spaces that HTML would collapse are fixed, implied newlines marked.

    A block's own edges already break the line, so the newline after it, and the one before it unless that ends
    an empty line, must not become a <br> too.
    """
    body = text.body.replace(_GONE, "\ufffd")
    blocks = [span for span in text.spans if span.style is Style.QUOTE or span.style is Style.CODE_BLOCK]
    if not blocks:
        return _COLLAPSING.sub(_NBSP, body.replace("\t", " "))
    parts: list[str] = []
    at = 0
    for code in (span for span in blocks if span.style is Style.CODE_BLOCK):
        parts.append(_COLLAPSING.sub(_NBSP, body[at : code.start].replace("\t", " ")))
        parts.append(body[code.start : code.end])
        at = code.end
    parts.append(_COLLAPSING.sub(_NBSP, body[at:].replace("\t", " ")))
    marked = list("".join(parts))
    for block in blocks:
        if block.end < len(marked):
            marked[block.end] = _GONE
        if block.start > 1 and marked[block.start - 2] not in ("\n", _GONE):
            marked[block.start - 1] = _GONE
    return "".join(marked)


def _close(out: list[str], open_: list[Span], point: int) -> list[Span]:
    """Close what ends at `point`; return what had to be closed with it and goes on."""
    again: list[Span] = []
    ending = sum(span.end <= point for span in open_)
    while ending:
        span = open_.pop()
        out.append(_tags(span)[1])
        if span.end <= point:
            ending -= 1
        else:
            again.append(span)
    return again


def _outer_first(span: Span) -> tuple[bool, int, int]:
    inline = span.style is not Style.QUOTE and span.style is not Style.CODE_BLOCK
    return inline, -span.end, ORDER[span.style]


def _words(words: str, open_: list[Span]) -> str:
    words = escape(words, quote=False)
    if not any(span.style is Style.CODE_BLOCK for span in open_):
        words = words.replace("\n", "<br>").replace(_NBSP, "&nbsp;")
    return words.replace(_GONE, "")


def _tags(span: Span) -> tuple[str, str]:
    value = escape(span.value or "")
    match span.style:
        case Style.LINK:
            return f'<a href="{value}">', "</a>"
        case Style.MENTION:
            return f'<a href="{escape(permalinks.to_user(span.value or ""))}">', "</a>"
        case Style.COLOR:
            return f'<font data-mx-color="{value}">', "</font>"
        case Style.BACKGROUND:
            return f'<span data-mx-bg-color="{value}">', "</span>"
        case Style.SPOILER:
            return f'<span data-mx-spoiler="{value}">' if value else "<span data-mx-spoiler>", "</span>"
        case Style.CODE_BLOCK:
            kind = f' class="language-{value}"' if value else ""
            return f"<pre><code{kind}>", "\n</code></pre>"
        case style:
            return _SIMPLE[style]


def to_plain(text: Text) -> str:
    """`body` beside a `formatted_body`, for clients and notifications that show no HTML.

    Quoted lines start with "> ", a link's URL follows its words, and a spoiler's words are left out (they would
    show in a notification): "[spoiler]" or "[spoiler: reason]".
    """
    if not text.spans:
        return text.body
    body = text.body
    edits: list[tuple[int, int, str]] = []
    hidden = 0
    for span in normal(text).spans:
        if span.style is Style.SPOILER:
            edits.append((span.start, span.end, f"[spoiler: {span.value}]" if span.value else "[spoiler]"))
            hidden = span.end
        elif span.style is Style.LINK and span.start >= hidden and span.value:
            if span.value.removeprefix("mailto:") not in body[span.start : span.end]:
                edits.append((span.end, span.end, f" ({span.value})"))
        elif span.style is Style.QUOTE:
            edits.append((span.start, span.start, "> "))
            at = body.find("\n", span.start, span.end)
            while at >= 0:
                edits.append((at + 1, at + 1, "> "))
                at = body.find("\n", at + 1, span.end)
    out: list[str] = []
    at = 0
    for start, end, words in sorted(edits, key=lambda edit: edit[0]):
        if start < at:
            continue  # inside a spoiler that is already left out
        out += (body[at:start], words)
        at = end
    out.append(body[at:])
    return "".join(out)
