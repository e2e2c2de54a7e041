"""What a room is called, between its hub and who follows it (draft-ietf-mimi-room-policy: who may change the name)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import SendRejected
from tests.connectors.mimi.engine.pair import ROOM, Pair


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
