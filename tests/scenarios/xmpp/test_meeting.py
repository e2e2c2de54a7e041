"""An XMPP room and an IRC channel in one Matrix room: what is said on one reaches the others, as each can show it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import pytest

from bridgekit.testing.person import Person as MatrixPerson
from bridgekit.testing.stage import eventually
from connectors.irc.testing.ngircd import Ngircd
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.person import Person, Seen
from tests.scenarios.irc.peer import Peer, peer
from tests.scenarios.xmpp.lab import IRC, XMPP, Lab
from tests.scenarios.xmpp.scene import scenery


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """alice on Matrix, bob on XMPP and ira on IRC, in one room with two links."""

    lab: Lab
    alice: MatrixPerson
    bob: Person
    ira: Peer
    room: str
    muc: str
    channel: str

    async def bob_says(self, words: str, extra: str = "") -> Seen:
        """Words from XMPP, when the room has given them their id."""
        id = self.bob.say(self.muc, words, extra)
        return await self.bob.sees(lambda s: s.id == id and s.stanza_id, words)

    async def read_on_irc(self, words: str) -> str:
        """The next line on IRC that holds the words."""
        heard = await self.ira.sees(lambda h: h.kind in ("text", "action") and words in h.words, what=words)
        return str(heard.words)


@pytest.fixture
async def meeting(lab: Lab, ngircd: Ngircd) -> AsyncIterator[Meeting]:
    channel = lab.new("#meet")
    async with scenery(lab) as scene, peer(ngircd.port, lab.new("ira"), channel) as ira:
        await lab.link(scene.alice, scene.room, channel, IRC)
        yield Meeting(
            lab=lab,
            alice=scene.alice,
            bob=scene.bob,
            ira=ira,
            room=scene.room,
            muc=scene.muc,
            channel=channel,
        )


def part(seen: Seen, xmlns: str, name: str) -> Element:
    found = seen.has(xmlns, name)
    assert found is not None
    return found


async def test_words_go_from_each_to_both_others_once(meeting: Meeting):
    """On XMPP everybody is an occupant of their own; on IRC the relay says who speaks, and from where."""
    bob, ira, alice = meeting.bob, meeting.ira, meeting.alice
    ira.say(meeting.channel, "hello from IRC")
    assert (await bob.reads("hello from IRC")).nick == f"{ira.nick}/IRC"
    await alice.reads(meeting.room, "hello from IRC")
    bob.say(meeting.muc, "hello from XMPP")
    await ira.reads(f"<{bob.name}/XMPP> hello from XMPP", target=meeting.channel)
    await alice.reads(meeting.room, "hello from XMPP")
    await alice.say(meeting.room, "and from Matrix")
    await bob.reads("and from Matrix", nick=alice.name)
    await ira.reads(f"<{alice.name}> and from Matrix", target=meeting.channel)
    assert bob.said("hello from IRC") == bob.said("and from Matrix") == 1
    assert sum("hello from" in e.body for e in alice.seen.all) == 2


async def test_edits_are_corrections_on_xmpp_and_a_line_on_irc(meeting: Meeting):
    """XEP-0308, 3: <replace/> names the id of the message; IRC has no edits."""
    alice, bob = meeting.alice, meeting.bob
    event = await alice.say(meeting.room, "a tpyo of Matrix")
    first = await bob.reads("a tpyo of Matrix")
    await meeting.read_on_irc("a tpyo of Matrix")
    await meeting.lab.fate(alice, meeting.room, event)
    await alice.edit(meeting.room, event, "a typo of Matrix")
    assert part(await bob.reads("a typo of Matrix"), wire.CORRECT, "replace").get("id") == first.id
    assert (await meeting.read_on_irc("typo")).startswith(f"<{alice.name}> ")
    said = await meeting.bob_says("hello from XPMM")
    await meeting.read_on_irc("hello from XPMM")
    read = await alice.reads(meeting.room, "hello from XPMM")
    bob.say(meeting.muc, "hello from XMPP", f"<replace xmlns='{wire.CORRECT}' id='{said.id}'/>")
    assert (await meeting.read_on_irc("XMPP")).startswith(f"<{bob.name}/XMPP> ")
    edit = await alice.sees(
        meeting.room, lambda e: e.relates.get("rel_type") == "m.replace" and e.sender != alice.id
    )
    assert edit.relates["event_id"] == read.id


async def test_replies_name_the_message_on_xmpp_and_the_person_on_irc(meeting: Meeting):
    """XEP-0461, 3: <reply/> names the stanza-id of that room's own copy, whoever said it where."""
    alice, bob, ira = meeting.alice, meeting.bob, meeting.ira
    ira.say(meeting.channel, "a question from IRC")
    copy = await bob.reads("a question from IRC")
    asked = await alice.reads(meeting.room, "a question from IRC")
    await alice.reply(meeting.room, asked.id, "an answer from Matrix")
    answer = await bob.sees(lambda s: s.body.endswith("an answer from Matrix"), "the answer")
    assert part(answer, wire.REPLY, "reply").get("id") == copy.stanza_id
    assert f"{ira.nick}: an answer from Matrix" in await meeting.read_on_irc("an answer from Matrix")
    reply = f"<reply xmlns='{wire.REPLY}' id='{copy.stanza_id}' to='{meeting.muc}/{copy.nick}'/>"
    bob.say(meeting.muc, "and one from XMPP", reply)
    assert f"{ira.nick}: and one from XMPP" in await meeting.read_on_irc("and one from XMPP")
    back = await alice.reads(meeting.room, "and one from XMPP")
    assert back.relates["m.in_reply_to"]["event_id"] == asked.id


async def test_reactions_stand_under_the_copy_on_xmpp_and_are_a_line_on_irc(meeting: Meeting):
    """XEP-0444, 3.1: <reactions/> names the stanza-id; IRC without message-tags has only words."""
    alice, bob, ira = meeting.alice, meeting.bob, meeting.ira
    ira.say(meeting.channel, "like this from IRC")
    copy = await bob.reads("like this from IRC")
    read = await alice.reads(meeting.room, "like this from IRC")
    await alice.react(meeting.room, read.id, "👍")
    reacted = part(
        await bob.sees(lambda s: s.has(wire.REACTIONS, "reactions"), "👍"), wire.REACTIONS, "reactions"
    )
    assert (reacted.get("id"), [one.text for one in reacted]) == (copy.stanza_id, ["👍"])
    assert alice.name in await meeting.read_on_irc("reacted 👍")
    more = f"<reactions xmlns='{wire.REACTIONS}' id='{copy.stanza_id}'><reaction>🎉</reaction></reactions>"
    bob.say(meeting.muc, "", more)
    assert bob.name in await meeting.read_on_irc("reacted 🎉")
    event = await alice.sees(meeting.room, lambda e: e.type == "m.reaction" and e.sender != alice.id)
    assert (event.relates["event_id"], event.relates["key"]) == (read.id, "🎉")


async def test_what_is_taken_back_on_xmpp_goes_on_matrix(meeting: Meeting):
    """XEP-0424, 3; on IRC nothing can be taken back."""
    alice, bob = meeting.alice, meeting.bob
    said = await meeting.bob_says("said in haste")
    await meeting.read_on_irc("said in haste")
    read = await alice.reads(meeting.room, "said in haste")
    bob.say(
        meeting.muc,
        "",
        f"<retract xmlns='{wire.RETRACT}' id='{said.stanza_id}'/><store xmlns='{wire.HINTS}'/>",
    )
    gone = await alice.sees(meeting.room, lambda e: e.type == "m.room.redaction")
    assert gone.redacts == read.id


async def test_the_label_and_the_readers_are_the_meet_of_both_links(meeting: Meeting):
    """IRC has no TLS here, so it is the weaker one; a secret channel closes what the XMPP room leaves open."""
    alice, room = meeting.alice, meeting.room

    async def is_so(type: str, **wanted: str) -> None:
        async def holds() -> bool:
            return wanted.items() <= (await alice.state(room, type)).items()

        await eventually(holds, f"{type}: {wanted}")

    await is_so("org.bridgekit.protection", protection="clear", matrix="transport")
    links = (await alice.state(room, "org.bridgekit.protection"))["links"]
    assert {link["network"]: link["protection"] for link in links} == {XMPP: "transport", IRC: "clear"}
    await is_so("m.room.history_visibility", history_visibility="shared")
    meeting.ira.mode(meeting.channel, "+s")
    await is_so("m.room.history_visibility", history_visibility="joined")
    await alice.say(room, f"!bridge unlink {IRC} {meeting.channel}")
    await is_so("org.bridgekit.protection", protection="transport", matrix="transport")
