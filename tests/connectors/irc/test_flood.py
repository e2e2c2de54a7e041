"""Flood control: RFC 1459 8.10's penalty timer, a token bucket, and a queue that is fair."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.irc.flood import PENALTY, Allowance, Flood, Limits, Priority


def spend(allowance: Allowance, now: float) -> float:
    """Send one line as soon as it may go; when that was."""
    now += allowance.wait(now)
    allowance.spend(now)
    return now


def test_five_lines_go_at_once_and_then_one_every_two_seconds():
    """RFC 1459 8.10: while the timer is less than ten seconds ahead, each message adds two seconds."""
    allowance = Allowance(Limits())
    now = 100.0
    times = []
    for _ in range(8):
        now = spend(allowance, now)
        times.append(now)
    assert times == pytest.approx([100, 100, 100, 100, 100, 102, 104, 106])


def test_silence_earns_the_burst_back():
    allowance = Allowance(Limits())
    for _ in range(5):
        spend(allowance, 100.0)
    assert allowance.wait(100.0) == pytest.approx(2.0)
    assert allowance.wait(109.99) == 0.0
    assert [spend(allowance, 200.0) for _ in range(5)] == [200.0] * 5


@given(
    st.lists(st.floats(0, 30), min_size=1, max_size=200),
    st.integers(1, 20),
    st.floats(0.1, 5),
    st.floats(2, 20),
)
def test_the_penalty_timer_is_never_further_ahead_than_allowed(pauses, burst, refill, lead_max):
    allowance = Allowance(Limits(burst=burst, refill=refill, lead_max=lead_max))
    now, timer = 1000.0, 0.0
    for pause in pauses:
        now = spend(allowance, now + pause)
        timer = max(timer, now) + PENALTY
        assert timer - now <= lead_max + 1e-6


@given(st.lists(st.floats(0, 5), max_size=100), st.integers(1, 10), st.floats(0.05, 5))
def test_in_no_span_of_time_more_lines_go_than_burst_and_refill_allow(pauses, burst, refill):
    allowance = Allowance(Limits(burst=burst, refill=refill, lead_max=0))
    now, times = 1000.0, []
    for pause in pauses:
        now = spend(allowance, now + pause)
        times.append(now)
    for i, first in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= burst + (times[j] - first) / refill + 1e-6


def test_own_servers_need_no_limit():
    allowance = Allowance(Limits(refill=0))
    assert [spend(allowance, 1.0) for _ in range(1000)] == [1.0] * 1000


QUICK = Limits(burst=1, refill=0.01, lead_max=0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what waits here has no event
            await asyncio.sleep(0.002)


async def test_what_may_go_goes_before_submit_returns():
    sent: list[str] = []
    flood = Flood(Limits())
    assert flood.submit(lambda: sent.append("a")).done
    assert sent == ["a"]


async def test_urgent_lines_never_wait_and_moderation_goes_before_talk():
    sent: list[str] = []
    flood = Flood(QUICK)
    for i in range(3):
        flood.submit(partial(sent.append, f"talk{i}"), Priority.TALK, "#c")
    flood.submit(lambda: sent.append("join"), Priority.BACKGROUND)
    flood.submit(lambda: sent.append("kick"), Priority.MODERATION)
    flood.submit(lambda: sent.append("pong"), Priority.URGENT)
    assert sent == ["talk0", "pong"]
    await until(lambda: len(sent) == 6)
    assert sent == ["talk0", "pong", "kick", "talk1", "talk2", "join"]


async def test_a_wall_of_text_in_one_channel_does_not_hold_up_another():
    sent: list[str] = []
    flood = Flood(QUICK)
    for i in range(4):
        flood.submit(partial(sent.append, f"wall{i}"), Priority.TALK, "#wall")
    flood.submit(lambda: sent.append("hello"), Priority.TALK, "#other")
    await until(lambda: len(sent) == 5)
    assert sent.index("hello") <= 2
    assert [s for s in sent if s.startswith("wall")] == ["wall0", "wall1", "wall2", "wall3"]


async def test_a_cancelled_ticket_is_never_written():
    sent: list[str] = []
    flood = Flood(QUICK)
    flood.submit(lambda: sent.append("a"))
    ticket = flood.submit(lambda: sent.append("b"))
    flood.submit(lambda: sent.append("c"))
    assert ticket.cancel()
    await until(lambda: "c" in sent)
    assert sent == ["a", "c"]
    assert not ticket.cancel() or ticket.cancelled


async def test_lines_that_must_not_be_parted_go_together_and_are_paid_for_one_by_one():
    times: list[float] = []
    loop = asyncio.get_running_loop()
    flood = Flood(QUICK)
    start = loop.time()
    flood.submit(lambda: times.append(loop.time()), lines=5)
    assert len(times) == 1  # at once
    flood.submit(lambda: times.append(loop.time()))
    await until(lambda: len(times) == 2)
    assert times[1] - start >= 0.045


async def test_slot_waits_for_its_turn():
    flood = Flood(QUICK)
    order: list[int] = []

    async def one(i: int) -> None:
        await flood.slot(Priority.TALK, "#c")
        order.append(i)

    async with asyncio.TaskGroup() as group:
        for i in range(5):
            group.create_task(one(i))
    assert order == [0, 1, 2, 3, 4]


async def test_a_closed_queue_writes_nothing():
    sent: list[str] = []
    flood = Flood(QUICK)
    flood.submit(lambda: sent.append("a"))
    waiting = flood.submit(lambda: sent.append("b"))
    flood.close()
    assert flood.submit(lambda: sent.append("c")).cancelled
    await asyncio.sleep(0.03)
    assert sent == ["a"]
    assert waiting.cancelled
