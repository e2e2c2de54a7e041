"""The presence gate: who holds up what, for how long, and that nothing that is held gets lost."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract import facts
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Member, Person, Role
from bridgekit.core.crowd import Crowd
from bridgekit.core.gate import (
    MINUTE,
    PASSES,
    Blocker,
    Cause,
    GateMode,
    GateRules,
    Held,
    Ledger,
    Reader,
    Seen,
    explain,
    judge,
)

NOW = 1_700_000_000_000
ANN, BOB = PersonId("@ann:example.org"), PersonId("@bob:example.org")
LINK = PortalKey(NetworkId("parrot"), ChatId("#lobby"))
OTHER = PortalKey(NetworkId("parrot"), ChatId("#other"))
PAUSE, KICK, RELAY = (
    GateRules(mode=mode) for mode in (GateMode.PAUSE, GateMode.KICK, GateMode.RELAY_ALLOWED)
)


def reader(seen: Seen, *, since: int = NOW, user: PersonId = ANN, why: str = "") -> Reader:
    return Reader(user=user, seen=seen, since=since, why=why)


def held(number: int, *, link: PortalKey = LINK, person: str = "olga", cause: Cause = Cause.GATE) -> Held:
    return Held(number=number, link=link, person=PersonId(person), cause=cause, why="why", since=NOW + number)


def test_who_is_seen_in_the_chat_reads_it():
    assert judge(PAUSE, [reader(Seen.PRESENT), reader(Seen.PRESENT, user=BOB)], NOW) == PASSES
    assert judge(PAUSE, [], NOW) == PASSES


@pytest.mark.parametrize("seen", [Seen.COMING, Seen.SPLIT, Seen.ABSENT])
def test_one_reader_who_is_not_seen_holds_the_messages(seen: Seen):
    verdict = judge(PAUSE, [reader(Seen.PRESENT, user=BOB), reader(seen, why="banned")], NOW)
    assert not verdict.passes
    assert verdict.remove == ()
    (blocker,) = verdict.blockers
    assert (blocker.user, blocker.since, blocker.why) == (ANN, NOW, "banned")
    assert verdict.again == blocker.until > NOW


@pytest.mark.parametrize(("split", "where"), [(False, Seen.ABSENT), (True, Seen.SPLIT)])
def test_a_role_says_nothing_of_where_somebody_is(split: bool, where: Seen):
    """A mute is taken back from who has left meanwhile, too: the network names all whom it hit."""
    person, crowd = Person(id=BOB, name="Bob"), Crowd()
    crowd.hear(facts.Roster(chat=LINK.chat, at=NOW, members=(Member(person=person, role=Role.MUTED),)))
    crowd.hear(
        facts.Membership(chat=LINK.chat, at=NOW, person=person, change=facts.Change.LEAVE, split=split)
    )
    crowd.hear(facts.RoleChange(chat=LINK.chat, at=NOW, person=person, role=Role.VOICE))
    assert crowd.seen(BOB) is where
    assert crowd.members() == ()
    crowd.hear(facts.Membership(chat=LINK.chat, at=NOW, person=person, change=facts.Change.JOIN))
    assert (crowd.seen(BOB), crowd.role(BOB)) == (Seen.PRESENT, Role.VOICE)


def test_where_the_relay_is_enough_nobody_is_waited_for():
    assert judge(RELAY, [reader(Seen.ABSENT, since=0)], NOW) == PASSES


def test_a_stuck_user_is_removed_after_the_grace_time_and_not_before():
    absent = reader(Seen.ABSENT)
    assert judge(PAUSE, [absent], NOW + 5 * MINUTE - 1).remove == ()
    verdict = judge(PAUSE, [absent], NOW + 5 * MINUTE)
    assert verdict.remove == (ANN,)
    assert not verdict.passes  # not before they are really out
    assert judge(PAUSE, [], NOW + 5 * MINUTE) == PASSES


def test_kick_waits_only_for_who_is_on_the_way():
    assert judge(KICK, [reader(Seen.ABSENT)], NOW).remove == (ANN,)
    assert judge(KICK, [reader(Seen.COMING)], NOW + 29_000).remove == ()
    assert judge(KICK, [reader(Seen.COMING)], NOW + 30_000).remove == (ANN,)


@pytest.mark.parametrize("seen", [Seen.COMING, Seen.SPLIT, Seen.ABSENT])
def test_who_was_waited_for_in_vain_has_one_short_turn_more_within_the_hour(seen: Seen):
    again, once_more = (msgspec.structs.replace(reader(seen), turns=turns) for turns in (1, 2))
    assert judge(PAUSE, [again], NOW + 29_000).remove == ()
    assert judge(PAUSE, [again], NOW + 30_000).remove == (ANN,)
    assert judge(PAUSE, [once_more], NOW).remove == (ANN,)
    assert judge(KICK, [msgspec.structs.replace(reader(Seen.ABSENT), turns=1)], NOW).remove == (ANN,)


def test_a_netsplit_is_waited_for_longer_but_nobody_reads_during_it():
    verdict = judge(KICK, [reader(Seen.SPLIT)], NOW + 9 * MINUTE)
    assert not verdict.passes
    assert verdict.remove == ()
    assert verdict.again == NOW + 10 * MINUTE


def test_without_the_power_to_remove_the_stuck_are_named_and_messages_wait_on():
    verdict = judge(PAUSE, [reader(Seen.ABSENT)], NOW + 60 * MINUTE, removable=False)
    assert (verdict.passes, verdict.remove, verdict.stuck) == (False, (), (ANN,))


def test_people_read_how_much_is_held_for_whom_since_when_and_what_to_do():
    verdict = judge(PAUSE, [reader(Seen.ABSENT, why="it is banned there")], NOW + 3 * MINUTE)
    assert explain(verdict, 12, "#lobby", "Parrot", NOW + 3 * MINUTE) == (
        "12 messages from #lobby on Parrot are held. @ann:example.org is in this room and is not seen in #lobby on "
        "Parrot (it is banned there), since 3 minutes. Sign in, join #lobby, or leave this room; who stays "
        "unseen is taken out of the room."
    )
    assert explain(PASSES, 0, "#lobby", "Parrot", NOW) == ""


def test_a_room_always_flows_again_once_the_grace_is_over_and_the_late_are_out():
    """One stuck user never stops a room: whoever is waited for is in `remove` at the latest when it is due."""
    readers = [reader(seen, user=PersonId(f"@{seen}:x")) for seen in Seen]
    now = NOW
    for _ in range(10):
        verdict = judge(PAUSE, readers, now)
        if verdict.passes:
            break
        readers = [r for r in readers if r.user not in verdict.remove]
        now = verdict.again or now
    assert judge(PAUSE, readers, now).passes
    assert now <= NOW + 10 * MINUTE


@given(
    st.lists(st.builds(reader, st.sampled_from(Seen), since=st.integers(NOW - 10**7, NOW)), max_size=6),
    st.sampled_from([PAUSE, KICK]),
    st.integers(0, 10**7),
    st.booleans(),
)
def test_it_passes_only_if_everybody_is_seen_and_every_blocker_has_an_end(
    readers: list[Reader], rules: GateRules, later: int, removable: bool
):
    verdict = judge(rules, readers, NOW + later, removable=removable)
    assert verdict.passes == all(r.seen is Seen.PRESENT for r in readers)
    for blocker in verdict.blockers:
        assert isinstance(blocker, Blocker)
        if NOW + later >= blocker.until:
            assert blocker.user in (verdict.remove if removable else verdict.stuck)
        else:
            assert NOW + later < verdict.again <= blocker.until


# The ledger -------------------------------------------------------------------------------------------------


def test_what_is_held_comes_out_in_order_and_once():
    ledger = Ledger()
    for number in (1, 2, 3):
        ledger.hold(held(number))
    assert ledger.count(LINK) == 3
    waiting = ledger.of(LINK)
    assert ledger.release(waiting) == [1, 2, 3]
    assert ledger.release(waiting) == []
    assert (len(ledger), ledger.count(LINK)) == (0, 0)


def test_what_is_held_again_keeps_its_age():
    ledger = Ledger([held(1)])
    ledger.hold(msgspec.structs.replace(held(1), since=NOW + 10**6, cause=Cause.PAUSE))
    (row,) = ledger.of(LINK)
    assert (row.since, row.cause) == (NOW + 1, Cause.PAUSE)


def test_the_gate_holds_up_a_link_and_a_quarantine_only_its_own():
    ledger = Ledger([held(1, cause=Cause.QUARANTINE, person="stranger")])
    assert ledger.is_behind(LINK, PersonId("stranger"))
    assert not ledger.is_behind(LINK, PersonId("olga"))
    ledger.hold(held(2, cause=Cause.GATE))
    assert ledger.is_behind(LINK, PersonId("anybody"))
    assert not ledger.is_behind(OTHER, PersonId("stranger"))


@given(st.lists(st.tuples(st.sampled_from("hold release fail".split()), st.integers(1, 30)), max_size=200))
def test_everything_that_goes_in_ends_delivered_or_reported_or_is_still_held(steps: list[tuple[str, int]]):
    ledger, inside, out = Ledger(), set(), []
    for what, number in steps:
        link = LINK if number % 2 else OTHER
        if what == "hold":
            ledger.hold(held(number, link=link))
            inside.add(number)
        else:
            rows = ledger.of(link)[: number % 4]
            out += ledger.release(rows) if what == "release" else ledger.fail(rows)
            inside -= set(out)
            out.clear()
        assert {row.number for link in (LINK, OTHER) for row in ledger.of(link)} == inside
        assert ledger.count(LINK) + ledger.count(OTHER) == len(ledger) == len(inside)
