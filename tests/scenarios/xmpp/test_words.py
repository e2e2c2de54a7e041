"""What people say in a room, in both directions, read at the far end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from connectors.xmpp.stanzas import wire
from tests.scenarios.xmpp.lab import EJABBERD, XMPP, Lab
from tests.scenarios.xmpp.scene import Scene, scenery

REACTIONS = "<reactions xmlns='urn:xmpp:reactions:0' id='{}'>{}</reactions><store xmlns='urn:xmpp:hints'/>"


@pytest.fixture(params=[XMPP, EJABBERD])
async def scene(lab: Lab, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """On both servers: ejabberd 23 gives no occupant-ids."""
    async with scenery(lab, request.param) as made:
        yield made


async def test_words_cross_both_ways_and_once(scene: Scene):
    """XEP-0114: the speaker is an occupant under the bridge's sub-domain, and not a line of a bot."""
    alice, bob = scene.alice, scene.bob
    event = await alice.say(scene.room, "hello from Matrix — grüße 🙂")
    heard = await bob.reads("hello from Matrix — grüße 🙂", nick=alice.name)
    assert heard.type == "groupchat"
    fate = await scene.lab.fate(alice, scene.room, event)
    assert (fate["status"], fate["network"]) == ("SUCCESS", scene.network)
    bob.say(scene.muc, "hello from XMPP — grüße 🙂")
    read = await alice.reads(scene.room, "hello from XMPP — grüße 🙂")
    assert read.kind == "m.text"
    assert read.name == f"{bob.name} (XMPP)"
    await alice.say(scene.room, "that is all")
    await bob.reads("that is all")
    bob.say(scene.muc, "indeed")
    await alice.reads(scene.room, "indeed")
    assert bob.said("hello from Matrix") == 1
    assert sum("hello from XMPP" in e.body for e in alice.seen.all) == 1


async def test_two_people_on_matrix_are_two_people_on_xmpp(scene: Scene):
    async with scene.lab.matrix("carol") as carol:
        await carol.join(scene.room)
        await scene.alice.say(scene.room, "one of us")
        await carol.say(scene.room, "and another")
        first, second = await scene.bob.reads("one of us"), await scene.bob.reads("and another")
        assert (first.nick, second.nick) == (scene.alice.name, carol.name)


async def test_styles_cross_as_marks_and_come_back_as_formatting(scene: Scene):
    """XEP-0393, 5.2: "strong" between asterisks, "emphasis" between underscores."""
    await scene.alice.say(scene.room, "bold and it", html="<strong>bold</strong> and <em>it</em>")
    await scene.bob.reads("*bold* and _it_")
    scene.bob.say(scene.muc, "*loud* and `x = 1`")
    read = await scene.alice.reads(scene.room, "loud and x = 1")
    assert {(s.style.value, read.text.body[s.start : s.end]) for s in read.text.spans} == {
        ("bold", "loud"),
        ("code", "x = 1"),
    }


async def test_an_edit_on_matrix_is_a_correction(scene: Scene):
    """XEP-0308, 3: <replace/> names the id of the message that is corrected."""
    event = await scene.alice.say(scene.room, "a tpyo")
    first = await scene.bob.reads("a tpyo")
    await scene.lab.fate(scene.alice, scene.room, event)
    await scene.alice.edit(scene.room, event, "a typo")
    second = await scene.bob.reads("a typo")
    replace = second.has(wire.CORRECT, "replace")
    assert replace is not None
    assert replace.get("id") == first.id


async def test_a_correction_is_an_edit_on_matrix(scene: Scene):
    id = scene.bob.say(scene.muc, "wrnog")
    first = await scene.alice.reads(scene.room, "wrnog")
    scene.bob.say(scene.muc, "wrong", f"<replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>")
    edit = await scene.alice.sees(scene.room, lambda e: e.relates.get("rel_type") == "m.replace")
    assert edit.relates["event_id"] == first.id
    assert edit.content["m.new_content"]["body"] == "wrong"


async def test_nobody_corrects_what_somebody_else_said(scene: Scene):
    """XEP-0308, 4: only the same occupant may; the correction of another is a message of its own."""
    id = scene.bob.say(scene.muc, "the truth")
    await scene.alice.reads(scene.room, "the truth")
    async with scene.another("eve") as eve:
        eve.say(scene.muc, "a lie", f"<replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>")
        read = await scene.alice.reads(scene.room, "* a lie")
        assert read.relates == {}


async def test_reactions_cross_both_ways_and_are_taken_back(scene: Scene):
    """XEP-0444, 3.2: each message holds the whole set; what is missing in it is gone."""
    alice, bob = scene.alice, scene.bob
    bob.say(scene.muc, "react to this")
    said = await bob.reads("react to this")
    read = await alice.reads(scene.room, "react to this")
    await alice.react(scene.room, read.id, "👍")
    reacted = await bob.sees(lambda s: s.has(wire.REACTIONS, "reactions"), "alice's reaction")
    holder = reacted.has(wire.REACTIONS, "reactions")
    assert holder is not None
    assert holder.get("id") == said.stanza_id
    assert [one.text for one in holder] == ["👍"]
    assert reacted.nick == alice.name
    bob.say(scene.muc, "", REACTIONS.format(said.stanza_id, "<reaction>🎉</reaction><reaction>🐢</reaction>"))
    keys = {}
    for _ in range(2):
        event = await alice.sees(scene.room, lambda e: e.type == "m.reaction")
        assert event.relates["event_id"] == read.id
        keys[event.relates["key"]] = event.id
    assert set(keys) == {"🎉", "🐢"}
    bob.say(scene.muc, "", REACTIONS.format(said.stanza_id, "<reaction>🎉</reaction>"))
    gone = await alice.sees(scene.room, lambda e: e.type == "m.room.redaction")
    assert gone.redacts == keys["🐢"]


async def test_a_reaction_of_matrix_that_is_redacted_goes(scene: Scene):
    scene.bob.say(scene.muc, "like this")
    read = await scene.alice.reads(scene.room, "like this")
    reaction = await scene.alice.react(scene.room, read.id, "❤")
    await scene.bob.sees(lambda s: s.has(wire.REACTIONS, "reactions"), "the reaction")
    await scene.alice.redact(scene.room, reaction)
    empty = await scene.bob.sees(lambda s: s.has(wire.REACTIONS, "reactions"), "the empty set")
    holder = empty.has(wire.REACTIONS, "reactions")
    assert holder is not None
    assert len(holder) == 0


async def test_replies_cross_both_ways(scene: Scene):
    """XEP-0461, 3: <reply/> names the stanza-id; XEP-0428 marks the words that are only for old clients."""
    alice, bob = scene.alice, scene.bob
    bob.say(scene.muc, "a question")
    said = await bob.reads("a question")
    read = await alice.reads(scene.room, "a question")
    await alice.reply(scene.room, read.id, "an answer")
    answer = await bob.sees(lambda s: s.body.endswith("an answer"), "the answer")
    reply = answer.has(wire.REPLY, "reply")
    assert reply is not None
    assert (reply.get("id"), reply.get("to")) == (said.stanza_id, f"{scene.muc}/{bob.name}")
    fallback = answer.has(wire.FALLBACK, "fallback")
    assert fallback is not None
    assert fallback.get("for") == wire.REPLY
    end = int(fallback[0].get("end", "0"))
    assert answer.body[end:] == "an answer"
    quote = "> a question\n"
    bob.say(
        scene.muc,
        f"{quote}back to you",
        f"<reply xmlns='{wire.REPLY}' id='{said.stanza_id}' to='{scene.muc}/{bob.name}'/>"
        f"<fallback xmlns='{wire.FALLBACK}' for='{wire.REPLY}'><body start='0' end='{len(quote)}'/></fallback>",
    )
    back = await alice.reads(scene.room, "back to you")
    assert back.relates["m.in_reply_to"]["event_id"] == read.id


async def test_messages_are_taken_back_on_both_sides(scene: Scene):
    """XEP-0424, 3: <retract/> names the stanza-id that the room gave."""
    alice, bob = scene.alice, scene.bob
    event = await alice.say(scene.room, "never mind me")
    said = await bob.reads("never mind me")
    await scene.lab.fate(alice, scene.room, event)
    await alice.redact(scene.room, event)
    retracted = await bob.sees(lambda s: s.has(wire.RETRACT, "retract"), "the retraction")
    retract = retracted.has(wire.RETRACT, "retract")
    assert retract is not None
    assert retract.get("id") == said.stanza_id
    before = await bob.sees(lambda s: s.has(wire.FASTEN, "apply-to"), "it as XEP-0424 0.3 had it")
    applies = before.has(wire.FASTEN, "apply-to")
    assert applies is not None
    assert (applies.get("id"), before.body, before.nick) == (said.id, "", retracted.nick)
    bob.say(scene.muc, "nor me")
    mine = await bob.reads("nor me")
    read = await alice.reads(scene.room, "nor me")
    bob.say(scene.muc, "taken back", f"<retract xmlns='{wire.RETRACT}' id='{mine.stanza_id}'/>")
    gone = await alice.sees(scene.room, lambda e: e.type == "m.room.redaction")
    assert gone.redacts == read.id
    assert not any("taken back" in e.body for e in alice.seen.all)


async def test_an_encrypted_message_is_a_clear_notice_and_never_its_fallback(scene: Scene):
    """XEP-0384, 5.6: the body is only for clients without OMEMO."""
    scene.bob.say(
        scene.muc,
        "I sent you an OMEMO encrypted message but your client doesn't seem to support that.",
        "<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'/></encrypted>",
    )
    notice = await scene.alice.sees(scene.room, lambda e: e.kind == "m.notice" and "OMEMO" in e.body)
    assert "cannot read" in notice.body
    assert not any("client doesn't seem" in e.body for e in scene.alice.seen.all)


async def test_a_file_from_matrix_is_uploaded_and_can_be_had(scene: Scene):
    """XEP-0363 and XEP-0066: the body is the URL of an uploaded file."""
    data = b"\x89PNG\r\n\x1a\n" + b"not a real picture " * 500
    event = await scene.alice.send_file(scene.room, data, "picture.png", "image/png", "m.image")
    fate = await scene.lab.fate(scene.alice, scene.room, event)
    assert fate["status"] == "SUCCESS", fate
    shared = await scene.bob.sees(lambda s: s.has(wire.OOB, "x"), "the file")
    assert shared.nick == scene.alice.name
    oob = shared.has(wire.OOB, "x")
    assert oob is not None
    assert oob.findtext(f"{{{wire.OOB}}}url") == shared.body
    async with aiohttp.ClientSession() as session, session.get(shared.body) as response:
        assert await response.read() == data


async def test_typing_shows_on_both_sides(scene: Scene):
    """XEP-0085: composing."""
    await scene.alice.say(scene.room, "hello")  # she is in the room from now on
    await scene.bob.reads("hello")
    await scene.alice.set_typing(scene.room)
    typing = await scene.bob.sees(lambda s: s.has(wire.STATES, "composing") is not None, "composing")
    assert typing.nick == scene.alice.name
