"""What verbs become on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridgekit.contract import verbs
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Person, Quote, Role
from bridgekit.contract.policy import Protection
from bridgekit.contract.text import Span, Style, Text, join, plain, styled
from bridgekit.contract.verbs import PostMessage, Verb
from connectors.irc.protocol.wire import parse
from connectors.irc.words import compose
from connectors.irc.words.compose import BanMask, OutLine, Settings, Urgency
from connectors.irc.words.format import decode
from connectors.irc.words.translate import Reader
from tests.connectors.irc.reading import AT, enable, in_channel, read

C = ChatId("#c")
SETTINGS = Settings()
TAGS = enable("message-tags", "draft/message-redaction", "echo-message")
BOB = Person(id=PersonId("bob"), name="bob")
SEEN = "@msgid=seen :bob!b@bob.host PRIVMSG #c :x"


def out(one: Reader, verb: Verb, how: Settings = SETTINGS) -> list[OutLine]:
    return compose.lines(verb, one.state, one.people, how)


def wire(one: Reader, verb: Verb, how: Settings = SETTINGS) -> list[str]:
    return [line.encode().decode().removesuffix("\r\n") for line in out(one, verb, how)]


def say(text: Text | str, kind: Kind = Kind.TEXT, **more: Any) -> PostMessage:
    text = plain(text) if isinstance(text, str) else text
    return PostMessage(chat=C, content=Content(text=text, kind=kind), **more)


def test_words_emotes_and_notices_have_their_own_commands() -> None:
    one = in_channel()
    assert wire(one, say("hello there")) == ["PRIVMSG #c :hello there"]
    assert wire(one, say("waves", Kind.EMOTE)) == ["PRIVMSG #c :\x01ACTION waves\x01"]
    assert wire(one, say("beep", Kind.NOTICE)) == ["NOTICE #c beep"]
    assert wire(one, say(styled("loud", Style.BOLD))) == ["PRIVMSG #c \x02loud\x0f"]
    assert wire(one, say(styled("loud", Style.BOLD)), Settings(formatting=False)) == ["PRIVMSG #c loud"]


def test_the_reason_of_a_spoiler_stands_before_it() -> None:
    """Black on black hides the words and cannot say why."""
    text = Text("oh: he dies, sadly", (Span(4, 11, Style.SPOILER, "the\r\nend"), Span(0, 11, Style.BOLD)))
    assert wire(in_channel(), say(text)) == [
        "PRIVMSG #c :\x02oh: \x0f[the end] \x02\x0301,01he dies\x0f, sadly"
    ]
    unsaid = Text("he dies", (Span(0, 7, Style.SPOILER),))
    assert wire(in_channel(), say(unsaid)) == ["PRIVMSG #c :\x0301,01he dies\x0f"]


def test_each_line_and_each_piece_begins_with_the_speaker() -> None:
    lines = wire(in_channel(), say("one\n\ntwo " + "x" * 600, prefix="<Ann\r\nQUIT> "))
    assert lines[0] == "PRIVMSG #c :<Ann QUIT> one"
    assert len(lines) == 3
    assert all(line.startswith("PRIVMSG #c :<Ann QUIT> ") for line in lines)


@pytest.mark.parametrize("before", range(0, 200, 20))
def test_a_link_is_whole_in_one_line_however_long_what_stands_before_it(before: int) -> None:
    link = f"https://bridge.example/_bridgekit/media/{'t' * 200}/{'n' * 80}"
    lines = wire(in_channel(), say(f"{'n' * before} (12.3 kB): {link}", prefix=f"<{'a' * 32}> "))
    assert any(line.endswith(link) for line in lines)


def test_a_mention_is_the_nick_of_today() -> None:
    one = in_channel(":bob!b@bob.host NICK :Robert")
    text = Text("hi Bobby!", (Span(3, 8, Style.MENTION, "bob"), Span(0, 9, Style.BOLD)))
    assert wire(one, say(text)) == ["PRIVMSG #c :\x02hi Robert!\x0f"]
    forged = Text("hi X", (Span(3, 4, Style.MENTION, "a\r\nquit :x"),))
    assert wire(one, say(forged)) == ["PRIVMSG #c :hi a quit :x"]


def test_a_private_chat_goes_to_the_nick_of_its_person_and_never_to_a_stranger() -> None:
    one = in_channel(":bob!b@bob.host NICK :Robert")
    verb = PostMessage(chat=ChatId("bob"), content=Content(text=plain("hi")))
    assert wire(one, verb) == ["PRIVMSG Robert hi"]
    read(one, ":eve!e@eve.host JOIN #c", ":Robert!b@bob.host QUIT :bye", ":eve!e@eve.host NICK bob")
    with pytest.raises(SendRejected, match="not on the network"):
        out(one, verb)


def test_replies_call_by_name_and_point_by_tag_where_they_can() -> None:
    real, made = Quote(id=MessageId("m1"), author="bob"), Quote(id=MessageId("=made"), author="bob")
    one = in_channel(*TAGS)
    assert wire(one, say("yes", reply=real)) == ["@+draft/reply=m1 PRIVMSG #c :bob: yes"]
    assert wire(one, say("yes", reply=made)) == ["PRIVMSG #c :bob: yes"]
    assert wire(in_channel(), say("yes", reply=real)) == ["PRIVMSG #c :bob: yes"]
    assert wire(in_channel(), say("bob: yes", reply=real)) == ["PRIVMSG #c :bob: yes"]
    private = PostMessage(chat=ChatId("bob"), content=Content(text=plain("yes")), reply=real)
    assert wire(one, private) == ["@+draft/reply=m1 PRIVMSG bob yes"]
    denied = in_channel(*TAGS, ":s 005 me CLIENTTAGDENY=draft/reply :x")
    assert wire(denied, say("yes", reply=real)) == ["PRIVMSG #c :bob: yes"]


def test_reactions_typing_and_redactions_need_what_carries_them() -> None:
    one = in_channel(*TAGS)
    react = verbs.React(chat=C, target=MessageId("m1"), reaction="👍;\r\n")
    assert wire(one, react) == ["@+draft/react=👍\\:\\s;+draft/reply=m1 TAGMSG #c"]
    gone = verbs.Unreact(chat=C, target=MessageId("m1"), reaction="👍")
    assert wire(one, gone) == ["@+draft/unreact=👍;+draft/reply=m1 TAGMSG #c"]
    assert wire(one, verbs.SetTyping(chat=C, active=True)) == ["@+typing=active TAGMSG #c"]
    assert wire(one, verbs.Retract(chat=C, target=MessageId("m1"), reason="a\nb")) == ["REDACT #c m1 :a b"]
    for verb in (
        react,
        gone,
        verbs.SetTyping(chat=C, active=True),
        verbs.Retract(chat=C, target=MessageId("m1")),
    ):
        with pytest.raises(SendRejected):
            out(in_channel(), verb)
    with pytest.raises(SendRejected):
        out(one, verbs.React(chat=C, target=MessageId("=made"), reaction="x"))


def test_moderation_goes_first_and_says_whom() -> None:
    one = in_channel()
    found = out(one, verbs.Kick(chat=C, person=BOB, reason="a\r\nb"))
    assert found == [OutLine(command="KICK", params=("#c", "bob", "a b"), urgency=Urgency.MODERATION)]
    assert wire(one, verbs.Ban(chat=C, person=BOB)) == ["MODE #c +b *!*@bob.host", "KICK #c bob"]
    assert (
        wire(one, verbs.Ban(chat=C, person=BOB), Settings(ban_mask=BanMask.NICK))[0] == "MODE #c +b bob!*@*"
    )
    assert (
        wire(one, verbs.Ban(chat=C, person=BOB), Settings(ban_mask=BanMask.BOTH))[0]
        == "MODE #c +b bob!*@bob.host"
    )
    assert wire(one, verbs.Unban(chat=C, person=BOB)) == ["MODE #c -bb *!*@bob.host bob!*@*"]
    read(one, ":neighbour!n@bob.host JOIN #c")
    assert wire(one, verbs.Ban(chat=C, person=BOB))[0] == "MODE #c +b bob!*@bob.host"
    read(one, ":neighbour!n@bob.host PART #c")
    read(one, ":alice!a@h MODE #c +b *!*@*.host", ":alice!a@h MODE #c +b *!*@bob.host", ":bob!b@h PART #c")
    assert wire(one, verbs.Unban(chat=C, person=BOB)) == ["MODE #c -b *!*@bob.host"]
    assert wire(one, verbs.Invite(chat=C, person=BOB)) == ["INVITE bob #c"]


@pytest.mark.parametrize(
    ("role", "person", "line"),
    [
        (Role.MODERATOR, "bob", ["MODE #c +o bob"]),
        (Role.OWNER, "bob", ["MODE #c +q bob"]),
        (Role.VOICE, "alice", ["MODE #c +v-o alice alice"]),
        (Role.NONE, "alice", ["MODE #c -o alice"]),
        (Role.NONE, "bob", []),
        (Role.MODERATOR, "alice", []),
    ],
)
def test_a_role_is_the_mode_of_its_prefix(role: Role, person: str, line: list[str]) -> None:
    one = in_channel()
    assert (
        wire(one, verbs.SetRole(chat=C, person=Person(id=PersonId(person), name=person), role=role)) == line
    )


def test_a_role_that_the_server_lacks_is_the_next_lower_one() -> None:
    one = in_channel(":s 005 me PREFIX=(ov)@+ :x")
    assert wire(one, verbs.SetRole(chat=C, person=BOB, role=Role.OWNER)) == ["MODE #c +o bob"]
    assert wire(one, verbs.SetRole(chat=C, person=BOB, role=Role.HALF_MODERATOR)) == ["MODE #c +v bob"]


@pytest.mark.parametrize(
    ("support", "mode"),
    [
        (":s 005 me PREFIX=(ov)@+ CHANMODES=eIbq,k,l,imnst :x", "q"),
        (":s 005 me CHANMODES=eIb,k,l,imnst EXTBAN=,mz :x", "b m:"),
        (":s 005 me CHANMODES=eIb,k,l,imnst EXTBAN=~,aq :x", "b ~q:"),
    ],
)
def test_who_is_muted_loses_the_voice_and_gets_it_back_with_the_next_role(support: str, mode: str) -> None:
    one = in_channel(support, SEEN, ":alice!a@alice.host MODE #c +v bob")
    letter, _, lead = mode.partition(" ")
    mask = f"{lead}*!*@bob.host"
    mute = verbs.SetRole(chat=C, person=BOB, role=Role.MUTED)
    assert wire(one, mute) == [f"MODE #c -v+{letter} bob {mask}"]
    read(one, f":me!~m@my.host MODE #c -v+{letter} bob {mask}")
    speak = verbs.SetRole(chat=C, person=BOB, role=Role.NONE)
    assert wire(one, speak) == [f"MODE #c -{letter} {mask}"]


def test_where_nobody_can_be_muted_that_is_said() -> None:
    one = in_channel(":s 005 me CHANMODES=eIb,k,l,imnst :x", SEEN)
    with pytest.raises(SendRejected, match="cannot mute one person"):
        out(one, verbs.SetRole(chat=C, person=BOB, role=Role.MUTED))


def test_topics_are_cut_to_their_length() -> None:
    one = in_channel(":s 005 me TOPICLEN=20 :x")
    [line] = out(one, verbs.SetTopic(chat=C, topic="é" * 30 + "\n"))
    assert line.params[1] == "é" * 8 + "…"
    assert wire(one, verbs.SetTopic(chat=C, topic="")) == ["TOPIC #c :"]


def test_joining_takes_a_key_that_is_one() -> None:
    one = in_channel()
    assert wire(one, verbs.Join(chat=ChatId("#new"), secret="key")) == ["JOIN #new key"]
    assert [
        line.encode() for line in compose.lines(verbs.Join(chat=C), one.state, one.people, SETTINGS, key="k")
    ] == [b"JOIN #c k\r\n"]
    for chat, secret in (("#a,#b", ""), ("#a b", ""), ("#", ""), ("#a", "x y"), ("#a", "x,y"), ("nick", "")):
        with pytest.raises(SendRejected):
            out(one, verbs.Join(chat=ChatId(chat), secret=secret))


def test_history_is_asked_for_since_a_time_or_from_the_end() -> None:
    one = in_channel(*enable("draft/chathistory"), ":s 005 me CHATHISTORY=50 :x")
    assert wire(one, verbs.FetchHistory(chat=C, since=AT)) == [
        "CHATHISTORY AFTER #c timestamp=2023-11-14T22:13:20.000Z 50"
    ]
    assert wire(one, verbs.FetchHistory(chat=C, limit=10)) == ["CHATHISTORY LATEST #c * 10"]


MULTILINE = ("batch", "draft/multiline", "labeled-response")


def test_several_lines_are_one_batch_where_there_is_multiline() -> None:
    one = in_channel(
        *enable(*MULTILINE, values="batch draft/multiline=max-bytes=4096,max-lines=24 labeled-response")
    )
    found = out(one, say("one\n\ntwo", key="k"))
    ref = found[0].params[0][1:]
    assert [line.encode().decode() for line in found] == [
        f"BATCH +{ref} draft/multiline #c\r\n",
        f"@batch={ref} PRIVMSG #c one\r\n",
        f"@batch={ref} PRIVMSG #c :\r\n",
        f"@batch={ref} PRIVMSG #c two\r\n",
        f"BATCH -{ref}\r\n",
    ]
    assert [line.glued for line in found] == [False, True, True, True, True]
    assert [line.echoed for line in found] == [True, False, False, False, False]
    assert found[0].encode("7").startswith(b"@label=7 BATCH")
    assert wire(one, say("one")) == ["PRIVMSG #c one"]


def batches_of(found: list[OutLine]) -> list[list[OutLine]]:
    """The lines of each batch, without those that open and close it; every line must be in one."""
    batches: list[list[OutLine]] = []
    for line in found:
        if line.command != "BATCH":
            batches[-1].append(line)
        elif line.params[0].startswith("+"):
            batches.append([])
    assert sum(map(len, batches)) == len(found) - 2 * len(batches)
    return batches


@pytest.mark.parametrize(("most", "bytes", "lines"), [("max-lines=24", 4096, 24), ("max-lines=9", 600, 9)])
def test_what_is_too_long_for_one_batch_is_said_in_several_and_never_line_by_line(
    most: str, bytes: int, lines: int
) -> None:
    """draft/multiline: more than max-bytes or max-lines is refused, and as many plain lines would be a flood."""
    one = in_channel(
        *enable(*MULTILINE, values=f"batch draft/multiline=max-bytes={bytes},{most} labeled-response")
    )
    reply = Quote(author="", id=MessageId("m1"), words="", at=0)
    body = "\n".join(
        [*(f"{i} {'word ' * 30}".strip() for i in range(20)), "", "", *"abcdefghijklmnopqrstuvwxyz"]
    )
    found = out(one, say(f"\n{body}\n", reply=reply))
    batches = batches_of(found)
    assert len({line.params[0] for line in found if line.command == "BATCH"}) == 2 * len(batches) > 2
    for batch in batches:
        said = [line.params[1] for line in batch]
        assert len(said) <= lines
        assert len("\n".join(said).encode()) <= bytes
        assert said[0]
    everything = [line.params[1] for batch in batches for line in batch]
    assert [words for words in everything if words] == [words for words in body.split("\n") if words]


def test_an_action_of_many_lines_is_said_as_words() -> None:
    """CTCP knows no batches, and a line for each would be a flood."""
    one = in_channel(*enable(*MULTILINE, values="batch draft/multiline=max-bytes=4096,max-lines=99"))
    assert len(wire(one, say("\n".join("abcdef"), Kind.EMOTE))) == 6
    (batch,) = batches_of(out(one, say("\n".join("abcdefg"), Kind.EMOTE)))
    assert [line.params[1] for line in batch] == ["* a", *"bcdefg"]


@given(st.text(st.sampled_from("ab é💜\n"), min_size=1, max_size=900))
def test_a_multiline_batch_says_the_very_same_words(body: str) -> None:
    one = in_channel(*enable(*MULTILINE, values="batch draft/multiline=max-bytes=40000,max-lines=2000"))
    found = out_or_nothing(one, say(body))
    if len(found) < 2:
        return
    words = ""
    for line in found[1:-1]:
        words += ("" if "draft/multiline-concat" in line.tags else "\n") + line.params[1]
    assert words[1:] == body.strip("\n")


def test_a_relayed_speaker_has_a_nick_where_there_is_relaymsg() -> None:
    one = in_channel(*enable("draft/relaymsg", values="draft/relaymsg=/"))
    ann = Person(id=PersonId("@ann:hs"), name="Änn O'Nym!@x")
    assert wire(one, say("hello you", speaker=ann)) == ["RELAYMSG #c Ann_ONymx/m :hello you"]
    assert compose.capabilities(one.state, C, SETTINGS).speakers
    assert not compose.capabilities(one.state, ChatId("bob"), SETTINGS).speakers


def test_who_speaks_in_others_names_has_no_batches_for_their_many_lines() -> None:
    """RELAYMSG is a line each; an account of somebody's own has batches there."""
    offered = "draft/relaymsg=/ batch draft/multiline=max-lines=99"
    one = in_channel(*enable("draft/relaymsg", *MULTILINE, values=offered))
    assert compose.capabilities(one.state, C, Settings(max_lines=6)).max_lines == 6
    assert compose.capabilities(one.state, C, Settings(max_lines=6, relays=False)).max_lines == 99
    assert not compose.capabilities(one.state, C, Settings(relays=False)).speakers


def test_who_speaks_in_others_names_reacts_in_words_that_carry_the_name() -> None:
    """RELAYMSG has no tags: by TAGMSG it would be the relay that reacts."""
    one = in_channel(*enable("message-tags", "draft/relaymsg", values="message-tags draft/relaymsg=/"), SEEN)
    reactions = {verbs.React, verbs.Unreact}
    assert not reactions & compose.capabilities(one.state, C, SETTINGS).verbs
    assert reactions <= compose.capabilities(one.state, C, Settings(relays=False)).verbs


def test_what_a_chat_can_carry_follows_the_server() -> None:
    plain_server = compose.capabilities(in_channel().state, C, Settings(tls=False))
    assert plain_server.verbs == {
        verbs.PostMessage, verbs.Join, verbs.Leave, verbs.SetTopic, verbs.Invite, verbs.Kick, verbs.Ban, verbs.Unban,
        verbs.SetRole,
    }  # fmt: skip
    assert (plain_server.protection, plain_server.max_lines, plain_server.replies) == (
        Protection.CLEAR,
        6,
        False,
    )
    private = compose.capabilities(in_channel().state, ChatId("bob"), SETTINGS)
    assert private.verbs == {verbs.PostMessage}
    modern = in_channel(
        *enable("message-tags", "draft/message-redaction", "draft/multiline", "draft/chathistory",
                values="message-tags draft/message-redaction draft/multiline=max-lines=24 draft/chathistory"), SEEN
    )  # fmt: skip
    can = compose.capabilities(modern.state, C, SETTINGS)
    assert can.verbs - plain_server.verbs == {
        verbs.React, verbs.Unreact, verbs.Retract, verbs.SetTyping, verbs.FetchHistory,
    }  # fmt: skip
    assert (can.protection, can.max_lines, can.replies) == (Protection.TRANSPORT, 24, True)


def test_after_a_join_modes_are_asked_first_and_who_when_all_were_named() -> None:
    state = in_channel().state
    assert [line.encode() for line in compose.after_join(state, "#c")] == [b"MODE #c\r\n"]
    assert [line.encode() for line in compose.after_names(state, "#c")] == [b"WHO #c %tcuhnfar,152\r\n"]


# Properties -------------------------------------------------------------------------------------------------


def out_or_nothing(one: Reader, verb: Verb, how: Settings = SETTINGS) -> list[OutLine]:
    try:
        return out(one, verb, how)
    except SendRejected:
        return []


BODY = st.text(st.sampled_from("ab c1,é💜👨‍👩‍👧e\u0301\n\t"), min_size=1, max_size=1500)
STYLES = [(Style.BOLD, None), (Style.COLOR, "#ff0000"), (Style.SPOILER, None), (Style.CODE, None)]
SPANS = st.lists(
    st.tuples(st.integers(0, 1400), st.integers(1, 400), st.sampled_from(STYLES)),
    max_size=4,
)


@settings(deadline=None)
@given(BODY, SPANS, st.sampled_from(list(Kind)), st.sampled_from(["", "<Ann> ", "<Ännchen 💜> "]))
@example("a" * 3000, [], Kind.TEXT, "")
@example("👨‍👩‍👧" * 200, [], Kind.EMOTE, "")
def test_every_line_fits_as_others_see_us_and_no_word_is_lost(
    body: str, spans: list[tuple[int, int, tuple[Style, str | None]]], kind: Kind, prefix: str
) -> None:
    one = in_channel()
    text = Text(
        body,
        tuple(
            Span(start, min(start + length, len(body)), *style)
            for start, length, style in spans
            if start < min(start + length, len(body))
        ),
    )
    found = out_or_nothing(one, say(text, kind, prefix=prefix))
    heard = ""
    for line in found:
        relayed = b":me!~m@my.host " + line.encode()
        assert len(relayed) <= 512
        back = parse(relayed)
        assert back is not None
        words = back.params[1]
        if kind is Kind.EMOTE:
            assert words.startswith("\x01ACTION ")
            assert words.endswith("\x01")
            words = words[8:-1]
        shown = decode(words).body
        assert shown.startswith(prefix)
        heard += shown.removeprefix(prefix)
    assert heard.replace(" ", "") == "".join(body.split("\n")).replace("\t", "").replace(" ", "")


EVIL = st.one_of(
    st.text(max_size=12),
    st.lists(
        st.sampled_from(
            ["\r", "\n", "\0", " ", ":", ",", "#c", "QUIT", "\x01", "\x02", ";", "a", "é", "!", "@", "\ud800"]
        ),
        max_size=8,
    ).map("".join),
)
PERSONS = st.builds(Person, id=EVIL.map(PersonId), name=EVIL)
CONTENTS = st.builds(
    lambda body, value, style, kind: Content(text=styled(body, style, value), kind=kind),
    EVIL, EVIL, st.sampled_from(list(Style)), st.sampled_from(list(Kind)),
)  # fmt: skip
FIELDS: dict[str, Any] = {
    "content": CONTENTS,
    "person": st.one_of(PERSONS, st.just(BOB)),
    "speaker": st.one_of(st.none(), PERSONS),
    "reply": st.one_of(st.none(), st.builds(Quote, id=EVIL.map(MessageId), author=EVIL, words=EVIL)),
    "role": st.sampled_from(list(Role)),
    "active": st.booleans(),
    "since": st.integers(0, 2**45),
    "limit": st.integers(-5, 10_000),
    "at": st.integers(0, 2**45),
    "chat": st.one_of(st.sampled_from(["#c", "bob", "#new"]), EVIL),
}
VERBS = st.one_of(
    *[
        st.builds(
            kind, **{field.name: FIELDS.get(field.name, EVIL) for field in msgspec.structs.fields(kind)}
        )
        for kind in verbs.Verb.__args__
    ]
)
COMMANDS = {
    verbs.PostMessage: {"PRIVMSG", "NOTICE", "RELAYMSG", "BATCH"},
    verbs.EditMessage: {"PRIVMSG", "NOTICE", "RELAYMSG", "BATCH"},
    verbs.React: {"TAGMSG"},
    verbs.Unreact: {"TAGMSG"},
    verbs.Retract: {"REDACT"},
    verbs.SetTopic: {"TOPIC"},
    verbs.SetTyping: {"TAGMSG"},
    verbs.MarkRead: set(),
    verbs.Join: {"JOIN"},
    verbs.Leave: {"PART"},
    verbs.Invite: {"INVITE"},
    verbs.Kick: {"KICK"},
    verbs.Ban: {"MODE", "KICK"},
    verbs.Unban: {"MODE"},
    verbs.SetRole: {"MODE"},
    verbs.ShowProfile: set(),
    verbs.FetchHistory: {"CHATHISTORY"},
}
ALL = enable(
    "message-tags", "draft/message-redaction", "draft/chathistory", "draft/relaymsg", "draft/multiline"
)
LINES_MOST = 40


@settings(max_examples=600, deadline=None)
@given(VERBS, st.booleans(), EVIL)
@example(say("a\r\nQUIT :x"), False, "")
@example(verbs.Join(chat=ChatId("#c\r\nQUIT")), False, "")
@example(verbs.Join(chat=ChatId("#c"), secret="k\nQUIT"), False, "")
@example(verbs.Kick(chat=C, person=Person(id=PersonId("a b\r\nQUIT"), name="a b")), False, "")
@example(verbs.Ban(chat=C, person=BOB, reason="\r\nQUIT"), False, "")
@example(verbs.SetTopic(chat=C, topic="x\0\r\nQUIT"), False, "")
@example(say("a\nb", key="\ud800"), True, "")
@example(verbs.React(chat=C, target=MessageId("m\r\nQUIT"), reaction="\nQUIT"), True, "")
def test_no_field_of_any_verb_gets_another_command_onto_the_wire(verb: Verb, modern: bool, host: str) -> None:
    """CVE-2023-38690: "IRC command injection via admin commands containing newlines"."""
    one = in_channel(*(ALL if modern else ()), SEEN)
    user = one.state.known("bob")
    assert user is not None
    user.host = host
    found = out_or_nothing(one, verb)
    assert len(found) <= LINES_MOST
    for line in found:
        for label in ("", "7"):
            raw = line.encode(label)
            assert raw.endswith(b"\r\n")
            assert not set(raw[:-2]) & set(b"\r\n\0")
            back = parse(raw)
            assert back is not None
            assert back.command in COMMANDS[type(verb)]
            assert back.params == tuple(p.encode("utf-8", "replace").decode() for p in line.params)
        if line.command in ("PRIVMSG", "NOTICE", "TAGMSG", "TOPIC", "PART", "KICK", "JOIN", "MODE"):
            assert "," not in line.params[0]
        if line.command in ("PRIVMSG", "NOTICE"):
            words = line.params[1]
            assert "\x01" not in words.removeprefix("\x01ACTION ").removesuffix("\x01")


def test_a_long_paste_of_a_million_characters_is_cut_in_reasonable_time() -> None:
    found = out(in_channel(), say(join("x " * 500_000)))
    assert sum(len(line.params[1]) for line in found) > 900_000
