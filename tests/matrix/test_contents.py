"""Verbs become event contents: whole, in as many as they need, and with a way back."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgekit.contract.ids import MessageId
from bridgekit.contract.people import Content, File, Kind, Quote
from bridgekit.contract.text import Span, Style, Text, join, plain, styled
from bridgekit.contract.verbs import EditMessage, PostMessage, React
from bridgekit.matrix import translate
from bridgekit.matrix.contents import MAX_CONTENT
from tests.matrix.test_translate import BOB, MXC, ROOM, Json, said


def post(text: Text | str, **more: Any) -> PostMessage:
    kind = more.pop("kind", Kind.TEXT)
    file = more.pop("file", None)
    words = plain(text) if isinstance(text, str) else text
    return PostMessage(chat=ROOM, content=Content(text=words, kind=kind, file=file), **more)


def test_a_plain_message_goes_out_plain() -> None:
    assert translate.contents(post("a < b")) == [
        ("m.room.message", {"msgtype": "m.text", "body": "a < b", "m.mentions": {}})
    ]
    assert translate.content(post("waves", kind=Kind.EMOTE))[1]["msgtype"] == "m.emote"
    assert translate.content(post("beep", kind=Kind.NOTICE))[1]["msgtype"] == "m.notice"
    assert translate.contents(post("")) == []


def test_the_source_stands_in_every_content() -> None:
    for verb in (post("x"), React(chat=ROOM, target=MessageId("$a"), reaction="👍")):
        assert translate.content(verb, source="net/1")[1]["org.bridgekit.source"] == "net/1"


def test_styled_words_go_out_with_html_and_mentions() -> None:
    text = join(styled("Bob", Style.MENTION, BOB), ": ", styled("hi", Style.BOLD))
    assert translate.content(post(text))[1] == {
        "msgtype": "m.text",
        "body": "Bob: hi",
        "format": "org.matrix.custom.html",
        "formatted_body": f'<a href="https://matrix.to/#/{BOB}">Bob</a>: <strong>hi</strong>',
        "m.mentions": {"user_ids": [BOB]},
    }


def test_replies_and_threads_are_relations_without_a_quote() -> None:
    reply = Quote(id=MessageId("$a"), author="Bob", words="old")
    thread = MessageId("$root")
    assert translate.content(post("x", reply=reply))[1]["m.relates_to"] == {
        "m.in_reply_to": {"event_id": "$a"}
    }
    assert translate.content(post("x", reply=Quote(words="old")))[1].get("m.relates_to") is None
    assert translate.content(post("x", thread=thread))[1]["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": "$root"},
    }
    relation = translate.content(post("x", thread=thread, reply=reply))[1]["m.relates_to"]
    assert (relation["is_falling_back"], relation["m.in_reply_to"]) == (False, {"event_id": "$a"})


def test_a_file_goes_out_with_its_name_and_caption() -> None:
    file = File(uri=MXC, name="cat.jpg", mime="image/jpeg", size=5, width=1, height=2)
    bare = {
        "msgtype": "m.image",
        "body": "cat.jpg",
        "filename": "cat.jpg",
        "url": MXC,
        "info": {"mimetype": "image/jpeg", "size": 5, "w": 1, "h": 2},
        "m.mentions": {},
    }
    assert translate.content(post("", file=file))[1] == bare
    assert translate.content(post("my cat", file=file))[1] == bare | {"body": "my cat"}
    key = {"url": "mxc://old/x", "key": {"k": "secret"}, "iv": "iv"}
    sealed = File(uri=MXC, name="a.bin", key=json.dumps(key).encode())
    found = translate.content(post("", file=sealed))[1]
    assert (found["msgtype"], found["file"], "url" in found) == ("m.file", key | {"url": MXC}, False)


def test_a_hidden_file_goes_out_hidden() -> None:
    """MSC4193, "Unstable prefix"."""
    found = translate.content(post("", file=File(uri=MXC, name="cat.jpg", spoiler="the end")))[1]
    assert found["page.codeberg.everypizza.msc4193.spoiler"] is True
    assert found["page.codeberg.everypizza.msc4193.spoiler.reason"] == "the end"
    bare = translate.content(post("", file=File(uri=MXC, name="cat.jpg", spoiler="")))[1]
    assert "page.codeberg.everypizza.msc4193.spoiler.reason" not in bare


def test_an_edit_goes_out_with_its_new_content_and_a_starred_fallback() -> None:
    edit = EditMessage(chat=ROOM, target=MessageId("$old"), content=Content(text=styled("new", Style.BOLD)))
    new = {
        "msgtype": "m.text",
        "body": "new",
        "format": "org.matrix.custom.html",
        "formatted_body": "<strong>new</strong>",
        "m.mentions": {},
    }
    assert translate.content(edit) == (
        "m.room.message",
        {
            "msgtype": "m.text",
            "body": "* new",
            "format": "org.matrix.custom.html",
            "formatted_body": "* <strong>new</strong>",
            "m.mentions": {},
            "m.new_content": new,
            "m.relates_to": {"rel_type": "m.replace", "event_id": "$old"},
        },
    )


def test_a_reaction_goes_out_as_an_annotation() -> None:
    assert translate.content(React(chat=ROOM, target=MessageId("$a"), reaction="👍")) == (
        "m.reaction",
        {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$a", "key": "👍"}},
    )


def test_characters_that_matrix_cannot_carry_are_replaced_one_for_one() -> None:
    text = Text("a\x00\ud800b", (Span(3, 4, Style.BOLD),))
    found = translate.content(post(text))[1]
    assert (found["body"], found["formatted_body"]) == ("a��b", "a��<strong>b</strong>")


def size(content: Json) -> int:
    return len(msgspec.json.encode(content))


@pytest.mark.parametrize("words", ["word " * 40_000, "漢" * 50_000, '"\\\n' * 30_000, "👨‍👩‍👧‍👦" * 6_000])
def test_a_text_too_long_for_one_event_goes_out_as_several(words: str) -> None:
    reply, thread = Quote(id=MessageId("$a")), MessageId("$root")
    found = [content for _, content in translate.contents(post(words, reply=reply, thread=thread))]
    assert len(found) > 1
    assert all(size(content) <= MAX_CONTENT for content in found)
    joined = "".join(content["body"] for content in found)
    separators = (" ", "\n")
    assert [c for c in joined if c not in separators] == [c for c in words if c not in separators]
    assert [content["m.relates_to"]["is_falling_back"] for content in found] == [False] + [True] * (
        len(found) - 1
    )


def test_a_long_styled_text_keeps_its_styles_in_every_piece() -> None:
    found = [content for _, content in translate.contents(post(styled("x" * 100_000, Style.BOLD)))]
    assert all(c["formatted_body"] == f"<strong>{c['body']}</strong>" for c in found)
    assert all(size(c) <= MAX_CONTENT for c in found)


def test_a_long_caption_goes_on_behind_its_file() -> None:
    found = [c for _, c in translate.contents(post("word " * 20_000, file=File(uri=MXC, name="x")))]
    assert [c["msgtype"] for c in found] == ["m.file", "m.text"]
    assert all(size(c) <= MAX_CONTENT for c in found)


@pytest.mark.parametrize("length", [30_000, 50_000, 200_000])
def test_a_long_edit_is_one_event_that_fits(length: int) -> None:
    edit = EditMessage(chat=ROOM, target=MessageId("$old"), content=Content(text=plain("x" * length)))
    [(_, content)] = translate.contents(edit)
    assert size(content) <= MAX_CONTENT
    new = content["m.new_content"]["body"]
    assert new == "x" * length if length <= 50_000 else new.endswith("x…")


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30))
def test_what_goes_out_comes_back_the_same(words: str) -> None:
    type, content = translate.content(post(words))
    assert said(content).content.text == plain(words)
    assert type == "m.room.message"
