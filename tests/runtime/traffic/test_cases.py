"""What a fact became on each side, while people may still refer to it."""

from __future__ import annotations

import asyncio

from bridgekit.contract.ids import ChatId, LoginId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Protection
from bridgekit.core.model import Known
from bridgekit.runtime.cases import Tracked
from bridgekit.runtime.traffic.recent import Recent
from bridgekit.runtime.traffic.steps import source_of

CHANNEL = PortalKey(NetworkId("ircnet"), ChatId("#a"))
PARROT = PortalKey(NetworkId("parrot"), ChatId("#b"))
DIRECT = PortalKey(NetworkId("ircnet"), ChatId("bob"), LoginId("login-ann"))


def tracked(number: int, **more: int | str) -> Tracked:
    key = str(more.get("key", ""))
    parent = int(more.get("parent", 0))
    return Tracked(number, CHANNEL, PersonId(str(more.get("sender", "ada"))), key=key, parent=parent)


def ids(*names: str) -> tuple[MessageId, ...]:
    return tuple(MessageId(name) for name in names)


async def test_a_copys_ids_are_told_when_its_fate_is_known():
    one = tracked(1)
    one.expect(PARROT)
    waiting = asyncio.create_task(one.arrived(PARROT))
    await asyncio.sleep(0)
    assert not waiting.done()
    one.ids[PARROT] = ids("p1", "p2")
    one.settle(PARROT)
    assert await waiting == ids("p1", "p2")


async def test_a_copy_that_failed_has_no_ids_and_nobody_waits_for_it():
    one = tracked(1)
    one.expect(PARROT)
    one.settle(PARROT)
    assert await one.arrived(PARROT) == ()
    assert one.pending is None


async def test_each_side_is_waited_for_by_itself():
    one = tracked(1)
    one.expect(PARROT)
    one.expect(DIRECT)
    one.ids[DIRECT] = ids("d1")
    one.settle(DIRECT)
    assert await one.arrived(DIRECT) == ids("d1")
    assert one.pending is not None


async def test_one_who_stops_waiting_stops_nobody_else():
    one = tracked(1)
    one.expect(PARROT)
    impatient = asyncio.create_task(one.arrived(PARROT))
    patient = asyncio.create_task(one.arrived(PARROT))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    one.settle(PARROT)
    assert await patient == ()


async def test_settling_twice_is_harmless():
    one = tracked(1)
    one.expect(PARROT)
    one.settle(PARROT)
    one.settle(PARROT)
    assert one.pending is None


def test_a_plan_sees_a_message_as_a_plain_value():
    one = Tracked(7, CHANNEL, PersonId("ada"), author="Ada", words="hi", at=3, protection=Protection.BRIDGE)
    assert one.known() == Known(
        number=7,
        origin=CHANNEL,
        sender=PersonId("ada"),
        author="Ada",
        words="hi",
        at=3,
        protection=Protection.BRIDGE,
    )


def test_a_recent_message_is_found_by_each_id_on_each_side():
    recent, one = Recent(), tracked(1)
    recent.add(one)
    recent.name(one, CHANNEL, ids("m1"))
    recent.name(one, PARROT, ids("p1", "p2"))
    assert recent.find(CHANNEL, MessageId("m1")) is one
    assert recent.find(PARROT, MessageId("p2")) is one
    assert recent.numbered(1) is one
    assert recent.find(PARROT, MessageId("m1")) is None


def test_the_oldest_messages_fall_out_with_their_names():
    recent = Recent(limit=2)
    for number in (1, 2, 3):
        one = tracked(number)
        recent.add(one)
        recent.name(one, CHANNEL, ids(f"m{number}"))
    assert recent.numbered(1) is None
    assert recent.find(CHANNEL, MessageId("m1")) is None
    assert recent.find(CHANNEL, MessageId("m2")) is not None


async def test_a_message_on_its_way_is_not_forgotten():
    recent, on_its_way = Recent(limit=1), tracked(1)
    recent.add(on_its_way)
    on_its_way.expect(PARROT)
    recent.add(tracked(2))
    assert recent.numbered(1) is on_its_way
    on_its_way.settle(PARROT)
    recent.add(tracked(3))
    assert [recent.numbered(n) is not None for n in (1, 2, 3)] == [False, False, True]


def test_a_message_that_fell_out_gets_no_new_names():
    recent, gone = Recent(limit=1), tracked(1)
    recent.add(gone)
    recent.add(tracked(2))
    recent.name(gone, PARROT, ids("p1"))
    assert recent.find(PARROT, MessageId("p1")) is None
    assert gone.ids[PARROT] == ids("p1")


def test_the_newest_of_the_same_reaction_is_found():
    recent = Recent()
    for number in (5, 6):
        recent.add(tracked(number, key="👍", parent=1))
    recent.add(tracked(7, key="👍", parent=1, sender="bob"))
    found = recent.reaction(1, PersonId("ada"), "👍")
    assert found is not None
    assert found.number == 6
    assert recent.reaction(1, PersonId("ada"), "👎") is None
    assert recent.reaction(2, PersonId("ada"), "👍") is None


def test_a_source_is_told_apart_by_side_only_where_sides_could_be_confused():
    assert source_of(255, CHANNEL) == "ff"
    assert source_of(255, DIRECT) == "ff@bob"
