"""What lines mean: people and channels."""

from __future__ import annotations

import pytest

from bridgekit.contract.facts import (
    Change,
    ChatClosed,
    ChatOpened,
    ChatVisibility,
    Invitation,
    Membership,
    Message,
    Profile,
    RoleChange,
    Roster,
    Topic,
)
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Member, Person, Role
from bridgekit.contract.policy import Entry, Exposure, Visibility
from connectors.irc.protocol.state import State
from connectors.irc.words.identity import Identity
from connectors.irc.words.translate import LARGE, Reader
from tests.connectors.irc.reading import AT, HELLO, in_channel, read, reader

C = ChatId("#c")
ALICE = Person(id=PersonId("alice"), name="alice", account="al")
BOB = Person(id=PersonId("bob"), name="bob", bot=True)
OPEN = Visibility(
    exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, moderated=False, known=True, detail="+nt"
)


def senders(one: Reader, *script: str) -> list[PersonId]:
    """Who said what the lines bring."""
    return [fact.sender.id for fact in read(one, *script) if isinstance(fact, Message)]


def test_a_chat_opens_when_names_topic_and_modes_are_known() -> None:
    one = reader(*HELLO)
    assert (
        read(
            one, ":me!~m@my.host JOIN #C", ":s 332 me #C :\x02the\x02 topic", ":s 353 me = #C :@alice bob me"
        )
        == []
    )
    assert read(one, ":s 366 me #C :End") == [
        Roster(chat=C, at=AT, members=(
            Member(person=Person(id=PersonId("alice"), name="alice"), role=Role.MODERATOR),
            Member(person=Person(id=PersonId("bob"), name="bob")),
        )),
    ]  # fmt: skip
    assert read(one, ":s 324 me #C +nt") == [
        ChatOpened(chat=C, at=AT, name="#C", topic="the topic"),
        ChatVisibility(chat=C, at=AT, visibility=OPEN),
    ]


def test_accounts_that_who_brings_make_a_new_roster_and_nothing_new_none() -> None:
    one = reader(*HELLO, ":me!m@h JOIN #c", ":s 353 me = #c :alice me", ":s 366 me #c :.", ":s 324 me #c +nt")
    assert read(one, ":s 354 me 152 #c a alice.host alice H al :Alice", ":s 315 me #c :.") == [
        Roster(chat=C, at=AT, members=(Member(person=ALICE),))
    ]
    assert read(one, ":s 315 me #c :.") == [Roster(chat=C, at=AT, members=(Member(person=ALICE),))]
    one = reader(*HELLO, ":me!m@h JOIN #c", ":s 353 me = #c :x me", ":s 366 me #c :.", ":s 324 me #c +nt")
    assert read(one, ":s 354 me 152 #c x x.host x H 0 :X", ":s 315 me #c :.") == []


def large() -> Reader:
    """In a channel of more than a thousand, all of whom were named."""
    one = reader(*HELLO, ":me!m@h JOIN #c", ":s 324 me #c +nt")
    for n in range(0, LARGE + 10, 10):
        assert read(one, f":s 353 me = #c :{' '.join(f'u{n + i}' for i in range(10))}") == []
    assert [type(f) for f in read(one, ":s 366 me #c :.")] == [ChatOpened, ChatVisibility]
    return one


def test_the_list_of_a_large_channel_is_told_once_when_who_has_ended() -> None:
    one = large()
    [roster] = read(one, ":s 354 me 152 #c u u7.host u7 H ann :Ann", ":s 315 me #c :.")
    assert isinstance(roster, Roster)
    assert len(roster.members) == LARGE + 10
    assert roster.members[7].person.account == "ann"
    assert one.overdue(one.state.channels["#c"], AT) == []


def test_where_who_never_ends_the_list_of_a_large_channel_is_told_all_the_same() -> None:
    one = large()
    read(one, ":u3!u@h PART #c :bye")
    [roster] = one.overdue(one.state.channels["#c"], AT)
    assert isinstance(roster, Roster)
    assert len(roster.members) == LARGE + 9
    assert one.overdue(one.state.channels["#c"], AT) == []


def test_a_server_that_never_tells_the_modes_opens_the_chat_as_secret() -> None:
    one = reader(*HELLO, ":me!m@h JOIN #c", ":s 353 me = #c :me", ":s 366 me #c :.")
    assert read(one, ":s 315 me #c :.") == [
        ChatOpened(chat=C, at=AT, name="#c"),
        ChatVisibility(chat=C, at=AT, visibility=Visibility()),
    ]


def test_who_may_have_been_renamed_is_named_only_with_proof() -> None:
    one = in_channel(":bob!b@bob.host NICK :alice2")
    view = one.people._identity.view("relay")
    one.people = one.faces.people = view
    one.state.__init__("me")  # type: ignore[misc]
    read(one, *HELLO)
    assert not [f for f in read(one, ":me!m@h JOIN #c", ":s 353 me = #c :alice2 me", ":s 366 me #c :.") if
                isinstance(f, Roster)]  # fmt: skip
    facts = read(one, ":s 324 me #c +", ":s 354 me 152 #c b bob.host alice2 H 0 :Bob", ":s 315 me #c :.")
    rosters = [f for f in facts if isinstance(f, Roster)]
    assert [m.person for m in rosters[0].members] == [Person(id=PersonId("bob"), name="alice2")]


def test_joins_and_parts_and_kicks_and_quits_are_memberships() -> None:
    one = in_channel()
    carol = Person(id=PersonId("carol"), name="Carol")
    assert read(
        one,
        ":Carol!c@carol.host JOIN #c",
        ":Carol!c@carol.host PART #c :\x02bye",
        ":Carol!c@carol.host JOIN #c",
        ":alice!a@alice.host KICK #c Carol :enough",
        ":bob!b@bob.host QUIT :Quit: home",
    ) == [
        Membership(chat=C, at=AT, person=carol, change=Change.JOIN),
        Membership(chat=C, at=AT, person=carol, change=Change.LEAVE, reason="bye"),
        Membership(chat=C, at=AT, person=carol, change=Change.JOIN),
        Membership(chat=C, at=AT, person=carol, change=Change.KICK, actor=ALICE, reason="enough"),
        Membership(chat=C, at=AT, person=BOB, change=Change.LEAVE, reason="Quit: home"),
    ]


@pytest.mark.parametrize(
    ("reason", "split"),
    [
        ("a.example b.example", True),
        ("*.net *.split", True),
        ("Quit: a.example b.example", False),
        ("hello there", False),
        ("a.b c", False),
        ("a.b c.d e.f", False),
    ],
)
def test_a_netsplit_is_known_by_its_quit_message(reason: str, split: bool) -> None:
    assert [f.split for f in read(in_channel(), f":bob!b@h QUIT :{reason}") if isinstance(f, Membership)] == [
        split
    ]


def test_a_netsplit_batch_and_a_netjoin_batch_are_marked_even_nested() -> None:
    """ircv3 batch/netsplit: the batch's QUITs are one event."""
    one = in_channel()
    facts = read(
        one,
        ":s BATCH +outer example/x",
        "@batch=outer :s BATCH +n netsplit a.example b.example",
        "@batch=n :bob!b@h QUIT :gone",
        ":s BATCH -n",
        ":s BATCH -outer",
        ":s BATCH +j netjoin a.example b.example",
        "@batch=j :bob!b@h JOIN #c",
        ":s BATCH -j",
        ":alice!a@h QUIT :gone",
    )
    assert [(f.person.id, f.change, f.split) for f in facts if isinstance(f, Membership)] == [
        ("bob", Change.LEAVE, True),
        ("bob", Change.JOIN, True),
        ("alice", Change.LEAVE, False),
    ]


def test_a_nick_change_is_a_new_name_of_the_same_person() -> None:
    one = in_channel()
    robert = Person(id=PersonId("bob"), name="Robert", bot=True)
    assert read(one, ":bob!b@bob.host NICK :Robert") == [
        Profile(chat=C, at=AT, person=robert, previous="bob")
    ]
    assert read(one, ":me!~m@my.host NICK :me2") == []
    assert one.state.nick == "me2"


def test_a_connection_that_does_not_know_yet_how_names_fold_mixes_up_nobody() -> None:
    """irc2 (IRCnet) says CASEMAPPING in the second line of its ISUPPORT: what folds alike until then is not one."""
    whole = Identity()
    relay = Reader(State("me"), whole.view("relay"))
    read(relay, *HELLO, ":me!m@h JOIN #c", ":s 353 me = #c :me bob[ carol", ":carol!c@h NICK :bob{")
    said = ":bob[!b@h PRIVMSG #c :one", ":bob{!c@h PRIVMSG #c :two"
    before = senders(relay, *said)
    puppet = Reader(State("dan"), whole.view("login/dan"), login=LoginId("dan"))
    read(puppet, ":s 001 dan :Welcome", ":s 005 dan RFC2812 PREFIX=(ov)@+ MODES=3 :are supported")
    assert senders(relay, *said) == before == ["bob[", "carol"]
    assert (relay.people.nick(PersonId("bob[")), relay.people.nick(PersonId("carol"))) == ("bob[", "bob{")


def test_an_account_is_news_of_the_person() -> None:
    """account-notify: `ACCOUNT name`, or `ACCOUNT *` for a logout."""
    one = in_channel()
    assert read(one, ":alice!a@alice.host ACCOUNT *", ":alice!a@alice.host ACCOUNT other") == [
        Profile(chat=C, at=AT, person=Person(id=PersonId("alice"), name="alice")),
        Profile(chat=C, at=AT, person=Person(id=PersonId("alice"), name="alice", account="other")),
    ]


def test_losing_op_falls_back_to_the_highest_role_that_remains() -> None:
    one = in_channel()
    facts = read(one, ":s MODE #c +vh-o alice alice alice", ":alice!a@alice.host MODE #c +q bob")
    assert [(f.person.id, f.role, f.actor and f.actor.id) for f in facts if isinstance(f, RoleChange)] == [
        ("alice", Role.HALF_MODERATOR, None),
        ("bob", Role.OWNER, "alice"),
    ]


def test_a_topic_is_a_fact_once_the_chat_is_open() -> None:
    assert read(in_channel(), ":alice!a@alice.host TOPIC #c :\x0304new\x03 one", ":s 332 me #c :read") == [
        Topic(chat=C, at=AT, topic="new one", actor=ALICE),
        Topic(chat=C, at=AT, topic="read"),
    ]


@pytest.mark.parametrize(
    ("modes", "visibility"),
    [
        ("+s", Visibility(exposure=Exposure.JOINED, entry=Entry.OPEN, known=True, detail="+nst")),
        ("+p", Visibility(exposure=Exposure.JOINED, entry=Entry.OPEN, known=True, detail="+npt")),
        ("+i", Visibility(exposure=Exposure.JOINED, entry=Entry.INVITE, listed=True, known=True, detail="+int")),
        ("+k key", Visibility(exposure=Exposure.JOINED, entry=Entry.INVITE, listed=True, known=True, detail="+knt")),
        ("+r", Visibility(exposure=Exposure.JOINED, entry=Entry.KNOCK, listed=True, known=True, detail="+nrt")),
        ("+m", Visibility(exposure=Exposure.SHARED, entry=Entry.OPEN, listed=True, moderated=True, known=True,
                          detail="+mnt")),
    ],
)  # fmt: skip
def test_modes_say_who_may_read_and_what_is_taken_away_is_taken_away(
    modes: str, visibility: Visibility
) -> None:
    one = in_channel()
    letters, _, param = modes.partition(" ")
    assert read(one, f":alice!a@h MODE #c {modes}") == [ChatVisibility(chat=C, at=AT, visibility=visibility)]
    assert read(one, f":alice!a@h MODE #c {letters.replace('+', '-')} {param}") == [
        ChatVisibility(chat=C, at=AT, visibility=OPEN)
    ]


def test_a_key_is_kept_and_never_shown() -> None:
    one = in_channel(":alice!a@h MODE #c +k sesame")
    channel = one.state.channel("#c")
    assert channel is not None
    assert channel.key == "sesame"
    assert "sesame" not in repr(one._open)
    read(one, ":s 324 me #c +kn *")
    assert channel.key == "sesame"


def test_a_ban_is_of_those_whom_it_singles_out_and_is_lifted_with_its_mask() -> None:
    one = in_channel()
    assert read(one, ":alice!a@alice.host MODE #c +b *!*@bob.host") == [
        Membership(chat=C, at=AT, person=BOB, change=Change.BAN, actor=ALICE)
    ]
    read(one, ":bob!b@bob.host PART #c")
    assert read(one, ":alice!a@alice.host MODE #c -b *!*@bob.host") == [
        Membership(
            chat=C, at=AT, person=Person(id=PersonId("bob"), name="bob"), change=Change.UNBAN, actor=ALICE
        )
    ]
    assert read(one, ":alice!a@alice.host MODE #c +b-b *!*@* *!*@*") == []


@pytest.mark.parametrize(
    ("support", "mode"),
    [
        (":s 005 me PREFIX=(ov)@+ CHANMODES=eIbq,k,l,imnst :x", "q *!*@bob.host"),  # Solanum
        (":s 005 me CHANMODES=eIb,k,l,imnst EXTBAN=,mz :x", "b m:*!*@bob.host"),  # InspIRCd
        (":s 005 me CHANMODES=eIb,k,l,imnst EXTBAN=~,aq :x", "b ~quiet:*!*@bob.host"),  # UnrealIRCd
    ],
)
def test_a_mask_that_mutes_is_a_role_of_those_whom_it_singles_out(support: str, mode: str) -> None:
    one = in_channel(support)
    assert read(one, f":alice!a@alice.host MODE #c +{mode}") == [
        RoleChange(chat=C, at=AT, person=BOB, role=Role.MUTED, actor=ALICE)
    ]
    read(one, ":alice!a@alice.host MODE #c +v bob")
    assert read(one, f":alice!a@alice.host MODE #c -{mode}") == [
        RoleChange(chat=C, at=AT, person=Person(id=PersonId("bob"), name="bob"), role=Role.VOICE, actor=ALICE)
    ]


def test_being_put_out_closes_the_chat_and_leaving_does_for_good() -> None:
    assert read(in_channel(), ":alice!a@alice.host KICK #c me :go") == [
        ChatClosed(chat=C, at=AT, reason="me was put out of #c by alice: go")
    ]
    assert read(in_channel(), ":me!~m@my.host PART #c") == [
        ChatClosed(chat=C, at=AT, reason="me left #c.", final=True)
    ]


def test_a_refused_join_closes_the_chat_with_what_to_do() -> None:
    one = reader(*HELLO)
    assert read(one, ":s 473 me #i :Cannot join channel (+i)", ":s 474 me #b :Cannot join channel (+b)") == [
        ChatClosed(chat=ChatId("#i"), at=AT, reason="#i is invite-only: ask an operator to invite the bridge."),
        ChatClosed(
            chat=ChatId("#b"), at=AT, final=True,
            reason="The bridge is banned from #b: ask an operator to lift the ban.",
        ),
    ]  # fmt: skip
    assert read(in_channel(), ":s 477 me #c :Cannot send") == []


def test_an_invitation_is_ours_or_somebody_elses() -> None:
    one = in_channel()
    assert read(one, ":alice!a@alice.host INVITE me #New", ":alice!a@alice.host INVITE dave #c") == [
        Invitation(chat=ChatId("#new"), at=AT, sender=ALICE, name="#New"),
        Membership(
            chat=C, at=AT, person=Person(id=PersonId("dave"), name="dave"), change=Change.INVITE, actor=ALICE
        ),
    ]


def test_names_are_compared_and_not_assumed() -> None:
    """After a reconnect, or where a QUIT was missed, whoever NAMES leaves out is gone."""
    one = in_channel()
    facts = read(one, ":s 353 me = #c :@alice me", ":s 366 me #c :.")
    assert facts == [Roster(chat=C, at=AT, members=(Member(person=ALICE, role=Role.MODERATOR),))]
    assert "bob" not in one.state.users


def test_multi_prefix_and_userhost_in_names_are_read() -> None:
    one = reader(*HELLO, ":me!m@h JOIN #c", ":s 353 me = #c :~@+alice!a@alice.host me!m@h", ":s 366 me #c :.")
    assert one.state.prefixes("#c", "ALICE") == "qov"
    user = one.state.known("alice")
    assert user is not None
    assert (user.user, user.host) == ("a", "alice.host")


def test_server_time_is_when_it_happened_but_never_the_future() -> None:
    one = in_channel()
    facts = read(
        one,
        "@time=2020-01-02T03:04:05.678Z :alice!a@h TOPIC #c :x",
        "@time=2999-01-02T03:04:05.678Z :alice!a@h TOPIC #c :x",
        "@time=2020-13-45T99:99:99Z :alice!a@h TOPIC #c :x",
    )
    assert [f.at for f in facts] == [1577934245678, AT, AT]


def test_names_that_await_proof_are_free_ten_minutes_after_a_reconnect() -> None:
    whole = Identity()
    before = whole.view("relay")
    before.person("alice", user="a", host="one.example")
    before.rename("alice", "bob")
    one = Reader(State("me"), whole.view("relay"))
    read(one, *HELLO)
    assert one.people.person("alice", user="a", host="two.example", stranger=True) == "alice~2"
    one.people.forget("alice")
    read(one, "PING x", at=AT + 9 * 60_000)
    assert one.people.nick(PersonId("alice")) is None
    read(one, "PING x", at=AT + 11 * 60_000)
    assert one.people.person("alice", user="a", host="two.example") == "alice"
