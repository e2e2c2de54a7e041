"""MIMI messages to facts, and verbs to MIMI messages."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings

from bridgekit.contract import facts, verbs
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.facts import Edit, Message, Reaction, Receipt, Retraction
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, File, Kind, Person, Quote
from bridgekit.contract.text import Style, Text, join, styled
from connectors.mimi.compose import Envelope, to_content
from connectors.mimi.messages import status
from connectors.mimi.messages.content import decode, encode
from connectors.mimi.messages.parts import (
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    Semantics,
    SinglePart,
)
from connectors.mimi.translate import (
    MAX_MESSAGES,
    Received,
    name,
    reactions,
    receipts,
    to_contents,
    to_facts,
)
from tests.connectors.mimi.reading import ALICE, BOB, CATHY, ROOM, content, examples, messages, status_report

EXAMPLES = examples()
CHAT = ChatId(ROOM)
AT = 1644387225019
ID = {key: MessageId(example.id.hex()) for key, example in EXAMPLES.items()}
PERSON = {uri: Person(id=PersonId(uri), name=uri.rpartition("/")[2]) for uri in (ALICE, BOB, CATHY)}
SALT = bytes(range(16))
OURS = Envelope(salt=SALT, sender_uri=BOB, room_uri=ROOM)


def received(message: MimiContent, id: bytes = b"\x01" + bytes(31), **more: object) -> Received:
    base = Received(id=id, content=message, chat=CHAT, sender=PERSON[message.sender_uri or ALICE], at=AT)
    return msgspec.structs.replace(base, **more)


def example(key: str, **more: object) -> list[facts.Fact]:
    return to_facts(received(decode(EXAMPLES[key].octets), EXAMPLES[key].id, **more))


def plain(words: str, disposition: int = Disposition.RENDER) -> SinglePart:
    return SinglePart(
        disposition=disposition, content_type="text/plain;charset=utf-8", content=words.encode()
    )


def said(part: Part) -> list[Content]:
    return list(to_contents(part))


def test_the_original_is_a_message():
    text = join("Hi everyone, we just shipped release 2.0. ", styled("Good  work", Style.BOLD), "!")
    assert example("original") == [
        Message(chat=CHAT, at=AT, sender=PERSON[ALICE], id=ID["original"], content=Content(text=text))
    ]


def test_a_reply_names_what_it_answers():
    (fact,) = example("reply")
    assert isinstance(fact, Message)
    assert (fact.reply_to, fact.sender) == (ID["original"], PERSON[BOB])


def test_a_reaction_is_one():
    assert example("reaction") == [
        Reaction(chat=CHAT, at=AT, sender=PERSON[CATHY], target=ID["original"], key="❤", id=ID["reaction"])
    ]


def test_an_unlike_takes_the_reaction_back():
    assert example("unlike", became=1) == [
        Retraction(chat=CHAT, at=AT, sender=PERSON[CATHY], target=ID["reaction"], own=True)
    ]


def test_an_edit_names_the_first_version():
    text = join("Right on! ", styled("Congratulations", Style.ITALIC), " y'all!")
    assert example("edit") == [
        Edit(
            chat=CHAT,
            at=AT,
            sender=PERSON[BOB],
            target=ID["reply"],
            content=Content(text=text),
            id=ID["edit"],
        )
    ]


def test_a_delete_takes_back_all_that_the_message_became():
    found = example("delete")
    assert found[0] == Retraction(chat=CHAT, at=AT, sender=PERSON[BOB], target=ID["reply"], own=True)
    assert [f.target for f in found if isinstance(f, Retraction)][1] == f"{ID['reply']}/2"
    assert len(found) == MAX_MESSAGES
    assert not any(f.own for f in example("delete", moderates=True) if isinstance(f, Retraction))


@pytest.mark.parametrize("key", ["mention", "mention-html"])
def test_a_link_to_a_user_is_a_mention(key: str):
    (fact,) = example(key)
    assert isinstance(fact, Message)
    words = join("Kudos to ", styled("@Alice Smith", Style.MENTION, ALICE), " for making the release happen!")
    assert fact.content.text == words


def test_an_attachment_is_a_file_with_its_description():
    (fact,) = example("attachment")
    assert isinstance(fact, Message)
    file = fact.content.file
    assert file is not None
    assert (file.uri, file.name, file.mime) == (
        "https://example.com/storage/8ksB4bSrrRE.mp4",
        "bigfile.mp4",
        "video/mp4",
    )
    assert fact.content.text == Text("2 hours of key signing video")


def test_a_session_is_a_link():
    (fact,) = example("conferencing")
    assert isinstance(fact, Message)
    assert fact.content.text == Text("Join the Foo 118 conference: https://example.com/join/12345")


def test_of_a_choice_what_can_be_shown_is_shown():
    (fact,) = example("multipart-1")
    assert isinstance(fact, Message)
    assert fact.content.text == styled("Welcome!", Style.BOLD)


def test_several_reactions_of_one_message_are_several():
    part = decode(EXAMPLES["multipart-2"].octets).part
    assert reactions(part) == ["❤", "🥳", "🤞"]
    found = to_facts(received(content(part, in_reply_to=EXAMPLES["original"].id)))
    assert [(f.key, f.id) for f in found if isinstance(f, Reaction)] == [
        ("❤", "01" + "00" * 31),
        ("🥳", "01" + "00" * 31 + "/2"),
        ("🤞", "01" + "00" * 31 + "/3"),
    ]


def test_a_changed_reaction_goes_by_the_name_of_the_first():
    changed = content(
        plain("👍", Disposition.REACTION),
        replaces=EXAMPLES["reaction"].id,
        in_reply_to=EXAMPLES["original"].id,
    )
    assert to_facts(received(changed, became=1)) == [
        Retraction(chat=CHAT, at=AT, sender=PERSON[ALICE], target=ID["reaction"], own=True),
        Reaction(chat=CHAT, at=AT, sender=PERSON[ALICE], target=ID["original"], key="👍", id=ID["reaction"]),
    ]


def test_a_reaction_that_is_a_story_is_a_reply():
    story = content(plain("word " * 20, Disposition.REACTION), in_reply_to=EXAMPLES["original"].id)
    (fact,) = to_facts(received(story))
    assert isinstance(fact, Message)
    assert fact.reply_to == ID["original"]


def test_in_two_languages_the_first_is_shown_and_the_rest_is_told():
    """The draft's nested example: a choice of choices, each with a picture inside of the message."""
    assert [c.text.body for c in said(decode(EXAMPLES["multipart-3"].octets).part)] == [
        "Welcome!\nWelcome image"
    ]


def test_words_and_files_become_messages_of_one_file_each():
    def file(number: int) -> ExternalPart:
        return ExternalPart(
            content_type="image/png", url=f"https://a.example/{number}", filename=f"{number}.png"
        )

    found = said(
        MultiPart(
            semantics=Semantics.PROCESS_ALL, parts=(plain("look"), file(1), file(2), plain("and"), file(3))
        )
    )
    assert [(c.text.body, c.file and c.file.name) for c in found] == [
        ("look", "1.png"),
        ("", "2.png"),
        ("and", "3.png"),
    ]


def test_more_files_than_that_are_counted():
    files = tuple(ExternalPart(content_type="a/b", url=f"https://a.example/{n}") for n in range(20))
    found = said(MultiPart(semantics=Semantics.PROCESS_ALL, parts=files))
    assert len(found) == MAX_MESSAGES
    assert found[-1].text.body == "(and 13 more parts, which are not shown here)"


def test_a_unit_of_which_something_is_unknown_is_not_shown_at_all():
    odd = SinglePart(content_type="application/x", content=b"")
    unit = MultiPart(semantics=Semantics.SINGLE_UNIT, parts=(plain("a"), odd))
    assert [c.text.body for c in said(unit)] == ["(a message of several parts, which are not shown here)"]
    together = MultiPart(semantics=Semantics.PROCESS_ALL, parts=(plain("a"), odd))
    assert [c.text.body for c in said(together)] == ["a"]


def test_a_type_that_nobody_knows_is_named():
    odd = SinglePart(content_type="application/vnd.x; a=b", content=b"")
    assert said(odd) == [Content(text=Text("(a message of type application/vnd.x, which is not shown here)"))]


def test_a_file_that_is_not_on_the_web_is_not_fetched():
    part = ExternalPart(content_type="text/plain", url="file:///etc/passwd")
    assert said(part) == [Content(text=Text("(a message of type text/plain, which is not shown here)"))]


def test_nothing_that_replaces_nothing_is_nothing():
    assert to_facts(received(content(NullPart()))) == []


def test_reports_of_what_was_read_are_receipts():
    reports = status.decode(status_report())
    assert receipts(reports, chat=CHAT, sender=PERSON[BOB], at=AT, private=False) == [
        Receipt(chat=CHAT, at=AT, sender=PERSON[BOB], target=ID["original"]),
        Receipt(chat=CHAT, at=AT, sender=PERSON[BOB], target=ID["reply"]),
    ]


@settings(deadline=None)
@given(messages)
def test_every_message_has_a_fate(message: MimiContent):
    found = to_facts(received(message))
    nothing = isinstance(message.part, NullPart) and message.replaces is None
    assert bool(found) != nothing


# Out --------------------------------------------------------------------------------------------------------


def post(words: Text, **more: object) -> verbs.PostMessage:
    return msgspec.structs.replace(verbs.PostMessage(chat=CHAT, content=Content(text=words)), **more)


def test_plain_words_are_plain_text_and_name_their_sender_and_room():
    made = to_content(post(Text("a *b*")), OURS)
    assert made.part == plain("a *b*")
    assert (made.sender_uri, made.room_uri, made.salt) == (BOB, ROOM, SALT)


def test_words_with_a_look_are_markdown():
    made = to_content(post(join("see ", styled("this", Style.BOLD))), OURS)
    assert made.part == SinglePart(content_type="text/markdown;variant=GFM-MIMI", content=b"see **this**")


def test_a_reply_out_names_what_it_answers():
    made = to_content(post(Text("yes"), reply=Quote(id=ID["original"])), OURS)
    assert made.in_reply_to == EXAMPLES["original"].id


def test_a_message_in_a_thread_has_its_topic():
    made = to_content(post(Text("yes")), msgspec.structs.replace(OURS, topic=b"Foo 118"))
    assert made.topic == b"Foo 118"


def test_an_emote_keeps_its_star():
    made = to_content(
        verbs.PostMessage(chat=CHAT, content=Content(text=Text("waves"), kind=Kind.EMOTE)), OURS
    )
    assert made.part == plain("* waves")


def test_an_edit_out_changes_the_body_and_nothing_else():
    verb = verbs.EditMessage(chat=CHAT, target=ID["reply"], content=Content(text=Text("better")))
    envelope = msgspec.structs.replace(OURS, topic=b"t", in_reply_to=EXAMPLES["original"].id)
    made = to_content(verb, envelope)
    assert (made.replaces, made.in_reply_to, made.topic) == (
        EXAMPLES["reply"].id,
        EXAMPLES["original"].id,
        b"t",
    )
    assert made.part == plain("better")


def test_a_reaction_out_and_back():
    made = to_content(verbs.React(chat=CHAT, target=ID["original"], reaction="❤"), OURS)
    assert made.part == plain("❤", Disposition.REACTION)
    assert made.in_reply_to == EXAMPLES["original"].id
    taken = to_content(verbs.Unreact(chat=CHAT, target=ID["original"], reaction="❤", id=ID["reaction"]), OURS)
    assert (taken.part, taken.replaces) == (
        NullPart(disposition=Disposition.REACTION),
        EXAMPLES["reaction"].id,
    )


def test_a_retraction_replaces_with_nothing():
    made = to_content(verbs.Retract(chat=CHAT, target=MessageId(f"{ID['reply']}/2")), OURS)
    assert (made.part, made.replaces) == (NullPart(), EXAMPLES["reply"].id)


def test_what_refers_to_nothing_is_refused_with_a_sentence():
    with pytest.raises(SendRejected, match="never on the other side"):
        to_content(verbs.React(chat=CHAT, target=MessageId("$event"), reaction="x"), OURS)
    with pytest.raises(SendRejected, match="cannot be taken back"):
        to_content(verbs.Unreact(chat=CHAT, target=ID["original"], reaction="x"), OURS)


def test_a_file_with_words_is_both():
    part = ExternalPart(content_type="image/png", url="https://a.example/1", filename="1.png")
    verb = verbs.PostMessage(
        chat=CHAT, content=Content(text=Text("look"), file=File(uri="mxc://a/b", name="1.png"))
    )
    made = to_content(verb, OURS, file=part)
    assert made.part == MultiPart(semantics=Semantics.PROCESS_ALL, parts=(plain("look"), part))
    assert to_content(post(Text("")), OURS, file=part).part == part


def test_what_we_send_is_what_we_would_accept():
    for verb in (
        post(Text("x\ud800y")),
        verbs.React(chat=CHAT, target=ID["original"], reaction="❤"),
        verbs.Retract(chat=CHAT, target=ID["original"]),
    ):
        made = to_content(verb, OURS)
        assert decode(encode(made)) == made


def test_names_of_messages_go_there_and_back():
    assert name(EXAMPLES["original"].id, 2) == f"{ID['original']}/3"
