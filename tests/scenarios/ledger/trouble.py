"""What goes wrong while people talk, and when: drawn by dice that were seeded, so that it can be drawn again."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Sequence
from typing import assert_never

import msgspec

from connectors.irc.session import PIPELINE
from tests.scenarios.ledger.stage import Stage

SEED = int(os.environ.get("BRIDGEKIT_LEDGER_SEED") or secrets.randbelow(1_000_000))
"""Other trouble in every run; the run prints it, and with it in the environment the same is drawn again."""
STILL_STARTING = 0.3
"""The share of kills that strike a bridge which does not listen yet."""


class Kill(msgspec.Struct, frozen=True):
    """The bridge gets SIGKILL `after` seconds, from its start or from when it listens, and is started at once."""

    after: float
    listening: bool


class HomeserverDown(msgspec.Struct, frozen=True):
    """The homeserver is away for `seconds`; its memory of transaction ids is gone afterwards."""

    at: float
    seconds: float


class IrcdDown(msgspec.Struct, frozen=True):
    """The IRC server drops everybody and is away for `seconds`; its people and its history stay."""

    at: float
    seconds: float


Outage = HomeserverDown | IrcdDown


def most_uncertain(kills: int, breaks: int) -> int:
    """How many messages may be in doubt at most after so many kills and lost connections.

    The bridge doubts what it had begun to send and had no answer to. One account (here the relay says everything)
    has at most `PIPELINE` messages under way, so each kill, and each connection that breaks, leaves no more behind.
    """
    return (kills + breaks) * PIPELINE


def draw_kills(seed: int, count: int) -> list[Kill]:
    """So many kills, some of them of a bridge that is still starting."""
    dice = random.Random(f"kills {seed}")
    kills = []
    for _ in range(count):
        if dice.random() < STILL_STARTING:
            kills.append(Kill(dice.uniform(0.0, 2.0), listening=False))
        else:
            kills.append(Kill(dice.uniform(0.0, 3.0), listening=True))
    return kills


def draw_outages(seed: int, duration: float) -> list[Outage]:
    """One outage of each server within `duration` seconds, the homeserver's first."""
    dice = random.Random(f"outages {seed}")
    return [
        HomeserverDown(dice.uniform(0.1, 0.4) * duration, dice.uniform(4.0, 8.0)),
        IrcdDown(dice.uniform(0.5, 0.8) * duration, dice.uniform(4.0, 8.0)),
    ]


async def make(stage: Stage, kills: Sequence[Kill], outages: Sequence[Outage]) -> list[str]:
    """Let it all happen; returns what happened, one line each."""
    began = time.monotonic()
    happened: list[str] = []

    def note(what: object) -> None:
        happened.append(f"{time.monotonic() - began:6.2f} s  {what}")

    async def kill_all() -> None:
        for kill in kills:
            if kill.listening:
                await stage.bridge.listening(60)
            await asyncio.sleep(kill.after)
            note(kill)
            stage.bridge.kill()
            stage.bridge.launch()

    async def go_down(outage: Outage) -> None:
        await asyncio.sleep(outage.at)
        note(outage)
        match outage:
            case HomeserverDown():
                await stage.homeserver.restart(down=outage.seconds)
            case IrcdDown():
                await stage.ircd.order("stop")
                await asyncio.sleep(outage.seconds)
                await stage.ircd.order("start")
            case other:
                assert_never(other)

    async with asyncio.TaskGroup() as group:
        group.create_task(kill_all())
        for outage in outages:
            group.create_task(go_down(outage))
    return happened
