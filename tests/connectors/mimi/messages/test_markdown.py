"""GFM-MIMI and neutral text, both ways."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridgekit.contract.text import Span, Style, Text, join, styled
from connectors.mimi.messages.markdown_in import from_markdown
from connectors.mimi.messages.markdown_out import STYLES, to_markdown

ALICE = "mimi://example.com/u/alice-smith"
BODY = st.text(st.sampled_from('ab1 \n.,*_~`[]()<>&#!|\\-+=:é💜\u00a0\t"'), max_size=14)
INLINE = sorted(STYLES - {Style.CODE_BLOCK, Style.QUOTE})
VALUES = {Style.LINK: ["https://a.example/x_y*z", "https://b.example/(1)"], Style.MENTION: [ALICE]}


@st.composite
def texts(draw: st.DrawFn) -> Text:
    body = draw(BODY)
    spans = []
    for _ in range(draw(st.integers(0, 4)) if body else 0):
        start = draw(st.integers(0, len(body) - 1))
        end = draw(st.integers(start + 1, len(body)))
        style = draw(st.sampled_from(INLINE))
        spans.append(Span(start, end, style, draw(st.sampled_from(VALUES.get(style, [None])))))
    return Text(body, tuple(spans))


def looks(text: Text) -> list[tuple[str, frozenset[tuple[Style, str | None]]]]:
    """Each visible character with what lies over it; of several links the last."""
    found = []
    for index, character in enumerate(text.body):
        if character.isspace():
            continue
        over: dict[Style, str | None] = {s.style: s.value for s in text.spans if s.start <= index < s.end}
        if Style.MENTION in over:
            over.pop(Style.LINK, None)
        found.append((character, frozenset(over.items())))
    return found


def words(text: Text) -> str:
    """The words without what Markdown does not keep: white space at the ends of lines, a third newline."""
    lines = [line.rstrip() for line in text.body.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


@settings(deadline=None)
@given(texts())
@example(Text("a\n- b\n1. c\n# d\n> e\n    f\n---\n==="))
@example(Text("ab", (Span(0, 1, Style.BOLD), Span(1, 2, Style.ITALIC))))
@example(Text("a!b", (Span(2, 3, Style.LINK, "https://a.example/"),)))
@example(Text("|a|b|\n|-|-|\n:-"))
@example(Text("https://a_b.example/c_d__e"))
def test_what_is_written_is_read_back_with_the_same_words_and_looks(text: Text) -> None:
    back = from_markdown(to_markdown(text))
    assert looks(back) == looks(text)
    assert words(back) == words(text)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab *_~`[]()<>&#!|\\-+=:1.\n\t>é"), max_size=60))
def test_whatever_comes_in_the_spans_lie_within_the_words(source: str) -> None:
    text = from_markdown(source)
    assert all(0 <= s.start < s.end <= len(text.body) for s in text.spans)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "Hi everyone, we just shipped release 2.0. __Good  work__!",
            join("Hi everyone, we just shipped release 2.0. ", styled("Good  work", Style.BOLD), "!"),
        ),
        (
            "__*VPN GOING DOWN*__ now",
            Text("VPN GOING DOWN now", (Span(0, 14, Style.BOLD), Span(0, 14, Style.ITALIC))),
        ),
        ("~~no~~ `yes`", join(styled("no", Style.STRIKE), " ", styled("yes", Style.CODE))),
        ("# Welcome!", styled("Welcome!", Style.BOLD)),
        (
            f"Kudos to [@Alice Smith]({ALICE})",
            join("Kudos to ", styled("@Alice Smith", Style.MENTION, ALICE)),
        ),
        ("[room](mimi://a.example/r/x)", styled("room", Style.LINK, "mimi://a.example/r/x")),
        ("one\ntwo\n\nthree", Text("one\ntwo\n\nthree")),
        ("- a\n- [x] b\n  1. c\n  2. d\n\nend", Text("• a\n• ☑ b\n  1. c\n  2. d\nend")),
        ("-\n- a", Text("•\n• a".replace("•\n", "• \n"))),
        ("a\n> b\n>\n> c\n\nd", Text("a\nb\n\nc\nd", (Span(2, 6, Style.QUOTE),))),
        ("```py\nx = 1\n```\nafter", Text("x = 1\nafter", (Span(0, 5, Style.CODE_BLOCK, "py"),))),
        ("|a|b|\n|-|-|\n|1|2|", Text("a | b\n1 | 2")),
        ("![a cat](https://a.example/cat.png)", styled("a cat", Style.LINK, "https://a.example/cat.png")),
        ("![a cat](cid:3@local.invalid)", Text("a cat")),
        (
            "[a.example/x](https://b.example/x)",
            join(styled("a.example/x", Style.LINK, "https://b.example/x"), " (https://b.example/x)"),
        ),
        ("[](https://a.example/)", styled("https://a.example/", Style.LINK, "https://a.example/")),
    ],
)
def test_markdown_is_laid_out_in_lines(source: str, text: Text) -> None:
    assert from_markdown(source) == text


@pytest.mark.parametrize(
    "source", ["<b>bold</b>", "<!-- x -->", "a <script>b</script>", "https://a.example/ www.b.example"]
)
def test_html_and_bare_addresses_are_words(source: str) -> None:
    """The draft's No HTML extension, and no Autolink extension."""
    assert from_markdown(source) == Text(source)


def test_a_tag_in_the_words_is_written_as_the_draft_says() -> None:
    assert to_markdown(Text("1 < 2 <b>")) == "1 < 2 &lt;b>"


def test_ordinary_words_are_written_as_they_are() -> None:
    ordinary = "Don't: see snake_case (a/b) at 10:30 - it's 5+5=10 & more; \"yes\"!"
    assert to_markdown(Text(ordinary)) == ordinary.removesuffix("!") + "\\!"


def test_quotes_and_code_are_blocks() -> None:
    text = Text(
        "see\nold\nwords\nx = `1`\nend", (Span(4, 13, Style.QUOTE), Span(14, 21, Style.CODE_BLOCK, "py"))
    )
    assert to_markdown(text) == "see\n> old  \n> words\n\n```py\nx = `1`\n```\nend"
    assert from_markdown(to_markdown(text)) == text


@pytest.mark.parametrize(
    "source", ["![" * 1000, "a*" * 9000, "|a" * 100 + "\n" + "|-" * 100 + "\nb" * 30, "a\n" * 2000]
)
def test_what_would_take_long_is_shown_as_it_is_written(source: str) -> None:
    assert from_markdown(source) == Text(source.strip("\n"))
