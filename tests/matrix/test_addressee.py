"""Who the homeserver speaks to: this process, another one, or nobody."""

from __future__ import annotations

import pytest

from bridgekit.contract.errors import HomeserverUnavailable, MatrixError, MatrixRefused
from bridgekit.matrix.addressee import ELSEWHERE, Addressee


class Pings:
    """A homeserver whose pings go to `reached`, or fail."""

    def __init__(self) -> None:
        self.reached: list[Addressee] = []
        self.fails: MatrixError | None = None
        self.count = 0

    async def __call__(self, txn: str) -> None:
        self.count += 1
        if self.fails is not None:
            raise self.fails
        for process in self.reached:
            process.pinged(txn)


async def test_a_process_that_its_own_ping_reaches_asks_once() -> None:
    pings = Pings()
    one = Addressee(pings)
    pings.reached = [one]
    assert [await one.ask(), await one.ask()] == ["us", "us"]
    assert pings.count == 1


async def test_a_process_whose_ping_reaches_another_is_told_until_that_one_is_gone() -> None:
    pings = Pings()
    one, other = Addressee(pings), Addressee(pings)
    pings.reached = [other]
    for _ in range(2):
        with pytest.raises(MatrixRefused, match="Another process answers") as refused:
            await one.ask()
        assert refused.value.notice == ELSEWHERE
    pings.reached = [one]
    assert await one.ask() == "us"


async def test_anothers_ping_is_not_taken_for_our_own() -> None:
    pings = Pings()
    one = Addressee(pings)
    one.pinged("bridgekit-check")
    one.pinged(None)
    one.pinged("")
    with pytest.raises(MatrixRefused):
        await one.ask()


async def test_a_homeserver_that_knows_no_ping_tells_nothing_and_forbids_nothing() -> None:
    pings = Pings()
    pings.fails = MatrixRefused("What is a ping?", errcode="M_UNRECOGNIZED", status=404)
    one = Addressee(pings)
    assert [await one.ask(), await one.ask()] == ["nobody knows", "nobody knows"]
    assert pings.count == 1


async def test_while_the_homeserver_is_away_nothing_is_settled() -> None:
    pings = Pings()
    pings.fails = HomeserverUnavailable("It is away.")
    one = Addressee(pings)
    with pytest.raises(HomeserverUnavailable):
        await one.ask()
    pings.fails, pings.reached = None, [one]
    assert await one.ask() == "us"
