"""What others are still to hear."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from bridgekit.testing.host import FakeHost
from connectors.mimi.service.hub import Delivery
from connectors.mimi.service.outbox import Letter, Outbox, _key
from connectors.mimi.service.peers import Answer
from connectors.mimi.testing.cast import ROOM
from connectors.mimi.wire.mls import ContentType, PrivateMessage
from connectors.mimi.wire.rooms import FANOUTS, ApplicationFanout

BOB = "mimi://b.example/u/bob"


def delivery(number: int) -> Delivery:
    message = PrivateMessage(b"g", 1, ContentType.APPLICATION, b"", b"", b"x" * 8000)
    return Delivery("c.example", ROOM, ApplicationFanout(number, message))


async def post(host: FakeHost, outbox: Outbox, *numbers: int) -> None:
    rows, go = outbox.prepare([delivery(number) for number in numbers], int(host.now() * 1000), BOB)
    await host.put_all(rows)
    go()


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[None]:
    task = asyncio.create_task(outbox.run())
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Peer:
    """Keeps what it is sent; `away` it answers nothing."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.bodies: list[bytes] = []
        self.called = asyncio.Event()

    async def send(self, to: str, room: str, body: bytes) -> Answer:
        self.bodies.append(body)
        self.called.set()
        return Answer(503 if self.away else 201, b"")

    @property
    def heard(self) -> list[int]:
        return [fanout.accepted for body in self.bodies for fanout in FANOUTS.decode(body)]


async def test_ten_thousand_letters_wait_on_disk_and_not_in_memory():
    """A peer is away for a week, and the hub starts anew meanwhile."""
    count, host = 10_000, FakeHost()
    waits = msgspec.msgpack.encode(
        Letter("c.example", ROOM, FANOUTS.encode((delivery(0).fanout,)), int(host.now() * 1000), BOB)
    )
    host.kept.update((_key(number, "c.example"), waits) for number in range(count))
    outbox = Outbox(host, Peer().send)
    tracemalloc.start()
    try:
        await outbox.load()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outbox.waiting == count
    assert most < 40 * count, "octets: numbers, and not the letters' bodies or names"
    assert not outbox.has_room([delivery(1)], BOB), "what an earlier process left counts"


async def test_what_an_earlier_process_left_is_sent_once_and_in_order():
    peer, host = Peer(away=True), FakeHost()
    for first in (0, 100):  # two processes that are killed before anything has arrived
        outbox = Outbox(host, peer.send)
        await outbox.load()
        await post(host, outbox, *range(first, first + 100))
    back = Peer()
    outbox = Outbox(host, back.send)
    await outbox.load()
    await post(host, outbox, *range(200, 300))
    async with running(outbox):
        while outbox.waiting:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
    assert back.heard == list(range(300))
    assert not host.kept
    assert not outbox._heaps


async def test_what_had_no_answer_is_said_again_in_the_same_octets():
    """draft-ietf-mimi-protocol-06 5.5: a byte-exact duplicate is ignored; what was joined with more is none."""
    peer, host = Peer(away=True), FakeHost()
    outbox = Outbox(host, peer.send)
    await post(host, outbox, 1, 2)
    async with running(outbox):
        await peer.called.wait()
        await post(host, outbox, 3)
        peer.away = False
        while outbox.waiting:
            outbox.alive("c.example")
            await asyncio.sleep(0)
    assert peer.bodies[0] == peer.bodies[1]
    assert peer.heard == [1, 2, 1, 2, 3]


async def test_all_users_of_one_provider_together_do_not_fill_the_disk(monkeypatch):
    monkeypatch.setattr("connectors.mimi.service.outbox.MOST_OF_PROVIDER", 20_000)
    host = FakeHost()
    outbox = Outbox(host, Peer(away=True).send)
    await post(host, outbox, 1, 2, 3)
    assert not outbox.has_room([delivery(4)], "mimi://b.example/u/somebody-else")
    assert not outbox.has_room([delivery(4)], "mimi://b.example"), "a handshake of theirs"
    assert outbox.has_room([delivery(4)], "mimi://d.example/u/dora")
    assert outbox.has_room([delivery(4)], ""), "a handshake of our own"
