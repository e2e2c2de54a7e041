"""IRC's formatting codes and neutral rich text, in both directions."""

from __future__ import annotations

import re
from itertools import pairwise

from bridgekit.contract.text import Span, Style, Text
from connectors.irc.words.palette import PALETTE, nearest

# https://modern.ircdocs.horse/formatting
BOLD, ITALIC, UNDERLINE, STRIKE, MONOSPACE = "\x02", "\x1d", "\x1f", "\x1e", "\x11"
COLOR, HEX_COLOR, REVERSE, RESET = "\x03", "\x04", "\x16", "\x0f"

_TOGGLES = {
    BOLD: Style.BOLD,
    ITALIC: Style.ITALIC,
    UNDERLINE: Style.UNDERLINE,
    STRIKE: Style.STRIKE,
    MONOSPACE: Style.CODE,
}
_CODES = {style: code for code, style in _TOGGLES.items()}
_CODES[Style.CODE_BLOCK] = MONOSPACE
_COLORS = re.compile(r"([0-9]{1,2})(?:,([0-9]{1,2}))?")
_HEX_COLORS = re.compile(r"([0-9A-Fa-f]{6})(?:,([0-9A-Fa-f]{6}))?")
_HEX_VALUE = re.compile(r"#[0-9A-Fa-f]{6}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_DEFAULT = 99
_SPOILER = (1, 1)  # black on black

STYLES: frozenset[Style] = frozenset(
    {*_CODES, Style.COLOR, Style.BACKGROUND, Style.SPOILER, Style.MENTION}
)  # fmt: skip
"""What survives on IRC; a mention does so by being the nick."""


class _Pen:
    """What is switched on at one place of a message."""

    __slots__ = ("back", "fore", "on", "reverse")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.on: set[Style] = set()
        self.fore: str | None = None
        self.back: str | None = None
        self.reverse = False

    def styles(self) -> list[tuple[Style, str | None]]:
        found: list[tuple[Style, str | None]] = [(style, None) for style in sorted(self.on)]
        fore, back = (self.back, self.fore) if self.reverse else (self.fore, self.back)
        if fore is not None and fore == back:
            return [*found, (Style.SPOILER, None)]
        if fore is not None:
            found.append((Style.COLOR, fore))
        if back is not None:
            found.append((Style.BACKGROUND, back))
        return found


def decode(raw: str) -> Text:
    """The words of one message and the styles that its codes give them. Never raises.

    Reverse has no meaning of its own here: it swaps the colours that are set. Other control characters go, a tab
    is a space.
    """
    if raw.isprintable():
        return Text(raw)
    out: list[str] = []
    length = 0
    pen = _Pen()
    spans: list[Span] = []
    running: dict[tuple[Style, str | None], int] = {}
    i = 0
    while i < len(raw):
        char = raw[i]
        i += 1
        if char in _TOGGLES:
            pen.on ^= {_TOGGLES[char]}
        elif char in (COLOR, HEX_COLOR):
            i = _color(raw, i, pen, hexadecimal=char == HEX_COLOR)
        elif char == REVERSE:
            pen.reverse = not pen.reverse
        elif char == RESET:
            pen.reset()
        else:
            if char == "\t":
                char = " "
            elif char == "\n":
                pen.reset()  # no code lasts beyond its line
            elif char < " " or char == "\x7f":
                continue
            # What is on over this character; runs are closed only where a character follows
            if _changed(pen, running):
                _turn(pen, running, spans, length)
            out.append(char)
            length += 1
    spans += [Span(start, length, *style) for style, start in running.items()]
    spans.sort(key=lambda s: (s.start, -s.end, s.style))
    return Text("".join(out), tuple(spans))


def _changed(pen: _Pen, running: dict[tuple[Style, str | None], int]) -> bool:
    return bool(running or pen.on or pen.fore or pen.back)


def _turn(pen: _Pen, running: dict[tuple[Style, str | None], int], spans: list[Span], at: int) -> None:
    wanted = pen.styles()
    ended = [style for style in running if style not in wanted]
    spans += [Span(running.pop(style), at, *style) for style in ended]
    for style in wanted:
        running.setdefault(style, at)


def _color(raw: str, at: int, pen: _Pen, *, hexadecimal: bool) -> int:
    """Read the colours after their code; where the words go on."""
    found = (_HEX_COLORS if hexadecimal else _COLORS).match(raw, at)
    if found is None:
        pen.fore = pen.back = None
        return at
    if hexadecimal:
        pen.fore = f"#{found[1].lower()}"
        pen.back = f"#{found[2].lower()}" if found[2] else pen.back
    else:
        pen.fore = PALETTE.get(int(found[1]))
        pen.back = PALETTE.get(int(found[2])) if found[2] else pen.back
    return found.end()


def encode(text: Text) -> str:
    """The words with codes that end with each line, so that every line stands alone.

    Line feeds stay; control characters in the body go. `decode(encode(text))` has the same words and, of those
    in STYLES, the same looks: colours are the nearest of IRC's 99, a code block is monospace.
    """
    body = text.body
    drawn = [s for s in text.spans if (s.style in _CODES or s.style in _COLORED) and s.start < s.end]
    if not drawn:
        return body if body.isprintable() else _CONTROL.sub(_plain, body)
    cuts = {0, len(body)}
    for span in drawn:
        cuts |= {span.start, span.end}
    at = 0
    while (at := body.find("\n", at)) >= 0:
        cuts |= {at, at + 1}
        at += 1
    places = sorted(c for c in cuts if 0 <= c <= len(body))
    out: list[str] = []
    toggles: frozenset[str] = frozenset()
    colors: tuple[int, int] = (_DEFAULT, _DEFAULT)
    for start, end in pairwise(places):
        words = body[start:end]
        if words == "\n":
            if toggles or colors != (_DEFAULT, _DEFAULT):
                out.append(RESET)
            toggles, colors = frozenset(), (_DEFAULT, _DEFAULT)
            out.append(words)
            continue
        words = _CONTROL.sub(_plain, words)
        if not words:
            continue
        over = [s for s in drawn if s.start < end and s.end > start]
        next_toggles = frozenset(_CODES[s.style] for s in over if s.style in _CODES)
        next_colors = _colors(over)
        if not next_toggles and next_colors == (_DEFAULT, _DEFAULT):
            if toggles or colors != next_colors:
                out.append(RESET)
        else:
            out += sorted(toggles ^ next_toggles)
            if colors != next_colors:
                out.append(_color_code(*next_colors, was=colors, before=words))
        toggles, colors = next_toggles, next_colors
        out.append(words)
    if toggles or colors != (_DEFAULT, _DEFAULT):
        out.append(RESET)
    return "".join(out)


_COLORED = (Style.COLOR, Style.BACKGROUND, Style.SPOILER)


def _plain(control: re.Match[str]) -> str:
    return " " if control[0] == "\t" else ""


def _colors(over: list[Span]) -> tuple[int, int]:
    fore = back = _DEFAULT
    for span in over:
        if span.style is Style.SPOILER:
            return _SPOILER
        if span.value is None or not _HEX_VALUE.fullmatch(span.value):
            continue
        if span.style is Style.COLOR:
            fore = nearest(span.value)
        elif span.style is Style.BACKGROUND:
            back = nearest(span.value)
    if fore == back != _DEFAULT:
        # What somebody could read elsewhere must not become hidden here
        fore = 0 if fore != 0 else 1
    return fore, back


def _color_code(fore: int, back: int, *, was: tuple[int, int], before: str) -> str:
    """Always two digits, so that no digit of the words belongs to it; neither does a comma."""
    if (fore, back) == (_DEFAULT, _DEFAULT):
        return f"{COLOR}{BOLD}{BOLD}" if before[:1].isdigit() else COLOR
    if back != _DEFAULT:
        return f"{COLOR}{fore:02d},{back:02d}"
    # A foreground alone leaves the background as it was: take both away first
    first = COLOR if was[1] != _DEFAULT else ""
    guard = f"{BOLD}{BOLD}" if before.startswith(",") else ""
    return f"{first}{COLOR}{fore:02d}{guard}"


def cost(text: Text) -> int:
    """UTF-8 bytes of `encode(text)`: what a piece costs on the wire."""
    return len(encode(text).encode("utf-8", "replace"))
