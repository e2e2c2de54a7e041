"""Two whole bridges: people are asked into closed groups, look for one another, and give out join codes."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from bridgekit.testing.homeserver import Event, Human
from tests.connectors.mimi.engine.test_bridges import ROOM, Pair, linked, of_somebody, pair
from tests.connectors.mimi.engine.test_direct_rooms import ALICE, BOB, account, ghost
from tests.runtime.running import BOT, World, by, has_fate, said
from tests.runtime.test_desk import call

__all__ = ["pair"]  # the fixture


@pytest.fixture(autouse=True)
def closed(pair: Pair) -> None:
    """Nobody comes into the rooms of `a` uninvited."""
    network = pair.a.networks["mimi"]
    network["config"] = network["config"].model_copy(update={"open_rooms": False})


async def told(place: World, words: str, room: str = "") -> Event:
    return await said(place, lambda e: by(BOT, words)(e) and room in ("", e.room_id))


async def own_room(place: World, human: Human, *others: Human) -> str:
    room = await human.create_room(preset="private_chat", invite=[BOT])
    await told(place, "I am a bridge", room)
    await human.set_power(room, BOT, 100)
    for other in others:
        await human.invite(room, other.id)
        await other.join(room)
    return room


async def asked_in(pair: Pair) -> tuple[Human, str, Human]:
    """Alice of `a` has asked bob of `b` into her group, and he was told."""
    bob = await account(pair.b, "bob")
    alice, at_a = await linked(pair.a, ROOM)
    await alice.invite(at_a, ghost(BOB))
    asked = await told(pair.b, "asks you into")
    assert asked.body.startswith(f"{ALICE} asks you into {ROOM}"), "in the name of who did"
    assert f"!bridge link mimi {ROOM}" in asked.body
    assert f"!bridge decline mimi {ROOM}" in asked.body
    return alice, at_a, bob


async def test_who_is_asked_into_a_group_and_links_it_is_in(pair: Pair):
    """draft-ietf-mimi-protocol-06 5.7: the link is the grant, a Welcome follows, and his own client reads."""
    async with pair.a.bridge(), pair.b.bridge():
        alice, at_a, bob = await asked_in(pair)
        carol = await pair.b.homeserver.user("carol").ready()
        at_b = await own_room(pair.b, bob, carol)
        await bob.send(at_b, f"!bridge link mimi {ROOM}")
        await told(pair.b, "is now linked", at_b)
        await bob.send(at_b, f"!bridge agree mimi {ROOM}")
        await told(pair.b, "has agreed", at_b)
        await alice.send(at_a, "welcome")
        heard = await said(pair.b, of_somebody("welcome"))
        assert (heard.room_id, heard.sender) == (at_b, ghost(ALICE))
        await bob.send(at_b, "thank you")
        assert (await said(pair.a, of_somebody("thank you"))).sender == ghost(BOB)
        # The others of his room were not asked: nobody speaks as him, or comes in behind him.
        refused = await said(pair.b, has_fate(await carol.send(at_b, "me too")))
        assert (refused.content["status"], "by invitation" in refused.content["message"]) == (
            "FAIL_PERMANENT",
            True,
        )
    async with pair.a.bridge(), pair.b.bridge():
        await alice.send(at_a, "after a restart")
        await said(pair.b, of_somebody("after a restart"))
        await bob.send(at_b, "I am here")
        await said(pair.a, of_somebody("I am here"))


async def test_nobody_else_answers_for_who_is_asked(pair: Pair):
    async with pair.a.bridge(), pair.b.bridge():
        await asked_in(pair)
        carol = await pair.b.homeserver.user("carol").ready()
        at_b = await own_room(pair.b, carol)
        await carol.send(at_b, f"!bridge link mimi {ROOM}")
        await told(pair.b, "by invitation or with its join code", at_b)
        await carol.send(at_b, f"!bridge decline mimi {ROOM}")
        await told(pair.b, "Nobody waits for your answer", at_b)


async def test_who_declines_is_not_brought_in(pair: Pair):
    async with pair.a.bridge(), pair.b.bridge():
        _, _, bob = await asked_in(pair)
        at_b = await own_room(pair.b, bob)
        await bob.send(at_b, f"!bridge decline mimi {ROOM}")
        await told(pair.b, "Declined", at_b)
        await bob.send(at_b, f"!bridge link mimi {ROOM}")
        await told(pair.b, "by invitation or with its join code", at_b)


async def test_who_is_asked_no_more_reads_so_and_is_not_brought_in(pair: Pair):
    """5.7: alice takes her invitation back before bob has answered."""
    async with pair.a.bridge(), pair.b.bridge():
        alice, at_a, bob = await asked_in(pair)
        await alice.kick(at_a, ghost(BOB))
        gone = await told(pair.b, "has taken back asking you into")
        assert gone.body.startswith(f"{ALICE} has taken back asking you into {ROOM}")
        at_b = await own_room(pair.b, bob)
        await bob.send(at_b, f"!bridge link mimi {ROOM}")
        await told(pair.b, "by invitation or with its join code", at_b)


@pytest.mark.parametrize(("findable", "words"), [("handle", "bob@b.example"), ("name", "BOB@b.example")])
async def test_who_lets_themselves_be_found_is_found(pair: Pair, findable: str, words: str):
    """5.8, by command and by the homeserver's own search."""
    async with pair.a.bridge(), pair.b.bridge():
        await account(pair.b, "bob", f"findable={findable}")
        alice = await pair.a.homeserver.user("alice").ready()
        room = await own_room(pair.a, alice)
        async with asyncio.timeout(60):
            while not await looked_up(pair.a, words):  # noqa: ASYNC110 - another bridge tells nobody
                await asyncio.sleep(1)  # until his account is signed in
        await alice.send(room, f"!bridge find mimi {words}")
        found = await told(pair.a, "Found on", room)
        assert f"bob:hs.test: `!bridge chat mimi {BOB}`" in found.body
        assert [each["userid"] for each in await looked_up(pair.a, words)] == [ghost(BOB)]


async def test_who_does_not_is_not(pair: Pair):
    async with pair.a.bridge(), pair.b.bridge():
        await account(pair.b, "bob")
        alice = await pair.a.homeserver.user("alice").ready()
        room = await own_room(pair.a, alice)
        await alice.send(room, f"!bridge find mimi {BOB}")
        await told(pair.a, "Nobody on", room)
        assert await looked_up(pair.a, "bob@b.example") == []
        await alice.send(room, "!bridge find mimi bob")
        await told(pair.a, "Say whom you look for, and with which provider", room)


async def looked_up(place: World, name: str) -> list[dict[str, Any]]:
    """What a client is told that looks for somebody of that name."""
    headers = {"Authorization": "Bearer hs-secret"}
    address = f"http://127.0.0.1:{place.port}/_matrix/app/v1/thirdparty/user/mimi"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(address, params={"name": name}) as answer,
    ):
        assert answer.status == 200
        return list(await answer.json())


async def test_a_code_that_a_moderator_asks_for_lets_somebody_in_until_it_is_taken_back(pair: Pair):
    """room-policy 6.2; and the code is told to one person alone."""
    async with pair.a.bridge(), pair.b.bridge():
        alice, at_a = await linked(pair.a, ROOM)
        await alice.send(at_a, f"!bridge code mimi {ROOM}")
        await told(pair.a, "ask for it in a direct room", at_a)
        alone = await alice.create_room(invite=[BOT], is_direct=True)
        await told(pair.a, "Every word here is a command", alone)
        await alice.send(alone, f"code mimi {ROOM}")
        made = await told(pair.a, "Whoever has this code", alone)
        (code,) = re.findall(r"password=([\w-]+)", made.body)
        bob = await pair.b.homeserver.user("bob").ready()
        at_b = await own_room(pair.b, bob)
        await bob.send(at_b, f"!bridge link mimi {ROOM} password=guessed")
        await told(pair.b, "with its join code only", at_b)
        await bob.send(at_b, f"!bridge link mimi {ROOM} password={code}")
        await told(pair.b, "is now linked", at_b)
        await alice.send(alone, f"code mimi {ROOM} off")
        await told(pair.a, "there was 1", alone)
        await bob.send(at_b, f"!bridge unlink mimi {ROOM}")
        await told(pair.b, "no longer linked", at_b)
        other = await own_room(pair.b, bob)
        await bob.send(other, f"!bridge link mimi {ROOM} password={code}")
        await told(pair.b, "with its join code only", other)


async def test_a_code_of_the_api_lets_somebody_in_until_it_is_taken_back(pair: Pair):
    async with pair.a.bridge() as a, pair.b.bridge():
        await linked(pair.a, ROOM)
        status, made = await call(a, "POST", "/codes", {"network": "mimi", "chat": ROOM})
        assert status == 200
        bob = await pair.b.homeserver.user("bob").ready()
        at_b = await own_room(pair.b, bob)
        await bob.send(at_b, f"!bridge link mimi {ROOM} password={made['code']}")
        await told(pair.b, "is now linked", at_b)
        assert await call(a, "DELETE", f"/codes?network=mimi&chat={quote(ROOM)}") == (200, {"done": True})
        await bob.send(at_b, f"!bridge unlink mimi {ROOM}")
        await told(pair.b, "no longer linked", at_b)
        other = await own_room(pair.b, bob)
        await bob.send(other, f"!bridge link mimi {ROOM} password={made['code']}")
        await told(pair.b, "with its join code only", other)
