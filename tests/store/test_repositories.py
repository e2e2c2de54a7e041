"""What each repository keeps and gives back, on both engines."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridgekit.contract.ids import MATRIX, ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Login
from bridgekit.store import Copy, SealingKey, Store, new_id, traffic
from bridgekit.store.rows import Stay
from bridgekit.store.statements import Value
from tests.store.samples import (
    CHAT,
    NETWORK,
    ROOM,
    copies_of,
    ghost,
    inbox_row,
    link,
    login,
    portal,
)


async def test_pending_inbox_rows_come_back_in_order_and_in_pages(store: Store):
    rows = [inbox_row(bytes([n]), receiver="me" if n % 2 else None) for n in range(5)]
    await store.commit(*(store.inbox.add(row) for row in reversed(rows)))
    assert await store.inbox.pending() == rows
    assert await store.inbox.pending(after=rows[1].id, limit=2) == rows[2:4]
    assert await store.inbox.count() == 5


async def test_a_done_row_is_gone_and_its_outbox_rows_with_it(store: Store):
    row, other = inbox_row(), inbox_row()
    await store.commit(store.inbox.add(row), store.inbox.add(other))
    await store.commit(store.outbox.sending(row.id, 0), store.outbox.sending(other.id, 0))
    await store.commit(store.outbox.performed(row.id, 0), store.outbox.sending(row.id, 1))
    assert await store.outbox.of(row.id) == {0: "performed", 1: "sending"}
    await store.commit(store.inbox.done(row.id))
    assert await store.inbox.pending() == [other]
    assert await store.outbox.of(row.id) == {}
    assert await store.outbox.of(other.id) == {0: "sending"}


async def test_a_row_of_which_no_step_was_begun_leaves_without_a_look_at_the_outbox(store: Store):
    """Most rows are of that kind; of what an earlier run has left, nobody knows."""
    begun, other = new_id(), new_id()
    store.outbox.sending(begun, 0)
    assert store.inbox.done(begun).also is not None
    assert store.inbox.done(other).also is None
    assert store.inbox.done(1).also is not None


async def test_what_amends_an_earlier_message_is_known_by_that_as_long_as_it_is_pending(store: Store):
    rows = [inbox_row(bytes([n]), receiver="me" if n else None) for n in range(4)]
    await store.commit(
        *(store.inbox.add(row) for row in rows),
        *(store.amendments.add(row.id, MessageId(f"$of-{n}")) for n, row in enumerate(reversed(rows))),
    )
    await store.commit(store.inbox.done(rows[1].id), store.inbox.park(rows[2].id, "struck"))
    here, mine = (PortalKey(rows[n].side, rows[n].chat, rows[n].receiver) for n in (0, 3))
    left = [(here, MessageId("$of-3"), rows[0].id), (mine, MessageId("$of-0"), rows[3].id)]
    assert await store.amendments.pending() == left
    await store.commit(store.amendments.prune())
    assert await store.amendments.pending() == left
    await store.commit(store.inbox.retry(rows[2].id))  # it was not forgotten while it was set aside
    assert [number for _, _, number in await store.amendments.pending()] == [
        r.id for r in (rows[0], *rows[2:])
    ]


async def test_inbox_rows_are_found_by_their_numbers(store: Store):
    rows = [inbox_row(bytes([n])) for n in range(4)]
    await store.commit(*(store.inbox.add(row) for row in rows), store.inbox.park(rows[1].id, "struck"))
    assert await store.inbox.numbered([rows[3].id, 5, rows[1].id, rows[0].id]) == [rows[0], rows[3]]
    assert await store.inbox.numbered([]) == []


async def test_a_parked_row_keeps_its_body_and_the_error_until_it_is_retried(store: Store):
    row = inbox_row(b"poison")
    await store.commit(store.inbox.add(row))
    await store.commit(store.inbox.park(row.id, "ValueError: \0 and \ud800"))
    assert await store.inbox.pending() == []
    assert await store.inbox.count() == 0
    assert await store.inbox.count_parked() == 1
    (parked,) = await store.inbox.parked(10)
    assert parked.row == row
    assert parked.error == "ValueError: \ufffd and ?"
    await store.commit(store.inbox.retry(row.id))
    assert await store.inbox.pending() == [row]
    assert await store.inbox.parked(10) == []


async def test_the_same_inbox_row_twice_is_one(store: Store):
    row = inbox_row(b"first")
    await store.commit(store.inbox.add(row))
    await store.commit(store.inbox.add(msgspec.structs.replace(row, body=b"second")))
    assert await store.inbox.pending() == [row]


async def test_a_transaction_is_seen_once_it_is_recorded(store: Store):
    assert not await store.transactions.seen("a")
    await store.commit(store.transactions.record("a"))
    assert await store.transactions.seen("a")
    await store.commit(store.transactions.record("a"), store.transactions.prune(before=1))
    assert await store.transactions.seen("a")
    await store.commit(store.transactions.prune(before=2**62), store.transactions.record("b"))
    assert not await store.transactions.seen("a")
    assert await store.transactions.seen("b")


async def test_which_events_no_transaction_brought_is_known(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bridgekit.store.traffic._TRANSACTIONS_PAGE", 2)
    ids = [MessageId(f'${n}"é') for n in range(10)]
    before = time.time_ns() // 1_000_000
    await store.commit(*(store.transactions.record(f"txn {n}", [ids[n], ids[n + 5]]) for n in range(5)))
    await store.commit(store.transactions.record("nothing"))
    asked = [*ids, MessageId("$never")]
    assert await store.transactions.without(asked, before) == {"$never"}
    assert await store.transactions.without(asked, before + 3_600_000) == set(asked)
    assert await store.transactions.without([], 0) == set()


async def test_what_was_found_overdue_is_remembered(store: Store):
    await store.commit(store.overdue.add(MessageId("$a")), store.overdue.add(MessageId("$b")))
    await store.commit(store.overdue.add(MessageId("$a")), store.overdue.prune(before=1))
    assert await store.overdue.all() == {"$a", "$b"}
    await store.commit(store.overdue.prune(before=2**62))
    assert await store.overdue.all() == set()


async def test_any_copy_leads_to_all_copies_the_origin_first(store: Store):
    here, there = copies_of(new_id(), "m1")
    second = msgspec.structs.replace(there, id=MessageId("$m1-2"), part=1)
    await store.commit(*(store.copies.add(copy) for copy in (second, there, here)))
    expected = [here, there, second]
    assert await store.copies.of(NETWORK, CHAT, MessageId("m1")) == expected
    assert await store.copies.of(MATRIX, ROOM, MessageId("$m1-2")) == expected
    assert await store.copies.by_message(here.message) == expected
    assert await store.copies.of(NETWORK, ChatId("#other"), MessageId("m1")) == []
    assert await store.copies.of(NetworkId("another"), CHAT, MessageId("m1")) == []


async def test_an_id_that_came_twice_leads_to_the_newest_message(store: Store):
    old, new = copies_of(new_id(), "again"), copies_of(new_id(), "again")
    await store.commit(*(store.copies.add(copy) for copy in (*old, *new)))
    assert await store.copies.of(NETWORK, CHAT, MessageId("again")) == list(new)


async def test_a_forgotten_message_has_no_copies(store: Store):
    old, new = copies_of(new_id(), "old"), copies_of(new_id(), "new")
    await store.commit(*(store.copies.add(copy) for copy in (*old, *new)))
    await store.commit(store.copies.forget(new[0].message))
    assert await store.copies.by_message(new[0].message) == []
    assert await store.copies.latest(NETWORK, CHAT) == old[0]


async def test_what_somebody_said_is_found_a_page_at_a_time_also_what_comes_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    """A database of years has more copies than one read can look through in reasonable time."""
    monkeypatch.setattr(traffic, "_PAGE", 3)
    numbers = [new_id() for _ in range(9)]
    await store.commit(*(store.copies.add(copy) for n in numbers for copy in copies_of(n, f"m{n}")))
    (origin, other), late = copies_of(numbers[0], "m"), new_id()
    found: list[int] = []
    async for number in store.copies.said_by(origin.side, origin.sender):
        if not found:
            await store.commit(*(store.copies.add(copy) for copy in copies_of(late, "late")))
        found.append(number)
    assert found == [*numbers, late]
    assert [n async for n in store.copies.said_by(other.side, other.sender)] == []
    assert [n async for n in store.copies.said_by(origin.side, PersonId("nobody"))] == []


async def test_no_read_about_messages_looks_through_all_of_them(tmp_path: Path, key: SealingKey):
    """That is how long everybody would wait who reads next: there are two readers."""
    opened = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", key)
    driver = opened._driver
    asked: dict[str, tuple[Value, ...]] = {}
    fetch = driver.fetch

    async def spied(sql: str, *params: Value) -> list[Sequence[Any]]:
        asked[sql] = params
        return await fetch(sql, *params)

    driver.fetch = spied  # type: ignore[method-assign]
    try:
        copies, (here, _) = opened.copies, copies_of(1, "m")
        await copies.of(here.side, here.chat, here.id)
        await copies.by_message(here.message)
        await copies.reaction(1, here.sender, "+")
        assert [n async for n in copies.said_by(here.side, here.sender)] == []
        assert len(asked) == 5
        for sql, params in asked.items():
            plan = [step[3] for step in await fetch(f"EXPLAIN QUERY PLAN {sql}", *params)]
            assert not [step for step in plan if step.startswith("SCAN")], sql
    finally:
        await opened.close()


async def test_a_reaction_is_found_by_its_parent_sender_and_key(store: Store):
    parent, _ = copies_of(new_id(), "parent")
    here, there = (
        msgspec.structs.replace(copy, kind="reaction", parent=parent.message, key="👍")
        for copy in copies_of(new_id(), "reaction")
    )
    await store.commit(store.copies.add(parent), store.copies.add(here), store.copies.add(there))
    assert await store.copies.reaction(parent.message, here.sender, "👍") == [here, there]
    assert await store.copies.reaction(parent.message, there.sender, "👍") == [here, there]
    assert await store.copies.reaction(parent.message, here.sender, "👎") == []
    assert await store.copies.reaction(parent.message, PersonId("eve"), "👍") == []
    assert await store.copies.latest(NETWORK, CHAT) == parent


async def test_the_latest_copy_is_the_last_part_of_the_newest_message(store: Store):
    assert await store.copies.latest(NETWORK, CHAT) is None
    first, _ = copies_of(new_id(), "first")
    parts: list[Copy] = [
        msgspec.structs.replace(copies_of(first.message + 1, f"part-{n}")[0], part=n) for n in range(3)
    ]
    await store.commit(*(store.copies.add(copy) for copy in (first, *parts)))
    assert await store.copies.latest(NETWORK, CHAT) == parts[2]


async def test_portals_are_put_replaced_and_removed(store: Store):
    await store.commit(store.portals.put(portal("!b:x")), store.portals.put(portal("!a:x")))
    changed = msgspec.structs.replace(portal("!b:x"), network=None, made=False, encrypted=True)
    await store.commit(store.portals.put(changed))
    assert await store.portals.all() == [portal("!a:x"), changed]
    await store.commit(store.portals.remove(ChatId("!a:x")))
    assert await store.portals.all() == [changed]


async def test_two_logins_links_to_one_chat_are_two(store: Store):
    shared, anns, bobs = link(), link(receiver="ann"), link(receiver="bob")
    await store.commit(*(store.links.put(one) for one in (bobs, anns, shared)))
    assert await store.links.all() == [shared, anns, bobs]
    paused = link(receiver="bob", state="paused")
    await store.commit(store.links.put(paused), store.links.remove(shared.key))
    assert await store.links.all() == [anns, paused]


async def test_ghosts_are_listed_by_network(store: Store):
    ann, bob, other = ghost("ann"), ghost("bob"), ghost("ann", NetworkId("another"))
    await store.commit(*(store.ghosts.put(one) for one in (bob, other, ann)))
    assert await store.ghosts.all(NETWORK) == [ann, bob]
    assert await store.ghosts.get(other.mxid) == other
    assert await store.ghosts.get(PersonId("@nobody:example.org")) is None
    await store.commit(store.ghosts.put(msgspec.structs.replace(ann, name="Ann \0")))
    assert await store.ghosts.get(ann.mxid) == msgspec.structs.replace(ann, name="Ann \ufffd")


async def test_members_of_a_room_are_a_dict(store: Store):
    ann, bob = ghost("ann").mxid, ghost("bob").mxid
    await store.commit(
        store.members.put(ROOM, ann, "invite"),
        store.members.put(ROOM, ann, "join"),
        store.members.put(ROOM, bob, "join", 1_000),
        store.members.put(ChatId("!other:x"), bob, "ban"),
    )
    assert await store.members.of(ROOM) == {ann: Stay("join"), bob: Stay("join", 1_000)}
    await store.commit(store.members.remove(ROOM, bob))
    assert await store.members.of(ROOM) == {ann: Stay("join")}


async def test_logins_come_back_with_their_fields(store: Store):
    first, second = login("a"), login("b", "other")
    await store.commit(store.logins.put(second), store.logins.put(first))
    assert await store.logins.all() == [first, second]
    moved = msgspec.structs.replace(
        first,
        login=Login(id=first.login.id, owner=first.login.owner, fields={"nick": "ä"}),
        state="rejected",
        reason="The password is wrong.",
    )
    await store.commit(store.logins.put(moved), store.logins.remove(second.login.id))
    assert await store.logins.all() == [moved]


async def test_values_are_kept_by_namespace_and_none_deletes(store: Store):
    await store.commit(
        store.kv.put("a", "x", b"1"),
        store.kv.put("a", "y", b"2"),
        store.kv.put("b", "x", b"3"),
        store.kv.put("a", "x", None),
        store.kv.put("a", "x", b"4"),
    )
    assert await store.kv.items("a") == {"x": b"4", "y": b"2"}
    assert await store.kv.items("a", "y") == {"y": b"2"}
    assert await store.kv.get("b", "x") == b"3"
    assert await store.kv.get("b", "y") is None
    await store.commit(store.kv.put("a", "x", None))
    assert await store.kv.get("a", "x") is None


async def test_only_the_values_that_are_asked_for_are_read(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A connector may keep much beside them: what it looks up by a prefix costs no more for that."""
    fetched: list[object] = []
    fetch = store.kv._reader.fetch

    async def counting(sql: str, *params: Any) -> Any:
        rows = await fetch(sql, *params)
        fetched.extend(rows)
        return rows

    await store.commit(*(store.kv.put("a", f"letter/{number}", bytes(1000)) for number in range(50)))
    await store.commit(store.kv.put("a", "l%tter/", b"1"), store.kv.put("a", "lätter", b"2"))
    monkeypatch.setattr(store.kv._reader, "fetch", counting)
    assert await store.kv.items("a", "l%tter") == {"l%tter/": b"1"}
    assert await store.kv.items("a", "lä") == {"lätter": b"2"}
    assert len(fetched) == 2


async def test_values_are_walked_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    pages: list[int] = []
    fetch = store.kv._reader.fetch

    async def counting(sql: str, *params: Any) -> Any:
        rows = await fetch(sql, *params)
        pages.append(len(rows))
        return rows

    await store.commit(*(store.kv.put("a", f"letter/{n:03}", str(n).encode()) for n in range(100)))
    await store.commit(store.kv.put("a", "lätter", b"x"), store.kv.put("b", "letter/101", b"x"))
    monkeypatch.setattr(store.kv._reader, "fetch", counting)
    walked = [item async for item in store.kv.walk("a", "letter/")]
    assert walked == [(f"letter/{n:03}", str(n).encode()) for n in range(100)]
    assert max(pages) < 50
