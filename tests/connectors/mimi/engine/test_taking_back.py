"""Who takes back what somebody else said: only whom the room lets do so (draft-ietf-mimi-content-08 9.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import MessageId, PersonId
from tests.connectors.mimi.engine.pair import ROOM, Pair, Side


async def takes_back(side: Side, who: str, target: MessageId, said_by: str | None = None) -> None:
    await side.session.perform(
        verbs.Retract(
            chat=ROOM,
            target=target,
            speaker=side.person(who),
            said_by=None if said_by is None else PersonId(said_by),
        )
    )


async def test_a_member_takes_back_nothing_of_others(tmp_path: Path):
    """Whoever's client says so: it counts for what they said themselves."""
    two = Pair(tmp_path)
    async with two.up():
        said = await two.a.says("alice", "hello")
        await two.b.reads("hello")
        await takes_back(two.b, "bob", said)
        fact = await two.a.hears(facts.Retraction, lambda fact: fact.target == said)
        assert (fact.own, fact.sender.name) == (True, "bob:hs")


async def test_what_a_moderator_of_a_following_room_takes_back_of_others_is_refused_in_words(tmp_path: Path):
    two = Pair(tmp_path)
    async with two.up():
        said = await two.a.says("alice", "hello")
        await two.b.reads("hello")
        with pytest.raises(SendRejected, match="does not let anybody here take back"):
            await takes_back(two.b, "bob", said, said_by="mimi://a.example/u/alice:hs")


async def test_what_another_of_ours_said_their_own_client_takes_back(tmp_path: Path):
    two = Pair(tmp_path)
    async with two.up():
        said = await two.b.says("bob", "hello")
        await two.a.reads("hello")
        await takes_back(two.b, "moderator", said, said_by="@bob:hs")
        fact = await two.a.hears(facts.Retraction, lambda fact: fact.target == said)
        assert (fact.own, fact.sender.name) == (True, "bob:hs")


async def test_the_hubs_own_client_moderates_its_room(tmp_path: Path):
    two = Pair(tmp_path)
    async with two.up():
        said = await two.b.says("bob", "hello")
        await two.a.reads("hello")
        await takes_back(two.a, "alice", said, said_by="mimi://b.example/u/bob:hs")
        fact = await two.b.hears(facts.Retraction, lambda fact: fact.target == said)
        assert (fact.own, fact.sender.name) == (False, "bridge")
