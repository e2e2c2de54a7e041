"""Nicks that puppets want and get."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.irc.protocol.nicks import next_nick, speaker_nick, wanted_nick
from connectors.irc.protocol.state import State

VALID = re.compile(r"[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]*")


def server(nicklen: int = 30) -> State:
    state = State("me")
    state.support.update([f"NICKLEN={nicklen}"])
    return state


@pytest.mark.parametrize(
    ("name", "nick"),
    [
        ("alice", "alice"),
        ("@alice:example.org", "alice"),
        ("Älice Müller", "Alice_Muller"),
        ("7of9", "_7of9"),
        ("-dash", "_-dash"),
        ("a!b@c:d,e*", "abcde"),
        ("Straße", "Strasse"),
        ("[ok]{}|", "[ok]{}|"),
    ],
)
def test_a_name_becomes_a_nick_that_servers_accept(name: str, nick: str) -> None:
    assert wanted_nick(name, server()) == nick


def test_a_name_in_other_letters_has_a_nick_of_its_own() -> None:
    first, second = wanted_nick("木村", server()), wanted_nick("山田", server())
    assert VALID.fullmatch(first)
    assert first != second
    assert first == wanted_nick("木村", server())


@given(st.text(max_size=40), st.integers(1, 40), st.sampled_from(["", "[m]", "|m"]))
def test_a_wanted_nick_is_always_valid_and_within_nicklen(name: str, nicklen: int, suffix: str) -> None:
    nick = wanted_nick(name, server(nicklen), suffix=suffix)
    assert VALID.fullmatch(nick)
    assert len(nick) <= nicklen
    if nicklen >= len(suffix) + 1:
        assert nick.endswith(suffix)


@given(st.text(max_size=20), st.integers(3, 12), st.integers(1, 30))
def test_every_next_nick_is_new_valid_and_short_enough(name: str, nicklen: int, times: int) -> None:
    state = server(nicklen)
    wanted = wanted_nick(name, state)
    tried: list[str] = []
    for _ in range(times):
        nick = next_nick(wanted, tried, state)
        assert VALID.fullmatch(nick)
        assert len(nick) <= nicklen
        assert state.fold(nick) not in {state.fold(t) for t in tried}
        tried.append(nick)
    again: list[str] = []
    for _ in range(times):
        again.append(next_nick(wanted, again, state))
    assert again == tried


def test_a_collision_has_a_stable_suffix() -> None:
    state = server()
    assert next_nick("alice", [], state) == "alice"
    assert next_nick("alice", ["ALICE"], state) == "alice_"
    assert next_nick("alice", ["alice", "alice_", "alice__"], state) == "alice2"
    assert next_nick("abcdefghi", ["abcdefghi"], server(9)) == "abcdefgh_"


@given(st.text(max_size=60), st.integers(4, 40))
def test_a_relayed_nick_has_its_separator(name: str, limit: int) -> None:
    nick = speaker_nick(name, "/", limit)
    assert nick.endswith("/m")
    assert VALID.fullmatch(nick[:-2])
    assert len(nick) <= limit
