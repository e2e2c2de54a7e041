"""The other side is converse.js in a browser: what is asserted is what its page shows and what a person does there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from bridgekit.testing.person import Person
from tests.browsers.chromium import chromium, photograph
from tests.browsers.converse import Converse, ConversePerson, converse, converse_person
from tests.browsers.picture import png
from tests.scenarios.xmpp.lab import Lab

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all of them


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(lab: Lab) -> AsyncIterator[Converse]:
    async with converse(lab.prosody.websocket) as page:
        yield page


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A linked room: alice in it with a Matrix client, bob in its XMPP room with converse.js."""

    alice: Person
    bob: ConversePerson
    room: str


@pytest_asyncio.fixture(loop_scope="module")
async def scene(
    lab: Lab, browser: Browser, client: Converse, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    muc = lab.room_name()
    async with (
        lab.matrix("alice") as alice,
        converse_person(browser, client, await lab.account(), muc) as bob,
    ):
        room = await lab.linked(alice, muc)
        yield Scene(alice=alice, bob=bob, room=room)
        await photograph(bob.page, f"converse/{request.node.name}")


async def test_words_cross_both_ways_and_once(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    await alice.say(room, "hello from Matrix — grüße 🙂")
    await bob.reads("hello from Matrix — grüße 🙂", who=alice.name)
    await bob.say("hello from converse.js — grüße 🙂")
    read = await alice.reads(room, "hello from converse.js — grüße 🙂")
    assert read.name == f"{bob.name} (XMPP)"
    await alice.say(room, "waves", kind="m.emote")
    assert (await bob.reads("waves", who=alice.name)).deed
    await bob.say("/me waves back")
    assert (await alice.reads(room, "waves back")).kind == "m.emote"
    assert [(line.who, line.words) for line in await bob.lines() if line.who in (alice.name, bob.name)] == [
        (alice.name, "hello from Matrix — grüße 🙂"),
        (bob.name, "hello from converse.js — grüße 🙂"),
        (alice.name, "waves"),
        (bob.name, "waves back"),
    ]
    assert sum("hello from converse.js" in e.body for e in alice.seen.all) == 1


async def test_an_edit_changes_the_message_itself_on_both_sides(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    event = await alice.say(room, "the meating is at five")
    await bob.reads("the meating is at five")
    await alice.edit(room, event, "the meeting is at five")
    assert (await bob.reads("the meeting is at five", who=alice.name)).edited
    await bob.say("I wil be there")
    said = await alice.reads(room, "I wil be there")
    await bob.edit("I wil be there", "I will be there")
    edit = await alice.sees(room, lambda e: e.relates.get("rel_type") == "m.replace", what="the edit")
    assert (edit.relates["event_id"], edit.content["m.new_content"]["body"]) == (said.id, "I will be there")
    words = [line.words for line in await bob.lines()]
    assert words[-2:] == ["the meeting is at five", "I will be there"]


async def test_reactions_stand_under_the_message_on_both_sides(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    event = await alice.say(room, "who is in?")
    await bob.reads("who is in?")
    await bob.react("who is in?", "👍")
    read = await alice.sees(room, lambda e: e.type == "m.reaction", what="the reaction")
    assert (read.relates["event_id"], read.relates["key"]) == (event, "👍")
    await bob.say("I did it")
    said = await alice.reads(room, "I did it")
    reaction = await alice.react(room, said.id, "🎉")
    await bob.sees(lambda line: (line.words, line.reactions) == ("I did it", {"🎉": 1}), "alice's reaction")
    await alice.redact(room, reaction)
    await bob.sees(lambda line: (line.words, line.reactions) == ("I did it", {}), "its end")


async def test_a_reply_shows_what_it_answers_on_both_sides(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    await bob.say("shall I bring cake?")
    asked = await alice.reads(room, "shall I bring cake?")
    answer = await alice.reply(room, asked.id, "yes please")
    assert (await bob.reads("yes please", who=alice.name)).answers == "shall I bring cake?"
    await bob.reply("yes please", "two kinds?")
    read = await alice.reads(room, "two kinds?")
    assert read.relates["m.in_reply_to"]["event_id"] == answer


async def test_a_message_that_is_taken_back_at_the_page_is_gone_on_matrix(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    await bob.say("never mind me")
    said = await alice.reads(room, "never mind me")
    await bob.retract("never mind me")
    gone = await alice.sees(room, lambda e: e.type == "m.room.redaction", what="the redaction")
    assert gone.redacts == said.id
    await bob.say("after it")
    await alice.reads(room, "after it")
    assert [e.body for e in alice.seen.all if e.name.startswith(bob.name) and e.body] == [
        "never mind me",
        "after it",
    ]


async def test_a_message_that_is_taken_back_on_matrix_is_gone_at_the_page(scene: Scene):
    """converse.js 14 looks for the origin-id alone, as XEP-0424 had it before 0.4."""
    alice, bob, room = scene.alice, scene.bob, scene.room
    event = await alice.say(room, "never mind me")
    await bob.reads("never mind me")
    await alice.redact(room, event)
    await alice.say(room, "after it")
    await bob.reads("after it")
    await bob.sees(lambda line: line.retracted, "the retraction")
    assert "never mind me" not in [line.words for line in await bob.lines()]


async def test_a_picture_is_shown_and_one_that_leads_into_a_private_network_stays_a_link(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    await alice.send_file(room, png(60, 40), "orange.png", "image/png", kind="m.image")
    picture = await bob.sees(lambda line: line.pictures == [(60, 40)], "the picture")
    assert picture.who == alice.name
    await bob.upload("sun.png", "image/png", png(30, 30))
    shared = await alice.sees(room, lambda e: "sun.png" in e.body, what="the file")
    url = re.search(r"https?://\S+", shared.body)
    assert url is not None
    async with aiohttp.ClientSession() as session, session.get(url[0]) as response:
        assert await response.read() == png(30, 30)
