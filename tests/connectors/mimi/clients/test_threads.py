"""Topics of MIMI are threads of Matrix (draft-ietf-mimi-content-08, "Topics / Threading")."""

from __future__ import annotations

import pytest

from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import MessageId
from bridgekit.testing.host import FakeHost
from connectors.mimi.clients.threads import Origin, Threads
from connectors.mimi.translate import name

ROOM = "mimi://a.example/r/club"


def id_of(number: int) -> bytes:
    return b"\x01" + bytes([number]) * 31


async def test_what_is_in_no_topic_is_in_no_thread():
    threads = Threads(FakeHost())
    assert await threads.root(ROOM, b"", id_of(1)) is None
    assert await threads.topic(None) == b""


async def test_a_thread_of_ours_has_its_first_messages_id_for_a_topic():
    threads = Threads(FakeHost())
    topic = await threads.topic(name(id_of(1)))
    assert topic == id_of(1)
    assert await threads.root(ROOM, topic, id_of(2)) == name(id_of(1))


async def test_a_topic_of_another_client_begins_with_the_first_message_that_was_seen_of_it():
    host = FakeHost()
    assert await Threads(host).root(ROOM, b"cats", id_of(1)) is None
    threads = Threads(host)  # after a restart
    assert await threads.root(ROOM, b"cats", id_of(2)) == name(id_of(1))
    assert await threads.root(ROOM, b"cats", id_of(1)) is None, "heard twice"
    assert await threads.root("mimi://a.example/r/other", b"cats", id_of(3)) is None, "another room's topic"
    assert await threads.topic(name(id_of(1))) == b"cats"


async def test_an_edit_repeats_what_its_message_was_part_of():
    threads = Threads(FakeHost())
    await threads.said(id_of(1), Origin(b"cats", id_of(2)))
    await threads.said(id_of(3), Origin())
    assert await threads.origin(id_of(1)) == Origin(b"cats", id_of(2))
    assert await threads.origin(id_of(3)) == Origin()


async def test_what_is_remembered_of_topics_and_answers_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """Topics are named by whoever speaks; who answers all day leaves no row for each answer for good."""
    monkeypatch.setattr("connectors.mimi.clients.threads.KEPT", 10)
    host = FakeHost()
    for start in range(0, 100, 25):
        threads = Threads(host)
        await threads.load()
        for number in range(start, start + 25):
            await threads.said(id_of(number), Origin(b"cats", id_of(200)))
            await threads.root(ROOM, b"topic %d" % number, id_of(number))
            assert await threads.root(ROOM, b"cats", id_of(200 if not number else 201)) == (
                name(id_of(200)) if number else None
            ), "a topic that is talked in is not forgotten"
            assert await threads.topic(name(id_of(200))) == b"cats"
    for prefix in ("topic/", "thread/", "origin/"):
        assert 10 <= len(await host.items(prefix)) <= 21, prefix
    assert await threads.origin(id_of(99)) == Origin(b"cats", id_of(200))
    assert await threads.origin(id_of(1)) == Origin()


async def test_what_was_never_on_the_other_side_begins_no_thread_there():
    with pytest.raises(SendRejected):
        await Threads(FakeHost()).topic(MessageId("$event"))
