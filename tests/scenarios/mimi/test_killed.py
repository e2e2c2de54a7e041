"""Both providers are killed again and again in the middle of commits: no fork, nothing lost, nothing twice.

The bridges are whole processes with databases of their own; only their homeservers are the fast fake one, because
fifty restarts of two bridges on two Synapses would measure Synapse. With Synapse they are killed in `test_outages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from pathlib import Path

import pytest

from bridgekit.testing.ledger import find_marker
from tests.scenarios.mimi.places import PEOPLE, Place, places

log = logging.getLogger(__name__)
KILLS = int(os.environ.get("BRIDGEKIT_KILLS", "8"))
"""How often; 50 take five minutes. In the first 25 rounds each speaker is new, and their first words bring commits."""


def missing(a: Place, b: Place) -> dict[str, str]:
    """What one side said and the other has not seen, each with its fate."""
    found: dict[str, str] = {}
    for here, there in ((a, b), (b, a)):
        came = [e for e in there.homeserver.messages(there.room) if e.sender.startswith("@_bk_")]
        seen = {marked.id for e in came if (marked := find_marker(e.body))}
        found |= {f"{here.domain} {id}": here.fate(id) for id in here.ledger.missing() if id not in seen}
    return found


@pytest.mark.timeout(1800)
async def test_killed_again_and_again_in_the_middle_of_commits(tmp_path: Path):
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
            await asyncio.sleep(dice.uniform(0, 1.0))
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
                while missing(a, b):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        log.info("%d of %d kills found a commit without an answer", caught, 2 * KILLS)
        assert missing(a, b) == {}
        a.arrivals(b.ledger)
        b.arrivals(a.ledger)
    for ledger in (a.ledger, b.ledger):
        report = ledger.report()
        log.info("%s", report)
        flaws = (report.lost, report.doubled, report.misattributed, report.late_within_sender)
        assert flaws == (0, 0, 0, 0), str(report)
        assert report.arrived >= 2 * KILLS
    assert caught > 0 or KILLS < 50, "no kill found a commit that was under way"
