"""Cutting text: nothing is lost but the separator at a cut, nothing is too long, no grapheme is torn."""

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridgekit.contract.split import by_bytes, lines, pieces, utf8_size
from bridgekit.contract.text import Span, Style, Text, join, plain, styled

FAMILY = "👨‍👩‍👧‍👦"  # one grapheme, 25 bytes
CHARACTERS = st.sampled_from(
    [
        "a",
        "b",
        " ",
        " ",
        "\n",
        "é",
        "é",
        "漢",
        "👍🏽",
        FAMILY,
        "🇩🇪",
        "🇫🇷",
        "ก็",
        "각",
        "\r",
        "\u0301",
        "\u200d",
    ]
)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    body = "".join(draw(st.lists(CHARACTERS, min_size=1, max_size=60)))
    spans = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(body) - 1))
        end = draw(st.integers(start + 1, len(body)))
        spans.append(
            Span(start, end, draw(st.sampled_from([Style.BOLD, Style.COLOR])), draw(st.sampled_from("xy")))
        )
    return Text(body, tuple(spans))


def looks(text: Text) -> list[tuple[str, frozenset[tuple[Style, str | None]]]]:
    """Each character with all the styles that lie over it."""
    return [
        (c, frozenset((s.style, s.value) for s in text.spans if s.start <= i < s.end))
        for i, c in enumerate(text.body)
    ]


def numbered(text: Text) -> Text:
    """The text with each character's index as a style of its own, so that every piece tells where it is from."""
    return Text(
        text.body, text.spans + tuple(Span(i, i + 1, Style.LINK, str(i)) for i in range(len(text.body)))
    )


def indices(text: Text) -> list[int]:
    return [int(span.value or "") for span in text.spans if span.style is Style.LINK]


@settings(deadline=None)
@given(texts(), st.integers(4, 60))
@example(plain("aaaa aaaa"), 4)
@example(plain("aa \u0301aa"), 4)
@example(plain("a\n\n\nb" * 5), 4)
def test_pieces_fit_and_lose_nothing_but_the_separator_at_a_cut(text: Text, limit: int) -> None:
    text = numbered(text)
    original = looks(text)
    at = 0
    for piece in by_bytes(text, limit):
        assert 0 < utf8_size(piece) <= limit
        first, *_, last = [*indices(piece), *indices(piece)]
        if at and first == at + 1:
            assert text.body[at] in " \n"
            at += 1
        assert looks(piece) == original[at : last + 1]
        at = last + 1
    assert text.body[at:] in ("", " ", "\n")


@settings(deadline=None)
@given(texts(), st.integers(25, 60))
def test_no_grapheme_is_torn_where_it_fits_a_piece(text: Text, limit: int) -> None:
    graphemes = regex.findall(r"\X", text.body)
    if any(len(g.encode()) > limit for g in graphemes):
        return
    cut = by_bytes(text, limit)
    kept = [g for piece in cut for g in regex.findall(r"\X", piece.body)]
    for separator in (" ", "\n"):
        graphemes = [g for g in graphemes if g != separator]
        kept = [g for g in kept if g != separator]
    assert kept == graphemes


@settings(deadline=None)
@given(texts())
def test_lines_are_the_body_without_its_line_ends(text: Text) -> None:
    found = lines(text)
    expected = [line for line in regex.split(r"\r\n|\r|\n", text.body) if line]
    assert [line.body for line in found] == expected
    kept = [look for look in looks(text) if look[0] not in "\r\n"]
    assert [look for line in found for look in looks(line)] == kept


def test_a_cut_is_made_at_the_last_space_of_the_last_third() -> None:
    assert [p.body for p in by_bytes(plain("one two three four five"), 10)] == [
        "one two",
        "three four",
        "five",
    ]
    assert [p.body for p in by_bytes(plain("a " + "b" * 20), 10)] == ["a bbbbbbbb", "bbbbbbbbbb", "bb"]


LINK = "https://b.example/f/1"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (f"cat.png: {LINK}", ["cat.png:", LINK]),
        (f"a\nb\u00e9 {LINK} c", ["a\nb\u00e9", f"{LINK} c"]),
        (f"({LINK})", [f"({LINK})"]),
        (f"a {LINK}{'x' * 9}", [f"a {LINK}x", "x" * 8]),  # it fits no piece at all
    ],
)
def test_a_link_is_not_cut_where_it_fits_a_piece(body: str, found: list[str]) -> None:
    assert [p.body for p in by_bytes(plain(body), 24)] == found


def test_a_cut_is_rather_made_at_a_newline() -> None:
    assert [p.body for p in by_bytes(plain("first line\nsecond of two"), 20)] == [
        "first line",
        "second of two",
    ]


def test_a_grapheme_longer_than_the_limit_is_cut_between_code_points() -> None:
    assert [p.body for p in by_bytes(plain(FAMILY), 11)] == ["👨\u200d👩", "\u200d", "👧\u200d👦"]
    with pytest.raises(ValueError, match="no room for one character"):
        by_bytes(plain("漢"), 2)


def test_styles_go_on_in_the_next_piece() -> None:
    text = join("see ", styled("bold words", Style.BOLD), " end")
    assert by_bytes(text, 10) == [
        Text("see bold", (Span(4, 8, Style.BOLD),)),
        Text("words end", (Span(0, 5, Style.BOLD),)),
    ]


def test_the_cost_may_count_what_styles_add() -> None:
    def cost(text: Text) -> int:
        return len(text.body) + 2 * len(text.spans)

    text = styled("x" * 20, Style.BOLD)
    assert [len(p.body) for p in pieces(text, 10, cost)] == [8, 8, 4]


def test_an_empty_text_has_no_pieces_and_no_lines() -> None:
    assert by_bytes(plain(""), 10) == []
    assert lines(plain("")) == []
    assert lines(plain("\n\r\n")) == []


def test_cost_is_asked_for_a_few_pieces_worth_of_text_only() -> None:
    """A text of n bytes costs O(n log n): each call sees about one piece, and there are few calls for each."""
    asked = 0

    def cost(text: Text) -> int:
        nonlocal asked
        asked += len(text.body)
        return len(text.body)

    found = pieces(plain("word " * 12_800), 400, cost)
    assert len(found) == 160
    assert asked < 64_000 * 20
