"""What encryption must not forget: written, replaced, read back, and sealed to its place."""

import msgspec
import pytest

from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.store import Store, new_id
from bridgekit.store.sealing import SealBroken
from tests.store.samples import ROOM, inbound, olm_row, our_device, outbound, shared_with

BOB = PersonId("@bob:example.org")


async def test_a_device_is_one_for_each_user_and_replaced_whole(store: Store) -> None:
    keys = store.keys
    assert await keys.device(our_device().mxid) is None
    changed = msgspec.structs.replace(our_device(), published=False)
    await store.commit(keys.put_device(our_device()), keys.put_device(changed))
    assert await keys.device(our_device().mxid) == changed
    assert await keys.device_names() == {our_device().mxid: "BK1"}
    await store.commit(*keys.forget_device(our_device().mxid, "curve"))
    assert await keys.device_names() == {}


async def test_a_device_that_is_forgotten_takes_its_sessions_and_keys_along(store: Store) -> None:
    keys, gone = store.keys, our_device().mxid
    other = msgspec.structs.replace(outbound(), sender=BOB)
    made = msgspec.structs.replace(inbound(), sender=gone, sender_key="ours")
    elsewhere = msgspec.structs.replace(made, session="in-2", sender_key="of another device")
    writes = [keys.put_device(our_device()), keys.put_olm(olm_row()), keys.put_outbound(outbound())]
    writes += [keys.put_outbound(other), keys.put_inbound(made), keys.put_inbound(elsewhere)]
    await store.commit(*writes)
    await store.commit(*keys.forget_device(gone, "ours"))
    assert (await keys.device(gone), await keys.olm(gone)) == (None, [])
    assert [await keys.outbound(ROOM, who) for who in (gone, BOB)] == [None, other]
    found = [await keys.inbound(ROOM, session, gone) for session in ("in-1", "in-2")]
    assert found == [None, elsewhere]


async def test_olm_sessions_come_back_with_the_one_first_that_heard_last(store: Store) -> None:
    first, second = olm_row(id="a", used=5), olm_row(id="b", used=9)
    await store.commit(store.keys.put_olm(first), store.keys.put_olm(second))
    assert await store.keys.olm(first.ours) == [second, first]
    moved = msgspec.structs.replace(first, pickle="next", used=10)
    await store.commit(store.keys.put_olm(moved), store.keys.forget_olm(second))
    assert await store.keys.olm(first.ours) == [moved]
    assert await store.keys.olm(BOB) == []


async def test_one_outbound_session_for_each_room_and_sender(store: Store) -> None:
    await store.commit(store.keys.put_outbound(outbound(3)), store.keys.put_outbound(outbound(4)))
    assert await store.keys.outbound(ROOM, outbound().sender) == outbound(4)
    assert await store.keys.outbound(ChatId("!other:example.org"), outbound().sender) is None


async def test_who_has_a_sessions_key_is_forgotten_with_the_session(store: Store) -> None:
    rows = [shared_with("PHONE"), shared_with("LAPTOP", -1)]
    await store.commit(*map(store.keys.put_shared, rows))
    assert sorted(await store.keys.shared("out-1"), key=lambda row: -row.position) == rows
    await store.commit(store.keys.forget_shared("out-1"))
    assert await store.keys.shared("out-1") == []


async def test_a_session_under_one_id_is_anothers_where_another_brought_it(store: Store) -> None:
    mine, theirs = inbound(), inbound("@eve:example.org")
    await store.commit(store.keys.put_inbound(mine), store.keys.put_inbound(theirs))
    assert await store.keys.inbound(ROOM, "in-1", mine.sender) == mine
    assert await store.keys.inbound(ROOM, "in-1", theirs.sender) == theirs
    assert await store.keys.inbound(ROOM, "in-1", PersonId("@carol:example.org")) is None


async def test_the_first_event_at_a_place_stays(store: Store) -> None:
    saw = [store.keys.saw(ROOM, "in-1", BOB, 7, MessageId(event)) for event in ("$first", "$second")]
    await store.commit(*saw)
    first, second, eve = MessageId("$first"), MessageId("$second"), PersonId("@eve:example.org")
    assert await store.keys.stands_first(ROOM, "in-1", BOB, 7, first) is True
    assert await store.keys.stands_first(ROOM, "in-1", BOB, 7, second) is False
    assert await store.keys.stands_first(ROOM, "in-1", BOB, 8, first) is None
    assert await store.keys.stands_first(ROOM, "in-1", eve, 7, first) is None


async def test_of_who_said_what_at_which_place_a_session_keeps_no_name(store: Store) -> None:
    """There is a row for each encrypted message, for good: it is short, and outlives an erasure."""
    await store.commit(store.keys.saw(ROOM, "in-1", BOB, 7, MessageId("$first")))
    ((place, position, event),) = await store._driver.fetch("SELECT * FROM megolm_seen")
    assert (len(place), position, len(event)) == (16, 7, 16)


async def test_what_is_known_of_somebody_is_replaced(store: Store) -> None:
    assert await store.keys.theirs(BOB) is None
    await store.commit(store.keys.put_theirs(BOB, b"old"), store.keys.put_theirs(BOB, b"new"))
    assert await store.keys.theirs(BOB) == b"new"


async def test_events_for_devices_wait_in_their_order(store: Store) -> None:
    ids = [new_id() for _ in range(3)]
    await store.commit(*(store.keys.add_to_device(id, b"%d" % id) for id in reversed(ids)))
    await store.commit(store.keys.done_to_device(ids[1]))
    assert await store.keys.to_device() == [(ids[0], b"%d" % ids[0]), (ids[2], b"%d" % ids[2])]


async def test_rooms_that_are_encrypted_are_remembered(store: Store) -> None:
    await store.commit(store.keys.put_room(ROOM, b"{}"))
    assert await store.keys.rooms() == {ROOM: b"{}"}


async def test_a_pickle_opens_in_its_own_place_only(store: Store) -> None:
    """Whoever can write to the database must not be able to give one room's session to another."""
    await store.commit(store.keys.put_outbound(outbound()))
    moved = "UPDATE megolm_out SET room = '!other:example.org'"
    await store._driver.script([(moved, ())])
    with pytest.raises(SealBroken):
        await store.keys.outbound(ChatId("!other:example.org"), outbound().sender)
