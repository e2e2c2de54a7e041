"""Both providers are killed again and again in the middle of commits: no fork, nothing lost, nothing twice.

The bridges are whole processes with databases of their own; only their homeservers are the fast fake one, because
fifty restarts of two bridges on two Synapses would measure Synapse. With Synapse they are killed in `test_outages`.

Each kill strikes a commit: one process stands still at a moment of it (`halting`), and then both are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from pathlib import Path

import pytest

from bridgekit.testing.ledger import find_marker
from tests.scenarios.mimi import halting
from tests.scenarios.mimi.halting import HALT, HALTED, MOMENTS
from tests.scenarios.mimi.places import PEOPLE, Place, places

log = logging.getLogger(__name__)
KILLS = int(os.environ.get("BRIDGEKIT_KILLS", "8"))
"""How often, at most 50. Eight are each moment once, sixteen each moment of each side's commits."""
BY_THE_HUB = ("arrived", "accepted", "unsent")
BY_WHO_IS_TOLD = ("heard", "kept")


def missing(a: Place, b: Place) -> dict[str, str]:
    """What one side said and the other has not seen, each with its fate."""
    found: dict[str, str] = {}
    for here, there in ((a, b), (b, a)):
        came = [e for e in there.homeserver.messages(there.room) if e.sender.startswith("@_bk_")]
        seen = {marked.id for e in came if (marked := find_marker(e.body))}
        found |= {f"{here.domain} {id}": here.fate(id) for id in here.ledger.missing() if id not in seen}
    return found


async def struck(at: Place) -> bool:
    """Whether the process stands still where it was told to."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(120):
            while not (at.bridge.folder / HALTED).exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    return (at.bridge.folder / HALTED).exists()


@pytest.mark.timeout(1800)
async def test_killed_again_and_again_in_the_middle_of_commits(tmp_path: Path):
    assert 0 < KILLS <= 2 * PEOPLE, (
        "each kill needs somebody who has not spoken yet, so that there is a commit"
    )
    prelude = f"import runpy; runpy.run_path({halting.__file__!r})"
    strikes: Counter[str] = Counter()
    async with places(tmp_path, prelude=prelude) as (a, b):
        await a.link()
        await b.link()
        spoken = {a.domain: 0, b.domain: 0}
        for kill in range(KILLS):
            moment = MOMENTS[kill % len(MOMENTS)]
            maker, other = ((a, b), (b, a))[(kill + kill // len(MOMENTS)) % 2]
            halted = a if moment in BY_THE_HUB else other if moment in BY_WHO_IS_TOLD else maker
            (halted.bridge.folder / HALT).write_text(f"{moment} {maker.domain}")
            newcomer = spoken[maker.domain]
            spoken[maker.domain] += 1
            if maker is a and newcomer % 2:  # a commit of a member; else of one who joins by it
                await a.homeserver.user("owner").set_topic(a.room, f"topic {kill}")
            await maker.say(newcomer, other)
            if spoken[other.domain]:
                await other.say(kill % spoken[other.domain], maker)
            assert await struck(halted), f"kill {kill}: no commit of {maker.domain}'s was {moment}"
            a.bridge.kill()
            b.bridge.kill()
            strikes[f"{moment} {maker.domain}"] += 1
            (halted.bridge.folder / HALTED).unlink()
            await asyncio.gather(a.bridge.start(), b.bridge.start())
        # No fork: whoever spoke is heard on the other side still.
        for person in range(PEOPLE):
            await a.say(person, b)
            await b.say(person, a)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(300):
                while missing(a, b):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        log.info("killed in the middle of a commit: %s", dict(strikes))
        assert missing(a, b) == {}
        a.arrivals(b.ledger)
        b.arrivals(a.ledger)
    assert strikes.total() == KILLS
    for ledger in (a.ledger, b.ledger):
        report = ledger.report()
        log.info("%s", report)
        flaws = (report.lost, report.doubled, report.misattributed, report.late_within_sender)
        assert flaws == (0, 0, 0, 0), str(report)
        assert report.arrived >= PEOPLE
