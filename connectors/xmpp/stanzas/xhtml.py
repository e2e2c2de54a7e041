"""XHTML-IM (XEP-0071) as neutral text; only ever read, never written."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from bridgekit.contract.text import Span, Style, Text
from connectors.xmpp.stanzas.wire import XHTML, XHTML_IM, find, local

_STYLES = {
    "strong": Style.BOLD,
    "b": Style.BOLD,
    "em": Style.ITALIC,
    "i": Style.ITALIC,
    "cite": Style.ITALIC,
    "u": Style.UNDERLINE,
    "s": Style.STRIKE,
    "del": Style.STRIKE,
    "code": Style.CODE,
    "pre": Style.CODE_BLOCK,
    "blockquote": Style.QUOTE,
}
_BLOCKS = frozenset("p div li pre blockquote h1 h2 h3 h4 h5 h6 ul ol".split())
_CSS = {
    ("font-weight", "bold"): Style.BOLD,
    ("font-style", "italic"): Style.ITALIC,
    ("text-decoration", "underline"): Style.UNDERLINE,
    ("text-decoration", "line-through"): Style.STRIKE,
}
# RFC 3986, 3.1: a scheme says nothing about its case. What stands behind it is whoever follows the link to judge.
_SCHEME = re.compile("(?:https?|mailto|xmpp|geo|tel|matrix):", re.I)
DEEPEST = 30
LONGEST = 100_000
"""Elements deeper, and words behind this many characters, are left out."""


def read(message: Element) -> Text | None:
    """The formatted words of a message, None where it has none."""
    body = find(find(message, XHTML_IM, "html"), XHTML, "body")
    if body is None:
        return None
    out = _Writer()
    _walk(body, out, 0, False)
    text = "".join(out.parts)
    left = len(text) - len(text.lstrip())
    return Text(text, tuple(out.spans)).slice(left, len(text.rstrip())) if text.strip() else None


class _Writer:
    """Words and spans so far; what would be longer than LONGEST is left out."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.spans: list[Span] = []
        self.size = 0
        self.last = ""  # the last character

    def text(self, words: str) -> None:
        words = words[: LONGEST - self.size]
        if words:
            self.parts.append(words)
            self.size += len(words)
            self.last = words[-1]

    def break_line(self) -> None:
        if self.size and self.last != "\n":
            self.text("\n")


def _walk(element: Element, out: _Writer, depth: int, kept: bool) -> None:
    name = local(element)
    if depth > DEEPEST or name in ("style", "script", "head"):
        return
    if name == "br":
        out.text("\n")
        return
    if name == "img":
        out.text(element.get("alt") or element.get("src") or "")
        return
    kept = kept or name == "pre"
    if name in _BLOCKS:
        out.break_line()
    start = out.size
    _say(element.text, out, kept)
    for child in element:
        _walk(child, out, depth + 1, kept)
        _say(child.tail, out, kept)
    if out.size > start:
        out.spans += [Span(start, out.size, style, value) for style, value in _styles(name, element)]
    if name in _BLOCKS:
        out.break_line()


def _say(words: str | None, out: _Writer, kept: bool) -> None:
    if words:
        folded = words if kept else _folded(words)
        if folded != " " or out.last not in ("", " ", "\n"):
            out.text(folded)


def _folded(words: str) -> str:
    inside = " ".join(words.split())
    if not inside:
        return " "
    return (" " if words[0].isspace() else "") + inside + (" " if words[-1].isspace() else "")


def _styles(name: str, element: Element) -> list[tuple[Style, str | None]]:
    found: list[tuple[Style, str | None]] = []
    if (style := _STYLES.get(name)) is not None:
        found.append((style, None))
    href = element.get("href", "")
    if name == "a" and _SCHEME.match(href):
        found.append((Style.LINK, href))
    for rule in element.get("style", "").split(";"):
        key, _, value = rule.partition(":")
        key, value = key.strip().lower(), value.strip().lower()
        if (style := _CSS.get((key, value))) is not None:
            found.append((style, None))
        elif key == "color" and len(value) == 7 and value.startswith("#"):
            found.append((Style.COLOR, value))
    return found
