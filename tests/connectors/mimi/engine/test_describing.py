"""How a room is called and looks, between its hub and who follows it (draft-ietf-mimi-protocol 7.6, and
draft-ietf-mimi-room-policy: who may change that)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import RemoteError, SendRejected
from bridgekit.contract.people import File
from tests.connectors.mimi.engine.pair import ROOM, Pair, Side
from tests.connectors.mimi.engine.test_files import PICTURE, fetched


async def test_a_new_name_is_told_to_who_follows_and_who_may_not_give_one_reads_why(tmp_path: Path):
    pair = Pair(tmp_path)
    async with pair.up():
        await pair.a.session.perform(verbs.SetName(chat=ROOM, name="The Den"))
        await pair.b.hears(facts.ChatName, lambda fact: fact.name == "The Den")
        with pytest.raises(SendRejected, match=r"does not allow that \(change name\)"):
            await pair.b.session.perform(verbs.SetName(chat=ROOM, name="Ours"))
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        await pair.a.says("ann", "hello bob")
        await pair.b.reads("hello bob")


def face(side: Side, name: str) -> File:
    """A picture that is with the side's homeserver."""
    side.host.media[f"mxc://hs/{name}"] = PICTURE + name.encode()
    return File(uri=f"mxc://hs/{name}", name="avatar", mime="image/png")


async def test_a_picture_is_told_to_who_follows_lies_there_in_clear_and_an_earlier_one_no_more(
    tmp_path: Path,
):
    """7.6: "an https URI resolving to an avatar image". Whoever showed it is told nothing, at the next start either."""
    pair = Pair(tmp_path)
    async with pair.up():
        for name in ("one", "one", "two"):
            await pair.a.session.perform(verbs.SetAvatar(chat=ROOM, avatar=face(pair.a, name)))
        first = (await pair.b.hears(facts.ChatAvatar)).avatar
        second = (await pair.b.hears(facts.ChatAvatar, lambda fact: fact.avatar != first)).avatar
        assert first is not None
        assert second is not None
        assert second.uri.startswith("https://a.example")
        assert await fetched(pair.b, second) == PICTURE + b"two"
        with pytest.raises(RemoteError, match=r"a\.example says 403"):
            await fetched(pair.b, first)
        assert len([key for key in pair.a.kept if key.startswith("asset/")]) == 1
    pair.b.heard.clear()
    async with pair.up():
        assert (await pair.b.hears(facts.ChatAvatar)).avatar == second
        await pair.a.session.perform(verbs.SetAvatar(chat=ROOM, avatar=None))
        await pair.b.hears(facts.ChatAvatar, lambda fact: fact.avatar is None)
        assert not [key for key in pair.a.kept if key.startswith("asset/")]
    assert not [fact for fact in pair.a.heard if isinstance(fact, facts.ChatAvatar)]


async def test_who_may_not_give_a_room_a_picture_reads_why_and_lays_nothing_open(tmp_path: Path):
    pair = Pair(tmp_path)
    async with pair.up():
        with pytest.raises(SendRejected, match=r"does not allow that \(change avatar\)"):
            await pair.b.session.perform(verbs.SetAvatar(chat=ROOM, avatar=face(pair.b, "one")))
        assert not [key for key in pair.b.kept if key.startswith("asset/")]
