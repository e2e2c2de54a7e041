"""`bridgekit mimi send` says one thing in a room of somebody's provider."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import BridgeError
from bridgekit.contract.facts import Change
from connectors.mimi.kit.calling import Caller
from connectors.mimi.kit.sending import send
from connectors.mimi.service.peers import Credentials
from tests.connectors.mimi.engine.pair import ROOM, Pair

KIT = "mimi://b.example/u/kit"


def caller(pair: Pair) -> Caller:
    config = pair.b.config
    credentials = Credentials(config.certificate, config.key, config.authorities)
    return Caller("a.example", config.peers["a.example"], "b.example", credentials)


async def test_it_comes_says_its_words_and_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pair = Pair(tmp_path)
    async with pair.a.up():
        assert (
            await asyncio.to_thread(send, caller(pair), ROOM, "hello from outside", user="kit", code=None)
            == 0
        )
        said = await pair.a.reads("hello from outside")
        assert said.sender.id == KIT
        assert said.id in capsys.readouterr().out.splitlines()  # beside what is logged here of the lost peer
        left = await pair.a.hears(facts.Membership, lambda m: m.change is Change.LEAVE)
        assert left.person.id == KIT


async def test_where_it_may_not_come_it_says_why(tmp_path: Path):
    pair = Pair(tmp_path, open_rooms=False)
    async with pair.a.up():
        with pytest.raises(BridgeError, match="by invitation or with its join code"):
            await asyncio.to_thread(send, caller(pair), ROOM, "hello", user="kit", code="guessed")
    with pytest.raises(BridgeError, match="no room of"):
        send(caller(pair), "mimi://c.example/r/x", "hello", user="kit", code=None)
