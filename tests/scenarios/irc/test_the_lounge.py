"""The other side is The Lounge in a browser: what is asserted is what its page shows and what a person types there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from bridgekit.testing.person import Person
from tests.browsers.chromium import chromium, photograph
from tests.browsers.lounge import LoungePerson, TheLounge, lounge_person
from tests.browsers.picture import png
from tests.scenarios.irc.lab import LABEL, MODERN, RELAY, Lab
from tests.scenarios.irc.test_people import arrived, gone

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all of them

on_one_network = pytest.mark.parametrize("network", [MODERN])
"""What the page does with it is the same everywhere; a second network would only cost time."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A linked room and channel: alice in the one with a Matrix client, bob in the other with The Lounge."""

    lab: Lab
    network: str
    alice: Person
    bob: LoungePerson
    room: str
    channel: str

    @property
    def relay(self) -> str:
        return RELAY[self.network]

    @property
    def ghost(self) -> str:
        return self.lab.ghost(self.network, self.bob.nick)


@pytest_asyncio.fixture(loop_scope="module")
async def scene(
    lab: Lab, network: str, browser: Browser, the_lounge: TheLounge, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    channel, nick = lab.new("#lounge"), lab.new("bob")
    async with (
        lab.person("alice") as alice,
        lounge_person(browser, the_lounge, lab.port(network), nick, channel) as bob,
    ):
        room = await lab.linked(alice, network, channel)
        yield Scene(lab=lab, network=network, alice=alice, bob=bob, room=room, channel=channel)
        await photograph(bob.page, f"the_lounge/{request.node.name}")


async def test_words_cross_both_ways_and_once(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    await alice.say(room, "hello from Matrix — grüße 🙂")
    await bob.reads(f"<{alice.name}> hello from Matrix — grüße 🙂", who=scene.relay)
    await bob.say("hello from The Lounge — grüße 🙂")
    read = await alice.reads(room, "hello from The Lounge — grüße 🙂")
    assert (read.sender, read.name) == (scene.ghost, f"{bob.nick} ({LABEL[scene.network]})")
    # A last word each way: what was doubled would have come before it.
    await alice.say(room, "that is all")
    await bob.reads(f"<{alice.name}> that is all")
    await bob.say("indeed")
    await alice.reads(room, "indeed")
    assert [line.words for line in await bob.lines() if line.kind == "message"] == [
        f"<{alice.name}> hello from Matrix — grüße 🙂",
        "hello from The Lounge — grüße 🙂",
        f"<{alice.name}> that is all",
        "indeed",
    ]
    assert sum("hello from The Lounge" in e.body for e in alice.seen.all) == 1


@on_one_network
async def test_formatting_is_seen_as_it_was_meant(scene: Scene):
    html = '<strong>bold</strong>, <em>italic</em> and <font data-mx-color="#ff0000">red</font>'
    await scene.alice.say(scene.room, "bold, italic and red", html=html)
    line = await scene.bob.reads(f"<{scene.alice.name}> bold, italic and red")
    assert (line.bold, line.italic, line.red) == (["bold"], ["italic"], ["red"])
    bob = scene.bob
    await bob.press("Control+b")
    await bob.write("bold")
    await bob.press("Control+b")
    await bob.write(", ")
    await bob.press("Control+i")
    await bob.write("italic")
    await bob.press("Control+i")
    await bob.write(" and ")
    await bob.press("Control+k")
    await bob.write("4red")
    await bob.press("Enter")
    read = await scene.alice.reads(scene.room, "bold, italic and red")
    assert {(s.style.value, read.text.body[s.start : s.end]) for s in read.text.spans} == {
        ("bold", "bold"),
        ("italic", "italic"),
        ("color", "red"),
    }


@on_one_network
async def test_deeds_and_notices_stay_what_they_are(scene: Scene):
    alice, bob = scene.alice, scene.bob
    await alice.say(scene.room, "waves", kind="m.emote")
    await bob.reads(f"* {alice.name} waves", who=scene.relay)
    await bob.say("/me waves back")
    read = await alice.reads(scene.room, "waves back")
    assert (read.kind, read.sender) == ("m.emote", scene.ghost)
    await alice.say(scene.room, "the build is green", kind="m.notice")
    await bob.reads(f"<{alice.name}> the build is green", who=scene.relay, kind="notice")
    await bob.say(f"/notice {scene.channel} so are the tests")
    read = await alice.reads(scene.room, "so are the tests")
    assert (read.kind, read.sender) == ("m.notice", scene.ghost)


async def test_an_edit_and_a_reply_are_understood_by_who_reads_them(scene: Scene):
    alice, bob = scene.alice, scene.bob
    lead = f"<{alice.name}> "
    event = await alice.say(scene.room, "the meating is at five")
    await bob.reads(f"{lead}the meating is at five")
    await alice.edit(scene.room, event, "the meeting is at five")
    await bob.reads(f"{lead}s/meating/meeting/")
    await bob.say("shall I bring cake?")
    asked = await alice.reads(scene.room, "shall I bring cake?")
    await alice.reply(scene.room, asked.id, "yes please")
    answer = await bob.reads(f"{lead}{bob.nick}: yes please")
    assert answer.highlighted


@on_one_network
async def test_a_mention_calls_the_person_at_the_page(scene: Scene):
    await arrived(scene.alice, scene.room, scene.ghost)
    html = f'<a href="https://matrix.to/#/{scene.ghost}">the one over there</a>: look'
    await scene.alice.say(scene.room, "the one over there: look", html=html)
    line = await scene.bob.reads(f"<{scene.alice.name}> {scene.bob.nick}: look")
    assert line.highlighted


async def test_the_topic_is_the_same_on_both_sides_and_the_bridge_stays_out_of_sight(scene: Scene):
    alice, bob, relay = scene.alice, scene.bob, scene.relay
    await bob.say(f"/op {relay}")
    await bob.sees(lambda line: line.kind == "mode" and f"+o {relay}" in line.words, "the op")
    await alice.set_state(scene.room, "m.room.topic", {"topic": "from Matrix: ünïcode"})
    await bob.reads_topic("from Matrix: ünïcode")
    await asyncio.sleep(2)  # InspIRCd refuses two changes of a topic within a second, and says so (437)
    await bob.say("/topic from The Lounge")
    event = await alice.sees(scene.room, lambda e: e.type == "m.room.topic", what="the topic")
    assert event.content["topic"] == "from The Lounge"
    assert scene.lab.ghost(scene.network, relay) not in await alice.members(scene.room)


async def test_a_new_nick_is_the_same_person(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    ghost = scene.ghost
    await arrived(alice, room, ghost)
    nick = scene.lab.new("robert")
    await bob.say(f"/nick {nick}")
    assert await arrived(alice, room, ghost) == f"{nick} ({LABEL[scene.network]})"
    await bob.say("it is still me")
    assert (await alice.reads(room, "it is still me")).sender == ghost


async def test_who_comes_and_goes_is_seen_on_the_other_side(scene: Scene):
    alice, bob, lab = scene.alice, scene.bob, scene.lab
    await arrived(alice, scene.room, scene.ghost)
    await lab.command(alice, scene.room, f"login {scene.network} nick={alice.name}")
    await alice.say(scene.room, "with my own nick")
    await bob.reads("with my own nick", who=alice.name)
    assert "join" in [line.kind for line in await bob.lines() if line.who == alice.name]
    await bob.say(f"/part {scene.channel} lunch")
    assert "lunch" in await gone(alice, scene.room, scene.ghost)


@on_one_network
async def test_a_picture_is_shown_and_a_file_is_a_link_that_works(scene: Scene):
    alice, bob = scene.alice, scene.bob
    await alice.send_file(scene.room, png(60, 40), "a picture.png", "image/png", kind="m.image")
    line = await bob.sees(lambda line: bool(line.pictures and line.pictures[0][0]), "the picture")
    assert line.words.startswith(f"<{alice.name}> a picture.png")
    assert line.pictures == [(60, 40)]
    await bob.attach("notes.txt", "text/plain", b"from The Lounge")
    said = await alice.sees(scene.room, lambda e: e.sender == scene.ghost and "/uploads/" in e.body)
    link = re.search(r"https?://\S+", said.body)
    assert link is not None
    async with aiohttp.ClientSession() as session, session.get(link[0]) as response:
        assert await response.read() == b"from The Lounge"


@on_one_network
async def test_a_direct_chat_opens_a_window_of_its_own(scene: Scene):
    alice, bob = scene.alice, scene.bob
    private = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[scene.ghost])
    await arrived(alice, private, scene.ghost)
    await alice.say(private, "only for you")
    nick = f"{alice.name}[m]"
    await bob.open(nick)
    await bob.reads("only for you", who=nick)
    await bob.say("and only for you")
    assert (await alice.reads(private, "and only for you")).sender == scene.ghost
    await bob.open(scene.channel)
    assert [line for line in await bob.lines() if "only for you" in line.words] == []
