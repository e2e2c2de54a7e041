"""XHTML-IM (XEP-0071) as neutral text; only ever read, never written."""

from __future__ import annotations

from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from bridgekit.contract.text import Span, Style, Text
from connectors.xmpp.wire import XHTML, XHTML_IM, find, local

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
_SCHEMES = frozenset({"http", "https", "mailto", "xmpp", "geo", "tel", "matrix"})
DEEPEST = 30
LONGEST = 100_000
"""Elements deeper, and words behind this many characters, are left out."""


def read(message: Element) -> Text | None:
    """The formatted words of a message, None where it has none."""
    body = find(find(message, XHTML_IM, "html"), XHTML, "body")
    if body is None:
        return None
    parts: list[str] = []
    spans: list[Span] = []
    _walk(body, parts, spans, 0, False)
    text = "".join(parts)
    left = len(text) - len(text.lstrip())
    return Text(text, tuple(spans)).slice(left, len(text.rstrip())) if text.strip() else None


def _walk(element: Element, parts: list[str], spans: list[Span], depth: int, kept: bool) -> None:
    name = local(element)
    if depth > DEEPEST or name in ("style", "script", "head"):
        return
    if name == "br":
        parts.append("\n")
        return
    if name == "img":
        parts.append(element.get("alt") or element.get("src") or "")
        return
    kept = kept or name == "pre"
    if name in _BLOCKS:
        _break(parts)
    start = _size(parts)
    _say(element.text, parts, kept)
    for child in element:
        _walk(child, parts, spans, depth + 1, kept)
        _say(child.tail, parts, kept)
    end = _size(parts)
    if end > start:
        spans += [Span(start, end, style, value) for style, value in _styles(name, element)]
    if name in _BLOCKS:
        _break(parts)


def _size(parts: list[str]) -> int:
    # One string at a time: what is long is cut once, here.
    if len(parts) > 1:
        parts[:] = ["".join(parts)[:LONGEST]]
    return len(parts[0]) if parts else 0


def _break(parts: list[str]) -> None:
    if parts and any(parts) and not "".join(parts[-2:]).endswith("\n"):
        parts.append("\n")


def _say(words: str | None, parts: list[str], kept: bool) -> None:
    if words:
        folded = words if kept else _folded(words)
        if folded == " " and (not parts or parts[-1].endswith((" ", "\n"))):
            return
        parts.append(folded)


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
    if name == "a" and urlsplit(href).scheme in _SCHEMES:
        found.append((Style.LINK, href))
    for rule in element.get("style", "").split(";"):
        key, _, value = rule.partition(":")
        key, value = key.strip().lower(), value.strip().lower()
        if (style := _CSS.get((key, value))) is not None:
            found.append((style, None))
        elif key == "color" and len(value) == 7 and value.startswith("#"):
            found.append((Style.COLOR, value))
    return found
