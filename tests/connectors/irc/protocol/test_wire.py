"""Lines from bytes and to bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from connectors.irc.protocol.wire import Line, build, clean, parse

ANY = st.binary(max_size=80)
LIKE_IRC = st.lists(
    st.sampled_from(
        [
            b"@",
            b":",
            b" ",
            b"a",
            b"=",
            b";",
            b"\\",
            b"\\s",
            b"!",
            b"PRIVMSG",
            b"#c",
            b"\xc3\xa9",
            b"\xff",
            b"\r",
        ]
    ),
    max_size=20,
).map(b"".join)


@given(st.one_of(ANY, LIKE_IRC))
@example(b"")
@example(b"@")
@example(b":")
@example(b" :x")
@example(b"@a= :b")
def test_the_parser_raises_nothing_but_peer_misbehaved(raw: bytes) -> None:
    try:
        line = parse(raw)
    except PeerMisbehaved:
        return
    if line is not None:
        assert line.command == line.command.upper()
        assert all(c not in param for param in line.params for c in "\r\n\0")
        assert isinstance(line.nick + line.user + line.host + line.param(3), str)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b":irc.example PING :a b\r\n", Line(command="PING", params=("a b",), source="irc.example")),
        (b"ping", Line(command="PING")),
        (b"@a=1;b;+c/d=\\:\\s\\\\\\r\\n\\x\\;a=2  :n!u@h  PRIVMSG   #c   ::-)", Line(
            command="PRIVMSG", params=("#c", ":-)"), source="n!u@h",
            tags={"a": "2", "b": "", "+c/d": "; \\\r\nx"},
        )),
        (b"PRIVMSG #c :", Line(command="PRIVMSG", params=("#c", ""))),
        ("PRIVMSG #c :é".encode("latin-1"), Line(command="PRIVMSG", params=("#c", "é"))),
        ("PRIVMSG #c :é💜".encode(), Line(command="PRIVMSG", params=("#c", "é💜"))),
        (b":n MODE #c +k  key  ", Line(command="MODE", params=("#c", "+k", "key"), source="n")),
    ],
)  # fmt: skip
def test_lines_are_read_as_the_specifications_have_them(raw: bytes, line: Line) -> None:
    assert parse(raw) == line


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"  ", b"\n"])
def test_empty_lines_are_ignored(raw: bytes) -> None:
    """RFC 1459 2.3: "Empty messages are silently ignored"."""
    assert parse(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"@a=b",
        b":source",
        b"A\0B",
        b"PRIVMSG #c :a\rQUIT",
        b"@" + b"a" * 8192 + b" PING",
        b"PING " + b"a" * 9000,
    ],
)
def test_what_no_server_may_send_is_misbehaviour(raw: bytes) -> None:
    with pytest.raises(PeerMisbehaved):
        parse(raw)


def test_a_source_is_taken_apart() -> None:
    line = Line(command="JOIN", source="nick!~user@host.example")
    assert (line.nick, line.user, line.host) == ("nick", "~user", "host.example")
    server = Line(command="JOIN", source="irc.example")
    assert (server.nick, server.user, server.host) == ("irc.example", "", "")


PARAM = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20)
MIDDLE = PARAM.map(lambda p: clean(p, middle=True)).filter(bool)
TAG = st.dictionaries(
    st.sampled_from(["a", "+draft/reply", "label"]), st.text(max_size=10).map(clean), max_size=3
)


@given(st.lists(MIDDLE, max_size=3), PARAM, TAG)
def test_what_is_built_parses_back(middle: list[str], last: str, tags: dict[str, str]) -> None:
    line = parse(build("PRIVMSG", *middle, last, tags=tags))
    assert line == Line(command="PRIVMSG", params=(*middle, last), tags=tags)


@given(
    st.lists(st.text(max_size=8), max_size=4),
    st.dictionaries(st.text(max_size=3), st.text(max_size=8), max_size=2),
)
@example(["#c", "a\r\nQUIT"], {})
@example(["#c\nQUIT", "a"], {})
@example(["#c", "a\0"], {})
@example(["#c", "a\rQUIT"], {})
@example(["#c"], {"a": "\r\nQUIT"})
@example(["#c"], {"a\r\nQUIT": ""})
def test_nothing_that_is_built_is_more_than_one_line(params: list[str], tags: dict[str, str]) -> None:
    try:
        raw = build("PRIVMSG", *params, tags=tags)
    except ValueError:
        return
    assert raw.endswith(b"\r\n")
    assert not set(raw[:-2]) & set(b"\r\n\0")


@pytest.mark.parametrize("command", ["", "A B", "PRIVMSG\r\n", "é", "12", "@a", ":a"])
def test_a_command_is_letters_or_three_digits(command: str) -> None:
    with pytest.raises(ValueError):
        build(command)


@given(st.text(max_size=40), st.booleans())
def test_cleaned_words_can_always_be_sent(text: str, middle: bool) -> None:
    words = clean(text, middle=middle)
    assert not set(words) & set("\r\n\0")
    assert clean(words, middle=middle) == words
    if middle:
        assert " " not in words
        assert not words.startswith(":")
    assert build("PRIVMSG", *([words, "x"] if middle and words else [words]))


def test_line_ends_in_words_become_spaces() -> None:
    assert clean("a\r\nb\nc\0d") == "a b cd"
    assert clean(":#chan key\nQUIT", middle=True) == "#chan"
