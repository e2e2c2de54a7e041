"""Direct rooms of two whole bridges: who is asked agrees or not, and then two people talk."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.core.ghosts import Namespace
from bridgekit.testing.homeserver import Event, Human
from tests.connectors.mimi.engine.test_bridges import Pair, of_somebody, pair
from tests.runtime.running import BOT, SERVER, World, by, has_fate, is_about, membership, said

__all__ = ["pair"]  # the fixture

ALICE, BOB = "mimi://a.example/u/alice:hs.test", "mimi://b.example/u/bob:hs.test"


def ghost(person: str) -> str:
    return Namespace("_bk_", SERVER).mxid(NetworkId("mimi"), PersonId(person))


@pytest.fixture(autouse=True)
def in_clear(pair: Pair) -> None:
    """The room that the bridge makes at b is encrypted; bob's client here is not one that does."""
    pair.b.more["encryption"] = {"trust": "all"}


async def account(place: World, name: str, fields: str = "") -> Human:
    """Somebody who can be reached from elsewhere under their own name."""
    human = await place.homeserver.user(name).ready()
    room = await human.create_room(invite=[BOT], is_direct=True)
    await said(place, by(BOT, "Every word here is a command"))
    await human.send(room, f"login mimi {fields}".strip())
    await said(place, by(BOT, "is being signed in"))
    return human


async def opened(place: World, human: Human, other: str) -> str:
    """A room into which somebody has asked the ghost of `other`, who came."""
    room = await human.create_room(preset="trusted_private_chat", is_direct=True, invite=[ghost(other)])
    await said(place, lambda e: e.room_id == room and membership(BOT, "join")(e))
    return room


def sealed_by(sender: str) -> Callable[[Event], bool]:
    return lambda e: e.type == "m.room.encrypted" and e.sender == sender


async def agreed(place: World, human: Human, room: str, other: str) -> None:
    """The room is not encrypted, and what is said over MLS may be shown there."""
    await human.send(room, f"!bridge agree mimi {other}")
    await said(place, lambda e: e.room_id == room and by(BOT, "has agreed")(e))


async def test_who_is_asked_and_agrees_is_talked_with(pair: Pair):
    """draft-ietf-mimi-protocol-06 5.7: consent first, then key packages, and a group of two."""
    async with pair.a.bridge(), pair.b.bridge():
        bob = await account(pair.b, "bob")
        alice = await pair.a.homeserver.user("alice").ready()
        at_a = await opened(pair.a, alice, BOB)
        await agreed(pair.a, alice, at_a, BOB)
        waiting = await alice.send(at_a, "do you hear me?")

        asked = await said(pair.b, membership(bob.id, "invite"), 60)
        at_b = asked.room_id
        await said(pair.b, lambda e: e.room_id == at_b and membership(ghost(ALICE), "join")(e), 60)
        assert not [e for e in pair.a.homeserver.events() if has_fate(waiting)(e)], "nobody has agreed yet"
        await bob.join(at_b)
        heard = await said(pair.b, lambda e: e.room_id == at_b and sealed_by(ghost(ALICE))(e), 60)
        assert (await said(pair.a, has_fate(waiting), 60)).content["status"] == "SUCCESS"
        assert "hear" not in str(heard.content), "the room that the bridge made is encrypted"
        await bob.send(at_b, "I do")
        back = await said(pair.a, of_somebody("I do"), 60)
        assert (back.room_id, back.sender) == (at_a, ghost(BOB))


async def test_who_is_asked_and_declines_is_left_alone(pair: Pair):
    """5.7: the words are not sent, and their sender reads why."""
    async with pair.a.bridge(), pair.b.bridge():
        bob = await account(pair.b, "bob")
        alice = await pair.a.homeserver.user("alice").ready()
        at_a = await opened(pair.a, alice, BOB)
        await agreed(pair.a, alice, at_a, BOB)
        words = await alice.send(at_a, "do you hear me?")
        asked = await said(pair.b, membership(bob.id, "invite"), 60)
        await bob.leave(asked.room_id)
        fate = await said(pair.a, has_fate(words), 60)
        assert (fate.content["status"], fate.content["message"]) == (
            "FAIL_PERMANENT",
            "They do not agree to talk with you.",
        )
        assert not [e for e in pair.b.homeserver.events() if sealed_by(ghost(ALICE))(e)]


async def test_who_asks_no_more_takes_the_invitation_back(pair: Pair):
    """5.7: a cancelled request is no question any more, on Matrix either."""
    async with pair.a.bridge(), pair.b.bridge():
        bob = await account(pair.b, "bob")
        alice = await pair.a.homeserver.user("alice").ready()
        at_a = await opened(pair.a, alice, BOB)
        asked = await said(pair.b, membership(bob.id, "invite"), 60)
        await alice.leave(at_a)
        gone = await said(pair.b, lambda e: e.room_id == asked.room_id and membership(bob.id, "leave")(e), 60)
        assert gone.sender == BOT
        assert "taken back" in gone.content["reason"]
        await said(pair.b, lambda e: e.type == "m.room.message" and by(BOT, "taken back asking")(e), 60)


async def test_a_direct_room_outlives_both_bridges(pair: Pair):
    async with pair.b.bridge():
        bob = await account(pair.b, "bob")
        alice = await pair.a.homeserver.user("alice").ready()
        async with pair.a.bridge():
            at_a = await opened(pair.a, alice, BOB)
            await agreed(pair.a, alice, at_a, BOB)
            asked = await said(pair.b, membership(bob.id, "invite"), 60)
            waiting = await alice.send(at_a, "before")
            await said(pair.a, is_about(waiting), 60)
        await bob.join(asked.room_id)
    async with pair.a.bridge(), pair.b.bridge():
        await said(pair.b, sealed_by(ghost(ALICE)), 90)
        await bob.send(asked.room_id, "after")
        await said(pair.a, of_somebody("after"), 60)
    async with pair.b.bridge():
        await bob.send(asked.room_id, "while you were away")
        async with pair.a.bridge():
            back = await said(pair.a, of_somebody("while you were away"), 60)
            assert back.room_id == at_a
