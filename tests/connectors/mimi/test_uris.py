"""Names of providers, users, clients, rooms and groups."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.uris import Thing, Uri, is_user, parse


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("mimi://a.example", Uri("a.example", Thing.PROVIDER, "")),
        ("mimi://a.example/u/alice", Uri("a.example", Thing.USER, "alice")),
        ("mimi://a.example/d/3b52249d/0003", Uri("a.example", Thing.CLIENT, "3b52249d/0003")),
        ("mimi://a.example/r/engineering_team", Uri("a.example", Thing.ROOM, "engineering_team")),
        ("mimi://a.example/g/7u4N", Uri("a.example", Thing.GROUP, "7u4N")),
        ("mimi://a.example/u/J%C3%BCrgen%20B", Uri("a.example", Thing.USER, "Jürgen B")),
    ],
)
def test_a_uri_is_taken_apart_and_put_together(uri: str, parsed: Uri):
    assert parse(uri) == parsed
    assert str(parsed) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "mimi://",
        "https://a.example/u/alice",
        "mimi://a.example:443/u/alice",
        "mimi://x@a.example/u/alice",
        "mimi://a.example/x/alice",
        "mimi://a.example/u/",
        "mimi://a.example/u/a b",
        "mimi://a.example/u/alice?x",
        "mimi://a.example/u/alice#x",
        "mimi://a..example/u/alice",
        "mimi://-a.example/u/alice",
        "mimi://a.example/u/%ff",
        "mimi://a.example/u/%2",
        "mimi://a.example/u/" + "a" * 1024,
        "mimi://a.example/u/alice\n",
    ],
)
def test_what_is_no_uri_is_refused(uri: str):
    with pytest.raises(PeerMisbehaved):
        parse(uri)


def test_a_room_is_no_user():
    assert is_user("mimi://a.example/u/alice")
    assert not is_user("mimi://a.example/r/alice")
    with pytest.raises(PeerMisbehaved, match="another belongs"):
        parse("mimi://a.example/r/x", Thing.USER, Thing.CLIENT)


@given(st.text(max_size=40))
def test_any_text_raises_nothing_but_peer_misbehaved(text: str):
    for uri in (text, "mimi://" + text, "mimi://a.example/u/" + text):
        with suppress(PeerMisbehaved):
            parse(uri)
