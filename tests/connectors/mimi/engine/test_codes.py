"""A closed room is joined from outside with its join code (draft-ietf-mimi-protocol-06 5.6; room policy 6.2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridgekit.contract import verbs
from bridgekit.contract.errors import SendRejected
from connectors.mimi.clients.seat import Seat, bundle
from connectors.mimi.service import room
from connectors.mimi.wire import policies
from connectors.mimi.wire.components import Component
from connectors.mimi.wire.rooms import CommitBundle
from tests.connectors.mimi.engine.pair import ROOM, Pair

CODE = b"open sesame"


def with_code(seat: Seat) -> CommitBundle:
    """The commit that gives a room the code."""
    update = (
        int(Component.JOIN_LINKS),
        policies.JOIN_LINKS_UPDATE.encode(policies.JoinLinksUpdate(added=(CODE,))),
    )
    return bundle(seat.group.commit(app_data_updates=[update], resolve=room.merge))


async def test_a_closed_room_is_joined_with_its_code_and_by_nothing_else(tmp_path: Path):
    pair = Pair(tmp_path, open_rooms=False)
    async with pair.a.up(), pair.b.up(linked=False) as b:
        await pair.a.tenants.change(ROOM, with_code)
        for secret in ("", "guessed"):
            with pytest.raises(SendRejected, match="by invitation or with its join code"):
                await b.perform(verbs.Join(chat=ROOM, secret=secret))
        await b.perform(verbs.Join(chat=ROOM, secret=CODE.decode()))
        await pair.b.says("bob", "hello")
        await pair.a.reads("hello")
        await pair.a.says("ann", "welcome")
        await pair.b.reads("welcome")
