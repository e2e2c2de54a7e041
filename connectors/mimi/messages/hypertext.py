"""text/html in: the words, links and mentions of it, in time linear in its length.

The draft only recommends HTML, and senders who choose it offer Markdown beside it as a rule; so no layout is
rebuilt here, and nothing of the HTML lives on.
"""

from __future__ import annotations

import re
from html import unescape

from bridgekit.contract.text import Span, Style, Text
from connectors.mimi import uris
from connectors.mimi.messages.links import deceives

_TOKEN = re.compile(r"<([^<>]*)>|([^<]+|<)")
_TAG = re.compile(r"(/?)([A-Za-z][A-Za-z0-9]*)(.*)", re.DOTALL)
_HREF = re.compile(r"\shref\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_ALT = re.compile(r"\salt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n\f]+")
_STYLES = {
    "b": Style.BOLD,
    "strong": Style.BOLD,
    "h1": Style.BOLD,
    "h2": Style.BOLD,
    "h3": Style.BOLD,
    "i": Style.ITALIC,
    "em": Style.ITALIC,
    "s": Style.STRIKE,
    "del": Style.STRIKE,
    "code": Style.CODE,
}
_LINES = frozenset("p div br li ul ol tr table blockquote pre h1 h2 h3 h4 h5 h6".split())
_HIDDEN = frozenset({"script", "style", "head", "title"})
MAX_OPEN = 64


def from_html(html: str) -> Text:
    """The words of `html`, with what can be styled of them. Nothing is raised, whatever comes in."""
    reader = _Reader()
    for tag, words in _TOKEN.findall(html):
        if words:
            reader.words(words)
        elif found := _TAG.fullmatch(tag):
            reader.tag(found[2].lower(), found[1] == "/", found[3])
    return reader.text()


class _Reader:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._spans: list[Span] = []
        self._open: list[tuple[str, int, Style, str | None]] = []
        self._link = 0  # where in the parts the words of the open link begin
        self._hidden = ""
        self._break = False
        self._space = False

    def words(self, words: str) -> None:
        if self._hidden:
            return
        words = _SPACE.sub(" ", unescape(words))
        if self._break or self._space or not self._length:
            words = words.lstrip(" ")
        if not words:
            return
        if self._break and self._length:
            words = "\n" + words
        self._break = False
        self._space = words.endswith(" ")
        self._parts.append(words)
        self._length += len(words)

    def tag(self, name: str, closing: bool, attributes: str) -> None:
        if name in _HIDDEN:
            self._hidden = "" if closing else self._hidden or name
        if name in _LINES:
            self._break = True
        if name == "img" and (alt := _ALT.search(attributes)):
            self.words(alt[1] or alt[2] or "")
        if closing:
            self._close(name)
        elif len(self._open) < MAX_OPEN:
            if name == "a" and (href := _HREF.search(attributes)):
                address = unescape(href[1] or href[2] or "")
                style = Style.MENTION if uris.is_user(address) else Style.LINK
                self._open.append((name, self._next(), style, address))
                self._link = len(self._parts)
            elif name in _STYLES:
                self._open.append((name, self._next(), _STYLES[name], None))

    def _next(self) -> int:
        return self._length + (1 if self._break and self._length else 0)

    def _close(self, name: str) -> None:
        for index in range(len(self._open) - 1, -1, -1):
            opened, start, style, value = self._open[index]
            if opened == name:
                del self._open[index]
                if self._length > start and value != "":
                    self._spans.append(Span(start, self._length, style, value))
                    if style is Style.LINK and deceives("".join(self._parts[self._link :]), value or ""):
                        self.words(f" ({value})")
                return

    def text(self) -> Text:
        body = "".join(self._parts).rstrip()
        spans = (Span(s.start, min(s.end, len(body)), s.style, s.value) for s in self._spans)
        return Text(
            body, tuple(sorted((s for s in spans if s.start < s.end), key=lambda s: (s.start, -s.end)))
        )
