"""org.matrix.custom.html in: formatted bodies to neutral text (`from_html`); the way out is `to_html`."""

from __future__ import annotations

import re
from collections.abc import Callable

from bridgekit.contract.text import Span, Style, Text
from bridgekit.matrix.markup import Tag, attributes, scan
from bridgekit.matrix.render import to_html, to_plain
from bridgekit.matrix.spans import link, normal

__all__ = ["from_html", "to_html", "to_plain"]

_SPACE = re.compile(r"[ \t\n\f\r]{2,}|[\t\n\f\r]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_COLOR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_LANGUAGE = re.compile(r"(?:^|\s)language-(\S+)")

_STYLES: dict[str, Style] = {
    "b": Style.BOLD,
    "strong": Style.BOLD,
    "i": Style.ITALIC,
    "em": Style.ITALIC,
    "cite": Style.ITALIC,
    "dfn": Style.ITALIC,
    "var": Style.ITALIC,
    "u": Style.UNDERLINE,
    "ins": Style.UNDERLINE,
    "s": Style.STRIKE,
    "del": Style.STRIKE,
    "strike": Style.STRIKE,
    "code": Style.CODE,
    "tt": Style.CODE,
    "kbd": Style.CODE,
    "samp": Style.CODE,
}
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
# Each stands on lines of its own. A paragraph also keeps an empty line from its neighbours.
_BLOCKS = _HEADINGS | frozenset(
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer form "
    "header html legend main nav ol p pre section summary table tbody tfoot thead tr ul".split()
)
_LINES_APART = {"p": 2}
_BOLD_BLOCKS = _HEADINGS | {"caption", "summary"}
_ROWS = frozenset({"table", "tbody", "tfoot", "thead", "tr"})  # each ends the cell before it
_COLORS = {
    "black": "#000000",
    "silver": "#c0c0c0",
    "gray": "#808080",
    "grey": "#808080",
    "white": "#ffffff",
    "maroon": "#800000",
    "red": "#ff0000",
    "purple": "#800080",
    "fuchsia": "#ff00ff",
    "magenta": "#ff00ff",
    "green": "#008000",
    "lime": "#00ff00",
    "olive": "#808000",
    "yellow": "#ffff00",
    "navy": "#000080",
    "blue": "#0000ff",
    "teal": "#008080",
    "aqua": "#00ffff",
    "cyan": "#00ffff",
    "orange": "#ffa500",
}


def from_html(html: str, *, mention: Callable[[str], str | None] | None = None) -> Text:
    """The words and styles of `html`, in normal form (`spans.normal`), without empty lines at either end.

    `mention` maps the user id of a matrix.to or matrix: link to the value of its MENTION span, None for no span;
    by default it is the user id. Unknown tags degrade to their words; nothing is raised, whatever comes in, and
    the time is linear in its length. Lists become "• " and "1. " lines, table cells are parted by " | ", images
    are their alternative words, the reply fallback is dropped.
    """
    reader = _Reader()
    # Decoding a character reference never yields one of these (HTML 13.2.5.84).
    for token in scan(_CONTROL.sub(_control, html)):
        if isinstance(token, str):
            reader.words(token)
        elif token.closing:
            reader.close(token.name)
        else:
            reader.open(token)
    text = reader.text()
    return text if mention is None else text.map_values(Style.MENTION, mention)


class _Mark:
    """A span in the making, shared by nested tags that say the same; `end` is -1 until the last is closed."""

    __slots__ = ("depth", "end", "start", "style", "value")

    def __init__(self, start: int, style: Style, value: str | None) -> None:
        self.start = start
        self.end = -1
        self.depth = 1
        self.style = style
        self.value = value


class _Reader:
    """Follows the tags the way a browser lays them out, line by line."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._length = 0
        self._newlines = 0  # how many newlines the words so far end with
        self._due = 0  # how many have to be there before the next words
        self._collapsible = True  # a space here would not show
        self._marker = False  # right behind a list marker: the item's own block starts on the same line
        self._fresh = False  # right behind <pre>, where one newline is ignored
        self._cell = False
        self._first_cell = True
        self._pres: list[_Mark] = []
        self._lists: list[int | None] = []  # per open list the next number, None for bullets
        self._marks: list[_Mark] = []
        self._tags: dict[str, list[tuple[_Mark, ...]]] = {}  # what each open tag began; innermost last
        self._active: dict[Style, list[_Mark]] = {}

    def text(self) -> Text:
        """What was read."""
        body = "".join(self._out)
        if self._collapsible and not self._newlines and body.endswith(" "):
            body = body[:-1]
        body = body.rstrip("\n")
        lead = len(body) - len(body.lstrip("\n"))
        body = body[lead:]
        spans: list[Span] = []
        for mark in self._marks:
            start = max(0, mark.start - lead)
            end = len(body) if mark.end < 0 else min(mark.end - lead, len(body))
            if start < end:
                spans.append(Span(start, end, mark.style, mark.value))
        return normal(Text(body, tuple(spans)))

    def words(self, raw: str) -> None:
        """Words as they stand between two tags."""
        if self._pres:
            self._flush()
            before = self._newlines
            raw = raw.replace("\r\n", "\n").replace("\r", "\n")
            if self._fresh:
                self._fresh = False
                raw = raw.removeprefix("\n")
            if raw:
                self._add(raw.replace("\u00a0", " "), collapsible=False)
                kept = len(raw.rstrip("\n"))
                self._newlines = len(raw) - kept if kept else before + len(raw)
            return
        raw = _SPACE.sub(" ", raw)
        if self._collapsible or self._due:
            raw = raw.removeprefix(" ")
        if raw:
            self._add(raw.replace("\u00a0", " "), collapsible=raw.endswith(" "))

    def open(self, tag: Tag) -> None:
        """A start tag."""
        self._fresh = False
        name = tag.name
        if name == "code" and self._pres:
            if language := _LANGUAGE.search(attributes(tag).get("class", "")):
                self._pres[-1].value = language[1]
            self._push(name)
        elif style := _STYLES.get(name):
            self._push(name, self._start(style))
        elif name == "br":
            self._break()
        elif name == "a":
            look = link(attributes(tag).get("href", ""))
            self._push(name, *([self._start(*look)] if look else []))
        elif name in ("span", "font"):
            self._push(name, *self._span(attributes(tag)))
        elif name == "img":
            found = attributes(tag)
            self.words(
                found.get("alt") or found.get("title") or ("" if "data-mx-emoticon" in found else "image")
            )
        elif name == "hr":
            self._block(1)
            self.words("---")
            self._block(1)
        elif name == "li":
            self._item()
        elif name in ("td", "th"):
            self._next_cell()
        elif name in _BLOCKS:
            self._open_block(tag)

    def close(self, name: str) -> None:
        """An end tag. One that was never opened ends nothing, but parts lines all the same."""
        self._fresh = self._marker = False
        if name == "br":
            self._break()
        elif name in ("td", "th"):
            self._cell = False
        elif name in _BLOCKS or name == "li":
            self._cell = self._cell and name not in _ROWS
            self._block(_LINES_APART.get(name, 1))
            if name in ("li", "blockquote"):
                self._due = min(self._due, 1)
        if opened := self._tags.get(name):
            for mark in opened.pop():
                self._finish(mark)
            if name == "pre":
                self._pres.pop()
            elif name in ("ul", "ol"):
                self._lists.pop()

    def _open_block(self, tag: Tag) -> None:
        name = tag.name
        self._cell = self._cell and name not in _ROWS
        self._block(_LINES_APART.get(name, 1))
        match name:
            case "pre":
                if self._pres:
                    mark = self._pres[-1]
                    mark.depth += 1
                else:
                    mark = _Mark(self._length, Style.CODE_BLOCK, None)
                    self._marks.append(mark)
                self._pres.append(mark)
                self._push(name, mark)
                self._fresh = True
            case "blockquote":
                self._push(name, self._start(Style.QUOTE))
            case "ul":
                self._lists.append(None)
                self._push(name)
            case "ol":
                self._lists.append(_number(attributes(tag).get("start", "1")))
                self._push(name)
            case "tr":
                self._first_cell = True
            case _ if name in _BOLD_BLOCKS:
                self._push(name, self._start(Style.BOLD))

    def _item(self) -> None:
        self._marker = False
        self._block(1)
        number = self._lists[-1] if self._lists else None
        marker = "• "
        if number is not None:
            marker = f"{number}. "
            self._lists[-1] = number + 1
        self._add("  " * min(len(self._lists) - 1, 5) + marker, collapsible=True)
        self._marker = True

    def _next_cell(self) -> None:
        self._cell = True
        if self._first_cell:
            self._first_cell = False
        else:
            self._add("| " if self._collapsible and not self._due else " | ", collapsible=True)

    def _span(self, found: dict[str, str]) -> list[_Mark]:
        marks: list[_Mark] = []
        if "data-mx-spoiler" in found:
            marks.append(self._start(Style.SPOILER, found["data-mx-spoiler"] or None))
        if value := _color(found.get("data-mx-color") or found.get("color", "")):
            marks.append(self._start(Style.COLOR, value))
        if value := _color(found.get("data-mx-bg-color", "")):
            marks.append(self._start(Style.BACKGROUND, value))
        return marks

    def _start(self, style: Style, value: str | None = None) -> _Mark:
        active = self._active.setdefault(style, [])
        if active and active[-1].value == value:
            active[-1].depth += 1
            return active[-1]
        mark = _Mark(self._length, style, value)
        active.append(mark)
        self._marks.append(mark)
        return mark

    def _finish(self, mark: _Mark) -> None:
        mark.depth -= 1
        if mark.depth == 0:
            mark.end = self._length
            if active := self._active.get(mark.style):
                if active[-1] is mark:
                    active.pop()
                elif mark in active:
                    active.remove(mark)

    def _push(self, name: str, *marks: _Mark) -> None:
        self._tags.setdefault(name, []).append(marks)

    def _block(self, apart: int) -> None:
        """The next words stand on another line, `apart` newlines away; inside a table cell, after a space."""
        if self._marker:
            return
        if self._cell:
            self.words(" ")
        elif self._length:
            self._due = max(self._due, apart)

    def _break(self) -> None:
        if self._cell:
            self.words(" ")
        else:
            self._flush()
            self._newline(1)

    def _flush(self) -> None:
        due, self._due = self._due - self._newlines, 0
        if due > 0:
            self._newline(due)

    def _newline(self, count: int) -> None:
        if self._collapsible and not self._newlines and self._out and self._out[-1].endswith(" "):
            self._out[-1] = self._out[-1][:-1]  # a space at the end of a line does not show
            self._length -= 1
        self._out.append("\n" * count)
        self._length += count
        self._newlines += count
        self._collapsible = True
        self._marker = False

    def _add(self, words: str, *, collapsible: bool) -> None:
        self._flush()
        self._out.append(words)
        self._length += len(words)
        self._newlines = 0
        self._collapsible = collapsible
        self._marker = False


def _control(match: re.Match[str]) -> str:
    """A lone surrogate is no character; a control character is dropped."""
    return "\ufffd" if match[0] >= "\ud800" else ""


def _color(value: str) -> str | None:
    value = value.strip()
    if _COLOR.fullmatch(value):
        value = value.lower()
        return value if len(value) == 7 else "#" + "".join(c * 2 for c in value[1:])
    return _COLORS.get(value.lower())


def _number(value: str) -> int:
    value = value.strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 1
