"""What lines say: words, CTCP, tags, redactions, history."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.facts import Message, Reaction, Retraction, Typing, Unreaction
from bridgekit.contract.ids import ChatId, LoginId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import Span, Style, Text, styled
from connectors.irc.protocol.outline import OutLine, Urgency
from connectors.irc.protocol.state import State
from connectors.irc.protocol.wire import parse
from connectors.irc.words.hearing import Echo
from connectors.irc.words.identity import Identity
from connectors.irc.words.translate import HistoryEnd, Reader
from tests.connectors.irc.reading import AT, HELLO, enable, in_channel, read, reader, readings

C = ChatId("#c")
ALICE = Person(id=PersonId("alice"), name="alice", account="al")
FROM_ALICE = ":alice!a@alice.host"


def messages(one: Reader, *script: str) -> list[Message]:
    return [f for f in read(one, *script) if isinstance(f, Message)]


def test_words_in_a_channel_are_a_message_there() -> None:
    assert messages(in_channel(), f"@msgid=m1 {FROM_ALICE} PRIVMSG #C :hi \x02there") == [
        Message(
            chat=C, at=AT, sender=ALICE, id=MessageId("m1"),
            content=Content(text=Text("hi there", (Span(3, 8, Style.BOLD),))),
        )
    ]  # fmt: skip


def test_words_to_us_are_a_message_of_a_private_chat() -> None:
    [message] = messages(in_channel(), ":Dave!d@d.host PRIVMSG me :psst")
    assert (message.chat, message.private, message.sender) == (
        ChatId("dave"), True, Person(id=PersonId("dave"), name="Dave"),
    )  # fmt: skip


def test_an_action_is_an_emote_and_a_notice_is_a_notice() -> None:
    one = in_channel()
    found = messages(one, f"{FROM_ALICE} PRIVMSG #c :\x01ACTION waves\x01", f"{FROM_ALICE} NOTICE #c :beep")
    assert [(m.content.kind, m.content.text.body) for m in found] == [
        (Kind.EMOTE, "waves"),
        (Kind.NOTICE, "beep"),
    ]


def test_ctcp_requests_are_answered_and_the_rest_is_ignored() -> None:
    one = in_channel()
    found = readings(
        one,
        f"{FROM_ALICE} PRIVMSG me :\x01VERSION\x01",
        f"{FROM_ALICE} PRIVMSG me :\x01PING 123 456\x01",
        f"{FROM_ALICE} PRIVMSG me :\x01TIME\x01",
        f"{FROM_ALICE} PRIVMSG me :\x01DCC SEND x\x01",
        f"{FROM_ALICE} PRIVMSG #c :\x01VERSION\x01",
        f"{FROM_ALICE} NOTICE me :\x01VERSION other\x01",
    )
    assert [r.facts for r in found] == [()] * 6
    assert [a for r in found for a in r.answers] == [
        OutLine(command="NOTICE", params=("alice", f"\x01{words}\x01"), urgency=Urgency.LAZY)
        for words in ("VERSION test 1", "PING 123 456", "TIME 2023-11-14T22:13:20.000Z")
    ]


def test_words_for_the_operators_alone_do_not_go_to_the_channel() -> None:
    [message] = messages(in_channel(), f"{FROM_ALICE} PRIVMSG @#c :secret")
    assert (message.chat, message.private) == (ChatId("alice"), True)
    assert message.content.text.body == "[to @#c] secret"


def test_a_server_speaks_to_the_log_and_not_to_people() -> None:
    assert messages(in_channel(), ":irc.example NOTICE me :*** Looking up", "NOTICE AUTH :*** x") == []


def test_an_echo_is_reported_with_its_label_and_its_words_are_our_own() -> None:
    """labeled-response and echo-message: the answer to a labelled message has the label."""
    one = reader(*HELLO, *enable("echo-message", "labeled-response", "batch"), login=LoginId("l"))
    [reading] = readings(one, "@label=7;msgid=m9 :me!m@h PRIVMSG Dave :yo")
    assert reading.echoes == (
        Echo(command="PRIVMSG", target="Dave", text="yo", id=MessageId("m9"), label="7"),
    )
    [message] = reading.facts
    assert isinstance(message, Message)
    assert (message.chat, message.private, message.own) == (ChatId("dave"), True, LoginId("l"))


def test_an_echo_in_a_labelled_batch_has_the_label_of_the_batch() -> None:
    one = in_channel()
    found = readings(
        one, "@label=8 :s BATCH +l labeled-response", "@batch=l :me!m@h PRIVMSG #c :x", ":s BATCH -l"
    )
    assert [e.label for r in found for e in r.echoes] == ["8"]


def test_what_we_relayed_comes_back_as_an_echo_alone() -> None:
    one = in_channel()
    [reading] = readings(one, "@draft/relaymsg=me;msgid=r1 :carol/m!carol@relay PRIVMSG #c :hello")
    assert reading.facts == ()
    assert reading.echoes == (
        Echo(command="PRIVMSG", target="#c", text="hello", id=MessageId("r1"), relayed="carol/m"),
    )
    [other] = messages(one, "@draft/relaymsg=bot :carol/d!carol@relay PRIVMSG #c :hello")
    assert other.sender.bot


def test_a_deletion_of_ours_comes_back_as_an_echo() -> None:
    """draft/message-redaction: a server sends a REDACT to its author too where echo-message is on."""
    one = in_channel(*enable("draft/message-redaction", "echo-message"))
    [ours] = readings(one, "@label=4 :me!~m@my.host REDACT #c m1 :oops")
    assert ours.echoes == (Echo(command="REDACT", target="#c", text="", id=MessageId(""), label="4"),)
    [theirs] = readings(one, f"{FROM_ALICE} REDACT #c m1 :oops")
    assert theirs.echoes == ()


def test_replies_reactions_typing_and_redactions_are_read_from_their_tags() -> None:
    one = in_channel()
    assert [m.reply_to for m in messages(one, f"@+draft/reply=m1 {FROM_ALICE} PRIVMSG #c :yes")] == ["m1"]
    assert [m.reply_to for m in messages(one, f"@+reply=m2 {FROM_ALICE} PRIVMSG #c :yes")] == ["m2"]
    assert read(
        one,
        f"@msgid=x;+draft/react=👍;+draft/reply=m1 {FROM_ALICE} TAGMSG #c",
        f"@+draft/unreact=👍;+draft/reply=m1 {FROM_ALICE} TAGMSG #c",
        f"@+draft/react=👍 {FROM_ALICE} TAGMSG #c",
        f"@+typing=active {FROM_ALICE} TAGMSG #c",
        f"@+typing=done {FROM_ALICE} TAGMSG me",
        f"{FROM_ALICE} REDACT #c m1 :oops",
    ) == [
        Reaction(chat=C, at=AT, sender=ALICE, target=MessageId("m1"), key="👍", id=MessageId("x")),
        Unreaction(chat=C, at=AT, sender=ALICE, target=MessageId("m1"), key="👍"),
        Typing(chat=C, at=AT, sender=ALICE, active=True),
        Typing(chat=ChatId("alice"), at=AT, private=True, sender=ALICE, active=False),
        Retraction(chat=C, at=AT, sender=ALICE, target=MessageId("m1"), reason="oops"),
    ]


def test_a_multiline_batch_is_one_message() -> None:
    """draft/multiline: lines are joined by a line feed, or by nothing where the concat tag says so."""
    one = in_channel()
    [message] = messages(
        one,
        f"@msgid=mm;time=2020-01-01T00:00:00.000Z {FROM_ALICE} BATCH +1 draft/multiline #c",
        f"@batch=1 {FROM_ALICE} PRIVMSG #c :one",
        f"@batch=1 {FROM_ALICE} PRIVMSG #c :",
        f"@batch=1 {FROM_ALICE} PRIVMSG #c :\x02t",
        f"@batch=1;draft/multiline-concat {FROM_ALICE} PRIVMSG #c :wo",
        ":s BATCH -1",
    )
    assert (message.id, message.at) == ("mm", 1577836800000)
    assert message.content.text == Text("one\n\ntwo", (Span(5, 8, Style.BOLD),))


def test_history_is_replayed_without_touching_what_is_known_now() -> None:
    one = in_channel()
    before = sorted(one.state.users)
    found = readings(
        one,
        ":s BATCH +h chathistory #c",
        "@batch=h;msgid=o1;time=2020-01-01T00:00:00.000Z :old!o@o.host PRIVMSG #c :once",
        "@batch=h;time=2020-01-01T00:00:01.000Z :old!o@o.host JOIN #c",
        "@batch=h;time=2020-01-01T00:00:02.000Z :old!o@o.host PRIVMSG #c :upon",
        "@batch=h;msgid=o2;time=2020-01-01T00:00:03.000Z :s BATCH +m draft/multiline #c",
        "@batch=m :old!o@o.host PRIVMSG #c :a",
        "@batch=m :old!o@o.host PRIVMSG #c :time",
        "@batch=h :s BATCH -m",
        ":s BATCH -h",
    )
    facts = [f for r in found for f in r.facts]
    assert [(f.content.text.body, f.replayed) for f in facts if isinstance(f, Message)] == [
        ("once", True), ("upon", True), ("a\ntime", True),
    ]  # fmt: skip
    assert len(facts) == 3
    assert sorted(one.state.users) == before
    assert all(r.past == "#c" for r in found if r.facts)
    assert found[-1].history == HistoryEnd(
        target="#c", count=4, last="2020-01-01T00:00:03.000Z", last_id="o2"
    )


def test_what_a_history_tells_of_comings_and_goings_is_no_message() -> None:
    """Ergo puts them into PRIVMSGs of HistServ where draft/event-playback was not asked for; a page counts them."""
    events = (
        "bob [account: bob] joined the channel", "bob left the channel (bye)", "bob quit (gone)",
        "bob sent a TAGMSG", "bridge joined the channel", "bob set the channel topic to: x",
    )  # fmt: skip
    found = readings(
        in_channel(),
        ":s BATCH +h chathistory #c",
        "@batch=h;msgid=o1;time=2020-01-01T00:00:00.000Z :old!o@o.host PRIVMSG #c :once",
        *(
            f"@batch=h;msgid=_{n};time=2020-01-01T00:00:0{n + 1}.000Z :HistServ!HistServ@localhost PRIVMSG #c :{words}"
            for n, words in enumerate(events)
        ),
        ":s BATCH -h",
    )
    assert [f.content.text.body for r in found for f in r.facts if isinstance(f, Message)] == ["once"]
    assert found[-1].history == HistoryEnd(
        target="#c", count=7, last="2020-01-01T00:00:06.000Z", last_id="_5"
    )
    [now] = messages(in_channel(), ":HistServ!HistServ@localhost PRIVMSG #c :said now")
    assert now.content.text.body == "said now"


def test_a_message_read_twice_has_the_same_id_by_its_server_time() -> None:
    same = f"@time=2020-01-01T00:00:00.000Z {FROM_ALICE} PRIVMSG #c :again"
    first, second = messages(in_channel(), same, same)
    assert first.id != second.id
    replay = messages(
        in_channel(),
        ":s BATCH +h chathistory #c",
        "@batch=h;" + same[1:],
        "@batch=h;" + same[1:],
        ":s BATCH -h",
    )
    assert [m.id for m in replay] == [first.id, second.id]


def test_without_server_time_each_line_is_its_own_message() -> None:
    first, second = messages(in_channel(), f"{FROM_ALICE} PRIVMSG #c :x", f"{FROM_ALICE} PRIVMSG #c :x")
    assert first.id != second.id


def test_who_is_addressed_is_mentioned() -> None:
    [one, two, three] = messages(
        in_channel(),
        f"{FROM_ALICE} PRIVMSG #c :Bob: look",
        f"{FROM_ALICE} PRIVMSG #c :ask @bob, or bob",
        f"{FROM_ALICE} PRIVMSG #c :nobody: look",
    )
    assert one.content.text.spans == (Span(0, 3, Style.MENTION, "bob"),)
    assert two.content.text.spans == (Span(4, 8, Style.MENTION, "bob"),)
    assert three.content.text.spans == ()


def test_an_account_tag_is_what_vouches() -> None:
    """account-tag: no tag means that the sender is not signed in."""
    one = in_channel(*enable("account-tag"))
    found = messages(one, f"@account=new {FROM_ALICE} PRIVMSG #c :x", f"{FROM_ALICE} PRIVMSG #c :x")
    assert [m.sender.account for m in found] == ["new", None]


def test_words_of_nothing_but_codes_are_no_message() -> None:
    assert messages(in_channel(), f"{FROM_ALICE} PRIVMSG #c :\x02\x02", f"{FROM_ALICE} PRIVMSG #c :") == []


def test_a_spoiler_arrives_as_one() -> None:
    [message] = messages(in_channel(), f"{FROM_ALICE} PRIVMSG #c :\x0301,01boo\x03")
    assert message.content.text == styled("boo", Style.SPOILER)


# Hostile servers --------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    "me #c #d & alice bob Alice carol * + - +o -v +b +k-k 0 1 LS ACK NEW DEL NAK * = @alice ~&x!y@z :x y+z "
    "netsplit netjoin chathistory draft/multiline +r1 -r1 +r2 -r2 PREFIX=(ov)@+ PREFIX= CHANMODES=a "
    "CASEMAPPING=rfc1459 CASEMAPPING=ascii CHANTYPES= STATUSMSG=@ "
    "MODES=x NICKLEN=0 152 H@ \x01ACTION \x01VERSION\x01 \x02\x0304,99 :a.b "
    "sasl=PLAIN account-tag message-tags 2020-01-01 bob!b@h *!*@* *!*@bob.host".split(" ")
)  # fmt: skip
COMMANDS = st.sampled_from(
    "PRIVMSG NOTICE TAGMSG REDACT JOIN PART KICK QUIT NICK MODE TOPIC INVITE AWAY ACCOUNT CHGHOST SETNAME CAP BATCH "
    "001 005 221 301 305 306 311 315 324 330 331 332 333 335 352 353 354 366 396 401 403 433 470 473 474 900 901 "
    "FAIL ERROR PING".split()
)
SOURCES = st.sampled_from(
    ["", ":s ", ":me ", ":me!m@h ", ":alice!a@h ", ":bob ", ":carol!c@h ", ":! ", ":!@ ", ":@ "]
)
TAGS = st.sampled_from(
    ["", "@batch=r1 ", "@batch=r2 ", "@time=2020-01-01T00:00:00.0Z ", "@time=x ", "@account= ", "@batch=r1;msgid=1 ",
     "@+draft/react=x;+draft/reply=1 ", "@draft/relaymsg=me ", "@label=1;batch=r1;draft/multiline-concat "]
)  # fmt: skip
LINES = st.tuples(TAGS, SOURCES, COMMANDS, st.lists(WORDS, max_size=6)).map(
    lambda parts: f"{parts[0]}{parts[1]}{' '.join([parts[2], *parts[3]])}".encode()
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(LINES, st.binary(max_size=40)), max_size=40))
@example([b"CAP"])
@example([b":me!m@h JOIN #c", b":s 353 me = #c", b":s 353", b":s 366 me #c"])
@example([b":s 005 me CHANTYPES= :x", b":me!m@h JOIN #c"])
def test_nothing_that_a_server_sends_raises_anything_but_peer_misbehaved(script: list[bytes]) -> None:
    one = in_channel()
    for raw in script:
        try:
            line = parse(raw)
            if line is not None:
                one.read(line, AT)
        except PeerMisbehaved:
            pass
        members = [key for channel in one.state.channels.values() for key in channel.members]
        assert set(members) == set(one.state.users)
        assert len(members) == one.state.roll._memberships
        assert {p: k for k, p in one.people._persons.items()} == one.people._nicks


def test_a_hostile_server_cannot_fill_the_memory() -> None:
    one = Reader(State("me"), Identity().view("relay"))
    read(one, *HELLO)
    joins = [f":me!m@h JOIN #{number}" for number in range(6000)]
    with pytest.raises(PeerMisbehaved):
        read(one, *joins)
    for number in range(3000):
        read(
            one,
            f":s CAP me NEW :cap{number}",
            f":s 005 me T{number}=1 :x",
            f":s BATCH +{number} chathistory #1",
        )
    assert len(one.state.channels) == 5000
    assert len(one.state.caps.offered) <= 500
    assert len(one.state.support.tokens) <= 400
    assert len(one.state.batches._open) <= 64
    with pytest.raises(PeerMisbehaved):
        read(one, ":s BATCH +ml draft/multiline #1", *["@batch=ml :x!y@z PRIVMSG #1 :a"] * 1001)
