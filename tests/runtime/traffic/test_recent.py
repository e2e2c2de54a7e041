"""The messages that a worker remembers: none is forgotten before the disk can answer for it."""

from __future__ import annotations

import asyncio

from bridgekit.contract.ids import MATRIX, ChatId, MessageId, PersonId, PortalKey
from bridgekit.runtime.cases import Tracked
from bridgekit.runtime.traffic.recent import Recent

SIDE = PortalKey(MATRIX, ChatId("!room:example.org"))


def remember(recent: Recent, number: int) -> Tracked:
    tracked = Tracked(number, SIDE, PersonId("@ann:example.org"))
    recent.add(tracked)
    recent.name(tracked, SIDE, (MessageId(f"${number}"),))
    return tracked


async def test_the_oldest_fall_out_first():
    recent = Recent(limit=2)
    kept = [remember(recent, number) for number in (1, 2, 3)]
    assert recent.find(SIDE, MessageId("$1")) is None
    assert [recent.find(SIDE, MessageId(f"${number}")) for number in (2, 3)] == kept[1:]


async def test_what_is_not_on_disk_yet_does_not_fall_out():
    """A replay that came in between would find it neither here nor there, and be passed on once more."""
    recent = Recent(limit=1)
    first = remember(recent, 1)
    first.written = asyncio.get_running_loop().create_future()
    remember(recent, 2)
    assert recent.find(SIDE, MessageId("$1")) is first
    first.written.set_result(None)
    remember(recent, 3)
    assert recent.find(SIDE, MessageId("$1")) is None
    assert recent.find(SIDE, MessageId("$2")) is None
