"""Neutral text: slicing and joining keep every character's styles."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bridgekit.contract.text import Span, Style, Text, excerpt, join, plain, styled

STYLES = st.sampled_from([Style.BOLD, Style.ITALIC, Style.LINK])


@st.composite
def texts(draw: st.DrawFn) -> Text:
    body = draw(st.text(max_size=20))
    spans = []
    for _ in range(draw(st.integers(0, 4)) if body else 0):
        start = draw(st.integers(0, len(body) - 1))
        spans.append(
            Span(start, draw(st.integers(start + 1, len(body))), draw(STYLES), draw(st.sampled_from("xy")))
        )
    return Text(body, tuple(spans))


def looks(text: Text) -> list[tuple[str, list[tuple[Style, str | None]]]]:
    """Each character with the styles that lie over it, in their order."""
    return [
        (c, [(s.style, s.value) for s in text.spans if s.start <= i < s.end]) for i, c in enumerate(text.body)
    ]


@settings(deadline=None)
@given(texts(), st.integers(0, 25), st.integers(0, 5))
def test_a_slice_has_the_characters_and_styles_of_its_stretch(text: Text, start: int, length: int) -> None:
    found = text.slice(start, start + length)
    assert looks(found) == looks(text)[start : start + length]
    assert all(0 <= s.start < s.end <= len(found.body) for s in found.spans)


@settings(deadline=None)
@given(st.lists(texts(), max_size=4))
def test_joined_parts_keep_their_styles(parts: list[Text]) -> None:
    assert looks(join(*parts)) == [look for part in parts for look in looks(part)]


@settings(deadline=None)
@given(texts(), st.integers(0, 20))
def test_a_text_is_the_join_of_its_slices(text: Text, at: int) -> None:
    assert looks(join(text.slice(0, at), text.slice(at, len(text.body)))) == looks(text)


def test_only_the_styles_that_a_chat_can_show_are_kept() -> None:
    text = join(styled("a", Style.BOLD), styled("b", Style.ITALIC))
    assert text.keep(frozenset({Style.BOLD})) == Text("ab", (Span(0, 1, Style.BOLD),))
    assert text.keep(frozenset({Style.BOLD, Style.ITALIC})) is text


def test_values_are_mapped_and_a_span_without_a_new_value_falls_away() -> None:
    text = join(styled("ann", Style.MENTION, "@ann:x"), " ", styled("bob", Style.MENTION, "@bob:x"))
    assert text.map_values(Style.MENTION, {"@ann:x": "ann!a@h"}.get) == Text(
        "ann bob", (Span(0, 3, Style.MENTION, "ann!a@h"),)
    )


def test_an_excerpt_is_one_line_and_shows_that_something_is_missing() -> None:
    assert excerpt(plain("short"), 10) == "short"
    assert excerpt(plain("one\ntwo"), 10) == "one …"
    assert excerpt(plain("a much longer line"), 10) == "a much lo…"


def test_an_empty_styled_text_has_no_span() -> None:
    assert styled("", Style.BOLD) == Text("")
