"""Opting out: whose words stay where they are, and what the others see instead."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract import facts, verbs
from bridgekit.contract.facts import Change
from bridgekit.contract.ids import MATRIX, ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Content, Kind, Member, Person, Role
from bridgekit.contract.text import plain
from bridgekit.core import wording
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import NOTHING, RELAY, Action, Context, Plan, SideView, matrix_side
from bridgekit.core.optout import Omission, OptOut, OptOuts, omitted, without

PARROT, CROW = NetworkId("parrot"), NetworkId("crow")
ROOM = ChatId("!r:example.org")
HERE, THERE = PortalKey(PARROT, ChatId("#a")), PortalKey(CROW, ChatId("#b"))
OLGA = Person(id=PersonId("olga"), name="Olga", account="olga")
BOB = Person(id=PersonId("bob"), name="Bob")
NOW = 1_700_000_000_000


def context(origin: PortalKey = HERE) -> Context:
    return Context(
        number=255,
        origin=origin,
        sides=(
            SideView(key=matrix_side(ROOM), label="Matrix"),
            SideView(key=HERE, label="Parrot"),
            SideView(key=THERE, label="Crow"),
            SideView(key=PortalKey(CROW, ChatId("#closed")), label="Crow", open=False),
        ),
        namespace=Namespace("_bk_", "example.org"),
    )


def message(words: str, sender: Person = OLGA, *, replayed: bool = False) -> facts.Message:
    return facts.Message(
        chat=HERE.chat,
        at=NOW,
        sender=sender,
        id=MessageId("m1"),
        content=Content(text=plain(words)),
        replayed=replayed,
    )


def out(*people: Person) -> OptOuts:
    return OptOuts(OptOut(network=PARROT, person=p.id, account=p.account or "", at=NOW) for p in people)


def test_a_message_is_replaced_by_a_notice_of_the_bridges_own_on_every_open_side():
    def notice(chat: ChatId) -> verbs.PostMessage:
        content = Content(text=plain(wording.OMITTED), kind=Kind.NOTICE)
        return verbs.PostMessage(chat=chat, content=content, key="ff", at=NOW)

    assert omitted(context(), message("secret"), out(OLGA).covers, Omission.NOTICE) == Plan(
        actions=(
            Action(side=matrix_side(ROOM), actor="", verb=notice(ROOM)),
            Action(side=THERE, actor=RELAY, verb=notice(THERE.chat)),
        ),
        unsaid=True,
    )


def test_where_the_admin_wants_it_nothing_stands_in_its_place():
    assert omitted(context(), message("secret"), out(OLGA).covers, Omission.NOTHING) == NOTHING


def test_everybody_else_is_planned_as_ever():
    assert omitted(context(), message("hello", BOB), out(OLGA).covers, Omission.NOTICE) is None
    same_name = PortalKey(CROW, ChatId("#b"))
    assert omitted(context(same_name), message("hello"), out(OLGA).covers, Omission.NOTICE) is None
    matrix = matrix_side(ROOM)
    assert omitted(context(matrix), message("hello"), out(OLGA).covers, Omission.NOTICE) is None


@pytest.mark.parametrize(
    "fact",
    [
        facts.Edit(
            chat=HERE.chat, at=NOW, sender=OLGA, target=MessageId("m"), content=Content(text=plain("x"))
        ),
        facts.Reaction(chat=HERE.chat, at=NOW, sender=OLGA, target=MessageId("m"), key="x"),
        facts.Typing(chat=HERE.chat, at=NOW, sender=OLGA, active=True),
        facts.Receipt(chat=HERE.chat, at=NOW, sender=OLGA, target=MessageId("m")),
        facts.Membership(chat=HERE.chat, at=NOW, person=OLGA, change=Change.JOIN),
        facts.Profile(chat=HERE.chat, at=NOW, person=OLGA),
        facts.RoleChange(chat=HERE.chat, at=NOW, person=OLGA, role=Role.VOICE),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_nothing_else_that_they_do_leaves_its_side_and_no_ghost_is_made(fact: facts.Fact):
    assert omitted(context(), fact, out(OLGA).covers, Omission.NOTICE) == NOTHING


@pytest.mark.parametrize("change", [Change.LEAVE, Change.KICK, Change.BAN])
def test_a_ghost_from_before_may_go(change: Change):
    fact = facts.Membership(chat=HERE.chat, at=NOW, person=OLGA, change=change)
    assert omitted(context(), fact, out(OLGA).covers, Omission.NOTICE) is None


def test_what_they_moderate_is_done():
    fact = facts.Membership(chat=HERE.chat, at=NOW, person=BOB, change=Change.KICK, actor=OLGA)
    assert omitted(context(), fact, out(OLGA).covers, Omission.NOTICE) is None
    topic = facts.Topic(chat=HERE.chat, at=NOW, topic="new", actor=OLGA)
    assert omitted(context(), topic, out(OLGA).covers, Omission.NOTICE) is None


def test_they_are_on_no_roster():
    roster = facts.Roster(chat=HERE.chat, at=NOW, members=(Member(person=OLGA), Member(person=BOB)))
    seen = without(roster, PARROT, out(OLGA).covers)
    assert isinstance(seen, facts.Roster)
    assert seen.members == (Member(person=BOB),)
    assert without(roster, CROW, out(OLGA).covers) is roster


def test_a_topic_that_they_set_is_the_chats_and_nobodys():
    """No ghost is made to set it."""
    topic = facts.Topic(chat=HERE.chat, at=NOW, topic="tea", actor=OLGA)
    assert without(topic, PARROT, out(OLGA).covers) == facts.Topic(chat=HERE.chat, at=NOW, topic="tea")
    assert without(topic, PARROT, out(BOB).covers) == topic


def test_the_words_themselves_stay_between_the_person_and_the_bridge():
    assert omitted(context(), message("!optout", BOB), OptOuts().covers, Omission.NOTICE) == NOTHING


# The commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["!optout", "!OptOut ", "!bridge optout"])
def test_somebody_opts_out_and_in_again(words: str):
    people = OptOuts()
    heard = people.hear(PARROT, message(words), NOW)
    assert heard is not None
    assert heard.words == wording.OPTED_OUT
    assert heard.put == OptOut(network=PARROT, person=OLGA.id, account="olga", at=NOW)
    assert people.covers(PARROT, OLGA)
    again = people.hear(PARROT, message(words), NOW)
    assert again is not None
    assert (again.words, again.put) == (wording.ALREADY_OUT, None)
    back = people.hear(PARROT, message("!optin"), NOW)
    assert back is not None
    assert (back.words, back.remove) == (wording.OPTED_IN, (heard.put,))
    assert not people.covers(PARROT, OLGA)
    never = people.hear(PARROT, message("!optin"), NOW)
    assert never is not None
    assert never.words == wording.ALREADY_IN


def test_an_account_is_out_under_every_name_and_its_name_even_when_signed_out():
    people = out(OLGA)
    assert people.covers(PARROT, Person(id=PersonId("olga_"), name="olga_", account="olga"))
    assert people.covers(PARROT, Person(id=OLGA.id, name="Olga"))
    assert not people.covers(CROW, OLGA)


def test_nobody_takes_back_what_an_account_has_said_without_that_account():
    people = out(OLGA)
    signed_out = Person(id=OLGA.id, name="Olga")
    heard = people.hear(PARROT, message("!optin", signed_out), NOW)
    assert heard is not None
    assert (heard.remove, heard.words) == ((), wording.OUT_WITH_ACCOUNT)
    people.hear(PARROT, message("!optin", Person(id=OLGA.id, name="Olga", account="mallory")), NOW)
    assert people.covers(PARROT, OLGA)
    assert people.covers(PARROT, signed_out)


SIGNED_OUT = Person(id=OLGA.id, name="Olga")
ELSEWHERE = Person(id=PersonId("zoe"), name="zoe", account="olga")


def signs_in(account: str = "olga") -> facts.Profile:
    return facts.Profile(chat=HERE.chat, at=NOW, person=Person(id=OLGA.id, name="Olga", account=account))


def taken_along(
    people: OptOuts, fact: facts.Fact, seen: Callable[[NetworkId, PersonId], bool]
) -> OptOut | None:
    """The wish that what was learned has bound to an account."""
    heard = people.learn(PARROT, fact, seen)
    return heard[0][1].put if heard else None


def in_sight(network: NetworkId, person: PersonId) -> bool:
    return True


def nowhere(network: NetworkId, person: PersonId) -> bool:
    return False


def test_who_opts_out_and_then_signs_in_is_out_with_the_account_wherever_it_is_used():
    people = OptOuts()
    people.hear(PARROT, message("!optout", SIGNED_OUT), NOW)
    assert not people.covers(PARROT, ELSEWHERE)
    bound = taken_along(people, signs_in("oz"), in_sight)
    assert bound == OptOut(network=PARROT, person=OLGA.id, account="oz", at=NOW)
    assert people.covers(PARROT, Person(id=PersonId("zoe"), name="zoe", account="oz"))
    assert people.covers(PARROT, SIGNED_OUT)
    assert taken_along(people, signs_in("oz"), in_sight) is None
    assert bound is not None
    assert OptOuts([bound]).covers(PARROT, Person(id=PersonId("zoe"), name="zoe", account="oz"))


def leaves(people: OptOuts) -> None:
    left = facts.Membership(chat=HERE.chat, at=NOW, person=SIGNED_OUT, change=Change.LEAVE)
    people.learn(PARROT, left, nowhere)


def connection_lost(people: OptOuts) -> None:
    people.lost(PARROT)


def was_in_no_chat(people: OptOuts) -> None:
    people.learn(PARROT, message("!optout", SIGNED_OUT), nowhere)


@pytest.mark.parametrize("gap", [leaves, connection_lost, was_in_no_chat])
def test_who_takes_the_name_of_somebody_who_went_is_not_out_with_their_own_account(
    gap: Callable[[OptOuts], None],
):
    people = OptOuts()
    people.hear(PARROT, message("!optout", SIGNED_OUT), NOW)
    gap(people)
    mallory = Person(id=OLGA.id, name="Olga", account="mallory")
    said = message("hello", mallory)
    assert taken_along(people, said, in_sight) is None
    assert taken_along(people, signs_in("mallory"), in_sight) is None
    assert people.covers(PARROT, mallory)  # nothing tells that it is not Olga
    assert not people.covers(PARROT, Person(id=PersonId("mallory"), name="mallory", account="mallory"))


@pytest.mark.parametrize(
    "fact",
    [
        facts.Membership(chat=HERE.chat, at=NOW, person=OLGA, change=Change.JOIN),
        facts.Roster(chat=HERE.chat, at=NOW, members=(Member(person=OLGA),)),
        message("hello"),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_who_comes_back_signed_in_to_the_account_of_that_very_name_is_who_opted_out(fact: facts.Fact):
    people = OptOuts([OptOut(network=PARROT, person=OLGA.id, at=NOW)])
    assert taken_along(people, fact, nowhere) == OptOut(
        network=PARROT, person=OLGA.id, account="olga", at=NOW
    )
    assert people.covers(PARROT, ELSEWHERE)


def test_who_says_so_again_signed_in_is_out_with_the_account():
    people = OptOuts([OptOut(network=PARROT, person=OLGA.id, at=NOW)])
    oz = Person(id=OLGA.id, name="Olga", account="oz")
    heard = people.hear(PARROT, message("!optout", oz), NOW + 5)
    assert heard is not None
    assert heard.put == OptOut(network=PARROT, person=OLGA.id, account="oz", at=NOW + 5)
    assert people.covers(PARROT, Person(id=PersonId("zoe"), name="zoe", account="oz"))
    assert people.covers(PARROT, SIGNED_OUT)


def test_another_account_under_the_name_of_one_that_is_out_is_somebody_else():
    people = out(OLGA)
    mallory = Person(id=OLGA.id, name="Olga", account="mallory")
    assert not people.covers(PARROT, mallory)
    assert people.covers(PARROT, SIGNED_OUT)
    heard = people.hear(PARROT, message("!optin", mallory), NOW)
    assert heard is not None
    assert (heard.words, heard.remove) == (wording.ALREADY_IN, ())


def test_who_changes_the_account_in_plain_sight_stays_out():
    people = OptOuts()
    people.hear(PARROT, message("!optout"), NOW)
    oz = Person(id=OLGA.id, name="Olga", account="oz")
    people.learn(PARROT, signs_in("oz"), in_sight)
    assert people.covers(PARROT, oz)
    leaves(people)
    assert people.covers(PARROT, OLGA)


def test_of_an_account_that_opts_in_again_nothing_is_left():
    people = OptOuts()
    people.hear(PARROT, message("!optout", SIGNED_OUT), NOW)
    people.learn(PARROT, signs_in(), in_sight)
    people.hear(PARROT, message("!optin"), NOW)
    assert not any(people.covers(PARROT, one) for one in (OLGA, SIGNED_OUT, ELSEWHERE))
    assert taken_along(people, signs_in(), in_sight) is None
    assert not people.covers(PARROT, ELSEWHERE)


@pytest.mark.parametrize("words", ["optout", "!optout please", "I say !optout", "!bridge help", ""])
def test_other_words_are_no_command(words: str):
    assert OptOuts().hear(PARROT, message(words), NOW) is None


def test_what_is_replayed_is_no_command():
    assert OptOuts().hear(PARROT, message("!optout", replayed=True), NOW) is None


@given(st.text(max_size=60))
def test_no_word_of_theirs_is_in_the_plan(words: str):
    plan = omitted(context(), message(f"geheim{words}"), out(OLGA).covers, Omission.NOTICE)
    assert plan is not None
    assert "geheim" not in repr(plan)
    assert all(a.actor in ("", RELAY) and a.verb.speaker is None for a in plan.actions)
    assert all(a.side.network != MATRIX or a.actor == "" for a in plan.actions)
