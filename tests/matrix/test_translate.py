"""Matrix events become facts, and a stranger's event breaks nothing."""

import json
from typing import Any

import msgspec
import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.facts import (
    Change,
    ChatAvatar,
    ChatName,
    Edit,
    Fact,
    Membership,
    Message,
    Profile,
    Reaction,
    Retraction,
    Topic,
    Typing,
)
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, File, Kind, Person
from bridgekit.contract.text import Span, Style, Text, join, plain, styled
from bridgekit.matrix import translate
from bridgekit.matrix.translate import Encrypted, StateChanged, Unreadable

ROOM = ChatId("!room:example.org")
ALICE = PersonId("@alice:example.org")
BOB = PersonId("@bob:example.org")
NAMES = {ALICE: "Alice", BOB: "Bob"}
MXC = "mxc://example.org/abc"

Json = dict[str, Any]


def names(room: ChatId, user: PersonId) -> str:
    return NAMES.get(user, "")


def event(type: str, content: Json, **more: Any) -> bytes:
    return json.dumps(
        {
            "type": type,
            "room_id": ROOM,
            "sender": ALICE,
            "event_id": "$event",
            "origin_server_ts": 1_700_000_000_000,
            "content": content,
        }
        | more
    ).encode()


def fact(type: str, content: Json, **more: Any) -> Fact | StateChanged | Encrypted | Unreadable | None:
    return translate.fact(event(type, content, **more), names)


def said(content: Json, **more: Any) -> Message:
    found = fact("m.room.message", content, **more)
    assert isinstance(found, Message)
    return found


# Messages in ----------------------------------------------------------------------------------------------------


def test_a_plain_message_becomes_a_fact() -> None:
    assert said({"msgtype": "m.text", "body": "hello"}) == Message(
        chat=ROOM,
        at=1_700_000_000_000,
        sender=Person(id=ALICE, name="Alice"),
        id=MessageId("$event"),
        content=Content(text=plain("hello")),
    )


@pytest.mark.parametrize(
    ("msgtype", "kind"),
    [
        ("m.text", Kind.TEXT),
        ("m.notice", Kind.NOTICE),
        ("m.emote", Kind.EMOTE),
        ("m.server_notice", Kind.NOTICE),
        ("org.example.dance", Kind.TEXT),
    ],
)
def test_a_message_is_meant_as_its_msgtype_says_and_an_unknown_one_is_its_body(
    msgtype: str, kind: Kind
) -> None:
    assert said({"msgtype": msgtype, "body": "waves"}).content == Content(text=plain("waves"), kind=kind)


def test_html_is_preferred_to_the_body_unless_it_says_nothing() -> None:
    html = {
        "msgtype": "m.text",
        "body": "*hi*",
        "format": "org.matrix.custom.html",
        "formatted_body": "<em>hi</em>",
    }
    assert said(html).content.text == styled("hi", Style.ITALIC)
    assert said(html | {"formatted_body": "<b></b>"}).content.text == plain("*hi*")
    assert said(html | {"format": "text/bbcode"}).content.text == plain("*hi*")


def test_control_characters_never_come_in() -> None:
    assert said({"body": "a\r\nb\x00\x02\x1bc\td"}).content.text == plain("a\nbc\td")


def test_a_reply_loses_its_fallback_and_keeps_its_target() -> None:
    """Client-Server API 11.23.1 (fallbacks, removed by MSC2781, still written by older clients)."""
    reply = {
        "msgtype": "m.text",
        "body": "> <@bob:example.org> first\n> second\n\nyes",
        "format": "org.matrix.custom.html",
        "formatted_body": "<mx-reply><blockquote>first<br>second</blockquote></mx-reply>yes",
        "m.relates_to": {"m.in_reply_to": {"event_id": "$first"}},
    }
    for content in (reply, reply | {"format": ""}):
        found = said(content)
        assert (found.content.text, found.reply_to, found.thread) == (plain("yes"), "$first", None)


def test_a_quote_that_is_no_fallback_stays() -> None:
    assert (
        said({"body": "> <@bob:example.org> x\n\nyes"}).content.text.body == "> <@bob:example.org> x\n\nyes"
    )
    answer = {"body": "> markdown quote\n\nyes", "m.relates_to": {"m.in_reply_to": {"event_id": "$first"}}}
    assert said(answer).content.text.body == "> markdown quote\n\nyes"


@pytest.mark.parametrize(("falling_back", "reply_to"), [(True, None), (False, "$other")])
def test_in_a_thread_a_fallback_reply_is_none(falling_back: bool, reply_to: str | None) -> None:
    relation = {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": falling_back,
        "m.in_reply_to": {"event_id": "$other"},
    }
    found = said({"body": "x", "m.relates_to": relation})
    assert (found.thread, found.reply_to) == ("$root", reply_to)


def test_an_edit_replaces_the_words_of_its_target() -> None:
    content = {
        "msgtype": "m.text",
        "body": "* new",
        "m.new_content": {"msgtype": "m.text", "body": "new"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$old"},
    }
    assert fact("m.room.message", content) == Edit(
        chat=ROOM,
        at=1_700_000_000_000,
        sender=Person(id=ALICE, name="Alice"),
        target=MessageId("$old"),
        content=Content(text=plain("new")),
        id=MessageId("$event"),
    )


def test_a_file_has_a_caption_where_its_name_differs_from_the_body() -> None:
    info = {"mimetype": "image/jpeg", "size": 123, "w": 4, "h": 5}
    image = {"msgtype": "m.image", "body": "cat.jpg", "url": MXC, "info": info}
    file = File(uri=MXC, name="cat.jpg", mime="image/jpeg", size=123, width=4, height=5)
    assert said(image).content == Content(file=file)
    assert said(image | {"filename": "cat.jpg"}).content == Content(file=file)
    captioned = said(image | {"filename": "cat.jpg", "body": "my cat"}).content
    assert captioned == Content(text=plain("my cat"), file=file)


@pytest.mark.parametrize("name", ["m.spoiler", "page.codeberg.everypizza.msc4193.spoiler"])
def test_a_file_may_be_hidden_until_somebody_asks_for_it(name: str) -> None:
    """MSC4193, "Proposal": `m.spoiler` is a boolean, `m.spoiler.reason` text that may be missing."""
    image = {"msgtype": "m.image", "body": "cat.jpg", "url": MXC, name: True}

    def spoiler(more: dict[str, Any]) -> str | None:
        file = said(image | more).content.file
        assert file is not None
        return file.spoiler

    assert spoiler({}) == ""
    assert spoiler({f"{name}.reason": " the\nend\x00 "}) == "the end"
    assert spoiler({f"{name}.reason": ["no text"]}) == ""
    assert spoiler({name: "yes"}) is spoiler({name: False}) is None


@pytest.mark.parametrize(
    ("msgtype", "mime"),
    [
        ("m.file", "application/octet-stream"),
        ("m.audio", "audio/ogg"),
        ("m.video", "video/mp4"),
        ("m.image", "image/png"),
    ],
)
def test_a_file_without_a_type_has_the_usual_one(msgtype: str, mime: str) -> None:
    found = said(
        {"msgtype": msgtype, "body": "x", "url": MXC, "info": {"mimetype": "no\ntype", "duration": 7}}
    )
    assert found.content.file == File(uri=MXC, name="x", mime=mime, duration=7)


def test_an_encrypted_file_keeps_its_key() -> None:
    key = {"url": MXC, "key": {"k": "secret"}, "iv": "iv", "hashes": {"sha256": "h"}, "v": "v2"}
    found = said({"msgtype": "m.file", "body": "x", "file": key}).content.file
    assert found is not None
    assert found.key is not None
    assert (found.uri, json.loads(found.key)) == (MXC, key)


@pytest.mark.parametrize(
    ("name", "kept"), [("../../etc/passwd", "passwd"), ("a\\b.txt", "b.txt"), ("", "file"), ("x\r\ny", "x y")]
)
def test_a_file_name_is_no_path(name: str, kept: str) -> None:
    file = said({"msgtype": "m.file", "body": name, "url": MXC}).content.file
    assert file is not None
    assert file.name == kept


def test_a_sticker_is_a_picture() -> None:
    found = fact("m.sticker", {"body": "cat", "url": MXC, "info": {"mimetype": "image/webp"}})
    assert isinstance(found, Message)
    assert found.content == Content(file=File(uri=MXC, name="cat", mime="image/webp"))


def test_a_location_is_words_and_a_link() -> None:
    content = {"msgtype": "m.location", "body": "Big Ben", "geo_uri": "geo:51.5008,0.1247;u=35"}
    url = "https://www.openstreetmap.org/?mlat=51.5008&mlon=0.1247"
    assert said(content).content.text == join("Big Ben ", styled("geo:51.5008,0.1247", Style.LINK, url))
    assert said(content | {"geo_uri": "geo:x"}).content.text == plain("Big Ben")
    body = "Location was shared at geo:51.5008,0.1247;u=35 as of today"
    assert said(content | {"body": body}).content.text == join(
        "Location was shared at ", styled("geo:51.5008,0.1247", Style.LINK, url), " as of today"
    )


def test_a_poll_is_its_words() -> None:
    found = fact("org.matrix.msc3381.poll.start", {"org.matrix.msc1767.text": "Lunch?\n1. yes\n2. no"})
    assert isinstance(found, Message)
    assert found.content.text == plain("Lunch?\n1. yes\n2. no")


def test_mentions_are_pills_and_those_named_in_a_plain_body() -> None:
    pill = f'<a href="https://matrix.to/#/{BOB}">Bob</a>: hi Alice'
    html = {"body": "x", "format": "org.matrix.custom.html", "formatted_body": pill}
    mentions = {"m.mentions": {"user_ids": [BOB, ALICE, "@nobody:x"]}}
    both = Text("Bob: hi Alice", (Span(0, 3, Style.MENTION, BOB), Span(8, 13, Style.MENTION, ALICE)))
    assert said(html | mentions).content.text == both
    assert said({"body": "Bobby, @Bob!"} | mentions).content.text == Text(
        "Bobby, @Bob!", (Span(7, 11, Style.MENTION, BOB),)
    )
    assert said({"body": f"ask {BOB}"} | mentions).content.text.spans == (Span(4, 20, Style.MENTION, BOB),)


def test_a_redacted_message_says_nothing() -> None:
    assert fact("m.room.message", {}) is None
    assert (
        fact("m.room.message", {"body": "x"}, unsigned={"redacted_because": {"type": "m.room.redaction"}})
        is None
    )
    assert fact("m.room.message", {"body": "x"}, unsigned={"redacted_because": None}) is not None


def test_what_the_bridge_does_not_speak_says_nothing() -> None:
    assert fact("org.example.thing", {"state": "x"}) is None
    assert fact("m.room.message", {"msgtype": "m.key.verification.request", "body": "x"}) is None


def test_an_encrypted_event_is_said_to_be_one() -> None:
    found = fact("m.room.encrypted", {"ciphertext": "x"})
    assert isinstance(found, Encrypted)
    assert found.chat == ROOM


def test_a_field_of_a_wrong_type_counts_as_absent() -> None:
    odd: Json = {
        "body": "cat",
        "msgtype": "m.image",
        "url": MXC,
        "info": {"size": "big", "w": 1.5, "h": -3, "duration": 2**60},
    }
    more: Json = {"m.mentions": None, "m.relates_to": [1], "format": 7, "filename": {}}
    assert said(odd | more, unsigned=[]).content == Content(file=File(uri=MXC, name="cat", mime="image/png"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        event("m.room.message", {"body": "x"}, sender=None),
        event("m.room.message", {"body": "x"}, sender="alice"),
        event("m.room.message", {"body": "x"}, room_id=""),
        event("m.room.message", {"body": "x"}, event_id=""),
        event("m.room.message", {"body": "x"}, origin_server_ts=2**70),
        event("m.room.power_levels", 5, state_key=""),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_event_is_the_peers_fault(raw: bytes) -> None:
    with pytest.raises(PeerMisbehaved):
        translate.fact(raw, names)


RELATION = {"rel_type": "m.annotation", "event_id": "$target", "key": "👍"}


@pytest.mark.parametrize(
    ("type", "content", "why"),
    [
        ("m.room.message", {"msgtype": "m.text"}, "a message without a body"),
        ("m.room.message", {"body": None}, "a message without a body"),
        ("m.room.message", {"body": 5, "formatted_body": "<b>x</b>"}, "a message without a body"),
        ("m.room.message", {"body": ["x"]}, "a message without a body"),
        ("m.room.message", [], "something that is no JSON object"),
        ("m.room.message", "hello", "something that is no JSON object"),
        ("m.room.message", {"msgtype": "m.image", "body": "cat.png"}, "not on a homeserver"),
        (
            "m.room.message",
            {"msgtype": "m.video", "body": "x", "url": "https://x.org/a"},
            "not on a homeserver",
        ),
        ("m.room.message", {"msgtype": "m.file", "body": "x", "file": {"key": {}}}, "not on a homeserver"),
        ("m.room.message", {"msgtype": "m.audio", "body": "x", "url": 7}, "not on a homeserver"),
        ("m.sticker", {"body": "x", "url": ""}, "not on a homeserver"),
        ("m.sticker", {"url": MXC}, "a message without a body"),
        ("org.matrix.msc3381.poll.start", {"poll": {}}, "a poll without a question"),
        ("m.reaction", {"m.relates_to": []}, "not to what"),
        ("m.reaction", {"m.relates_to": RELATION | {"key": " "}}, "says nothing"),
        ("m.reaction", {"m.relates_to": RELATION | {"event_id": 7}}, "not to what"),
        ("m.reaction", {"m.relates_to": RELATION | {"key": "x" * 101}}, "more than 100 characters"),
    ],
)
def test_who_sends_what_nobody_can_read_is_told_why(type: str, content: Any, why: str) -> None:
    found = fact(type, content)
    assert isinstance(found, Unreadable)
    assert (found.chat, found.at, found.sender) == (ROOM, 1_700_000_000_000, ALICE)
    assert why in found.why


ANSWERS = {"m.relates_to": {"rel_type": "m.reference", "event_id": "$poll"}}


@pytest.mark.parametrize(
    ("type", "content", "why"),
    [
        ("m.call.invite", {"call_id": "1", "offer": {"type": "offer", "sdp": ""}}, "Calls are not passed on"),
        ("org.matrix.msc4075.rtc.notification", {"lifetime": 30000}, "Calls are not passed on"),
        ("m.poll.response", ANSWERS | {"m.selections": ["2"]}, "Votes are not passed on"),
        (
            "org.matrix.msc3381.poll.response",
            ANSWERS | {"org.matrix.msc3381.poll.response": {"answers": ["2"]}},
            "Votes are not passed on",
        ),
        ("org.matrix.msc3381.poll.end", ANSWERS | {"org.matrix.msc3381.poll.end": {}}, "The end of a poll"),
        ("org.matrix.msc3672.beacon", {"org.matrix.msc3488.location": {"uri": "geo:1,1"}}, "A live location"),
        ("m.message", {"m.text": [{"body": "hello"}]}, "this kind of message (m.message)"),
        ("org.example.song", {"body": "la la"}, "this kind of message (org.example.song)"),
        ("an odd\nname", {"body": "la la"}, "this kind of message, and cannot"),
    ],
)
def test_who_sends_what_no_network_can_have_is_told_so(type: str, content: Json, why: str) -> None:
    """README: refused with a sentence for the sender, never dropped silently."""
    found = fact(type, content)
    assert isinstance(found, Unreadable)
    assert (found.chat, found.sender, found.again) == (ROOM, ALICE, True)
    assert why in found.why


@pytest.mark.parametrize(
    ("type", "content"),
    [
        ("m.call.candidates", {"call_id": "1", "candidates": [{"candidate": "x"}]}),
        ("m.call.hangup", {"call_id": "1", "reason": "user_hangup"}),
        ("m.call.invite", {}),  # redacted
        ("m.key.verification.start", {"method": "m.sas.v1", "body": "x"}),
        ("com.beeper.message_send_status", {"status": "SUCCESS", "message": "x", "body": "x"}),
        ("org.example.bookkeeping", {"state": 5}),
        ("org.example.empty", {"body": " ", "m.text": []}),
        ("org.example.list", []),
    ],
)
def test_what_programs_tell_each_other_is_answered_by_nobody(type: str, content: Any) -> None:
    assert fact(type, content) is None


@pytest.mark.parametrize("body", ["", "   ", "\n\t \n", "\u00a0\u2003", "\x00\x02 "])
@pytest.mark.parametrize("msgtype", ["m.text", "m.emote", "m.notice"])
def test_blanks_are_no_message(msgtype: str, body: str) -> None:
    """No network would show anything, so the sender is not told that it arrived."""
    found = fact("m.room.message", {"msgtype": msgtype, "body": body})
    assert isinstance(found, Unreadable)
    assert found.why == "There is nothing in it but blanks, and nothing was sent."


def test_an_edit_into_a_picture_that_is_nowhere_is_unreadable_as_well() -> None:
    content = {
        "body": "* x",
        "m.new_content": {"msgtype": "m.image", "body": "x"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$target"},
    }
    assert isinstance(fact("m.room.message", content), Unreadable)


@pytest.mark.parametrize(
    "odd",
    [
        {"m.relates_to": 7},
        {"m.relates_to": {"m.in_reply_to": ["$x"]}},
        {"m.relates_to": {"rel_type": 3, "event_id": {}}},
        {"format": "org.matrix.custom.html", "formatted_body": {"b": 1}},
        {"format": ["org.matrix.custom.html"], "formatted_body": "<b>other</b>"},
        {"m.mentions": "everybody"},
        {"m.mentions": {"user_ids": [7]}},
        {"info": {"size": 2**80}},
        {"msgtype": 5},
    ],
)
def test_what_is_odd_beside_the_words_costs_nobody_their_words(odd: Json) -> None:
    assert said({"msgtype": "m.text", "body": "hello"} | odd).content == Content(text=plain("hello"))


def test_a_server_that_lives_before_1970_is_heard() -> None:
    assert said({"msgtype": "m.text", "body": "hello"}, origin_server_ts=-5).at == 0


# Reactions, redactions, members, state --------------------------------------------------------------------------


def test_a_reaction_and_its_redaction() -> None:
    sender = Person(id=ALICE, name="Alice")
    assert fact("m.reaction", {"m.relates_to": RELATION}) == Reaction(
        chat=ROOM,
        at=1_700_000_000_000,
        sender=sender,
        target=MessageId("$target"),
        key="👍",
        id=MessageId("$event"),
    )
    retraction = Retraction(
        chat=ROOM, at=1_700_000_000_000, sender=sender, target=MessageId("$reaction"), reason="oops"
    )
    assert fact("m.room.redaction", {"reason": "oops"}, redacts="$reaction") == retraction
    assert fact("m.room.redaction", {"reason": "oops", "redacts": "$reaction"}) == retraction
    assert fact("m.room.redaction", {}) is None
    assert fact("m.reaction", {}) is None


def member(
    membership: str,
    before: str | None = None,
    sender: str = BOB,
    previous: Json | None = None,
    **content: Any,
) -> Fact | StateChanged | Encrypted | Unreadable | None:
    unsigned = {"prev_content": {"membership": before} | (previous or {})} if before else {}
    return fact(
        "m.room.member", {"membership": membership} | content, state_key=BOB, sender=sender, unsigned=unsigned
    )


@pytest.mark.parametrize(
    ("before", "now", "sender", "change"),
    [
        (None, "join", BOB, Change.JOIN),
        ("leave", "join", BOB, Change.JOIN),
        ("invite", "join", BOB, Change.JOIN),
        ("join", "leave", BOB, Change.LEAVE),
        (None, "leave", BOB, Change.LEAVE),
        ("join", "leave", ALICE, Change.KICK),
        (None, "leave", ALICE, Change.KICK),
        ("invite", "leave", BOB, Change.LEAVE),
        ("invite", "leave", ALICE, Change.LEAVE),
        ("join", "ban", ALICE, Change.BAN),
        ("leave", "ban", ALICE, Change.BAN),
        ("ban", "ban", ALICE, None),
        ("ban", "leave", ALICE, Change.UNBAN),
        (None, "invite", ALICE, Change.INVITE),
        (None, "knock", BOB, None),
        ("knock", "leave", ALICE, None),
        ("leave", "leave", ALICE, None),
        (None, "dance", BOB, None),
    ],
)
def test_memberships_change(before: str | None, now: str, sender: str, change: Change | None) -> None:
    found = member(now, before, sender)
    if change is None:
        assert found is None
    else:
        assert isinstance(found, Membership)
        assert (found.change, found.person.id, found.person.name) == (change, BOB, "Bob")
        assert found.actor == (None if sender == BOB else Person(id=ALICE, name="Alice"))


def test_a_join_tells_the_name_and_the_picture() -> None:
    found = member("join", displayname="Robert", avatar_url=MXC)
    assert isinstance(found, Membership)
    assert found.person == Person(id=BOB, name="Robert", avatar=File(uri=MXC, name="avatar"))


def test_a_new_name_is_a_new_profile_of_the_same_person() -> None:
    assert member("join", "join", previous={"displayname": "Bob"}, displayname="Robert") == Profile(
        chat=ROOM, at=1_700_000_000_000, person=Person(id=BOB, name="Robert"), previous="Bob"
    )
    assert member("join", "join", previous={"displayname": "Bob"}, displayname="Bob") is None


def test_who_has_no_name_is_called_by_their_localpart() -> None:
    found = fact("m.room.member", {"membership": "leave"}, state_key="@carol:x", sender="@carol:x")
    assert isinstance(found, Membership)
    assert found.person == Person(id=PersonId("@carol:x"), name="carol")


def test_an_invitation_to_a_direct_chat_is_private() -> None:
    found = member("invite", sender=ALICE, is_direct=True)
    assert isinstance(found, Membership)
    assert found.private


def test_a_topic_is_its_plain_text() -> None:
    topic = {
        "topic": "old",
        "m.topic": {"m.text": [{"body": "<b>new</b>", "mimetype": "text/html"}, {"body": "new"}]},
    }
    found = fact("m.room.topic", topic, state_key="")
    assert found == Topic(chat=ROOM, at=1_700_000_000_000, topic="new", actor=Person(id=ALICE, name="Alice"))
    found = fact("m.room.topic", {"topic": "plain"}, state_key="")
    assert isinstance(found, Topic)
    assert found.topic == "plain"


def test_a_rooms_name_is_its_name() -> None:
    found = fact("m.room.name", {"name": "The\0 Den"}, state_key="")
    alice = Person(id=ALICE, name="Alice")
    assert found == ChatName(chat=ROOM, at=1_700_000_000_000, name="The Den", actor=alice)
    assert fact("m.room.name", {}, state_key="") == msgspec.structs.replace(found, name="")


def test_a_rooms_picture_is_a_file_in_clear_or_none() -> None:
    said = {"url": MXC, "info": {"mimetype": "image/webp", "size": 9, "w": 3}, "file": {"url": "mxc://hs/x"}}
    found = fact("m.room.avatar", said, state_key="")
    alice = Person(id=ALICE, name="Alice")
    shown = File(uri=MXC, name="avatar", mime="image/webp", size=9, width=3)
    assert found == ChatAvatar(chat=ROOM, at=1_700_000_000_000, avatar=shown, actor=alice)
    for url in ("", "https://elsewhere.example/face.png"):
        assert fact("m.room.avatar", {"url": url}, state_key="") == msgspec.structs.replace(
            found, avatar=None
        )


def test_other_state_is_told_as_it_is() -> None:
    content = {"replacement_room": "!new:example.org", "body": "moved"}
    assert fact(
        "m.room.tombstone", content, state_key="", unsigned={"prev_content": {"a": 1}}
    ) == StateChanged(
        chat=ROOM,
        at=1_700_000_000_000,
        type="m.room.tombstone",
        key="",
        content=content,
        sender=ALICE,
        previous={"a": 1},
    )


# Ephemeral ------------------------------------------------------------------------------------------------------


def test_typing_is_what_changed_since_the_last_list() -> None:
    typists: dict[ChatId, frozenset[PersonId]] = {}

    def now(*users: object) -> list[Fact]:
        raw = json.dumps({"type": "m.typing", "room_id": ROOM, "content": {"user_ids": users}}).encode()
        return translate.ephemeral(raw, typists, names, at=5)

    alice, bob = Person(id=ALICE, name="Alice"), Person(id=BOB, name="Bob")
    assert now(ALICE) == [Typing(chat=ROOM, at=5, sender=alice, active=True)]
    assert now(ALICE) == []
    assert now(BOB) == [
        Typing(chat=ROOM, at=5, sender=alice, active=False),
        Typing(chat=ROOM, at=5, sender=bob, active=True),
    ]
    assert now() == [Typing(chat=ROOM, at=5, sender=bob, active=False)]
    assert typists == {}
    assert now("odd", ALICE) == [Typing(chat=ROOM, at=5, sender=alice, active=True)]


def test_only_public_receipts_are_told() -> None:
    content = {
        "$a": {"m.read": {ALICE: {"ts": 7}, BOB: {}}, "m.read.private": {BOB: {"ts": 8}}},
        "$b": {"m.read": 5},
    }
    raw = json.dumps({"type": "m.receipt", "room_id": ROOM, "content": content}).encode()
    assert translate.ephemeral(raw, {}, names) == [
        facts.Receipt(chat=ROOM, at=7, sender=Person(id=ALICE, name="Alice"), target=MessageId("$a")),
        facts.Receipt(chat=ROOM, at=0, sender=Person(id=BOB, name="Bob"), target=MessageId("$a")),
    ]


# What an event changes, before its turn ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "content", "more"),
    [
        ("m.room.redaction", {}, {"redacts": "$said"}),  # room versions up to 10
        ("m.room.redaction", {"redacts": "$said"}, {}),  # from 11 on
        ("m.room.message", {"m.relates_to": {"rel_type": "m.replace", "event_id": "$said"}}, {}),
        (
            "m.room.encrypted",
            {"ciphertext": "...", "m.relates_to": {"rel_type": "m.replace", "event_id": "$said"}},
            {},
        ),
    ],
)
def test_which_event_is_replaced_or_redacted_is_seen_without_opening_anything(
    type: str, content: Json, more: Json
) -> None:
    assert translate.amended(event(type, content, **more)) == "$said"


@pytest.mark.parametrize(
    "raw",
    [
        event("m.room.message", {"body": "m.replace m.room.redaction"}),
        event("m.room.message", {"m.relates_to": {"rel_type": "m.thread", "event_id": "$m.replace"}}),
        event("m.room.message", {"m.relates_to": {"rel_type": "m.replace", "event_id": 7}}),
        event("m.room.message", {"m.relates_to": {"rel_type": "m.replace"}}),
        event("m.room.redaction", {}),
        event("m.room.redaction", {"redacts": 7}),
        event("m.room.redaction", {}, redacts="$said", state_key=""),
        b'"m.replace"',
        b"m.room.redaction",
        b"",
    ],
)
def test_what_changes_nothing_or_is_no_event_amends_nothing(raw: bytes) -> None:
    assert translate.amended(raw) is None


def test_an_encrypted_edit_says_in_clear_which_event_it_replaces() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$said"}
    edit = fact("m.room.encrypted", {"ciphertext": "...", "m.relates_to": relation})
    assert isinstance(edit, Encrypted)
    assert edit.edits == "$said"
    other = fact(
        "m.room.encrypted", {"ciphertext": "...", "m.relates_to": relation | {"rel_type": "m.thread"}}
    )
    assert isinstance(other, Encrypted)
    assert other.edits is None


@pytest.mark.parametrize(
    ("content", "more", "gone"),
    [
        ({"body": "here", "msgtype": "m.text"}, {}, False),
        ({}, {}, True),
        ({"body": "here"}, {"unsigned": {"redacted_because": {"type": "m.room.redaction"}}}, True),
        ({}, {"state_key": ""}, False),
    ],
)
def test_a_room_shows_what_was_taken_back(content: Json, more: Json, gone: bool) -> None:
    assert translate.is_redacted(event("m.room.message", content, **more)) is gone
    assert not translate.is_redacted(b"no event")
