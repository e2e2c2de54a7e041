"""Both providers are killed again and again in the middle of commits: no fork, nothing lost, nothing twice.

The bridges are whole processes with databases of their own; only their homeservers are the fast fake one, because
fifty restarts of two bridges on two Synapses would measure Synapse. With Synapse they are killed in `test_outages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from bridgekit.testing.ledger import find_marker
from tests.scenarios.mimi.places import PEOPLE, Place, places

KILLS = 50
"""In the first half of the rounds everybody who speaks is new, and their first words bring commits."""


def _missing(a: Place, b: Place) -> list[str]:
    for ledger, at in ((a.ledger, b), (b.ledger, a)):
        seen = {found.id for e in at.homeserver.messages(at.room) if (found := find_marker(e.body))}
        if missing := [id for id in ledger.missing() if id not in seen]:
            return missing
    return []


@pytest.mark.timeout(1500)
async def test_fifty_times_killed_in_the_middle_of_commits(tmp_path: Path):
    dice = random.Random(6)
    async with places(tmp_path) as (a, b):
        await a.link()
        await b.link()
        caught = 0
        for kill in range(KILLS):
            one = kill % PEOPLE
            await a.say(one, b)
            await b.say(one, a)
            await a.homeserver.user("owner").set_topic(a.room, f"topic {kill}")
            await a.say((kill * 7) % PEOPLE, b)
            await b.say((kill * 11) % PEOPLE, a)
            await asyncio.sleep(dice.uniform(0, 0.5))
            a.bridge.kill()
            b.bridge.kill()
            caught += a.unanswered() + b.unanswered()
            await asyncio.gather(a.bridge.start(), b.bridge.start())
        # No fork: whoever spoke is heard on the other side still.
        for person in range(PEOPLE):
            await a.say(person, b)
            await b.say(person, a)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(300):
                while _missing(a, b):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        a.arrivals(b.ledger)
        b.arrivals(a.ledger)
    for ledger in (a.ledger, b.ledger):
        report = ledger.report()
        flaws = (report.lost, report.doubled, report.misattributed, report.late_within_sender)
        assert flaws == (0, 0, 0, 0), str(report)
        assert report.arrived >= 2 * KILLS
    assert caught > 0, "no kill found a commit that was under way"
