"""Message Styling (XEP-0393), read and written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridgekit.contract.text import Span, Style, Text
from connectors.xmpp.stanzas import styling, wire, xhtml


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "The full title is _Twelfth Night_.",
            Text("The full title is Twelfth Night.", (Span(18, 31, Style.ITALIC),)),
        ),
        ("*strong*", Text("strong", (Span(0, 6, Style.BOLD),))),
        ("not strong*plain*", Text("not strong*plain*")),
        ("*not \n strong", Text("*not \n strong")),
        ("* plain *", Text("* plain *")),
        ("**", Text("**")),
        (
            "Wow, I can write in `monospace`!",
            Text("Wow, I can write in monospace!", (Span(20, 29, Style.CODE),)),
        ),
        ("`*a*`", Text("*a*", (Span(0, 3, Style.CODE),))),
        ("> quoted\n> twice\nnot", Text("quoted\ntwice\nnot", (Span(0, 12, Style.QUOTE),))),
        ("```\n*a*\n```\nb", Text("*a*\nb", (Span(0, 3, Style.CODE_BLOCK),))),
    ],
)
def test_marks_become_styles(body: str, text: Text):
    """XEP-0393, 5 and 6: spans do not cross lines, begin at a word, and say nothing around nothing."""
    assert styling.read(body) == text


@given(st.text(alphabet="*_~`> \nab", max_size=60))
def test_whatever_is_read_holds_together(body: str):
    text = styling.read(body)
    assert all(0 <= s.start < s.end <= len(text.body) for s in text.spans)


@given(
    st.text(alphabet="ab *_`\n", max_size=40),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from(sorted(styling.STYLES))), max_size=4
    ),
)
def test_what_is_written_loses_no_word(body: str, spans: list[tuple[int, int, Style]]):
    kept = tuple(Span(a, b, s) for a, b, s in spans if a < b <= len(body))
    made = styling.write(Text(body, kept))
    marks = set("*_~`> ")
    assert [c for c in made if c not in marks and c != "\n"] == [
        c for c in body if c not in marks and c != "\n"
    ]


def test_styles_are_written_as_marks():
    text = Text(
        "bold it code\nquoted",
        (
            Span(0, 4, Style.BOLD),
            Span(5, 7, Style.ITALIC),
            Span(8, 12, Style.CODE),
            Span(13, 19, Style.QUOTE),
        ),
    )
    assert styling.write(text) == "*bold* _it_ `code`\n> quoted"


def spans(line: str, depth: int = 0) -> Text:
    """XEP-0393, 5.2 word by word, however long it takes."""
    body, found = "", list[Span]()
    at = 0
    while at < len(line):
        mark = line[at]
        end = -1
        if (
            mark in "*_~`"
            and depth <= 4
            and (at == 0 or line[at - 1].isspace() or line[at - 1] in "*_~`")
            and at + 2 < len(line)
            and not line[at + 1].isspace()
            and line[at + 1] != mark
        ):
            later = range(at + 2, len(line))
            end = next((i for i in later if line[i] == mark and not line[i - 1].isspace()), -1)
        if end < 0:
            body, at = body + mark, at + 1
            continue
        inside = Text(line[at + 1 : end]) if mark == "`" else spans(line[at + 1 : end], depth + 1)
        found += [Span(len(body) + s.start, len(body) + s.end, s.style) for s in inside.spans]
        found.append(Span(len(body), len(body) + len(inside.body), styling._MARKS[mark]))
        body, at = body + inside.body, end + 1
    return Text(body, tuple(s for s in found if s.start < s.end))


@settings(max_examples=500)
@given(st.text(alphabet="*_~` ab\t", max_size=40))
def test_a_line_is_read_as_the_rules_say(line: str):
    assert styling.read(line) == spans(line)


def steps(work: Callable[[], object]) -> int:
    """Lines of these modules that are run: what the work is, whatever the machine does beside."""
    count = 0

    def line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += 1
        return line

    def call(frame: FrameType, event: str, arg: Any) -> Any:
        return line if frame.f_code.co_filename in (styling.__file__, xhtml.__file__) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="*_~`> a\n", min_size=1, max_size=8))
@example(" *a")
@example("*")
@example(" *_~`x")
@example("```\n")
@example("```x\n")
@example("> *a\n")
def test_a_long_body_takes_as_long_as_its_parts(pattern: str):
    """One message of a stranger must not stop the bridge: four times the words are four times the work."""
    short, long = (steps(lambda n=n: styling.read(pattern * n)) for n in (100, 400))  # type: ignore[misc]
    assert long <= 5 * short  # four, and what begins and ends


@pytest.mark.parametrize("mark", "*_~`")
def test_a_quarter_of_a_megabyte_of_marks_is_read(mark: str):
    """What servers let through (256 KiB); 18 kB of it took 39 s once."""
    short, long = f" {mark}a" * 2_000, f" {mark}a" * 87_000
    assert steps(lambda: styling.read(short)) < 20 * len(short)
    assert styling.read(long).body == long


@pytest.mark.parametrize("inside", ["<b/>", "<b>a</b>", "<p>a</p>", "<br/>", "<i><b>a</b></i>"])
def test_formatted_words_take_as_long_as_their_parts(inside: str):
    """XEP-0071: nor do elements."""

    def read(count: int) -> int:
        html = f"<html xmlns='{wire.XHTML_IM}'><body xmlns='{wire.XHTML}'>words{inside * count}</body></html>"
        message = fromstring(f"<message>{html}</message>")
        return steps(lambda: xhtml.read(message))

    assert read(400) <= 5 * read(100)


def test_many_styles_are_written_in_as_many_steps():
    def write(n: int) -> int:
        text = Text("a " * n, tuple(Span(2 * i, 2 * i + 1, Style.BOLD) for i in range(n)))
        return steps(lambda: styling.write(text))

    assert write(400) <= 5 * write(100)
