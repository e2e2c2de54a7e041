"""What goes wrong while people talk, and when: drawn by dice that were seeded, so that it can be drawn again."""

from __future__ import annotations

import asyncio
import random
import time
from typing import assert_never

import msgspec

from tests.scenarios.ledger.stage import Stage


class Kill(msgspec.Struct, frozen=True):
    """The bridge gets SIGKILL `at` seconds, and is started again at once."""

    at: float


class HomeserverDown(msgspec.Struct, frozen=True):
    """The homeserver is away for `seconds`; its memory of transaction ids is gone afterwards."""

    at: float
    seconds: float


class IrcdDown(msgspec.Struct, frozen=True):
    """The IRC server drops everybody and is away for `seconds`; its people and its history stay."""

    at: float
    seconds: float


Trouble = Kill | HomeserverDown | IrcdDown


def draw(seed: int, duration: float, *, kills: int) -> list[Trouble]:
    """Trouble for `duration` seconds of talk: so many kills at any moment, and one outage of each server."""
    dice = random.Random(seed)
    drawn: list[Trouble] = [Kill(dice.uniform(1.0, duration)) for _ in range(kills)]
    drawn.append(HomeserverDown(dice.uniform(0.1, 0.4) * duration, dice.uniform(4.0, 8.0)))
    drawn.append(IrcdDown(dice.uniform(0.5, 0.8) * duration, dice.uniform(4.0, 8.0)))
    return sorted(drawn, key=lambda trouble: trouble.at)


async def make(stage: Stage, troubles: list[Trouble]) -> list[str]:
    """Let it all happen, each at its time; returns what happened, one line each."""
    began = time.monotonic()
    happened: list[str] = []
    async with asyncio.TaskGroup() as group:
        for trouble in troubles:
            await asyncio.sleep(began + trouble.at - time.monotonic())
            happened.append(f"{time.monotonic() - began:6.2f} s  {trouble}")
            match trouble:
                case Kill():
                    stage.bridge.kill()
                    stage.bridge.launch()
                case HomeserverDown(seconds=seconds):
                    group.create_task(stage.homeserver.restart(down=seconds))
                case IrcdDown(seconds=seconds):
                    group.create_task(_ircd_down(stage, seconds))
                case other:
                    assert_never(other)
    return happened


async def _ircd_down(stage: Stage, seconds: float) -> None:
    await stage.ircd.order("stop")
    await asyncio.sleep(seconds)
    await stage.ircd.order("start")
