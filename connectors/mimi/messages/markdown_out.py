"""GFM-MIMI out: neutral text to Markdown (draft-ietf-mimi-content 7.1.1; GFM 0.29).

Whoever shows Markdown as plain text should still like to read it, so only what would be mistaken is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bridgekit.contract.text import Span, Style, Text

STYLES = frozenset(
    {
        Style.BOLD,
        Style.ITALIC,
        Style.STRIKE,
        Style.CODE,
        Style.LINK,
        Style.MENTION,
        Style.CODE_BLOCK,
        Style.QUOTE,
    }
)
"""What Markdown can show; give `to_markdown` nothing else."""

_DELIMITERS = {Style.BOLD: "**", Style.ITALIC: "_", Style.STRIKE: "~~"}
# Outer first. A link holds no link, and code holds nothing.
_ORDER = (Style.LINK, Style.MENTION, Style.BOLD, Style.ITALIC, Style.STRIKE, Style.CODE)

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_ESCAPED = re.compile(
    r"[*`~|\[\]]"  # always
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # not within_a_word
    r"|\\(?=[!-/:-@\[-`{-~]|$)"
    r"|!$"  # a link may follow
    r"|^[#+\-=>:]"
)
_ORDINAL = re.compile(r"^(\d{1,9})(?=[.)])")
_REFERENCE = re.compile(r"&(?=#?\w{1,40};)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_FENCE = re.compile(r"`+")
_PLAIN_URL = re.compile(r"[A-Za-z0-9._~:/?#@!$&'*+,;=%-]+")

_Style = tuple[Style, str | None]


def to_markdown(text: Text) -> str:
    """`text` as GFM-MIMI: read by `from_markdown` it has the same words and the same look.

    Not kept are styles on white space, white space at the end, and more than one empty line in a row.
    """
    text = _cleaned(text)
    out: list[str] = []
    before = ""  # the kind of block that stands above
    for kind, start, end, value in _blocks(text):
        if out:
            # A quote would take a following line as its own; a paragraph ends at an empty line.
            out.append("\n\n" if before == "quote" or kind == before == "quote" else "\n")
        piece = text.slice(start, end)
        match kind:
            case "code":
                longest = max(map(len, _FENCE.findall(piece.body)), default=0)
                fence = "`" * max(3, longest + 1)
                out.append(f"{fence}{value or ''}\n{piece.body}\n{fence}")
            case "quote":
                out.append(
                    "\n".join(f"> {line}".rstrip(" ") if not line else f"> {line}" for line in _lines(piece))
                )
            case _:
                out.append("\n".join(_lines(piece)))
        before = kind
    return "".join(out)


def _cleaned(text: Text) -> Text:
    body = _CONTROL.sub("\ufffd", text.body.replace("\r\n", " \n").replace("\r", "\n"))
    return Text(body, text.spans)


def _blocks(text: Text) -> Iterator[tuple[str, int, int, str | None]]:
    """Code blocks, quotes and what stands between: (kind, start, end, language), in whole lines."""
    body = text.body
    found: list[tuple[str, int, int, str | None]] = []
    for span in text.spans:
        if span.style in (Style.CODE_BLOCK, Style.QUOTE):
            start = body.rfind("\n", 0, span.start) + 1
            end = body.find("\n", span.end - 1 if body[span.end - 1] == "\n" else span.end)
            kind = "code" if span.style is Style.CODE_BLOCK else "quote"
            found.append((kind, start, len(body) if end < 0 else end, span.value))
    found.sort(key=lambda block: (block[1], -block[2]))
    at = 0
    for block in found:
        if block[1] < at:  # within another, or across its edge: the outer one counts
            continue
        if block[1] > at:
            yield "words", at, block[1] - 1, None
        yield block
        at = block[2] + 1
    if at < len(body):
        yield "words", at, len(body), None


def _lines(text: Text) -> list[str]:
    """The lines of a paragraph or several; each but the last of a paragraph ends in a hard break."""
    lines = [_line(text, start, end) for start, end in _ranges(text.body)]
    for index, line in enumerate(lines[:-1]):
        if line and lines[index + 1]:
            lines[index] = f"{line}  "
    return lines


def _ranges(body: str) -> Iterator[tuple[int, int]]:
    at = 0
    for line in body.split("\n"):
        yield at, at + len(line)
        at += len(line) + 1


def _line(text: Text, start: int, end: int) -> str:
    """One line with its inline styles."""
    body = text.body[start:end]
    end = start + len(body.rstrip())
    body = text.body[start:end]
    if not body:
        return ""
    runs = _runs(body, _looks(body, text.spans, start))
    out: list[str] = []
    open_: tuple[_Style, ...] = ()
    for index, (look, words) in enumerate(runs):
        before = runs[index - 1] if index else None
        after = runs[index + 1] if index + 1 < len(runs) else None
        kept = _common(open_, look)
        out += [_closing(style) for style in reversed(open_[kept:])]
        out += [_opening(style) for style in look[kept:]]
        open_ = look
        if any(kind is Style.CODE for kind, _ in look):
            out.append(_code(words))
            continue
        out.append(
            _words(
                words,
                first=before is None,
                guard_first=before is not None and _guarded(before, (look, words), opening=False),
                guard_last=after is not None and _guarded((look, words), after, opening=True),
            )
        )
    out += [_closing(style) for style in reversed(open_)]
    return "".join(out)


def _runs(body: str, looks: Sequence[tuple[_Style, ...]]) -> list[tuple[tuple[_Style, ...], str]]:
    runs: list[tuple[tuple[_Style, ...], str]] = []
    at = 0
    while at < len(body):
        stop = at + 1
        while stop < len(body) and looks[stop] == looks[at]:
            stop += 1
        runs.append((looks[at], body[at:stop]))
        at = stop
    return runs


def _common(one: tuple[_Style, ...], other: tuple[_Style, ...]) -> int:
    kept = 0
    while kept < min(len(one), len(other)) and one[kept] == other[kept]:
        kept += 1
    return kept


def _guarded(
    left: tuple[tuple[_Style, ...], str], right: tuple[tuple[_Style, ...], str], *, opening: bool
) -> bool:
    """Whether the character outside of a delimiter must be written as an entity, so that it is one.

    What stands on both sides decides (GFM 6.4, left- and right-flanking), and punctuation outside always does:
    an entity is punctuation. `opening`: the delimiters begin between the two, else they end there.
    """
    kept = _common(left[0], right[0])
    begun, ended = right[0][kept:], left[0][kept:]
    here = begun if opening else ended
    if not here or (ended if opening else begun) or here[0][0] not in _DELIMITERS:
        return False  # no delimiters, or punctuation beside them already
    outside, inside = (left[1][-1], right[1][0]) if opening else (right[1][0], left[1][-1])
    if outside.isspace() or _is_punctuation(outside):
        return False
    simple = len(here) == 1 and here[0][0] is not Style.ITALIC
    return not (simple and outside.isascii() and inside.isascii() and inside.isalnum())


def _is_punctuation(character: str) -> bool:
    return character.isascii() and character.isprintable() and not character.isalnum() and character != " "


def _looks(body: str, spans: Sequence[Span], offset: int) -> list[tuple[_Style, ...]]:
    """For each character what lies over it, outer first."""
    over: list[dict[Style, str | None]] = [{} for _ in body]
    for span in spans:
        if span.style in _ORDER:
            for index in range(max(span.start - offset, 0), min(span.end - offset, len(body))):
                over[index][span.style] = span.value
    looks: list[tuple[_Style, ...]] = []
    for styles in over:
        if Style.MENTION in styles:
            styles.pop(Style.LINK, None)
        looks.append(tuple((style, styles[style]) for style in _ORDER if style in styles))
    # A delimiter beside white space is none, and bold space looks like space: where the styles change around it,
    # it keeps only what both sides share of links and code.
    at = 0
    while at < len(body):
        if not body[at].isspace():
            at += 1
            continue
        stop = at
        while stop < len(body) and body[stop].isspace():
            stop += 1
        before = looks[at - 1] if at else ()
        after = looks[stop] if stop < len(body) else ()
        if not (before == after and all(looks[i] == before for i in range(at, stop))):
            for index in range(at, stop):
                looks[index] = tuple(
                    style
                    for style in looks[index]
                    if style[0] not in _DELIMITERS and style in before and style in after
                )
        at = stop
    return looks


def _opening(style: _Style) -> str:
    kind, _ = style
    if kind in (Style.LINK, Style.MENTION):
        return "["
    return _DELIMITERS.get(kind, "")


def _closing(style: _Style) -> str:
    kind, value = style
    if kind in (Style.LINK, Style.MENTION):
        return f"]({_url(value or '')})"
    return _DELIMITERS.get(kind, "")


def _url(url: str) -> str:
    if _PLAIN_URL.fullmatch(url):
        return url
    kept = _CONTROL.sub("", url).replace("\n", "").replace("\t", "")
    return "<" + re.sub(r"([\\<>])", r"\\\1", kept) + ">"


def _words(words: str, *, first: bool, guard_first: bool, guard_last: bool) -> str:
    head = tail = ""
    if guard_first or (first and words[0].isspace()):
        head, words = _entity(words[0]), words[1:]
    if guard_last and words:
        words, tail = words[:-1], _entity(words[-1])
    return head + _escaped(words, first and not head) + tail


def _entity(character: str) -> str:
    return f"&#{ord(character)};"


def _code(words: str) -> str:
    longest = max(map(len, _FENCE.findall(words)), default=0)
    fence = "`" * (longest + 1)
    pad = (
        " "
        if words[0] == "`" or words[-1] == "`" or (words[0] == words[-1] == " " and words.strip(" "))
        else ""
    )
    return f"{fence}{pad}{words}{pad}{fence}"


def _escaped(words: str, first: bool) -> str:
    words = _REFERENCE.sub("&amp;", words)
    # What does not begin a line has something before it, so that nothing matches "^".
    words = _ESCAPED.sub(r"\\\g<0>", words) if first else _ESCAPED.sub(r"\\\g<0>", "\0" + words)[1:]
    if first:
        words = _ORDINAL.sub(r"\1\\", words)
    return _TAG.sub("&lt;", words)
