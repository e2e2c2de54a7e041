"""Which words are meant for the bot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.people import Content, Kind
from bridgekit.contract.text import plain
from bridgekit.core.commands import command_in, split_words


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("!bridge", ""),
        ("!bridge help", "help"),
        ("!bridge   link  #a ", "link  #a"),
        ("!bridge\nhelp", "help"),
        ("!BRIDGE help", "help"),
        ("!Bridge", ""),
        ("!bridgehead is a place", None),
        ("say !bridge help", None),
        (" !bridge help", None),
        ("", None),
    ],
)
def test_a_command_starts_with_the_mark_as_a_word_of_its_own(words: str, command: str | None):
    assert command_in(Content(text=plain(words))) == command


def test_machines_and_emotes_give_no_commands():
    for kind in (Kind.NOTICE, Kind.EMOTE):
        assert command_in(Content(text=plain("!bridge help"), kind=kind)) is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("link ircnet #a", ["link", "ircnet", "#a"]),
        ('login "my password"', ["login", "my password"]),
        ("topic it's ten", ["topic", "it's", "ten"]),
        ("", []),
    ],
)
def test_words_are_split_and_quotes_group(command: str, words: list[str]):
    assert split_words(command) == words


@given(st.text())
def test_anything_can_be_split(command: str):
    assert all(isinstance(word, str) for word in split_words(command))


def test_a_backslash_is_a_letter_like_any_other():
    assert split_words(r'chat net foo\bar "p\"') == ["chat", "net", r"foo\bar", "p\\"]
