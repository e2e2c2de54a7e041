"""Answers to a question for consent that must not count: forged, late, replayed, of somebody else."""

import pytest

from bridgekit.contract import facts
from bridgekit.contract.ids import ChatId, MessageId, PortalKey
from bridgekit.contract.people import Content, Kind, Person, Role
from bridgekit.contract.text import plain
from bridgekit.core import wording
from bridgekit.core.questions import (
    DAY,
    HOUR,
    Decision,
    Drop,
    Say,
)
from tests.core.asking import ANN, BOB, BOTH, NETWORK, NOBODY, OLGA, SIDE, Bench, events, only, said


def test_a_forged_code_is_told_counted_and_after_five_not_listened_to():
    bench = Bench()
    bench.want()
    right = bench.code()
    replies = [bench.says(OLGA, f"bk-aaaa-bbb{n} yes", private=True) for n in range(2, 7)]
    assert [said(out) for out in replies] == [[wording.NO_SUCH_CODE]] * 4 + [[wording.TOO_MANY_CODES]]
    assert [events(out) for out in replies] == [["consent_code_unknown"]] * 4 + [["consent_codes_guessed"]]
    assert bench.says(OLGA, f"{right} yes", private=True) == []  # not even the right one, and without a word
    assert bench.scopes == frozenset()
    bench.now += HOUR
    bench.says(OLGA, f"{right} yes", private=True)
    assert bench.scopes == BOTH


def test_a_code_is_of_no_use_to_anybody_else():
    bench = Bench(operators=[OLGA, BOB])
    asked = only(Say, bench.want()).person
    other = BOB if asked == OLGA else OLGA
    out = bench.says(other, f"{bench.code()} yes", private=True)
    assert said(out) == [wording.NO_SUCH_CODE]
    assert bench.scopes == frozenset()


def test_an_answer_by_somebody_who_is_no_operator_any_more_does_not_count():
    bench = Bench()
    bench.want()
    bench.role(OLGA, Role.VOICE)
    out = bench.says(OLGA, f"{bench.code()} yes", private=True)
    assert said(out) == [wording.NO_SUCH_CODE]  # the question died with the role
    assert bench.scopes == frozenset()


def test_an_answer_by_a_nick_that_took_over_an_operators_nick_does_not_count():
    bench = Bench()
    bench.want()
    code = bench.code()
    impostor = Person(id=OLGA.id, name="Olga", account="mallory")
    out = bench.says(impostor, f"{code} yes", private=True)
    assert said(out) == [wording.not_operator("#lobby")]
    assert events(out) == ["consent_not_operator"]
    assert bench.scopes == frozenset()
    assert said(bench.says(OLGA, f"{code} yes", private=True)) == [wording.NO_SUCH_CODE]  # the code is burnt


def test_an_impostor_who_has_become_an_operator_needs_a_question_of_their_own():
    bench = Bench()
    bench.want()
    code = bench.code()
    impostor = Person(id=OLGA.id, name="Olga", account="mallory")
    bench.role(impostor, Role.MODERATOR)
    out = bench.says(impostor, f"{code} yes", private=True)
    assert said(out) == [wording.NO_SUCH_CODE]
    assert bench.scopes == frozenset()


def test_without_accounts_a_question_dies_when_the_operator_leaves():
    bench = Bench(operators=[NOBODY])
    bench.want()
    code = bench.code()
    bench.leaves(NOBODY)
    bench.role(NOBODY, Role.MODERATOR)  # somebody of that name is back, and nobody knows who
    assert said(bench.says(NOBODY, f"{code} yes", private=True)) == [wording.NO_SUCH_CODE]
    assert bench.scopes == frozenset()


def test_without_accounts_an_operator_who_stayed_can_answer():
    bench = Bench(operators=[NOBODY])
    bench.want()
    bench.says(NOBODY, f"{bench.code()} yes", private=True)
    assert bench.scopes == BOTH


def test_a_code_is_good_once():
    bench = Bench()
    bench.agreed()
    code = bench.code()
    bench.desk.withdraw(SIDE, ANN, bench.now, bench.dice)
    assert said(bench.says(OLGA, f"{code} yes", private=True)) == [wording.NO_SUCH_CODE]
    assert bench.scopes == frozenset()


def test_a_question_dies_with_its_link_and_a_late_answer_is_told_so():
    bench = Bench()
    bench.want()
    code = bench.code()
    assert [type(decision) for decision in bench.desk.close(SIDE)] == [Drop]
    assert said(bench.says(OLGA, f"{code} yes", private=True)) == [wording.NO_SUCH_CODE]
    assert "its link is gone" in wording.NO_SUCH_CODE
    bench.desk.open(SIDE, name="#talk", room="another room", by="@ann:example.org")
    assert said(bench.says(OLGA, f"{code} yes", private=True)) == [wording.NO_SUCH_CODE]
    assert bench.scopes == frozenset()


def test_a_replayed_answer_does_not_count():
    bench = Bench()
    bench.want()
    assert bench.says(OLGA, f"{bench.code()} yes", private=True, replayed=True) == []
    assert bench.scopes == frozenset()


def test_a_code_that_is_too_old_does_not_count():
    bench = Bench()
    bench.want()
    code = bench.code()
    bench.now += 4 * DAY
    assert said(bench.says(OLGA, f"{code} yes", private=True)) == [wording.NO_SUCH_CODE]


def test_a_code_in_the_chat_itself_does_not_count():
    bench = Bench()
    bench.want()
    assert bench.says(OLGA, f"{bench.code()} yes") == []
    assert bench.scopes == frozenset()


def test_a_notice_is_never_an_answer():
    bench = Bench()
    bench.want()
    message = facts.Message(
        chat=ChatId("olga"),
        at=bench.now,
        private=True,
        sender=OLGA,
        id=MessageId("n"),
        content=Content(text=plain(f"{bench.code()} yes"), kind=Kind.NOTICE),
    )
    assert bench.hear(message, PortalKey(NETWORK, ChatId("olga"))) == []


@pytest.mark.parametrize("words", ["!bridge grant", "!bridge revoke"])
def test_commands_of_those_who_are_no_operators_are_answered_with_a_sentence(words: str):
    bench = Bench()
    bench.agreed()
    out = bench.says(BOB, words)
    assert said(out) == [wording.not_operator("#lobby")]
    assert bench.scopes == BOTH


def test_nobody_can_make_the_bridge_answer_a_hundred_times_a_minute():
    bench = Bench()
    out: list[Decision] = []
    for _ in range(100):
        out += bench.says(BOB, "!bridge grant")
    assert len(said(out)) == 6
