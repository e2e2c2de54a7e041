"""IRC formatting codes and rich text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridgekit.contract.text import Span, Style, Text, join, styled
from connectors.irc.words.format import STYLES, cost, decode, encode
from connectors.irc.words.palette import PALETTE, nearest

BODY = st.text(st.sampled_from("ab1 2,\né💜#"), max_size=12)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    body = draw(BODY)
    spans = []
    for _ in range(draw(st.integers(0, 4)) if body else 0):
        start = draw(st.integers(0, len(body) - 1))
        end = draw(st.integers(start + 1, len(body)))
        style = draw(st.sampled_from(sorted(STYLES - {Style.MENTION, Style.CODE_BLOCK})))
        value = (
            draw(st.sampled_from(["#ff0000", "#000000", "#ffffff", "#123456"]))
            if style in (Style.COLOR, Style.BACKGROUND)
            else None
        )
        spans.append(Span(start, end, style, value))
    return Text(body, tuple(spans))


def looks(text: Text) -> list[tuple[str, frozenset[tuple[Style, str | None]]]]:
    """Each character with what is over it, line feeds without."""
    return [
        (
            char,
            frozenset()
            if char == "\n"
            else frozenset((s.style, s.value) for s in text.spans if s.start <= i < s.end),
        )
        for i, char in enumerate(text.body)
    ]


def seen(text: Text) -> list[tuple[str, frozenset[tuple[Style, str | None]]]]:
    """What of `looks` IRC can show: the last of several colours, and a spoiler without any."""
    out = []
    for i, (char, _) in enumerate(looks(text)):
        over = [] if char == "\n" else [s for s in text.spans if s.start <= i < s.end]
        found: set[tuple[Style, str | None]] = {
            (s.style, s.value) for s in over if s.style not in (Style.COLOR, Style.BACKGROUND, Style.SPOILER)
        }
        if any(s.style is Style.SPOILER for s in over):
            found.add((Style.SPOILER, None))
        else:
            colors: dict[Style, str] = {
                style: PALETTE[nearest(s.value)]
                for style in (Style.COLOR, Style.BACKGROUND)
                for s in over
                if s.style is style and s.value
            }
            if colors.get(Style.COLOR) == colors.get(Style.BACKGROUND) and colors:
                colors[Style.COLOR] = "#000000" if colors[Style.COLOR] == "#ffffff" else "#ffffff"
            found |= set(colors.items())
        out.append((char, frozenset(found)))
    return out


@given(texts())
@example(Text("1", (Span(0, 1, Style.COLOR, "#ff0000"),)))
@example(Text("a,1", (Span(1, 3, Style.COLOR, "#ff0000"),)))
@example(Text("a1", (Span(0, 1, Style.COLOR, "#ff0000"), Span(0, 2, Style.BOLD))))
@example(Text("ab", (Span(0, 1, Style.BACKGROUND, "#ff0000"), Span(0, 2, Style.COLOR, "#123456"))))
def test_what_is_encoded_decodes_to_the_same_words_and_looks(text: Text) -> None:
    back = decode(encode(text))
    assert back.body == text.body
    assert looks(back) == seen(text)


@given(texts())
def test_every_line_stands_alone(text: Text) -> None:
    whole = decode(encode(text))
    lines = [decode(line) for line in encode(text).split("\n")]
    assert looks(join(*[part for line in lines for part in (line, "\n")][:-1])) == looks(whole)


@given(st.text(st.characters(max_codepoint=0x80), max_size=40))
def test_decode_takes_anything_and_leaves_no_control_character(raw: str) -> None:
    text = decode(raw)
    assert not [c for c in text.body if (c < " " and c != "\n") or c == "\x7f"]
    assert all(0 <= s.start < s.end <= len(text.body) for s in text.spans)


def test_no_code_lasts_beyond_its_line() -> None:
    """draft/multiline: the lines of a message come joined, and each was written by itself."""
    assert decode("\x02one\ntwo") == Text("one\ntwo", (Span(0, 3, Style.BOLD),))


@given(st.text(max_size=40))
def test_encode_of_plain_words_adds_nothing(body: str) -> None:
    assert all(c == "\n" or c not in encode(Text(body)) for c in map(chr, [*range(32), 127]))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\x02bold\x02 plain", Text("bold plain", (Span(0, 4, Style.BOLD),))),
        ("\x1di\x1fu\x1es\x11m", Text("iusm", (
            Span(0, 4, Style.ITALIC), Span(1, 4, Style.UNDERLINE), Span(2, 4, Style.STRIKE), Span(3, 4, Style.CODE),
        ))),
        ("\x034red\x03", styled("red", Style.COLOR, "#ff0000")),
        ("\x0304,02x\x0f y", Text("x y", (
            Span(0, 1, Style.BACKGROUND, "#00007f"), Span(0, 1, Style.COLOR, "#ff0000"),
        ))),
        ("\x0352deep\x0399 none", Text("deep none", (Span(0, 4, Style.COLOR, "#ff0000"),))),
        ("\x04FF8800hex\x04", styled("hex", Style.COLOR, "#ff8800")),
        ("\x031,1secret\x03", styled("secret", Style.SPOILER)),
        ("\x034,12\x16swapped", Text("swapped", (
            Span(0, 7, Style.BACKGROUND, "#ff0000"), Span(0, 7, Style.COLOR, "#0000fc"),
        ))),
        ("\x03,4no colour", Text(",4no colour")),
        ("tab\there\x7f", Text("tab here")),
    ],
)  # fmt: skip
def test_the_codes_of_the_modern_irc_documentation_are_read(raw: str, text: Text) -> None:
    assert decode(raw) == text


def test_a_digit_after_a_colour_is_kept_apart() -> None:
    assert (
        encode(join(styled("a", Style.COLOR, "#ff0000"), styled("1", Style.BOLD)))
        == "\x0304a\x02\x03\x02\x021\x0f"
    )
    assert decode(encode(styled("5 apples", Style.COLOR, "#ff0000"))).body == "5 apples"


def test_a_spoiler_is_black_on_black() -> None:
    assert encode(join("see: ", styled("x", Style.SPOILER))) == "see: \x0301,01x\x0f"


def test_words_in_the_colour_of_their_ground_stay_readable() -> None:
    text = Text("x", (Span(0, 1, Style.COLOR, "#ff0000"), Span(0, 1, Style.BACKGROUND, "#ff0101")))
    assert Style.SPOILER not in {s.style for s in decode(encode(text)).spans}


def test_all_99_colours_are_their_own_nearest() -> None:
    assert [PALETTE[nearest(value)] for value in PALETTE.values()] == list(PALETTE.values())
    assert PALETTE[nearest("#fe0102")] == "#ff0000"


def test_cost_counts_bytes_and_codes() -> None:
    assert cost(Text("é")) == 2
    assert cost(styled("é", Style.BOLD)) == 4
