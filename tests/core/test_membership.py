"""Who is shown in a room: modes, attendance, the join queue and its pace, netsplits, the idle."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Member, Person, Role
from bridgekit.core.joining import JoinQueue, Pace, Wanted
from bridgekit.core.membership import (
    Attendance,
    Mode,
    Urgency,
    idle,
    shows_departures,
    urgency,
    wanted,
)
from bridgekit.core.splits import HOLD, SPREAD, Splits

PARROT = NetworkId("parrot")
A, B = PortalKey(PARROT, ChatId("#a")), PortalKey(PARROT, ChatId("#b"))
C = PortalKey(NetworkId("crow"), ChatId("#a"))
ROOM, OTHER = ChatId("!r:example.org"), ChatId("!o:example.org")
OLGA, BOB = PersonId("olga"), PersonId("bob")
NOW = 1_700_000_000_000


def member(person: PersonId, *, name: str = "", role: Role = Role.NONE) -> Member:
    return Member(person=Person(id=person, name=name or person), role=role)


def ghosts(count: int) -> list[PersonId]:
    return [PersonId(f"@g{n}:example.org") for n in range(count)]


# Modes and attendance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "silent", "leaves"),
    [
        (Mode.ACTIVE, False, True),
        (Mode.GRADUAL, True, True),
        (Mode.FULL, True, True),
        (Mode.NONE, False, False),
    ],
)
def test_each_mode_shows_whom_it_says(mode: Mode, silent: bool, leaves: bool):
    assert wanted(mode, speaks=True)
    assert wanted(mode, speaks=False) is silent
    assert shows_departures(mode) is leaves


def test_operators_come_before_the_voiced_before_those_who_spoke_before_the_rest():
    order = [
        urgency(Role.OWNER, spoke=False),
        urgency(Role.VOICE, spoke=True),
        urgency(Role.NONE, spoke=True),
        urgency(Role.NONE, spoke=False),
    ]
    assert order == sorted(order)
    assert order[0] > Urgency.SPEAKER


def test_a_ghost_leaves_when_its_person_has_left_every_chat_of_the_room():
    there = Attendance()
    for link in (A, B, C):
        there.came(ROOM, link, member(OLGA))
    assert not there.went(ROOM, A, OLGA)
    assert there.went(ROOM, B, OLGA)  # #a of the other network has somebody else of that name
    assert not there.is_anywhere(OTHER, A, OLGA)


def test_a_roster_takes_out_only_who_is_nowhere_else():
    there = Attendance()
    for link in (A, B):
        there.came(ROOM, link, member(OLGA))
    there.came(ROOM, A, member(BOB))
    there.read(ROOM, A, [])
    assert there.is_anywhere(ROOM, A, OLGA)
    assert not there.is_anywhere(ROOM, A, BOB)
    assert there.unlinked(ROOM, B) == (OLGA,)
    assert there.unlinked(ROOM, B) == ()


def test_a_chat_that_was_not_read_yet_may_hold_anybody():
    there = Attendance()
    there.read(ROOM, A, [member(OLGA)])
    assert there.may_be_elsewhere(ROOM, A, BOB, [A, B])
    assert not there.may_be_elsewhere(ROOM, A, BOB, [A])
    there.read(ROOM, B, [member(BOB)])
    assert there.may_be_elsewhere(ROOM, A, BOB, [A, B])
    assert not there.may_be_elsewhere(ROOM, A, OLGA, [A, B])
    there.moved(ROOM, OTHER)
    assert there.is_in(OTHER, B, BOB)
    assert not there.is_in(ROOM, B, BOB)


def test_the_idle_are_retired_the_longest_silent_first_but_never_who_is_to_stay():
    day = 86_400_000
    seen = {OLGA: NOW - 40 * day, BOB: NOW - 50 * day, PersonId("eve"): NOW - day}
    assert idle(seen, NOW, 30) == [BOB, OLGA]
    assert idle(seen, NOW, 30, keep=[BOB]) == [OLGA]
    assert idle(seen, NOW, 0) == []


# The queue --------------------------------------------------------------------------------------------------


def free_pace() -> Pace:
    return Pace(rate=Pace.MOST)


def drain(queue: JoinQueue, *, now: float = 0.0) -> list[Wanted]:
    """Every join goes through at once."""
    out: list[Wanted] = []
    while (wait := queue.due(now)) is not None:
        now += wait + 1e-9
        while (entry := queue.next(now)) is not None:
            out.append(entry)
            queue.done(entry)
    return out


def test_the_most_urgent_are_let_in_first_and_equals_in_their_order():
    queue = JoinQueue(free_pace())
    first, second, third = ghosts(3)
    queue.want(ROOM, first, Urgency.REST)
    queue.want(ROOM, second, Urgency.REST)
    queue.want(ROOM, third, Urgency.OPERATOR)
    assert [e.ghost for e in drain(queue)] == [third, first, second]
    assert len(queue) == 0


def test_a_room_of_five_thousand_does_not_stand_in_front_of_a_room_of_two():
    queue = JoinQueue(free_pace())
    for ghost in ghosts(5000):
        queue.want(ROOM, ghost, Urgency.REST)
    for ghost in ghosts(2):
        queue.want(OTHER, ghost, Urgency.REST)
    rooms = [e.room for e in drain(queue)]
    assert len(rooms) == 5002
    assert rooms[:4].count(OTHER) == 2


def test_a_room_has_one_join_under_way():
    queue = JoinQueue(free_pace())
    for ghost in ghosts(3):
        queue.want(ROOM, ghost, Urgency.REST)
    first = queue.next(0.0)
    assert first is not None
    assert queue.next(1.0) is None
    assert queue.due(1.0) is None
    queue.done(first)
    assert queue.next(1.0) is not None


def test_a_join_that_fails_is_tried_again_later_and_never_given_up():
    queue = JoinQueue(free_pace())
    (ghost,) = ghosts(1)
    queue.want(ROOM, ghost, Urgency.REST)
    now, waits = 0.0, []
    for _ in range(40):
        wait = queue.due(now)
        assert wait is not None
        waits.append(wait)
        now += wait + 1e-6
        entry = queue.next(now)
        assert entry is not None
        queue.failed(entry, now)
    assert waits[1:5] == pytest.approx([1.0, 2.0, 4.0, 8.0], abs=0.01)
    assert max(waits) == pytest.approx(JoinQueue.LONGEST, abs=0.01)
    assert len(queue) == 1


def test_one_who_fails_does_not_hold_up_the_room():
    queue = JoinQueue(free_pace())
    bad, good = ghosts(2)
    queue.want(ROOM, bad, Urgency.OPERATOR)
    queue.want(ROOM, good, Urgency.REST)
    entry = queue.next(0.0)
    assert entry is not None
    queue.failed(entry, 0.0)
    following = queue.next(0.1)
    assert following is not None
    assert following.ghost == good


def test_who_has_spoken_or_left_is_let_in_by_nobody_else():
    queue = JoinQueue(free_pace())
    first, second = ghosts(2)
    queue.want(ROOM, first, Urgency.REST)
    queue.want(ROOM, second, Urgency.REST)
    queue.forget(ROOM, first)
    assert [e.ghost for e in drain(queue)] == [second]
    queue.want(ROOM, first, Urgency.REST)
    queue.forget(ROOM)
    assert drain(queue) == []


def test_what_becomes_more_urgent_moves_forward_once():
    queue = JoinQueue(free_pace())
    names = ghosts(5)
    for ghost in names:
        queue.want(ROOM, ghost, Urgency.REST)
    queue.want(ROOM, names[4], Urgency.OPERATOR)
    queue.want(ROOM, names[4], Urgency.REST)
    assert [e.ghost for e in drain(queue)] == [names[4], *names[:4]]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("want forget next done failed".split()),
            st.sampled_from([ROOM, OTHER]),
            st.integers(0, 5),
            st.sampled_from(Urgency),
        ),
        max_size=120,
    )
)
def test_whoever_is_wanted_and_not_forgotten_is_let_in_in_the_end(
    steps: list[tuple[str, ChatId, int, Urgency]],
):
    queue, names, now = JoinQueue(free_pace()), ghosts(6), 0.0
    pending: set[tuple[ChatId, PersonId]] = set()
    running: list[Wanted] = []
    for what, room, who, how in steps:
        now += 0.5
        if what == "want":
            queue.want(room, names[who], how)
            pending.add((room, names[who]))
        elif what == "forget":
            queue.forget(room, names[who])
            pending.discard((room, names[who]))
        elif what == "next" and (entry := queue.next(now)) is not None:
            assert (entry.room, entry.ghost) in pending
            assert all(other.room != entry.room for other in running)
            running.append(entry)
        elif running:
            entry = running.pop()
            if what == "done":
                queue.done(entry)
                pending.discard((entry.room, entry.ghost))
            else:
                queue.failed(entry, now, load=how is Urgency.REST)
    for entry in running:
        queue.done(entry)
        pending.discard((entry.room, entry.ghost))
    assert {(e.room, e.ghost) for e in drain(queue, now=now)} == pending


# The pace ---------------------------------------------------------------------------------------------------


def test_the_pace_is_halved_when_the_homeserver_labours_and_grows_again_when_it_does_not():
    pace = Pace(rate=20.0)
    for n in range(50):
        pace.answered(0.02, n * 0.1, joining=False)
    assert pace.usual == pytest.approx(0.02)
    for n in range(3):
        pace.answered(0.2, 10.0 + n * 0.1, joining=True)
    assert pace.rate == 10.0
    for n in range(40):
        pace.answered(0.02, 20.0 + n * 0.5, joining=True)
    assert pace.rate > 20.0


def test_the_pace_doubles_until_it_was_too_much_once_and_never_without_an_answer():
    pace = Pace(rate=10.0)
    for n in range(9):
        pace.answered(0.001, 100.0 + n * 0.5, joining=True)
    assert pace.rate == 80.0
    pace.answered(9.0, 105.0, joining=True)
    assert pace.wait(105.0) == 0.0
    assert pace.rate in (80.0, 160.0)  # one slow answer is no trend


def test_a_room_that_refuses_twice_in_a_row_is_asked_less_and_less_often_and_the_others_are_not():
    queue = JoinQueue(free_pace())
    for ghost in ghosts(5):
        queue.want(ROOM, ghost, Urgency.OPERATOR)
    now, asked = 0.0, []
    while now < 40.0:
        if (entry := queue.next(now)) is not None:
            asked.append(now)
            queue.failed(entry, now, refused=True)
        now += 0.5
    assert len(asked) < 10
    assert asked[-1] - asked[-2] >= 8.0
    queue.want(OTHER, ghosts(1)[0], Urgency.REST)
    entry = queue.next(now)
    assert entry is not None
    assert entry.room == OTHER
    due = queue.due(now)
    assert due is not None
    assert queue.next(now + due) is not None  # the room is asked again in the end


def test_one_who_is_refused_does_not_close_the_room():
    queue = JoinQueue(free_pace())
    barred, *others = ghosts(20)
    queue.want(ROOM, barred, Urgency.OPERATOR)
    for ghost in others:
        queue.want(ROOM, ghost, Urgency.REST)
    let_in = 0
    for tenth in range(200):
        if (entry := queue.next(tenth / 10)) is None:
            continue
        if entry.ghost == barred:
            queue.failed(entry, tenth / 10, refused=True)
        else:
            let_in += 1
            queue.done(entry)
    assert let_in == 19


def test_a_homeserver_that_refuses_is_left_alone_as_long_as_it_asks():
    pace = Pace(rate=8.0)
    pace.pushed_back(100.0, retry_after=30.0)
    assert pace.rate == 4.0
    assert pace.wait(101.0) == pytest.approx(29.0)


def test_the_pace_never_stands_still():
    pace = Pace(rate=8.0)
    for n in range(100):
        pace.pushed_back(n * 2.0)
    assert pace.rate == Pace.LEAST


def test_a_join_is_followed_by_a_rest_of_twice_its_length_however_fast_the_pace():
    pace = free_pace()
    pace.started(100.0)
    pace.ended(100.3, 0.3)
    assert pace.wait(100.3) == pytest.approx(0.6)
    pace.ended(200.0, 100.0)
    assert pace.wait(200.0) == Pace.LONGEST_REST


def test_a_short_rest_does_not_hasten_a_slow_pace():
    pace = Pace(rate=2.0)
    pace.started(100.0)
    pace.ended(100.01, 0.01)
    assert pace.wait(100.01) == pytest.approx(0.49)


@pytest.mark.parametrize("own", [0.003, 0.02, 0.08, 0.2])
@pytest.mark.parametrize("cost", [0.005, 0.03, 0.1, 0.6])
def test_a_homeserver_that_shares_itself_out_takes_at_most_half_as_long_again_while_ghosts_are_let_in(
    cost: float, own: float
):
    """A homeserver that works on all that it is asked at once, each request at its share of the speed. A join costs
    `cost` seconds of it; somebody has always one request of `own` seconds under way, but for a breath in between."""
    begin, end, step = 5.0, 45.0, 0.002
    pace = Pace()
    queue = JoinQueue(pace)
    left: dict[str, float] = {}  # work that each request still wants
    since: dict[str, float] = {}
    looked, asked, joined = 0.0, 0.0, 0
    under_way: Wanted | None = None
    before: list[float] = []
    during: list[float] = []

    def ask(what: str, work: float) -> None:
        left[what], since[what] = work, now

    for tick in range(int(end / step)):
        now = tick * step
        joining = now >= begin
        if tick == int(begin / step):
            for ghost in ghosts(5000):
                queue.want(ROOM, ghost, Urgency.REST)
        if now >= looked and "look" not in left:
            looked = now + 0.25
            ask("look", 0.003)
        if now >= asked and "own" not in left:
            ask("own", own)
        if (started := queue.next(now)) is not None:
            under_way = started
            ask("join", cost)
        share = step / max(1, len(left))
        for what in list(left):
            left[what] -= share
            if left[what] > 1e-9:
                continue
            del left[what]
            took = now + step - since[what]
            if what == "look":
                pace.answered(took, now, joining=joining)
            elif what == "own":
                (during if joining else before).append(took)
                asked = now + 0.02
            elif under_way is not None:
                joined += 1
                queue.done(under_way)
                pace.ended(now, took)
    assert joined > 10
    assert median(during) <= 1.5 * median(before)


@pytest.mark.parametrize("own", [0.003, 0.010])
@pytest.mark.parametrize("cost", [0.005, 0.03, 0.1])
def test_while_five_thousand_are_let_in_the_homeserver_answers_at_most_twice_as_slowly(
    cost: float, own: float
):
    """A homeserver of one core: what it is asked waits for what it was asked before. A join costs `cost` seconds,
    somebody else's request `own`; there are five of those in a second."""
    begin, end, step = 20.0, 220.0, 0.005
    pace = Pace()
    queue = JoinQueue(pace)
    busy, joined, wanted_yet = 0.0, 0, False
    before: list[float] = []
    during: list[float] = []
    answers: list[tuple[float, Wanted]] = []
    for tick in range(int(end / step)):
        now = tick * step
        while answers and answers[0][0] <= now:
            _, entry = answers.pop(0)
            joined += 1
            queue.done(entry)
        if now >= begin and not wanted_yet:
            wanted_yet = True
            for ghost in ghosts(5000):
                queue.want(ROOM, ghost, Urgency.REST)
                queue.want(OTHER, ghost, Urgency.REST)
        if tick % 40 == 0:
            busy = max(now, busy) + own
            (during if wanted_yet else before).append(busy - now)
            pace.answered(busy - now, now, joining=wanted_yet)
        while (started := queue.next(now)) is not None:
            busy = max(now, busy) + cost
            answers.append((busy, started))
    assert joined > 200
    assert median(during) <= 2 * median(before)


# Netsplits --------------------------------------------------------------------------------------------------


def test_who_is_cut_off_keeps_the_ghost_and_is_not_present():
    splits = Splits()
    until = splits.lost(A, OLGA, NOW, 0.5, "*.net *.split")
    assert until == NOW + HOLD + SPREAD // 2
    assert splits.is_away(A, OLGA)
    assert splits.present(A, [OLGA, BOB]) == {BOB}
    assert splits.due(until - 1) == []
    (away,) = splits.due(until)
    assert (away.person, away.reason) == (OLGA, "*.net *.split")
    assert splits.due(until) == []


def test_a_rejoin_ends_the_hold():
    splits = Splits()
    splits.lost(A, OLGA, NOW, 0.0)
    assert splits.back(A, OLGA)
    assert not splits.back(A, OLGA)
    assert splits.due(NOW + 10**9) == []


def test_a_second_split_does_not_make_the_first_longer():
    splits = Splits()
    first = splits.lost(A, OLGA, NOW, 0.0)
    assert splits.lost(A, OLGA, NOW + HOLD - 1, 0.9) == first


def test_a_roster_after_the_split_brings_back_whom_it_names_and_leaves_the_others_their_time():
    splits = Splits()
    for person in (OLGA, BOB):
        splits.lost(A, person, NOW, 0.0)
    splits.lost(B, OLGA, NOW, 0.0)
    assert splits.read(A, [OLGA]) == (OLGA,)
    assert [a.person for a in splits.due(NOW + HOLD)] == [BOB, OLGA]


def test_the_holds_of_a_split_do_not_all_end_at_once():
    splits = Splits()
    for n in range(500):
        splits.lost(A, PersonId(f"p{n}"), NOW, n / 500)
    assert splits.next() == NOW + HOLD
    ends = [len(splits.due(NOW + HOLD + step * SPREAD // 10)) for step in range(11)]
    assert sum(ends) == 500
    assert max(ends) <= 51


def test_a_link_that_is_gone_holds_nobody():
    splits = Splits()
    splits.lost(A, OLGA, NOW, 0.0)
    splits.lost(C, OLGA, NOW, 0.0)
    splits.unlinked(A)
    assert len(splits) == 1
    assert splits.gone(C, OLGA)
    assert splits.next() is None
