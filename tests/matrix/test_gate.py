"""The gate: one probe for everybody, a slow start, and holds."""

import asyncio
import random

import pytest
import structlog.testing

from bridgekit.contract.errors import HomeserverUnavailable, MatrixRateLimited
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.gate import DOUBTS, LONGEST_SECONDS, Gate
from tests.warped import run_warped

ANNA = PersonId("@_bk_anna:hs.test")
BERT = PersonId("@_bk_bert:hs.test")


class Server:
    """What the gate probes: up or not; counts probes, and how many ran at once."""

    def __init__(self) -> None:
        self.up = False
        self.probes = 0
        self.now = self.most = 0

    async def probe(self) -> bool:
        self.probes += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.002)
        self.now -= 1
        return self.up


def gate_of(server: Server, changes: list[bool] | None = None) -> Gate:
    tell = (changes if changes is not None else []).append
    return Gate(server.probe, changed=tell, first=0.01, longest=0.04, dice=lambda: 1.0)


async def lose(gate: Gate) -> None:
    gate.leave(await gate.enter(None, patient=False), False, certain=True)


async def test_one_certain_failure_closes_the_gate_and_impatient_calls_learn_it_without_being_sent():
    gate = gate_of(Server())
    await lose(gate)
    assert not gate.available
    with pytest.raises(HomeserverUnavailable) as caught:
        await gate.enter(None, patient=False)
    assert caught.value.certain
    assert caught.value.retry_after is not None


async def test_failures_that_may_be_one_calls_own_close_it_only_in_a_row():
    gate = gate_of(Server())
    for _ in range(DOUBTS - 1):
        gate.leave(await gate.enter(None, patient=False), False)
    gate.leave(await gate.enter(None, patient=False), True)
    for _ in range(DOUBTS - 1):
        gate.leave(await gate.enter(None, patient=False), False)
    assert gate.available
    gate.leave(await gate.enter(None, patient=False), False)
    assert not gate.available


async def test_one_kind_of_call_that_always_fails_keeps_nobody_out():
    """An endpoint that always answers 500 is not the homeserver; three different ones in a row are."""
    gate = gate_of(Server())
    for _ in range(10 * DOUBTS):
        gate.leave(await gate.enter(None, patient=False), False, kind="keys_query")
    gate.leave(await gate.enter(None, patient=False), False, kind="keys_claim")
    assert gate.clear
    gate.leave(await gate.enter(None, patient=False), False, kind="send")
    assert not gate.available


async def test_a_kind_of_call_that_keeps_failing_is_logged_once_and_again_when_it_is_well():
    gate = gate_of(Server())
    with structlog.testing.capture_logs() as logs:
        for ok in (*[False] * 2 * DOUBTS, True, *[False] * (DOUBTS - 1), True):
            gate.leave(await gate.enter(None, patient=False), ok, kind="keys_query")
    assert [(line["event"], line["call"]) for line in logs] == [
        ("call_keeps_failing", "keys_query"),
        ("call_answered_again", "keys_query"),
    ]


async def test_two_hundred_callers_wait_behind_one_probe_and_are_let_in_gradually():
    server = Server()
    changes: list[bool] = []
    gate = gate_of(server, changes)
    await lose(gate)
    inside = 0
    widths: list[int] = []

    async def call() -> None:
        nonlocal inside
        epoch = await gate.enter(None, patient=True)
        inside += 1
        widths.append(inside)
        await asyncio.sleep(0.001)
        inside -= 1
        gate.leave(epoch, True)

    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(call())
        await asyncio.sleep(0.1)
        assert widths == []
        assert 3 <= server.probes <= 9  # after 10, 20, 40, 40 ms ...
        server.up = True
    assert server.most == 1
    assert widths[:3] == [1, 1, 2]
    assert max(widths[:10]) <= 5
    assert changes == [False, True]
    assert gate.available
    assert gate.clear


def test_an_hour_without_a_homeserver_costs_it_few_probes_and_everybody_gets_in_when_it_is_back():
    """The hour is the event loop's, with the delays of a real bridge; `BRIDGEKIT_LEDGER_OUTAGE` runs a longer outage
    of a whole bridge than the minute of `tests/scenarios/ledger/test_faults.py`."""

    async def hour() -> None:
        server = Server()
        gate = Gate(server.probe, dice=random.Random(1).random)
        await lose(gate)
        connections = asyncio.Semaphore(64)  # as many as the client has
        inside = most = 0
        begun: list[float] = []

        async def call() -> None:
            nonlocal inside, most
            epoch = await gate.enter(None, patient=True)
            async with connections:
                begun.append(loop.time())
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.1)
                inside -= 1
            gate.leave(epoch, True)

        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while loop.time() < 3600:
                group.create_task(call())
                await asyncio.sleep(1)
            assert begun == []
            assert 120 <= server.probes <= 250  # each after 15 to 30 s
            server.up = True
        assert len(begun) == 3600
        assert begun[0] - 3600 <= LONGEST_SECONDS
        assert [sum(at < begun[0] + seconds for at in begun) for seconds in (0.09, 0.19, 0.29)] == [1, 3, 7]
        assert (server.most, most) == (1, 64)

    run_warped(hour())


async def test_a_homeserver_that_fails_again_during_the_slow_start_is_waited_for_longer():
    server = Server()
    server.up = True  # it answers probes, but fails every real call
    gate = gate_of(server)
    await lose(gate)
    for _ in range(3):
        epoch = await gate.enter(None, patient=True)
        start = asyncio.get_running_loop().time()
        gate.leave(epoch, False, certain=True)
        assert not gate.available
    await gate.enter(None, patient=True)
    assert asyncio.get_running_loop().time() - start >= 0.035  # no longer 10 ms


async def test_one_failure_in_twenty_does_not_add_up_to_an_outage():
    """One dead process behind a proxy: each failure costs a moment, and not twice the moment before."""
    server = Server()
    server.up = True
    gate = Gate(server.probe, first=0.005, longest=10, dice=lambda: 1.0)
    served = 0

    async def lane() -> None:
        nonlocal served
        while served < 400:
            epoch = await gate.enter(None, patient=True)
            await asyncio.sleep(0)
            served += 1
            gate.leave(epoch, served % 20 != 0, certain=True)

    async with asyncio.timeout(30):  # twice each time: two minutes
        await asyncio.gather(*(lane() for _ in range(32)))


async def test_late_failures_of_calls_from_before_the_outage_change_nothing():
    server = Server()
    server.up = True
    gate = gate_of(server)
    old = await gate.enter(None, patient=True)
    await lose(gate)
    fresh = await gate.enter(None, patient=True)
    gate.leave(old, False, certain=True)
    assert gate.available
    gate.leave(fresh, True)
    assert gate.clear


async def test_when_the_caller_that_probes_is_cancelled_another_one_takes_over():
    server = Server()
    gate = gate_of(server)
    await lose(gate)
    leader = asyncio.create_task(gate.enter(None, patient=True))
    await asyncio.sleep(0)
    others = [asyncio.create_task(gate.enter(None, patient=True)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.cancel()
    others[0].cancel()
    server.up = True
    async with asyncio.timeout(30):
        gate.leave(await others[1], True)
        gate.leave(await others[2], True)
    assert gate.clear


async def test_impatient_callers_alone_bring_the_gate_back_when_a_probe_is_due():
    server = Server()
    gate = gate_of(server)
    await lose(gate)
    server.up = True
    await asyncio.sleep(0.02)
    gate.leave(await gate.enter(None, patient=False), True)
    assert gate.clear
    assert server.probes == 1


async def test_a_rate_limit_holds_the_user_whom_it_was_for_and_nobody_else():
    gate = gate_of(Server())
    start = asyncio.get_running_loop().time()
    gate.hold(ANNA, 0.5)
    with pytest.raises(MatrixRateLimited) as caught:
        await gate.enter(ANNA, patient=False)
    assert 0 < (caught.value.retry_after or 0) <= 0.5
    gate.leave(await gate.enter(BERT, patient=False), True)
    gate.leave(await gate.enter(ANNA, patient=True), True)
    assert asyncio.get_running_loop().time() - start >= 0.5
    assert gate.clear


async def test_a_rate_limit_for_all_holds_all():
    gate = gate_of(Server())
    gate.hold(ANNA, 0.03, everybody=True)
    for user in (ANNA, BERT, None):
        with pytest.raises(MatrixRateLimited):
            await gate.enter(user, patient=False)
    await gate.enter(BERT, patient=True)
    assert gate.clear


async def test_callers_that_are_cancelled_together_are_cancelled_and_nothing_else():
    """The bridge stops while the homeserver is away: the one who probes wakes a waiter that is cancelled already."""
    gate = gate_of(Server())
    await lose(gate)
    callers = [asyncio.create_task(gate.enter(None, patient=True)) for _ in range(5)]
    await asyncio.sleep(0.005)
    for caller in callers:
        caller.cancel()
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 5
