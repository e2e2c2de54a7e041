"""The consent desk: who is asked, whose answer counts, what is kept, and what ends it."""

from typing import Any

import pytest

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.contract.people import Person, Role
from bridgekit.core import wording
from bridgekit.core.answers import code_of, digest
from bridgekit.core.consent import Desk
from bridgekit.core.questions import (
    DAY,
    HOUR,
    Announce,
    Ask,
    Decision,
    Drop,
    Inform,
    Keep,
    Rules,
    Say,
    Weigh,
)
from bridgekit.core.scopes import Consent, Policy, Scope, agreed_since, without_person
from tests.core.asking import (
    ANN,
    BOB,
    BOTH,
    NETWORK,
    NOBODY,
    OLGA,
    SIDE,
    START,
    Bench,
    events,
    kept,
    of,
    only,
    said,
)

# Asking -----------------------------------------------------------------------------------------------------


def test_an_operator_is_asked_in_private_with_a_code_and_the_room_is_told():
    bench = Bench()
    out = bench.want()
    say = only(Say, out)
    assert say.person == OLGA
    assert f"{bench.code()} yes" in say.words
    assert "@ann:example.org asks to link #lobby on Parrot to the Matrix room !r:example.org" in say.words
    assert only(Inform, out).words == wording.asked("#lobby", "Parrot")
    assert bench.scopes == frozenset()
    ask = only(Ask, kept(out))
    assert ask.digest == digest(bench.code(), OLGA.id)
    assert bench.code() not in ask.wording


def test_a_link_to_a_chat_whose_roster_is_known_asks_one_operator_once_and_the_room_is_told():
    bench = Bench()
    bench.open(members=(OLGA, BOB))
    out = bench.want()
    assert [a.person for a in of(Ask, kept(out))] == [BOB.id]
    assert [d.words for d in of(Inform, out)] == [wording.asked("#lobby", "Parrot")]


def test_a_link_to_a_chat_without_operators_says_once_that_nobody_can_be_asked():
    bench = Bench()
    bench.open(members=())
    out = bench.want() + bench.roster()
    assert [d.words for d in of(Inform, out)] == [wording.nobody_to_ask("#lobby", "Parrot")]


def test_of_several_operators_the_one_whom_the_network_vouches_for_is_asked():
    bench = Bench(operators=[NOBODY, BOB])
    assert only(Say, bench.want()).person == BOB


def test_a_service_is_never_asked():
    service = Person(id=PersonId("chanserv"), name="ChanServ", bot=True)
    bench = Bench(operators=[service])
    out = bench.want()
    assert of(Say, out) == []
    assert only(Inform, out).words == wording.nobody_to_ask("#lobby", "Parrot")


def test_where_nobody_can_be_asked_the_first_operator_who_comes_is():
    bench = Bench(operators=[])
    assert of(Say, bench.want()) == []
    assert only(Say, bench.role(OLGA, Role.MODERATOR)).person == OLGA


def test_a_second_operator_is_asked_when_the_first_does_not_answer():
    bench = Bench(operators=[OLGA, BOB])
    first = only(Say, bench.want()).person
    assert of(Say, bench.after(HOUR)) == []
    second = only(Say, bench.after(DAY)).person
    assert {first.id, second.id} == {OLGA.id, BOB.id}


def test_a_question_that_nobody_answers_is_not_asked_for_ever():
    bench = Bench()
    asked = len(of(Say, bench.want()))
    for _ in range(100):
        asked += len(of(Say, bench.after(DAY)))
    assert asked == 3
    assert len(of(Say, bench.want())) == 1  # somebody wants it anew


def test_ten_thousand_mode_flips_in_a_minute_ask_at_most_three_times_and_say_so_in_the_log_once():
    bench = Bench(operators=[])
    out = bench.want()
    for n in range(10_000):
        bench.now += 6
        out += bench.role(OLGA, Role.MODERATOR if n % 2 == 0 else Role.NONE)
    assert 1 <= len(of(Say, out)) <= 3
    assert events(out).count("consent_questions_held_back") == 1
    assert len(out) < 20


def test_ten_thousand_flips_with_ten_thousand_operators_ask_at_most_three_times():
    bench = Bench(operators=[])
    out = bench.want()
    for n in range(10_000):
        bench.now += 6
        person = Person(id=PersonId(f"p{n}"), name=f"p{n}")
        out += bench.role(person, Role.MODERATOR) + bench.role(person, Role.NONE)
    assert 1 <= len(of(Say, out)) <= 3
    assert events(out).count("consent_questions_held_back") == 1


# Answering --------------------------------------------------------------------------------------------------


def test_a_yes_is_kept_with_who_account_when_scope_and_wording():
    bench = Bench()
    question = only(Say, bench.want()).words
    code = bench.code()
    bench.now += HOUR
    out = bench.says(OLGA, f"{code} yes", private=True)
    consent = only(Consent, kept(out))
    assert consent == Consent(
        id=1,
        side=SIDE,
        scopes=BOTH,
        person=OLGA.id,
        name="Olga",
        account="olga",
        at=START + HOUR,
        wording=question.replace(code, "…"),
    )
    assert only(Weigh, out) == Weigh(SIDE, BOTH)
    assert only(Drop, out) == Drop(1)
    assert only(Announce, out).words == wording.linked(
        "#lobby", "!r:example.org", "@ann:example.org", ["bridge", "media"]
    )
    assert bench.scopes == BOTH


@pytest.mark.parametrize(
    ("words", "scopes"),
    [
        ("{} yes", BOTH),
        ("yes {}", BOTH),
        ("YES, {}!", BOTH),
        ("{} bridge", {Scope.BRIDGE}),
        ("{} bridge, history", {Scope.BRIDGE, Scope.HISTORY}),
        ("{} public history media bridge", set(Scope)),
        ("{} history", {Scope.BRIDGE, Scope.HISTORY}),
    ],
)
def test_an_operator_says_what_they_agree_to(words: str, scopes: set[Scope]):
    bench = Bench()
    bench.want()
    bench.says(OLGA, words.format(bench.code()), private=True)
    assert bench.scopes == scopes


@pytest.mark.parametrize("words", ["{}", "{} perhaps", "{} yes no", "{} yes please do", "{} no bridge"])
def test_an_unclear_answer_is_asked_back_and_the_code_still_holds(words: str):
    bench = Bench()
    bench.want()
    code = bench.code()
    assert said(bench.says(OLGA, words.format(code), private=True)) == [wording.BAD_ANSWER]
    assert bench.scopes == frozenset()
    bench.says(OLGA, f"{code} yes", private=True)
    assert bench.scopes == BOTH


def test_a_no_is_kept_and_nobody_is_asked_again_for_a_month():
    bench = Bench(operators=[OLGA, BOB])
    asked = only(Say, bench.want()).person
    out = bench.says(asked, f"{bench.code()} no", private=True)
    assert not only(Consent, kept(out)).granted
    assert bench.scopes == frozenset()
    again = bench.want()
    assert of(Say, again) == []
    assert only(Inform, again).words == wording.refused_before("#lobby", "Parrot", 30)
    bench.now += 31 * DAY
    assert len(of(Say, bench.want())) == 1


def test_of_two_who_answer_at_once_the_second_reads_how_to_take_the_link_back():
    bench = Bench(operators=[OLGA, BOB])
    first = only(Say, bench.want()).person
    codes = {first.id: bench.code()}
    second = only(Say, bench.after(DAY)).person
    codes[second.id] = bench.code()
    bench.says(first, f"{codes[first.id]} yes", private=True)
    assert bench.scopes == BOTH
    told = said(bench.says(second, f"{codes[second.id]} no", private=True))
    assert told == [wording.NO_SUCH_CODE]
    assert "says !bridge revoke in the chat" in told[0]
    bench.says(second, "!bridge revoke")
    assert bench.scopes == frozenset()


def test_an_operator_may_ask_to_be_asked():
    bench = Bench(operators=[OLGA, BOB])
    say = only(Say, bench.says(BOB, "!bridge grant"))
    assert say.person == BOB
    bench.says(BOB, f"{bench.code()} yes", private=True)
    assert bench.scopes == BOTH
    assert said(bench.says(BOB, "!bridge grant")) == [wording.NOTHING_TO_GRANT]


# The end of a consent ---------------------------------------------------------------------------------------


def test_any_operator_can_take_it_back_and_the_link_closes_at_once():
    bench = Bench(operators=[OLGA, BOB])
    bench.want()
    bench.says(OLGA, f"{bench.code()} yes", private=True)
    bench.says(BOB, f"{bench.code()} yes", private=True)
    assert bench.scopes == BOTH
    out = bench.says(BOB, "!bridge revoke")
    assert only(Weigh, out) == Weigh(SIDE, frozenset())
    ended = [c for c in of(Consent, kept(out)) if c.ended]
    assert [(c.ended, c.ended_by) for c in ended] == [(bench.now, "Bob")]
    assert only(Inform, out).words == only(Announce, out).words == wording.revoked("#lobby", "Parrot", "Bob")
    assert bench.scopes == frozenset()
    assert of(Say, bench.after(2 * DAY)) == []  # a no is a no


@pytest.mark.parametrize("policy", [Policy.REQUIRED, Policy.ANNOUNCED])
def test_the_matrix_side_takes_it_back_and_no_operator_opens_it_again_without_it(policy: Policy):
    bench = Bench(Rules(policy=policy))
    if policy is Policy.REQUIRED:
        bench.agreed()
    else:
        bench.want()
    out = bench.desk.withdraw(SIDE, ANN, bench.now, bench.dice)
    assert only(Weigh, out) == Weigh(SIDE, frozenset())
    assert bench.scopes == frozenset()
    assert said(bench.says(OLGA, "!bridge grant")) == [wording.withheld("#lobby")]
    # After a restart, nobody in the chat is asked again for what nobody on Matrix wants.
    bench.desk = Desk(NETWORK, "Parrot", bench.desk.rules)
    bench.desk.open(SIDE, name="#lobby", room="!r:x", by=ANN, consents=of(Consent, kept(out)))
    assert of(Say, bench.roster(OLGA) + bench.after(2 * DAY)) == []
    assert bench.scopes == frozenset()
    out = bench.want()
    if policy is Policy.REQUIRED:
        assert bench.scopes == frozenset()
        bench.says(OLGA, f"{bench.code()} yes", private=True)
    assert bench.scopes == BOTH


def test_who_wanted_a_link_and_is_erased_is_in_no_question_that_is_still_open():
    bench = Bench()
    assert ANN in only(Ask, kept(bench.want())).wording
    [kept_ask] = kept(bench.desk.erase(NetworkId("matrix"), ANN, bench.now))
    assert isinstance(kept_ask, Ask)
    assert ANN not in kept_ask.wording
    agreed = only(Consent, kept(bench.says(OLGA, f"{bench.code()} yes", private=True)))
    assert ANN not in agreed.wording


def test_who_took_a_link_back_and_is_erased_is_named_nowhere():
    bench = Bench()
    bench.agreed()
    no = next(
        c for c in of(Consent, kept(bench.desk.withdraw(SIDE, ANN, bench.now, bench.dice))) if c.refuses()
    )
    left = without_person(no, NetworkId("matrix"), ANN)
    assert ANN not in str(left)
    assert left.withholds()


def test_an_operator_who_is_away_for_a_while_still_stands_behind_it():
    bench = Bench(operators=[OLGA])
    bench.agreed()
    bench.leaves(OLGA)
    bench.after(6 * DAY)
    bench.role(OLGA, Role.MODERATOR)
    assert of(Inform, bench.after(6 * DAY)) == []
    assert bench.scopes == BOTH


def test_when_the_operator_loses_the_role_for_good_another_is_asked_and_both_sides_are_told():
    bench = Bench(operators=[OLGA, BOB])
    bench.want()
    bench.says(BOB, f"{bench.code()} yes", private=True)
    bench.role(BOB, Role.NONE)
    assert of(Say, bench.after(DAY)) == []
    out = bench.after(7 * DAY)
    told = wording.role_lost("#lobby", "Parrot", "Bob", 7)
    assert only(Inform, out).words == only(Announce, out).words == told
    assert only(Say, out).person == OLGA
    assert "Bob, who had agreed to it, is no operator of #lobby any more" in only(Say, out).words
    assert bench.scopes == BOTH  # it still holds while an answer is awaited
    bench.says(OLGA, f"{bench.code()} yes", private=True)
    bench.after(30 * DAY)
    assert bench.scopes == BOTH


def test_who_says_no_where_an_answer_runs_out_closes_the_link_at_once():
    bench = Bench(operators=[OLGA, BOB])
    bench.want()
    bench.says(BOB, f"{bench.code()} yes", private=True)
    bench.role(BOB, Role.NONE)
    bench.after(8 * DAY)
    out = bench.says(OLGA, f"{bench.code()} no", private=True)
    assert bench.scopes == frozenset()
    assert only(Weigh, out) == Weigh(SIDE, frozenset())
    assert only(Inform, out).words == only(Announce, out).words
    assert only(Inform, out).words == wording.not_renewed("#lobby", "Parrot", "Olga")
    assert [c.ended_by for c in of(Consent, kept(out)) if c.granted] == ["Olga"]
    assert said(out) == [wording.refused_noted("#lobby", 30)]


def test_a_no_to_more_leaves_what_holds_and_says_so():
    bench = Bench()
    bench.agreed()
    bench.want(Scope.BRIDGE, Scope.HISTORY)
    out = bench.says(OLGA, f"{bench.code()} no", private=True)
    assert bench.scopes == BOTH
    assert said(out) == [wording.refused_more_noted("#lobby", ["history"], 30)]
    assert only(Inform, out).words == wording.refused_more("#lobby", "Parrot", "Olga", ["history"])
    assert of(Say, bench.want(Scope.BRIDGE, Scope.HISTORY)) == []


def test_a_no_to_more_does_not_stand_in_the_way_of_renewing_what_holds():
    bench = Bench(operators=[OLGA, BOB])
    bench.want()
    bench.says(BOB, f"{bench.code()} yes", private=True)
    bench.want(Scope.BRIDGE, Scope.MEDIA, Scope.HISTORY)
    bench.says(BOB, f"{bench.code()} no", private=True)
    bench.role(BOB, Role.NONE)
    asked = only(Ask, kept([d for d in bench.after(8 * DAY) if isinstance(d, Keep)]))
    assert (asked.person, asked.scopes) == (OLGA.id, BOTH)
    bench.says(OLGA, f"{bench.code()} yes", private=True)
    bench.after(DAY)
    assert bench.scopes == BOTH
    assert of(Say, bench.after(DAY)) == []


def test_where_no_other_operator_agrees_the_link_closes():
    bench = Bench()
    bench.agreed()
    bench.leaves(OLGA)
    bench.after(7 * DAY)
    assert bench.scopes == BOTH
    out = bench.after(7 * DAY)
    assert only(Weigh, out) == Weigh(SIDE, frozenset())
    assert wording.expired("#lobby", "Parrot") in [i.words for i in of(Inform, out)]
    assert bench.scopes == frozenset()


def test_a_consent_runs_out_by_itself_even_where_no_tick_came():
    bench = Bench()
    bench.agreed()
    bench.leaves(OLGA)
    bench.after(7 * DAY)
    bench.now += 7 * DAY
    assert bench.scopes == frozenset()


def test_an_account_that_comes_back_under_another_nick_still_stands_behind_it():
    bench = Bench()
    bench.agreed()
    bench.leaves(OLGA)
    bench.role(Person(id=PersonId("olga2"), name="olga2", account="olga"), Role.MODERATOR)
    bench.after(30 * DAY)
    assert bench.scopes == BOTH


def test_somebody_else_with_the_operators_nick_does_not_stand_behind_it():
    bench = Bench()
    bench.agreed()
    bench.leaves(OLGA)
    bench.role(Person(id=OLGA.id, name="Olga", account="mallory"), Role.MODERATOR)
    assert wording.role_lost("#lobby", "Parrot", "Olga", 7) in [
        i.words for i in of(Inform, bench.after(7 * DAY))
    ]


def test_ten_thousand_flips_of_the_role_of_who_agreed_write_nothing():
    bench = Bench()
    bench.agreed()
    out: list[Decision] = []
    for n in range(10_000):
        bench.now += 6
        out += bench.role(OLGA, Role.NONE if n % 2 == 0 else Role.MODERATOR)
    assert out == []


# Restart ----------------------------------------------------------------------------------------------------


def test_after_a_restart_the_open_question_can_still_be_answered():
    bench = Bench()
    ask = only(Ask, kept(bench.want()))
    code = bench.code()
    bench.desk = Desk(NETWORK, "Parrot", Rules())
    bench.open(asks=[ask])
    assert said(bench.says(OLGA, f"{code} yes", private=True)) == [wording.not_operator("#lobby")]
    bench.roster(OLGA)
    bench.says(OLGA, f"{code} yes", private=True)
    assert bench.scopes == BOTH


def test_after_a_restart_a_question_without_an_account_is_void():
    bench = Bench(operators=[NOBODY])
    ask = only(Ask, kept(bench.want()))
    bench.desk = Desk(NETWORK, "Parrot", Rules())
    bench.open(asks=[ask])
    assert Drop(ask.id) in bench.roster(NOBODY)


@pytest.mark.parametrize(
    "after", [90_000, 2 * HOUR]
)  # a bridge that is restarted again and again forgets nothing
def test_a_role_that_was_lost_before_a_restart_is_counted_on_from_then(after: int):
    bench = Bench()
    bench.agreed()
    bench.leaves(OLGA)
    (consent,) = of(Consent, kept(bench.after(after)))
    assert consent.lost == START
    bench.desk = Desk(NETWORK, "Parrot", Rules())
    bench.open(consents=[consent])
    bench.roster()
    out = bench.after(7 * DAY - after)
    assert [c.until for c in of(Consent, kept(out))] == [bench.now + 7 * DAY]


def test_nobody_loses_a_role_only_because_the_bridge_has_not_looked_yet():
    bench = Bench()
    consent = bench.agreed()
    bench.desk = Desk(NETWORK, "Parrot", Rules())
    bench.open(consents=[consent])
    bench.after(30 * DAY)
    assert bench.scopes == BOTH


# Policies ---------------------------------------------------------------------------------------------------


def test_announced_means_that_the_chat_is_told_and_nobody_asked():
    bench = Bench(Rules(policy=Policy.ANNOUNCED))
    out = bench.want()
    assert of(Say, out) == []
    assert len(of(Announce, out)) == 1
    assert bench.scopes == BOTH


def test_where_it_was_only_announced_an_operator_can_still_end_it():
    bench = Bench(Rules(policy=Policy.ANNOUNCED))
    bench.want()
    out = bench.says(OLGA, "!bridge revoke")
    assert only(Weigh, out) == Weigh(SIDE, frozenset())
    assert bench.scopes == frozenset()
    bench.says(OLGA, "!bridge grant")
    bench.says(OLGA, f"{bench.code()} yes", private=True)
    assert bench.scopes == BOTH


def test_what_goes_further_is_asked_for_even_where_linking_is_only_announced():
    bench = Bench(Rules(policy=Policy.ANNOUNCED))
    out = bench.want(Scope.BRIDGE, Scope.MEDIA, Scope.HISTORY)
    assert only(Ask, kept(out)).scopes == {Scope.HISTORY}
    bench.says(OLGA, f"{bench.code()} no", private=True)
    assert bench.scopes == BOTH  # a no to history is no to history


def test_off_means_that_the_chat_is_the_admins_own():
    bench = Bench(Rules(policy=Policy.OFF))
    assert of(Say, bench.want()) == []
    assert bench.scopes == BOTH | {Scope.HISTORY}
    assert said(bench.says(OLGA, "!bridge revoke")) == [wording.nothing_to_revoke("#lobby")]
    assert bench.scopes == BOTH | {Scope.HISTORY}


def test_a_link_that_is_gone_leaves_no_question_behind():
    bench = Bench()
    bench.want()
    code = bench.code()
    assert bench.desk.close(SIDE) == [Drop(1)]
    assert said(bench.says(OLGA, f"{code} yes", private=True)) == [wording.NO_SUCH_CODE]
    assert bench.desk.scopes(SIDE, bench.now) == frozenset()


def test_a_code_has_its_exact_form():
    assert code_of(b"\0\0\0\0\0") == "bk-aaaa-aaaa"
    with pytest.raises(ValueError):
        code_of(b"1234")


def test_a_chat_has_agreed_since_the_first_of_the_consents_that_follow_without_a_break() -> None:
    """One operator's consent may outlive another's; what came in between is covered all the same."""

    def given(at: int, **more: Any) -> Consent:
        return Consent(
            id=at,
            side=SIDE,
            scopes=frozenset({Scope.BRIDGE}),
            person=PersonId("o"),
            name="O",
            at=at,
            wording="",
            **more,
        )

    assert agreed_since([], 100) == 0
    assert agreed_since([given(10)], 100) == 10
    assert agreed_since([given(10, ended=40)], 100) == 0
    assert agreed_since([given(10, ended=40), given(30)], 100) == 10
    assert agreed_since([given(10, ended=40), given(60)], 100) == 60
    assert agreed_since([given(10, until=50), given(20, until=30), given(40)], 100) == 10
    assert agreed_since([given(10, granted=False), given(20)], 100) == 20
