"""What a chat cannot carry becomes what it can, or a refusal with a reason."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given

from bridgekit.contract import facts, split, verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, File, Kind, Person, Quote, Role
from bridgekit.contract.text import Span, Style, Text, plain, styled
from bridgekit.contract.verbs import PostMessage, Verb, VerbBase
from bridgekit.core.degrade import FOREIGN, SEALED_ROOM, Aids, Refusal, fit, substitution
from bridgekit.core.model import Context
from bridgekit.core.plan import plan
from tests.core.strategies import aids, capabilities, contexts, some_facts

CHAT = ChatId("#a")
ANN = Person(id=PersonId("@ann:example.org"), name="Ann")
AIDS = Aids(label="Example", now=1_000_000)
FILE = File(uri="mxc://example.org/abc", name="cat.png", size=12_345)
TARGET = MessageId("m7")


def can(*more: type[VerbBase], **limits: Any) -> Capabilities:
    return Capabilities(verbs=frozenset({PostMessage, *more}), **limits)


def post(words: str | Text = "hello", **more: Any) -> PostMessage:
    kind = more.pop("kind", Kind.TEXT)
    file = more.pop("file", None)
    text = plain(words) if isinstance(words, str) else words
    return PostMessage(chat=CHAT, content=Content(text=text, kind=kind, file=file), **more)


def posted(verb: Verb, what: Capabilities, about: Aids = AIDS) -> PostMessage:
    """The one message that comes of it."""
    found = fit(verb, what, about)
    assert isinstance(found, tuple)
    (one,) = found
    assert isinstance(one, PostMessage)
    return one


def body(verb: Verb, what: Capabilities, about: Aids = AIDS) -> str:
    return posted(verb, what, about).content.text.body


def refusal(verb: Verb, what: Capabilities, about: Aids = AIDS) -> str:
    found = fit(verb, what, about)
    assert isinstance(found, Refusal)
    return found.notice


# Who speaks -------------------------------------------------------------------------------------------------


def test_a_relayed_speaker_stands_before_every_line_by_a_prefix():
    assert posted(post(speaker=ANN), can()) == post(prefix="<Ann> ")


def test_the_account_itself_needs_no_prefix():
    assert posted(post(), can()) == post()


def test_a_speakers_new_name_is_shown_where_speakers_are_and_never_becomes_the_relays():
    shown = verbs.ShowProfile(chat=CHAT, speaker=ANN)
    assert fit(shown, can(verbs.ShowProfile, speakers=True), AIDS) == (shown,)
    assert fit(shown, can(verbs.ShowProfile), AIDS) == Refusal("")


@pytest.mark.parametrize(
    "verb",
    [
        verbs.Depart(chat=CHAT, speaker=ANN),
        verbs.SetRole(chat=CHAT, person=ANN, role=Role.MODERATOR, shown=True),
    ],
)
def test_where_nobody_is_shown_nobody_goes_or_has_a_role_and_nobody_need_be_told(verb: Verb):
    assert fit(verb, can(type(verb), speakers=True), AIDS) == (verb,)
    assert fit(verb, can(type(verb)), AIDS) == Refusal("")


def test_a_chat_without_pictures_says_nothing_of_them():
    shown = verbs.SetAvatar(chat=CHAT, avatar=FILE)
    assert fit(shown, can(verbs.SetAvatar), AIDS) == (shown,)
    assert fit(shown, can(), AIDS) == Refusal("")


def test_a_chat_that_shows_speakers_gets_the_speaker_and_no_prefix():
    assert posted(post(speaker=ANN), can(speakers=True)) == post(speaker=ANN)


def test_a_relayed_emote_names_who_acts():
    assert posted(post("waves", kind=Kind.EMOTE, speaker=ANN), can(kinds=frozenset(Kind))) == post(
        "waves", prefix="* Ann "
    )


def test_an_emote_where_there_are_none_becomes_a_starred_line():
    assert body(post("waves", kind=Kind.EMOTE), can()) == "* waves"
    assert body(post("waves", kind=Kind.EMOTE, speaker=ANN), can(speakers=True)) == "* Ann waves"


def test_a_relayed_notice_stays_one_where_there_are_notices():
    """Otherwise machines would answer it."""
    notice = post(kind=Kind.NOTICE, speaker=ANN)
    assert posted(notice, can(kinds=frozenset(Kind))).content.kind is Kind.NOTICE
    assert posted(notice, can()).content.kind is Kind.TEXT


@pytest.mark.parametrize("name", ["Eve\n<Ann> I agree", "Eve\r\nQUIT", "E\u202ev\u2066e", "Eve\0"])
def test_a_name_cannot_break_out_of_its_prefix(name: str):
    found = posted(post(speaker=Person(id=PersonId("@eve:example.org"), name=name)), can())
    assert found.prefix.startswith("<E")
    assert found.prefix.endswith("> ")
    assert not set(found.prefix) & set("\r\n\0\u202e\u2066")


def test_a_long_name_leaves_room_for_the_words():
    fox = Person(id=PersonId("@fox:example.org"), name="🦊" * 200)
    assert posted(post(speaker=fox), can()).prefix == f"<{'🦊' * 31}…> "


def test_a_speaker_whose_name_is_empty_is_called_by_their_id():
    nameless = Person(id=PersonId("@eve:example.org"), name="\u200b")
    assert posted(post(speaker=nameless), can()).prefix == "<@eve:example.org> "


# Answers ----------------------------------------------------------------------------------------------------

RECENT = Quote(author="Ada", words="what is it?", at=AIDS.now - 1000)
OLD = Quote(author="Ada", words="what is it?", at=AIDS.now - 3_600_000)


def test_a_native_reply_is_left_alone_where_its_message_has_an_id():
    quote = Quote(id=TARGET, author="Ada", words="what?")
    assert posted(post(reply=quote), can(replies=True)) == post(reply=quote)


def test_a_recent_message_is_answered_by_name():
    assert body(post(reply=RECENT), can()) == "Ada: hello"


def test_an_old_message_is_answered_with_a_quote():
    assert body(post(reply=OLD), can()) == "“what is it?” ← Ada: hello"


def test_a_message_without_an_id_there_is_answered_in_words_although_there_are_replies():
    assert body(post(reply=RECENT), can(replies=True)) == "Ada: hello"


def test_who_is_named_already_is_not_named_twice():
    assert body(post("Ada: yes", reply=RECENT), can()) == "Ada: yes"


def test_the_styles_of_an_answer_move_with_its_words():
    answer = post(styled("yes", Style.BOLD), reply=RECENT)
    found = posted(answer, can(styles=frozenset({Style.BOLD})))
    assert found.content.text == Text("Ada: yes", (Span(5, 8, Style.BOLD),))


def test_an_author_cannot_put_a_line_into_the_mouth_of_who_answers():
    quote = Quote(author="Eve\nAnn: I give up", words="", at=AIDS.now)
    assert "\n" not in body(post(reply=quote), can())


# Styles -----------------------------------------------------------------------------------------------------


def test_a_link_keeps_its_address_where_there_are_no_links():
    assert body(post(styled("here", Style.LINK, "https://x.example/")), can()) == "here (https://x.example/)"


def test_a_link_that_shows_its_address_is_not_doubled():
    link = styled("https://x.example/", Style.LINK, "https://x.example/")
    assert body(post(link), can()) == "https://x.example/"


def test_a_spoiler_keeps_its_warning_where_nothing_can_hide_it():
    assert body(post(styled("he dies", Style.SPOILER, "the end")), can()) == "[spoiler: the end] he dies"


def test_a_quotation_keeps_its_marks():
    assert body(post(styled("one\ntwo", Style.QUOTE)), can()) == "> one\n> two"


def cost_of_links(count: int) -> float:
    """Seconds of CPU for a text with that many links, sixty quotations deep."""
    spans = tuple(Span(i * 3, i * 3 + 1, Style.LINK, "https://x.example/") for i in range(count))
    nested = tuple(Span(0, 3 * count, Style.QUOTE) for _ in range(60))
    words = Text("a\nb" * count, spans + nested)
    began = time.process_time()
    fit(post(words), can(), AIDS)
    return time.process_time() - began


def test_many_links_and_deep_quotations_cost_time_in_proportion():
    """64 kB of HTML can hold thousands of spans; the loop must not stand still for it. By the square: sixteen times."""
    few = min(cost_of_links(1_500) for _ in range(2))
    many = min(cost_of_links(6_000) for _ in range(2))
    assert many < 9 * few, (few, many)


# Length -----------------------------------------------------------------------------------------------------

LINKED = Aids(label="Example", text_link="https://b.example/t/1")


def test_a_long_message_becomes_a_link_to_the_whole():
    words = "\n".join(f"line {i}" for i in range(10))
    assert body(post(words), can(max_lines=6), LINKED) == "line 0 … [10 lines: https://b.example/t/1 ]"


def test_without_a_link_a_message_of_some_more_lines_is_sent_all_the_same():
    words = "\n".join(f"line {i}" for i in range(10))
    assert body(post(words), can(max_lines=6)) == words


def test_without_a_link_a_wall_of_text_is_refused():
    notice = refusal(post("x\n" * 200), can(max_lines=6))
    assert notice.startswith("The message is too long for Example (200 lines, 400 bytes)")


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_every_way_to_end_a_line_counts(newline: str):
    """A network that cuts at CR would be flooded by a message that counts as one line."""
    assert "too long" in refusal(post(f"x{newline}" * 200), can(max_lines=6))


def test_a_line_that_takes_several_on_the_wire_counts_as_those():
    """IRC: 45 kB without a line end are 99 lines."""
    paste, irc = "word " * 9000, can(max_lines=6, line_bytes=400)
    assert body(post(paste), irc, LINKED).endswith(" [113 lines: https://b.example/t/1 ]")
    assert "too long for Example (113 lines" in refusal(post(paste), irc)
    assert body(post("é" * 1200), irc) == "é" * 1200  # 2,400 bytes: just six
    assert "[8 lines" in body(post("é" * 1300 + "\rx"), irc, LINKED)


@pytest.mark.parametrize("irc", [can(max_lines=6), can(max_lines=6, line_bytes=400)])
def test_empty_lines_are_not_sent_and_do_not_count(irc: Capabilities):
    """Six paragraphs, as clients of Matrix write them, are six lines and no wall of text."""
    words = "\n\n".join(f"paragraph {i}, of some {'words ' * 15}" for i in range(6))
    assert body(post(words), irc, LINKED) == words
    assert "[7 lines" in body(post(f"{words}\n\none more"), irc, LINKED)


def test_bytes_are_counted_as_utf_8():
    assert body(post("é" * 20), can(max_bytes=40)) == "é" * 20
    assert "too long" in refusal(post("é" * 21), can(max_bytes=40))


def test_lone_surrogates_are_counted_and_break_nothing():
    assert "too long" in refusal(post("\ud800" * 50), can(max_bytes=40))


def test_an_edit_is_as_bounded_as_a_message():
    edit = verbs.EditMessage(chat=CHAT, target=TARGET, content=Content(text=plain("x" * 500)))
    assert "too long" in refusal(edit, can(verbs.EditMessage, max_bytes=40))


def test_a_long_edit_becomes_a_link_to_the_whole():
    edit = verbs.EditMessage(chat=CHAT, target=TARGET, content=Content(text=plain("x " * 500)))
    assert body(edit, can(max_bytes=200), LINKED).endswith(" [1 line: https://b.example/t/1 ]")


# Files ------------------------------------------------------------------------------------------------------


def test_a_file_becomes_a_link_where_there_are_no_files():
    about = Aids(label="Example", file_link="https://b.example/f/1")
    assert body(post("", file=FILE), can(), about) == "cat.png (12.3 kB): https://b.example/f/1"
    assert body(post("look", file=FILE), can(), about) == "look\ncat.png (12.3 kB): https://b.example/f/1"


def test_a_long_name_of_a_file_is_cut_and_its_link_is_not():
    """A name may be as long as an event."""
    file = File(uri="mxc://example.org/abc", name="cat\n" * 20_000, size=12_345)
    words = body(
        post("", file=file), can(max_lines=6), Aids(label="Example", file_link="https://b.example/f/1")
    )
    assert words.startswith("cat cat cat ")
    assert words.endswith("… (12.3 kB): https://b.example/f/1")
    assert len(words) < 150


def test_a_caption_that_is_too_long_is_shortened_and_the_file_keeps_its_link():
    caption = "\n".join(f"line {i}" for i in range(100))
    both = Aids(label="Example", text_link="https://b.example/t/1", file_link="https://b.example/f/1")
    link = "cat.png (12.3 kB): https://b.example/f/1"
    short = "line 0 … [100 lines: https://b.example/t/1 ]"
    assert body(post(caption, file=FILE), can(max_lines=6), both).split("\n") == [short, link]
    assert body(post(caption, file=FILE), can(max_lines=1), both).split("\n") == [short, link]
    fits = caption[: caption.index("\nline 5")]
    assert body(post(fits, file=FILE), can(max_lines=6), both) == f"{fits}\n{link}"
    said = body(post("é" * 200, file=FILE), can(max_bytes=150), both)
    assert said.endswith(f" [1 line: https://b.example/t/1 ]\n{link}")
    assert len(said.encode()) <= 150


def test_a_caption_that_is_too_long_and_has_no_link_is_refused_with_the_reason():
    aids = Aids(label="Example", file_link="https://b.example/f/1", linkless=FOREIGN)
    notice = refusal(post("x\n" * 200, file=FILE), can(max_lines=6), aids)
    assert notice.endswith("and only what is said on Matrix is put under a link: send it in parts.")


def test_a_file_that_nothing_can_link_to_is_refused_with_its_name():
    assert "cat.png was not sent" in refusal(post("", file=FILE), can())


def test_what_is_put_under_no_address_is_refused_with_the_way_to_agree():
    sealed = Aids(label="Example", linkless=SEALED_ROOM)
    assert "`!bridge agree files`: cat.png was not sent" in refusal(post("", file=FILE), can(), sealed)
    assert "`!bridge agree files`: send it in parts" in refusal(post("x\n" * 200), can(max_lines=6), sealed)


def test_a_file_is_left_alone_where_there_are_files():
    assert posted(post("", file=FILE), can(files=True)).content.file == FILE


def test_a_file_to_be_shown_on_request_only_says_so_before_it_and_its_link():
    hidden = msgspec.structs.replace(FILE, spoiler="the end\nof the film")
    there = posted(post("", file=hidden), can(files=True)).content
    assert (there.file, there.text.body) == (hidden, "[spoiler: the end of the film]")
    assert posted(post("see?", file=hidden), can(files=True)).content.text.body.endswith("film] see?")
    aids = Aids(label="Example", file_link="https://b.example/f/1")
    linked = posted(post("", file=msgspec.structs.replace(FILE, spoiler="")), can(), aids)
    assert linked.content.text.body == "[spoiler] cat.png (12.3 kB): https://b.example/f/1"
    edit = verbs.EditMessage(chat=CHAT, target=TARGET, content=Content(file=hidden), key="k")
    for files, words in ((True, ""), (False, " cat.png")):
        (found,) = fit(edit, can(verbs.EditMessage, files=files), aids)  # type: ignore[misc]
        assert isinstance(found, verbs.EditMessage)
        assert found.content.text.body == f"[spoiler: the end of the film]{words}"


# Edits and reactions ----------------------------------------------------------------------------------------


def edited(words: str = "hello world", target: str = TARGET, **more: Any) -> verbs.EditMessage:
    return verbs.EditMessage(
        chat=CHAT, target=MessageId(target), content=Content(text=plain(words)), key="k", **more
    )


def test_a_native_edit_is_left_alone():
    assert fit(edited(), can(verbs.EditMessage), AIDS) == (edited(),)


def test_an_edit_becomes_a_starred_line_where_edits_are_missing():
    assert body(edited(), can()) == "* hello world"


def test_an_edit_of_what_has_no_id_there_is_said_anew():
    assert body(edited(target=""), can(verbs.EditMessage)) == "* hello world"


def test_a_small_edit_of_one_line_becomes_a_substitution():
    about = Aids(label="Example", before="I will be there at seven tomorrow morning")
    assert body(edited("I will be there at eight tomorrow morning"), can(), about) == "s/seven/eight/"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "hello"),
        ("same", "same"),
        ("one\ntwo", "one\nthree"),
        ("a a a", "a b a"),  # it is not clear which
        ("see /etc/passwd", "see /etc/shadow"),
        ("short", "other"),
    ],
)
def test_no_substitution_is_made_that_would_be_unclear_or_no_shorter(before: str, after: str):
    words = substitution(before, after)
    assert words == "" or len(words) <= 13


@given(facts_before := aids.map(lambda a: a.before), facts_before)
@example("0 ", "")  # a space would be left where the word was
def test_a_substitution_says_exactly_the_edit(before: str, after: str):
    words = substitution(before, after)
    if words:
        _, old, new, _ = words.split("/")
        assert before.count(old) == 1
        assert before.replace(old, new) == after


def test_a_relayed_edit_names_who_edits():
    assert posted(edited(speaker=ANN), can()).prefix == "<Ann> "
    (native,) = _fitted(edited(speaker=ANN), can(verbs.EditMessage))
    assert getattr(native, "prefix", "") == "<Ann> "


def _fitted(verb: Verb, what: Capabilities) -> tuple[Verb, ...]:
    found = fit(verb, what, AIDS)
    assert isinstance(found, tuple)
    return found


def reacted(**more: Any) -> verbs.React:
    return verbs.React(chat=CHAT, target=TARGET, reaction="👍", **more)


def test_a_native_reaction_of_the_account_itself_is_left_alone():
    assert fit(reacted(), can(verbs.React), AIDS) == (reacted(),)


def test_a_relayed_reaction_is_a_line_because_the_relay_has_one_hand():
    about = Aids(label="Example", about="shall we?")
    found = posted(reacted(speaker=ANN), can(verbs.React), about)
    assert (found.prefix, found.content.text.body) == ("* Ann ", "reacted 👍 to “shall we?”")


def test_a_reaction_that_was_a_line_is_not_taken_back_and_nobody_is_told():
    verb = verbs.Unreact(chat=CHAT, target=TARGET, reaction="👍", speaker=ANN)
    assert refusal(verb, can(verbs.Unreact)) == ""


def test_what_cannot_be_taken_back_is_told_to_its_sender():
    assert refusal(verbs.Retract(chat=CHAT, target=TARGET), can()) == (
        "Example cannot take messages back: it can still be read there."
    )
    assert "has no name" in refusal(verbs.Retract(chat=CHAT, target=MessageId("")), can(verbs.Retract))


def test_a_kick_that_cannot_be_done_says_whom():
    assert refusal(verbs.Kick(chat=CHAT, person=ANN), can()) == (
        "The bridge cannot do that on Example: kick Ann."
    )


def test_typing_that_cannot_be_shown_is_nobodys_concern():
    assert refusal(verbs.SetTyping(chat=CHAT, active=True), can()) == ""


# What holds for everything ----------------------------------------------------------------------------------


def _words(verb: Verb) -> Content | None:
    return getattr(verb, "content", None)


@given(contexts(), some_facts, capabilities, aids)
@example(
    around=None,
    fact=None,
    what=can(max_bytes=40),
    about=LINKED,
)
def test_nothing_comes_out_that_the_chat_cannot_carry(
    around: Context | None, fact: facts.Fact | None, what: Capabilities, about: Aids
):
    planned = [a.verb for a in plan(around, fact).actions] if around and fact else [post("\ud800" * 99)]
    for verb in planned:
        found = fit(verb, what, about)
        if isinstance(found, Refusal):
            assert found.notice == "" or (found.notice[0].isalpha() and found.notice.endswith("."))
            continue
        assert found
        for one in found:
            assert type(one) in what.verbs
            assert one.chat == verb.chat
            content = _words(one)
            if content is None:
                continue
            assert content.kind in what.kinds
            assert {s.style for s in content.text.spans} <= what.styles
            assert all(0 <= s.start < s.end <= len(content.text.body) for s in content.text.spans)
            assert content.file is None or what.files
            if what.max_bytes:
                assert split.utf8_size(content.text) <= what.max_bytes
            if isinstance(one, PostMessage):
                assert one.reply is None or (what.replies and one.reply.id)
                assert one.thread is None or what.threads


@given(contexts(), some_facts, capabilities, aids)
def test_words_of_another_side_always_show_who_speaks(
    around: Context, fact: facts.Fact, what: Capabilities, about: Aids
):
    """Each line of them: the prefix is put before every line and every piece by whoever sends it."""
    for action in plan(around, fact).actions:
        speaker = action.verb.speaker
        found = fit(action.verb, what, about)
        if speaker is None or isinstance(found, Refusal):
            continue
        for one in found:
            if not isinstance(one, verbs.PostMessage | verbs.EditMessage):
                continue
            if what.speakers:
                assert one.speaker == speaker
            else:
                assert one.speaker is None
                assert one.prefix
                assert "\n" not in one.prefix
                assert "\r" not in one.prefix
