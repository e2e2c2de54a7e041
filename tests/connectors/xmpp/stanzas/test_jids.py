"""Addresses: escaped as XEP-0106 has it, and nicks that rooms accept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.xmpp.stanzas import jids


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("space cadet", r"space\20cadet"),
        ('call me "ishmael"', r"call\20me\20\22ishmael\22"),
        ("at&t guy", r"at\26t\20guy"),
        ("d'artagnan", r"d\27artagnan"),
        ("/.fanboy", r"\2f.fanboy"),
        ("::foo::", r"\3a\3afoo\3a\3a"),
        ("<foo>", r"\3cfoo\3e"),
        ("user@host", r"user\40host"),
        (r"c:\net", r"c\3a\net"),
        (r"c:\\net", r"c\3a\\net"),
        (r"c:\cool stuff", r"c\3a\cool\20stuff"),
        (r"c:\5commas", r"c\3a\5c5commas"),
    ],
)
def test_the_examples_of_xep_0106(plain: str, escaped: str):
    """XEP-0106, 5.1, table 3."""
    assert jids.escape(plain) == escaped
    assert jids.unescape(escaped) == plain


@given(st.text(max_size=40))
def test_whatever_is_escaped_comes_back(words: str):
    assert jids.unescape(jids.escape(words)) == words


def test_matrix_ids_are_told_apart_whatever_their_letters():
    """A node is folded to lower case by servers; old Matrix ids have capitals."""
    assert jids.local_of("@alice:example.org", "alice") == r"alice\3aexample.org"
    assert jids.local_of("@Alice:example.org", "alice") != jids.local_of("@alice:example.org", "alice")
    assert jids.local_of("bob", "bob/Libera") != jids.local_of("bob", "bob/OFTC")


@given(st.text(max_size=300), st.text(max_size=50))
def test_every_person_has_a_node_that_a_server_takes(person: str, name: str):
    made = jids.local_of(person, name)
    assert jids.normal(f"{made}@matrix.example.org") == f"{made}@matrix.example.org"


@given(st.text(max_size=100))
def test_a_nick_is_one_line_without_what_hides(name: str):
    made = jids.nick(name)
    assert made == made.strip()
    assert not set(made) & set("\r\n\t\0\u202e\u200b\ufeff")
    assert len(made) <= jids.LONGEST_NICK


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Ann \U0001f469\u200d\U0001f4bb", "Ann"),
        ("\u2066nested\u2069", "nested"),
        ("\U0001f600", ""),
        ("Zoë 李", "Zoë 李"),
    ],
)
def test_a_nick_holds_nothing_that_a_strict_server_refuses(name: str, kept: str):
    """RFC 3454, 7 and appendix A.1: a query may hold code points that came after Unicode 3.2, a stored string not."""
    assert jids.nick(name) == kept


@pytest.mark.parametrize(
    "name", ["", "a b@c", "x@", "@y", "a@b/c", "a@b\nc", "a@" + "x" * 70, "a@b..c", "\u202ea@b"]
)
def test_what_is_no_address_is_none(name: str):
    assert jids.normal(name) is None
