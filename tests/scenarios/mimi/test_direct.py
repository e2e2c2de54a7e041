"""People of two providers who talk alone: consent first (draft-ietf-mimi-protocol-06 5.7), then a group of two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridgekit.testing.nio_client import NioClient, nio_client
from tests.scenarios.mimi.lab import NETWORK, Lab, Provider, uri_of

WITHIN = 120.0
ENCRYPTED = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}


@asynccontextmanager
async def two(lab: Lab, folder: Path, asks: str, asked: str) -> AsyncIterator[tuple[NioClient, NioClient]]:
    """Somebody of the first provider, and somebody of the second who can be reached from elsewhere."""
    one, other = await lab.a.synapse.register(asks), await lab.b.synapse.register(asked)
    async with (
        nio_client(lab.a.synapse, one, folder / asks) as ann,
        nio_client(lab.b.synapse, other, folder / asked) as ben,
    ):
        room = await ben.encrypted_room(lab.b.bot)
        await ben.until(lambda: any("I am a bridge" in body for body in ben.said_by(room, lab.b.bot)), WITHIN)
        await ben.say(room, f"!bridge login {NETWORK}")
        await ben.until(lambda: any("signed in" in body for body in ben.said_by(room, lab.b.bot)), WITHIN)
        yield ann, ben


async def opened(side: Provider, who: NioClient, other: NioClient) -> str:
    """A room for two with somebody's ghost, which has come with the bot."""
    ghost = side.bridge.ghost(NETWORK, uri_of(other.id))
    made = await who.call(
        "POST",
        "/createRoom",
        {
            "preset": "trusted_private_chat",
            "is_direct": True,
            "invite": [ghost],
            "initial_state": [ENCRYPTED],
        },
    )
    room = str(made["room_id"])
    await who.until(
        lambda: room in who.client.rooms and {ghost, side.bot} <= who.client.rooms[room].users.keys(), WITHIN
    )
    return room


async def invited(who: NioClient) -> str:
    """The room that the bridge asks them into."""
    await who.until(lambda: who.client.invited_rooms, WITHIN)
    (room,) = who.client.invited_rooms
    return str(room)


@pytest.mark.timeout(600)
async def test_two_people_talk_alone_after_the_one_who_was_asked_has_agreed(lab: Lab, tmp_path: Path):
    """The request is an invitation on Matrix, to join is the grant, and what was said before waits for it."""
    async with two(lab, tmp_path, "directann", "directben") as (ann, ben):
        at_a = await opened(lab.a, ann, ben)
        await ann.say(at_a, "do you hear me?")
        at_b = await invited(ben)
        assert ben.read == [] or all(room != at_b for room, *_ in ben.read), "nobody has agreed yet"
        await ben.client.join(at_b)
        there, here = (
            lab.b.bridge.ghost(NETWORK, uri_of(ann.id)),
            lab.a.bridge.ghost(NETWORK, uri_of(ben.id)),
        )
        await ben.until(lambda: ben.said_by(at_b, there) == ["do you hear me?"], WITHIN)
        for number in range(3):
            await ben.say(at_b, f"I do, {number}")
            await ann.until(lambda number=number: f"I do, {number}" in ann.said_by(at_a, here), WITHIN)  # type: ignore[misc]
            await ann.say(at_a, f"fine, {number}")
            await ben.until(lambda number=number: f"fine, {number}" in ben.said_by(at_b, there), WITHIN)  # type: ignore[misc]
        assert ann.said_by(at_a, here) == [f"I do, {number}" for number in range(3)]
        assert ben.said_by(at_b, there) == ["do you hear me?", *(f"fine, {number}" for number in range(3))]
        assert ann.unread == ben.unread == []


@pytest.mark.timeout(600)
async def test_who_declines_is_not_talked_to_and_the_one_who_asked_reads_so(lab: Lab, tmp_path: Path):
    async with two(lab, tmp_path, "directcora", "directdan") as (cora, dan):
        at_a = await opened(lab.a, cora, dan)
        await cora.say(at_a, "do you hear me?")
        at_b = await invited(dan)
        await dan.client.room_leave(at_b)
        await cora.until(
            lambda: any("do not agree" in body for body in cora.said_by(at_a, lab.a.bot)), WITHIN
        )
        assert not [body for *_, body in dan.read if body == "do you hear me?"]
