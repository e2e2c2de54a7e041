"""What people say, on each network and in both directions, read at the far end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from bridgekit.testing.person import Person
from tests.scenarios.irc.lab import LABEL, MODERN, PLAIN, RELAY, Lab, until
from tests.scenarios.irc.peer import Heard, Peer

BOLD, ITALIC, COLOUR, RESET = "\x02", "\x1d", "\x03", "\x0f"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A linked room and channel with somebody on either side."""

    lab: Lab
    network: str
    alice: Person
    bob: Peer
    room: str
    channel: str

    @property
    def ghost(self) -> str:
        return self.lab.ghost(self.network, self.bob.nick)

    async def heard(self, words: str, kind: str = "text") -> Heard:
        """bob reads it in the channel, from the relay."""
        return await self.bob.reads(words, target=self.channel, kind=kind, nick=RELAY[self.network])


@pytest.fixture
async def scene(lab: Lab, network: str) -> AsyncIterator[Scene]:
    channel = lab.new("#talk")
    async with lab.person("alice") as alice, lab.peer(network, "bob", channel) as bob:
        room = await lab.linked(alice, network, channel)
        yield Scene(lab=lab, network=network, alice=alice, bob=bob, room=room, channel=channel)


async def test_words_cross_both_ways_and_once(scene: Scene):
    alice, bob, room = scene.alice, scene.bob, scene.room
    event = await alice.say(room, "hello from Matrix — grüße 🙂")
    await scene.heard(f"<{alice.name}> hello from Matrix — grüße 🙂")
    fate = await scene.lab.fate(alice, room, event)
    assert (fate["status"], fate["network"]) == ("SUCCESS", scene.network)
    bob.say(scene.channel, "hello from IRC — grüße 🙂")
    read = await alice.reads(room, "hello from IRC — grüße 🙂")
    assert (read.sender, read.kind) == (scene.ghost, "m.text")
    assert read.name == f"{bob.nick} ({LABEL[scene.network]})"
    # A last word each way: what was doubled would have come before it.
    await alice.say(room, "that is all")
    await scene.heard(f"<{alice.name}> that is all")
    bob.say(scene.channel, "indeed")
    await alice.reads(room, "indeed")
    assert bob.said("hello from Matrix") == 1
    assert sum("hello from IRC" in e.body for e in alice.seen.all) == 1


async def test_formatting_becomes_codes_and_codes_become_formatting(scene: Scene):
    html = '<strong>bold</strong>, <em>italic</em> and <font data-mx-color="#ff0000">red</font>'
    await scene.alice.say(scene.room, "bold, italic and red", html=html)
    lead = f"<{scene.alice.name}> "
    await scene.heard(f"{lead}{BOLD}bold{RESET}, {ITALIC}italic{RESET} and {COLOUR}04red{RESET}")
    scene.bob.say(scene.channel, f"{BOLD}bold{BOLD}, {ITALIC}italic{ITALIC} and {COLOUR}4red")
    read = await scene.alice.reads(scene.room, "bold, italic and red")
    assert {(s.style.value, read.text.body[s.start : s.end]) for s in read.text.spans} == {
        ("bold", "bold"),
        ("italic", "italic"),
        ("color", "red"),
    }


async def test_deeds_and_notices_stay_what_they_are(scene: Scene):
    name = scene.alice.name
    await scene.alice.say(scene.room, "waves", kind="m.emote")
    await scene.heard(f"* {name} waves")
    scene.bob.me(scene.channel, "waves back")
    assert (await scene.alice.reads(scene.room, "waves back")).kind == "m.emote"
    await scene.alice.say(scene.room, "the build is green", kind="m.notice")
    await scene.heard(f"<{name}> the build is green", kind="notice")
    scene.bob.notice(scene.channel, "so are the tests")
    assert (await scene.alice.reads(scene.room, "so are the tests")).kind == "m.notice"


async def test_three_thousand_bytes_come_in_lines_that_joined_are_the_original(scene: Scene):
    words = " ".join(f"{word}{n}" for n in range(90) for word in ("naïve", "Привет", "日本語", "🦊"))
    text = words.encode()[:3000].decode(errors="ignore").rsplit(" ", 1)[0]
    assert 2900 < len(text.encode()) <= 3000
    await scene.alice.say(scene.room, text)
    lead = f"<{scene.alice.name}> "
    got: list[str] = []
    while len(" ".join(got)) < len(text):
        heard = await scene.bob.sees(lambda h: h.kind == "text" and h.target == scene.channel)
        assert heard.words.startswith(lead)
        assert len(f":{heard.source} PRIVMSG {scene.channel} :{heard.words}\r\n".encode()) <= 512
        got.append(heard.words.removeprefix(lead))
    assert " ".join(got) == text
    assert len(got) > 5
    for part in got:
        scene.bob.say(scene.channel, part)
    said = [
        await scene.alice.sees(scene.room, lambda e: e.sender == scene.ghost and e.body != "") for _ in got
    ]
    read = [event.body for event in said]
    assert read == got


async def test_a_paste_of_500_lines_becomes_one_link_to_all_of_it(scene: Scene):
    paste = "\n".join(f"line {n}" for n in range(500))
    await scene.alice.say(scene.room, paste)
    heard = await scene.bob.sees(lambda h: "500 lines" in h.words)
    assert await downloaded(heard.words) == ("text/plain; charset=utf-8", paste.encode())
    await scene.alice.say(scene.room, "after it")
    await scene.heard(f"<{scene.alice.name}> after it")
    assert scene.bob.said("line ") == 1


async def test_an_image_becomes_a_signed_link_that_works(scene: Scene):
    data = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
    await scene.alice.send_file(scene.room, data, "a picture.png", "image/png", kind="m.image")
    heard = await scene.bob.sees(lambda h: "a picture.png" in h.words)
    assert await downloaded(heard.words) == ("image/png", data)
    found = re.search(r"https?://\S+", heard.words)
    assert found is not None
    forged = found[0].replace("/media/", "/media/A")
    async with aiohttp.ClientSession() as session, session.get(forged) as response:
        assert response.status in (403, 404)


async def test_an_edit_is_said_in_words(scene: Scene):
    lead = f"<{scene.alice.name}> "
    event = await scene.alice.say(scene.room, "the meating is at five")
    await scene.heard(f"{lead}the meating is at five")
    await scene.alice.edit(scene.room, event, "the meeting is at five")
    await scene.heard(f"{lead}s/meating/meeting/")
    await scene.alice.edit(scene.room, event, "come whenever you like and bring your own chair")
    await scene.heard(f"{lead}* come whenever you like and bring your own chair")


async def test_a_reply_names_whom_it_answers(scene: Scene):
    scene.bob.say(scene.channel, "shall I bring cake?")
    asked = await scene.alice.reads(scene.room, "shall I bring cake?")
    reply = await scene.alice.reply(scene.room, asked.id, "yes please")
    answer = await scene.heard(f"<{scene.alice.name}> {scene.bob.nick}: yes please")
    if scene.network == MODERN:
        assert answer.tags["+draft/reply"]
        scene.bob.raw(f"@+draft/reply={answer.tags['msgid']} PRIVMSG {scene.channel} :two kinds?")
        read = await scene.alice.reads(scene.room, "two kinds?")
        assert read.relates["m.in_reply_to"]["event_id"] == reply


async def test_a_reaction_is_a_line_where_the_relay_speaks(scene: Scene):
    scene.bob.say(scene.channel, "I did it")
    event = await scene.alice.reads(scene.room, "I did it")
    await scene.alice.react(scene.room, event.id, "👍")
    await scene.heard(f"* {scene.alice.name} reacted 👍 to “I did it”")


async def test_a_reaction_by_tag_becomes_a_reaction(lab: Lab):
    channel = lab.new("#react")
    async with lab.person("alice") as alice, lab.peer(MODERN, "bob", channel) as bob:
        room = await lab.linked(alice, MODERN, channel)
        event = await alice.say(room, "who is in?")
        asked = await bob.reads(f"<{alice.name}> who is in?")
        bob.raw(f"@+draft/react=🙋;+draft/reply={asked.tags['msgid']} TAGMSG {channel}")
        read = await alice.sees(room, lambda e: e.type == "m.reaction", what="a reaction")
        assert read.sender == lab.ghost(MODERN, bob.nick)
        assert (read.relates["event_id"], read.relates["key"]) == (event, "🙋")


async def test_who_takes_a_message_back_is_told_that_irc_keeps_it(scene: Scene):
    event = await scene.alice.say(scene.room, "a secret")
    await scene.heard(f"<{scene.alice.name}> a secret")
    await scene.alice.redact(scene.room, event)
    answer = await scene.lab.answer(scene.alice, scene.room)
    assert answer.body == f"⚠ {LABEL[scene.network]} cannot take messages back: it can still be read there."


async def test_what_the_channel_refuses_is_reported_to_its_sender(scene: Scene):
    scene.bob.mode(scene.channel, "+m")
    await scene.bob.sees(lambda h: h.kind == "mode" and "+m" in h.arguments)
    event = await scene.alice.say(scene.room, "can you hear me?")
    fate = await scene.lab.fate(scene.alice, scene.room, event)
    assert (fate["status"], fate["reason"]) == ("FAIL_PERMANENT", "com.beeper.bridge_error")
    answer = await scene.lab.answer(scene.alice, scene.room)
    assert answer.body.startswith(f"⚠ Not delivered: {scene.channel} does not let the bridge speak")
    assert answer.relates["m.in_reply_to"]["event_id"] == event
    scene.bob.mode(scene.channel, "-m")
    await scene.bob.sees(lambda h: h.kind == "mode" and "-m" in h.arguments)
    await scene.alice.say(scene.room, "and now?")
    await scene.heard(f"<{scene.alice.name}> and now?")


async def test_typing_reaches_a_client_that_knows_it(lab: Lab):
    channel = lab.new("#typing")
    async with lab.person("alice") as alice, lab.peer(MODERN, "bob", channel) as bob:
        room = await lab.linked(alice, MODERN, channel)
        bob.say(channel, "hello")
        await alice.reads(room, "hello")
        bob.raw(f"@+typing=active TAGMSG {channel}")
        await until(lambda: alice.typing.get(room) == [lab.ghost(MODERN, bob.nick)])
        await alice.set_typing(room)
        await bob.sees(lambda h: h.kind == "tagmsg" and h.tags.get("+typing") == "active")


async def test_a_mention_becomes_the_nick(scene: Scene):
    scene.bob.say(scene.channel, "hello")
    ghost = (await scene.alice.reads(scene.room, "hello")).sender
    html = f'<a href="https://matrix.to/#/{ghost}">the one over there</a>: look'
    await scene.alice.say(scene.room, "the one over there: look", html=html)
    await scene.heard(f"<{scene.alice.name}> {scene.bob.nick}: look")


async def test_a_nick_that_speaks_for_somebody_on_matrix_mentions_them(lab: Lab):
    channel = lab.new("#ping")
    async with lab.person() as alice, lab.peer(PLAIN, "bob", channel) as bob:
        room = await lab.linked(alice, PLAIN, channel)
        await lab.command(alice, room, f"login plain nick={alice.name}")
        await alice.say(room, "here I am")
        await bob.reads("here I am", nick=alice.name)
        bob.say(channel, f"{alice.name}: look at this")
        read = await alice.sees(room, lambda e: "look at this" in e.body, what="it")
        assert read.content["m.mentions"] == {"user_ids": [alice.id]}


async def test_words_that_are_not_utf_8_are_read_all_the_same(lab: Lab):
    channel = lab.new("#latin")
    async with lab.person() as alice, lab.peer(PLAIN, "bob", channel) as bob:
        room = await lab.linked(alice, PLAIN, channel)
        bob.encoding("cp1252")
        bob.say(channel, "schöne Grüße für 5 €")
        await alice.reads(room, "schöne Grüße für 5 €")


async def test_the_relay_answers_ctcp_and_passes_none_of_it_on(scene: Scene):
    scene.bob.raw(f"PRIVMSG {RELAY[scene.network]} :\x01VERSION\x01")
    heard = await scene.bob.sees(lambda h: h.kind == "ctcpreply", what="an answer")
    assert (heard.words, "bridgekit" in heard.arguments[1]) == ("VERSION", True)
    scene.bob.raw(f"PRIVMSG {scene.channel} :\x01DCC SEND x 1 2 3\x01")
    scene.bob.say(scene.channel, "after it")
    await scene.alice.reads(scene.room, "after it")
    said = [e.body for e in scene.alice.seen.all if e.sender == scene.ghost and e.kind]
    assert said == ["after it"]


async def test_what_irc_has_no_form_for_becomes_words(scene: Scene):
    lead = f"<{scene.alice.name}> "
    await scene.alice.say(scene.room, "Here", kind="m.location", more={"geo_uri": "geo:48.2,16.4"})
    heard = await scene.bob.sees(lambda h: h.words.startswith(lead), what="the place")
    assert "48.2" in heard.words
    poll = {
        "org.matrix.msc1767.text": "Cake?\n1. yes\n2. no",
        "org.matrix.msc3381.poll.start": {
            "question": {"org.matrix.msc1767.text": "Cake?"},
            "answers": [
                {"id": "1", "org.matrix.msc1767.text": "yes"},
                {"id": "2", "org.matrix.msc1767.text": "no"},
            ],
        },
    }
    await scene.alice.send(scene.room, "org.matrix.msc3381.poll.start", poll)
    await scene.bob.sees(lambda h: h.words.startswith(lead) and "Cake?" in h.words, what="the poll")
    await scene.alice.send(
        scene.room,
        "m.sticker",
        {"body": "a cat", "url": "mxc://hs.test/cat", "info": {"mimetype": "image/png"}},
    )
    await scene.bob.sees(lambda h: h.words.startswith(lead) and "a cat" in h.words, what="the sticker")


async def downloaded(words: str) -> tuple[str, bytes]:
    """The type and the bytes behind the link in the words."""
    found = re.search(r"https?://\S+", words)
    assert found is not None, words
    async with aiohttp.ClientSession() as session, session.get(found[0]) as response:
        assert response.status == 200
        return response.headers["Content-Type"], await response.read()
