"""GFM-MIMI in: Markdown to neutral text (draft-ietf-mimi-content 7.1.1; GFM 0.29)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bridgekit.contract.text import Span, Style, Text
from connectors.mimi import uris
from connectors.mimi.messages.links import deceives

# The parser's time is quadratic in brackets, delimiters and table cells: 16 kB of "![" take it a second. What is
# beyond these bounds is shown as it is written, which the draft calls "an acceptable form of support".
MAX_CHARACTERS = 16 * 1024
MAX_MARKS = 1000
MAX_LINES = 1000
MAX_CELLS = 2000

_MARK = re.compile(r"[\[\]!*_~`<&\\]")
_TASK = re.compile(r"\[([ xX])\](?=\s)")
_BOXES = {" ": "☐", "x": "☑", "X": "☑"}
_RULE = "———"
# GFM without its autolink extension; "any HTML tag in a received message is rendered as plain text".
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])

_INLINE = {"strong": Style.BOLD, "em": Style.ITALIC, "s": Style.STRIKE}


def from_markdown(source: str) -> Text:
    """The words and styles of `source`, laid out in lines.

    A newline is a newline, as chat clients show it; paragraphs are an empty line apart. Lists become "• " and
    "1. " lines, tasks ☐ and ☑, cells are parted by " | ", headings are bold, images are their alternative words
    with a link. A link to a user is a mention of that user. Nothing is raised, whatever comes in.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if not _is_bounded(source):
        return Text(source.strip("\n"))
    writer = _Writer()
    for token in _PARSER.parse(source):
        writer.take(token)
    return writer.text()


def _is_bounded(source: str) -> bool:
    if len(source) > MAX_CHARACTERS or len(_MARK.findall(source)) > MAX_MARKS:
        return False
    lines = source.split("\n")
    # The parser fills every line of a table up to the width of the first.
    widest = max(line.count("|") for line in lines)
    return len(lines) <= MAX_LINES and (not widest or (widest + 1) * len(lines) <= MAX_CELLS)


class _Writer:
    """Lays blocks out one below the other, and remembers which styles are open."""

    def __init__(self) -> None:
        self._body: list[str] = []
        self._length = 0
        self._spans: list[Span] = []
        self._gap = 0  # newlines to come before the next words
        self._open: list[tuple[Style, int, str | None]] = []
        self._lists: list[int | None] = []  # the number of the next item, None for bullets
        self._quotes: list[int] = []
        self._cells = 0
        self._link = 0  # where in the body the words of the open link begin
        self._after_paragraph = False

    def text(self) -> Text:
        body = "".join(self._body)
        end = len(body.rstrip())
        # Written when they end, so the outer ones last.
        spans = (Span(s.start, min(s.end, end), s.style, s.value) for s in reversed(self._spans))
        return Text(
            body[:end], tuple(sorted((s for s in spans if s.start < s.end), key=lambda s: (s.start, -s.end)))
        )

    def take(self, token: Token) -> None:
        match token.type:
            case "inline":
                self._inline(token.children or ())
            case "paragraph_open":
                self._apart(2 if self._after_paragraph and not self._lists else 1)
            case "heading_open":
                self._apart(2 if self._after_paragraph else 1)
                self._begin(Style.BOLD)
            case "paragraph_close":
                self._paragraph_ends()
            case "heading_close":
                self._end(Style.BOLD)
                self._paragraph_ends()
            case "fence" | "code_block":
                self._code_block(token)
            case "blockquote_open":
                self._line_of_its_own()
                self._quotes.append(self._next())
            case "blockquote_close":
                start = self._quotes.pop()
                if not self._quotes and self._length > start:
                    self._spans.append(Span(start, self._length, Style.QUOTE))
                self._line_of_its_own()
            case "bullet_list_open":
                self._line_of_its_own()
                self._lists.append(None)
            case "ordered_list_open":
                self._line_of_its_own()
                self._lists.append(int(token.attrs.get("start", 1)))
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                self._line_of_its_own()
            case "list_item_open":
                self._item()
            case "hr":
                self._line_of_its_own()
                self._write(_RULE)
                self._line_of_its_own()
            case "tr_open":
                self._line_of_its_own()
                self._cells = 0
            case "th_open" | "td_open":
                if self._cells:
                    self._write(" | ")
                self._cells += 1
            case "table_close":
                self._line_of_its_own()
            case _:
                pass  # the other halves of pairs

    def _item(self) -> None:
        self._line_of_its_own()
        number = self._lists[-1]
        if number is not None:
            self._lists[-1] = number + 1
        self._write("  " * (len(self._lists) - 1) + ("• " if number is None else f"{number}. "))
        self._gap = -1  # the item's first block stands behind the marker

    def _code_block(self, token: Token) -> None:
        self._line_of_its_own()
        start = self._next()
        self._write(token.content.rstrip("\n"))
        if self._length > start:
            # "info" may hold more than the language; a language is one word.
            language = next(iter(token.info.split()), None)
            self._spans.append(Span(start, self._length, Style.CODE_BLOCK, language))
        self._line_of_its_own()

    def _inline(self, children: Sequence[Token]) -> None:
        depth = len(self._open)
        for index, token in enumerate(children):
            kind = token.type
            match kind:
                case "text":
                    words = token.content
                    if index == 0 and self._lists and (task := _TASK.match(words)):
                        words = _BOXES[task[1]] + words[3:]
                    self._write(words)
                case "softbreak" | "hardbreak":
                    self._write("\n")
                case "code_inline":
                    self._begin(Style.CODE)
                    self._write(token.content)
                    self._end(Style.CODE)
                case "link_open":
                    href = str(token.attrs.get("href", ""))
                    self._begin(Style.MENTION if uris.is_user(href) else Style.LINK, href)
                    self._link = len(self._body)
                case "link_close":
                    style, start, href_to = self._open[-1]
                    if self._length <= start:
                        self._write(href_to or "")
                    words = "".join(self._body[self._link :])
                    self._end(style)
                    if style is Style.LINK and deceives(words, href_to or ""):
                        self._write(f" ({href_to})")
                case "image":
                    source = str(token.attrs.get("src", ""))
                    # RFC 2392: another part of this message, which stands for itself.
                    self._begin(Style.LINK, "" if source.startswith("cid:") else source)
                    self._write("".join(child.content for child in token.children or ()) or "image")
                    self._end(Style.LINK)
                case "strong_open" | "em_open" | "s_open":
                    self._begin(_INLINE[kind.removesuffix("_open")])
                case "strong_close" | "em_close" | "s_close":
                    self._end(_INLINE[kind.removesuffix("_close")])
                case _:
                    self._write(token.content)
        del self._open[depth:]

    def _begin(self, style: Style, value: str | None = None) -> None:
        self._open.append((style, self._next(), value))

    def _end(self, style: Style) -> None:
        opened, start, value = self._open.pop()
        if opened is style and self._length > start and value != "":
            self._spans.append(Span(start, self._length, style, value))

    def _paragraph_ends(self) -> None:
        self._apart(1)
        self._after_paragraph = True

    def _line_of_its_own(self) -> None:
        self._gap = max(self._gap, 1)
        self._after_paragraph = False

    def _apart(self, newlines: int) -> None:
        if self._gap >= 0:
            self._gap = max(self._gap, newlines)

    def _next(self) -> int:
        """Where the next words will stand."""
        return self._length + (max(0, self._gap) if self._length else 0)

    def _write(self, words: str) -> None:
        if not words:
            return
        if self._gap > 0 and self._length:
            self._body.append("\n" * self._gap)
            self._length += self._gap
        self._gap = 0
        self._body.append(words)
        self._length += len(words)
