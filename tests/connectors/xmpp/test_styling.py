"""Message Styling (XEP-0393), read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.text import Span, Style, Text
from connectors.xmpp import styling


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
