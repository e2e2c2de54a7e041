"""Messages become facts; each test has its stanza from the XEP it quotes."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring
from xml.sax.saxutils import quoteattr

import pytest

from bridgekit.contract import facts
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Kind, Person
from bridgekit.contract.text import Span, Style
from connectors.xmpp.stanzas import compose, heard, translate, wire
from connectors.xmpp.stanzas.index import Index
from tests.connectors.xmpp.reading import BASIC, ROOM, Reader, stanza


@pytest.fixture
def reader() -> Reader:
    found = Reader()
    for nick in ("juliet", "romeo"):
        found.enter(nick, occupant=nick)
    return found


def said(found: list[facts.Fact]) -> facts.Message:
    (fact,) = found
    assert isinstance(fact, facts.Message)
    return fact


def say(reader: Reader, nick: str, words: str, *, id: str, given: str) -> facts.Message:
    return said(reader.message(nick, f"<body>{words}</body>", id=id, given=given))


def test_a_message_is_called_by_the_rooms_own_stanza_id(reader: Reader):
    """XEP-0359, 3.2: "by" the room; an id by anybody else is not believed (6)."""
    message = said(
        reader.message(
            "juliet",
            f"<body>Typical body text</body><stanza-id xmlns='{wire.SID}' id='forged' by='evil@example.org'/>"
            f"<origin-id xmlns='{wire.SID}' id='de305d54'/>",
            id="de305d54",
            given="5f3dbc5e-e1d3",
        )
    )
    assert message.id == "5f3dbc5e-e1d3"
    assert (message.content.text.body, message.sender.name) == ("Typical body text", "juliet")


def test_where_the_room_gives_no_ids_one_in_its_name_is_forged():
    """XEP-0359, 6: clients believe an id only where the entity announces the feature."""
    reader = Reader(BASIC)
    reader.enter("eve")
    message = said(reader.message("eve", "<body>x</body>", id="mine", given="somebody-elses"))
    assert message.id != "somebody-elses"
    reader.enter("juliet")
    other = said(reader.message("juliet", "<body>y</body>", id="mine"))
    assert other.id != message.id


def test_a_correction_names_the_id_of_the_wire(reader: Reader):
    """XEP-0308, 3: <replace id='bad1' xmlns='urn:xmpp:message-correct:0'/>"""
    first = say(reader, "juliet", "But soft, what light", id="bad1", given="s1")
    (edit,) = reader.message(
        "juliet", "<body>But soft, what light through yonder window</body>"
        "<replace id='bad1' xmlns='urn:xmpp:message-correct:0'/>", id="good1", given="s2",
    )  # fmt: skip
    assert isinstance(edit, facts.Edit)
    assert (edit.target, edit.content.text.body) == (first.id, "But soft, what light through yonder window")
    (again,) = reader.message(
        "juliet",
        "<body>third</body><replace id='good1' xmlns='urn:xmpp:message-correct:0'/>",
        id="g2",
        given="s3",
    )
    assert isinstance(again, facts.Edit)
    assert again.target == first.id


def test_a_correction_by_somebody_else_is_a_message(reader: Reader):
    """XEP-0308, 4: "the receiver MUST check the correction comes from the same full JID"."""
    say(reader, "juliet", "wherefore", id="bad1", given="s1")
    message = said(
        reader.message(
            "romeo",
            "<body>forged</body><replace id='bad1' xmlns='urn:xmpp:message-correct:0'/>",
            id="x",
            given="s2",
        )
    )
    assert (message.id, message.content.text.body) == ("s2", "* forged")


def test_a_correction_of_what_is_not_known_is_a_message_that_says_so_and_can_be_corrected(reader: Reader):
    """XEP-0308, 3: a client that does not have the message shows the correction as one of its own."""
    correct = "<body>{}</body><replace id='long-ago' xmlns='urn:xmpp:message-correct:0'/>"
    message = said(reader.message("juliet", correct.format("by the moon"), id="c1", given="s1"))
    assert (message.id, message.content.text.body) == ("s1", "* by the moon")
    (edit,) = reader.message("juliet", correct.format("by the inconstant moon"), id="c2", given="s2")
    assert isinstance(edit, facts.Edit)
    assert (edit.target, edit.content.text.body) == ("s1", "by the inconstant moon")


def test_each_set_of_reactions_replaces_the_last_one(reader: Reader):
    """XEP-0444, 3.2: "the full set of reactions"; an empty one takes all back."""

    def react(*keys: str) -> list[tuple[type, str]]:
        inside = "".join(f"<reaction>{key}</reaction>" for key in keys)
        found = reader.message("romeo", f"<reactions id='s1' xmlns='{wire.REACTIONS}'>{inside}</reactions>")
        return [(type(f), f.key) for f in found if isinstance(f, facts.Reaction | facts.Unreaction)]

    say(reader, "juliet", "hi", id="m", given="s1")
    assert react("👋", "🐢") == [(facts.Reaction, "🐢"), (facts.Reaction, "👋")]
    assert react("🐢") == [(facts.Unreaction, "👋")]
    assert react("🐢") == []
    assert react() == [(facts.Unreaction, "🐢")]


def test_a_reply_loses_the_quotation_that_is_marked_as_a_fallback(reader: Reader):
    """XEP-0461, 3.2 with XEP-0428: <body start="0" end="33"/>"""
    first = say(reader, "juliet", "We should bake a cake", id="m1", given="message-id1")
    quote = "> Anna wrote:\n> We should bake a cake\n"
    reply = said(
        reader.message(
            "romeo",
            f"<body>{quote.replace('>', '&gt;')}Great idea!</body>"
            f"<reply to='{ROOM}/juliet' id='message-id1' xmlns='urn:xmpp:reply:0'/>"
            f"<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'>"
            f"<body start='0' end='{len(quote)}'/></fallback>",
            id="m2",
            given="s2",
        )
    )
    assert reply.content.text.body == "Great idea!"
    assert reply.reply_to == first.id


@pytest.mark.parametrize(
    ("start", "end"), [("5", "2"), ("x", "9"), ("0", "99999999999999"), ("-1", "3"), ("²", "³")]
)
def test_a_fallback_range_that_makes_no_sense_costs_nothing(reader: Reader, start: str, end: str):
    message = said(
        reader.message(
            "romeo",
            f"<body>words</body><fallback xmlns='{wire.FALLBACK}' for='{wire.REPLY}'>"
            f"<body start='{start}' end='{end}'/></fallback>",
            given="s",
        )
    )
    assert message.content.text.body in ("words", "")


def test_a_reply_that_is_all_fallback_says_what_it_says(reader: Reader):
    """XEP-0428: a <body/> without start and end is the whole of it; a reply without words would be no message."""
    reply = said(
        reader.message(
            "romeo",
            f"<body>Great idea!</body><reply id='s1' xmlns='{wire.REPLY}'/>"
            f"<fallback xmlns='{wire.FALLBACK}' for='{wire.REPLY}'><body/></fallback>",
            given="s2",
        )
    )
    assert reply.content.text.body == "Great idea!"


def test_what_was_not_encrypted_in_an_encrypted_chat_is_marked_with_its_files(reader: Reader):
    """XEP-0384: a server can put anything into a chat that is not encrypted; a file's caption too."""

    def shown(inside: str) -> str:
        body = heard.exposed(stanza(f"<message type='groupchat' from='{ROOM}/juliet'>{inside}</message>"))
        return said(translate.groupchat(body, reader.room, Index(ROOM), 1)).content.text.body

    url = "https://up.test/a.png"
    oob = f"<x xmlns='{wire.OOB}'><url>{url}</url></x>"
    assert shown("<body>Pay to account 123</body>") == "(not encrypted) Pay to account 123"
    assert shown(f"<body>Pay to account 123</body>{oob}") == "(not encrypted) Pay to account 123"
    assert shown(f"<body>{url}</body>{oob}") == "(not encrypted)"
    assert shown(f"<body>x</body><encrypted xmlns='{wire.OMEMO_2}'/>") == heard.ENCRYPTED


def test_a_retraction_names_the_stanza_id(reader: Reader):
    """XEP-0424, 3: <retract id="origin-id-1" xmlns='urn:xmpp:message-retract:1'/>; in rooms, 5.1, the stanza-id."""
    first = say(reader, "juliet", "oops", id="m", given="s1")
    (taken,) = reader.message(
        "juliet",
        "<retract id='s1' xmlns='urn:xmpp:message-retract:1'/><fallback xmlns='urn:xmpp:fallback:0' "
        "for='urn:xmpp:message-retract:1'/><body>/me retracted a previous message</body>",
        given="s2",
    )
    assert isinstance(taken, facts.Retraction)
    assert taken.target == first.id


def test_nobody_takes_back_what_another_said(reader: Reader):
    """XEP-0424, 5: the sender of both must be the same."""
    say(reader, "juliet", "mine", id="m", given="s1")
    assert reader.message("romeo", "<retract id='s1' xmlns='urn:xmpp:message-retract:1'/>", given="s2") == []


def test_what_is_not_remembered_is_taken_back_by_who_said_it_alone(reader: Reader):
    """XEP-0424, 5.1: the stanza-id names it, also after a restart; who said it, the bridge knows."""
    (taken,) = reader.message("juliet", "<retract id='old' xmlns='urn:xmpp:message-retract:1'/>", given="s9")
    assert isinstance(taken, facts.Retraction)
    assert (taken.target, taken.sender.name, taken.own) == ("old", "juliet", True)


@pytest.mark.parametrize(
    "inside",
    [
        "<retract id='s1' xmlns='urn:xmpp:message-retract:1'>"
        f"<moderated by='{ROOM}/romeo' xmlns='urn:xmpp:message-moderate:1'/><reason>Too rude</reason></retract>",
        "<apply-to id='s1' xmlns='urn:xmpp:fasten:0'>"
        f"<moderated by='{ROOM}/romeo' xmlns='urn:xmpp:message-moderate:0'>"
        "<retract xmlns='urn:xmpp:message-retract:0'/><reason>Too rude</reason></moderated></apply-to>",
    ],
    ids=["XEP-0425 0.3", "XEP-0425 0.2"],
)
def test_only_the_room_itself_moderates(reader: Reader, inside: str):
    """XEP-0425, 5: "MUST verify that it comes from the room's bare JID"."""
    first = say(reader, "juliet", "rude", id="m", given="s1")
    assert reader.message("romeo", inside, given="s2") == []
    (taken,) = reader.message("", inside, given="s3")
    assert isinstance(taken, facts.Retraction)
    assert (taken.target, taken.sender.name, taken.reason) == (first.id, "romeo", "Too rude")


def test_a_marker_is_a_receipt(reader: Reader):
    """XEP-0333, 3: <displayed xmlns='urn:xmpp:chat-markers:0' id='message-1'/>"""
    first = say(reader, "juliet", "read me", id="message-1", given="s1")
    (receipt,) = reader.message("romeo", "<displayed xmlns='urn:xmpp:chat-markers:0' id='s1'/>")
    assert isinstance(receipt, facts.Receipt)
    assert receipt.target == first.id


def test_chat_states_are_typing(reader: Reader):
    """XEP-0085, 5.5: a standalone <composing/>; <active/> beside a body is nothing by itself."""
    (typing,) = reader.message("romeo", f"<composing xmlns='{wire.STATES}'/>")
    (paused,) = reader.message("romeo", f"<paused xmlns='{wire.STATES}'/>")
    assert isinstance(typing, facts.Typing)
    assert isinstance(paused, facts.Typing)
    assert (typing.active, paused.active) == (True, False)
    assert len(reader.message("romeo", f"<body>hi</body><active xmlns='{wire.STATES}'/>", given="s")) == 1


def test_an_encrypted_message_is_a_notice_and_its_fallback_is_never_told(reader: Reader):
    """XEP-0384, 5.6 and XEP-0380: the body is only for clients that cannot decrypt."""
    for inside in (
        "<encrypted xmlns='urn:xmpp:omemo:2'><header sid='27183'/></encrypted>",
        "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
        "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:omemo:2'/>",
    ):
        message = said(reader.message("juliet", f"<body>secret fallback</body>{inside}", given="s"))
        assert message.content.kind is Kind.NOTICE
        assert message.content.text.body == heard.ENCRYPTED
        reader.index = Index(ROOM)


def test_a_url_out_of_band_is_a_file(reader: Reader):
    """XEP-0066, 3, as XEP-0363 uses it: the body is the URL."""
    url = "https://upload.montague.tld/4a771ac1/tr%C3%A8s%20cool.jpg"
    message = said(
        reader.message("juliet", f"<body>{url}</body><x xmlns='jabber:x:oob'><url>{url}</url></x>", given="s")
    )
    assert message.content.file is not None
    assert (message.content.file.uri, message.content.file.mime) == (url, "image/jpeg")
    assert message.content.text.body == ""


@pytest.mark.parametrize("url", ["file:///etc/passwd", "javascript:alert(1)", "https://x/\n<", ""])
def test_an_out_of_band_url_that_is_none_is_only_words(reader: Reader, url: str):
    found = url.replace("<", "&lt;")
    message = said(
        reader.message(
            "juliet", f"<body>look</body><x xmlns='jabber:x:oob'><url>{found}</url></x>", given="s"
        )
    )
    assert message.content.file is None


def test_me_is_an_emote(reader: Reader):
    """XEP-0245."""
    message = say(reader, "juliet", "/me shrugs in disgust", id="m", given="s")
    assert (message.content.kind, message.content.text.body) == (Kind.EMOTE, "shrugs in disgust")


def test_formatted_words_are_read_before_marks(reader: Reader):
    """XEP-0071, 6: <strong/> in a body of the XHTML namespace."""
    message = said(
        reader.message(
            "juliet",
            "<body>hi *all*</body><html xmlns='http://jabber.org/protocol/xhtml-im'>"
            "<body xmlns='http://www.w3.org/1999/xhtml'><p>hi <strong>all</strong></p></body></html>",
            given="s",
        )
    )
    assert message.content.text.spans == (Span(3, 6, Style.BOLD),)
    assert message.content.text.body == "hi all"


def test_the_first_subject_is_only_read_and_later_ones_were_set(reader: Reader):
    """XEP-0045, 7.2.15 and 8.1: a <subject/> without a body."""
    (first,) = reader.message("juliet", "<subject>Fire Burn and Cauldron Bubble!</subject>")
    (second,) = reader.message("juliet", "<subject>Double, double</subject>")
    assert isinstance(first, facts.Topic)
    assert isinstance(second, facts.Topic)
    assert first.actor is None
    assert second.actor is not None
    assert second.actor.name == "juliet"
    assert reader.message("juliet", "<subject>Double, double</subject>") == []


def test_a_private_message_has_the_id_of_the_wire():
    """RFC 6121, 5.2.2; XEP-0308 and XEP-0444 name it."""
    index, chat, person = (
        Index(),
        ChatId("romeo@montague.lit"),
        Person(id=PersonId("romeo@montague.lit"), name="romeo"),
    )
    message = said(
        translate.private(
            stanza(
                "<message type='chat' from='romeo@montague.lit/o' id='ktx72v49'><body>Art thou?</body></message>"
            ),
            chat,
            index,
            person,
            5,
        )
    )
    assert (message.id, message.private, message.at) == ("ktx72v49", True, 5)
    (edit,) = translate.private(
        stanza(
            "<message type='chat' from='romeo@montague.lit/o' id='n'><body>Art thou not?</body>"
            "<replace id='ktx72v49' xmlns='urn:xmpp:message-correct:0'/></message>"
        ),
        chat,
        index,
        person,
        6,
    )
    assert isinstance(edit, facts.Edit)
    assert edit.target == "ktx72v49"


def test_an_archived_message_has_its_own_time_and_the_archives_id(reader: Reader):
    """XEP-0313, 5.1.3: in a room the archive's id is the stanza-id; XEP-0297: the time is the <delay/>'s."""
    message = fromstring(
        f"<message xmlns='jabber:client' type='groupchat' from='{ROOM}/juliet' id='m'><body>old words</body>"
        f"<occupant-id xmlns='{wire.OCCUPANT}' id='juliet'/></message>"
    )
    at = wire.moment("2010-07-10T23:08:25Z")
    found = translate.groupchat(
        heard.read(message, stamp=at),
        reader.room,
        reader.index,
        9,
        archived="34482-21985-73620",
        replayed=True,
    )
    old = said(found)
    assert (old.id, old.at, old.replayed) == ("34482-21985-73620", 1278803305000, True)
    assert old.sender.id == reader.room.occupants["juliet"].person


def test_an_invitation_names_the_room_and_who_asks():
    """XEP-0045, 7.8.2 and XEP-0249, 2."""
    mediated = stanza(
        f"<message from='{ROOM}' to='x@y'><x xmlns='{wire.MUC_USER}'>"
        "<invite from='crone1@shakespeare.lit/desktop'/></x></message>"
    )
    direct = stanza(
        "<message from='crone1@shakespeare.lit/desktop' to='x@y'>"
        "<x xmlns='jabber:x:conference' jid='darkcave@macbeth.shakespeare.lit'/></message>"
    )
    assert (mediated.invites_to, mediated.invited_by) == (ROOM, "crone1@shakespeare.lit")
    assert (direct.invites_to, direct.invited_by) == (
        "darkcave@macbeth.shakespeare.lit",
        "crone1@shakespeare.lit",
    )


def test_an_invitation_goes_through_the_room_which_passes_it_on_in_its_own_name():
    """XEP-0045, 7.8.2: the room takes `to` from <invite/>, and tells whom it names who asked and why."""
    sent = compose.let_in(ROOM, "bridge@y/r", "i1", "hecate@shakespeare.lit", "Hey Hecate, come")
    (invite,) = sent.iterfind(f"{{{wire.MUC_USER}}}x/{{{wire.MUC_USER}}}invite")
    assert (sent.get("to"), sent.get("from"), sent.get("id"), sent.get("type")) == (
        ROOM,
        "bridge@y/r",
        "i1",
        None,
    )
    assert invite.get("to") == "hecate@shakespeare.lit"
    assert [(part.tag, part.text) for part in invite] == [(f"{{{wire.MUC_USER}}}reason", "Hey Hecate, come")]


def test_in_a_room_that_shows_addresses_only_the_archive_says_whose_words_they_were():
    """XEP-0313, 5.1.2: the archive shows the real address; without it, the nick of then may be another's now."""
    reader = Reader(BASIC, nonanonymous=True)
    reader.enter("victim", jid="victim@x.test/a")
    item = f"<x xmlns='{wire.MUC_USER}'><item jid='{{}}'/></x>"
    xml = f"<message xmlns='jabber:client' type='groupchat' from='{ROOM}/{{}}'><body>x</body>{{}}</message>"

    def who(nick: str, more: str, *, stamp: int) -> str:
        return reader.room.person(heard.read(fromstring(xml.format(nick, more)), stamp=stamp)).id

    forged, true = item.format("victim@x.test"), item.format("mallory@x.test")
    assert who("mallory", forged, stamp=0) == f"{ROOM}/mallory"  # live: not even of somebody who is not there
    assert who("mallory", forged + true, stamp=5) == "mallory@x.test"  # the archive's own stands behind
    assert who("victim", "", stamp=5) == f"{ROOM}/victim"
    assert who("victim", "", stamp=0) == "victim@x.test"


@pytest.mark.parametrize(
    "xml",
    [
        "<message/>",
        "<message type='groupchat' from=''/>",
        f"<message type='groupchat' from='{ROOM}/x'><body/></message>",
        f"<message from='{ROOM}/x'><reactions xmlns='urn:xmpp:reactions:0'/></message>",
        f"<message from='{ROOM}/x'><x xmlns='{wire.MUC_USER}'><status code='x'/><status code='²'/></x></message>",
        f"<message from='{ROOM}/x'><delay xmlns='urn:xmpp:delay' stamp='yesterday'/><body>x</body></message>",
        f"<message from='{ROOM}/x'><delay xmlns='urn:xmpp:delay' stamp='9999-99-99T99:99:99Z'/></message>",
        f"<message from='{ROOM}/x'><html xmlns='{wire.XHTML_IM}'/><body>x</body></message>",
        f"<message from='{ROOM}/x'><apply-to xmlns='urn:xmpp:fasten:0'/></message>",
        f"<message from='{ROOM}/x'><retract xmlns='urn:xmpp:message-retract:1'/><body>x</body></message>",
    ],
)
def test_whatever_a_message_holds_nothing_is_raised(reader: Reader, xml: str):
    found = stanza(xml)
    for fact in translate.groupchat(found, reader.room, reader.index, 1):
        assert facts.decode(facts.encode(fact)) == fact


def test_a_subject_without_end_ends_in_an_ellipsis(reader: Reader):
    """RFC 6120, 13.12, lets a stanza be as large as the server likes; what describes a room on Matrix is small."""
    (told,) = reader.message("eve", f"<subject>{'ä' * 400_000}</subject>")
    assert isinstance(told, facts.Topic)
    assert len(told.topic) == heard.LONGEST_SUBJECT + 2
    assert told.topic.endswith("ä …")


@pytest.mark.parametrize("jid", ["", "x" * 5000 + "@muc.test", "den@muc.test ask @admin", "<b>@muc.test"])
def test_what_is_no_rooms_address_is_no_invitation(jid: str):
    """XEP-0249, 2: `jid` is whatever the sender writes there; it is told to a person with a command to copy."""
    direct = stanza(
        f"<message from='eve@x.test/a' to='x@y'><x xmlns='{wire.CONFERENCE}' jid={quoteattr(jid)}/></message>"
    )
    assert direct.invites_to == ""
    asked = f"<x xmlns='{wire.MUC_USER}'><invite from={quoteattr(jid)}/></x>"
    assert stanza(f"<message from='{ROOM}' to='x@y'>{asked}</message>").invited_by == ROOM


def test_a_spoiler_is_hidden_until_somebody_asks_for_it(reader: Reader):
    """XEP-0382, 3: the element is about the whole message, and its text is a hint."""
    xml = f"<body>And at the end of the story, both of them die!</body><spoiler xmlns='{wire.SPOILER}'>Romeo</spoiler>"
    text = said(reader.message("juliet", xml, id="a", given="g1")).content.text
    assert text.spans == (Span(0, len(text.body), Style.SPOILER, "Romeo"),)
    url = "https://example.org/cat.png"
    shared = f"<body>{url}</body><x xmlns='{wire.OOB}'><url>{url}</url></x><spoiler xmlns='{wire.SPOILER}'/>"
    file = said(reader.message("juliet", shared, id="b", given="g2")).content.file
    assert file is not None
    assert file.spoiler == ""
