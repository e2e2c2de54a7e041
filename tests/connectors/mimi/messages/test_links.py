"""Links that look like another address, and HTML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.text import Span, Style, Text, join, styled
from connectors.mimi.messages.hypertext import from_html
from connectors.mimi.messages.links import deceives


@pytest.mark.parametrize(
    "words",
    [
        "example.com/foobar",
        "https://example.com/foobar",
        "https://example.com:443/foobar",
        "our page",
        "v1.0",
    ],
)
def test_an_honest_link_needs_no_warning(words: str):
    assert not deceives(words, "https://example.com/foobar")


@pytest.mark.parametrize(
    "target",
    ["https://spearphishers.example/foobar", "http://example.com/foobar", "https://example.com/other", "//["],
)
def test_a_link_that_leads_elsewhere_is_told(target: str):
    assert deceives("https://example.com/foobar", target)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hi <b>you</b></p>\n<p>2 &lt; 3</p>", Text("Hi you\n2 < 3", (Span(3, 6, Style.BOLD),))),
        ("a<br/>b<script>alert(1)</script>c", Text("a\nbc")),
        ('<a href="https://a.example/?a=1&amp;b">x</a>', styled("x", Style.LINK, "https://a.example/?a=1&b")),
        (
            "<a href='https://b.example/'>https://a.example/</a>",
            join(styled("https://a.example/", Style.LINK, "https://b.example/"), " (https://b.example/)"),
        ),
        ("1 < 2 and <3", Text("1 < 2 and <3")),
    ],
)
def test_html_is_its_words(html: str, text: Text):
    assert from_html(html) == text


@given(st.text(st.sampled_from("ab <>/=\"'&;\nibrp"), max_size=60))
def test_any_html_has_spans_within_its_words(html: str):
    text = from_html(html)
    assert all(0 <= s.start < s.end <= len(text.body) for s in text.spans)
