"""What a message costs the store: `python -m bridgekit.store.bench [URL]`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bridgekit.contract.ids import MATRIX, ChatId, MessageId, NetworkId, PersonId
from bridgekit.store import Copy, InboxRow, SealingKey, Store, new_id
from bridgekit.store.driver import Driver

_NETWORK = NetworkId("example")
_BODY = b"x" * 300


def _inbox_row() -> InboxRow:
    now = time.time_ns() // 1_000_000
    return InboxRow(id=new_id(), side=_NETWORK, chat=ChatId("#channel"), receiver=None, body=_BODY, at=now)


def _copies(message: int) -> tuple[Copy, Copy]:
    room, chat, person = ChatId("!abcdefghijklmnop:example.org"), ChatId("#channel"), PersonId("someone")
    here = Copy(
        message=message,
        room=room,
        side=_NETWORK,
        chat=chat,
        id=MessageId(f"{message:x}-abcdefgh"),
        sender=person,
        at=message >> 21,
        origin=True,
    )
    there = Copy(
        message=message,
        room=room,
        side=MATRIX,
        chat=room,
        id=MessageId(f"${hash(str(message)):x}abcdefghijklmnopqrstuvwxyzabcdefg"),
        sender=PersonId("@_example_someone:example.org"),
        at=message >> 21,
        origin=False,
    )
    return here, there


async def _message(store: Store) -> None:
    """What one message writes: the fact first, then its copies together with the end of the fact."""
    row = _inbox_row()
    await store.commit(store.inbox.add(row))
    here, there = _copies(row.id)
    await store.commit(store.copies.add(here), store.copies.add(there), store.inbox.done(row.id))


async def flat_out(store: Store, messages: int, at_once: int) -> tuple[float, float]:
    """Messages in a second, and CPU milliseconds (user and system, all threads) for one, with so many under way."""
    left = messages

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await _message(store)

    cpu, clock = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return messages / (time.perf_counter() - clock), (time.process_time() - cpu) * 1000 / messages


async def beside_a_busy_loop(store: Store, messages: int, at_once: int) -> tuple[float, float]:
    """The same while the loop never sleeps: what the writer thread costs beside Python at work."""
    stop = False

    async def busy() -> None:
        while not stop:
            sum(range(2000))
            await asyncio.sleep(0)

    spin = asyncio.create_task(busy(), name="busy")
    await asyncio.sleep(0)
    result = await flat_out(store, messages, at_once)
    stop = True
    await spin
    return result


async def idle_latency(store: Store, commits: int) -> list[float]:
    """Milliseconds of single commits, 5 ms apart, sorted."""
    took: list[float] = []
    for _ in range(commits):
        await asyncio.sleep(0.005)
        begun = time.perf_counter()
        await store.commit(store.inbox.add(_inbox_row()))
        took.append((time.perf_counter() - begun) * 1000)
    return sorted(took)


async def read_cost(store: Store, reads: int) -> float:
    """Milliseconds of `copies.of`, one after the other."""
    row = _inbox_row()
    here, there = _copies(row.id)
    await store.commit(store.copies.add(here), store.copies.add(there))
    begun = time.perf_counter()
    for _ in range(reads):
        await store.copies.of(here.side, here.chat, here.id)
    return (time.perf_counter() - begun) * 1000 / reads


_SIZE = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgres": "SELECT pg_total_relation_size('copies') + pg_total_relation_size('newest')",
}


async def size(driver: Driver) -> int:
    """Octets that the database takes (PostgreSQL: its tables of copies, with their indices)."""
    return int((await driver.fetch(_SIZE[driver.dialect]))[0][0])


async def main(url: str | None) -> None:
    with contextlib.ExitStack() as stack:
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url = f"sqlite:///{Path(folder) / 'bench.db'}"
        store = await Store.open(url, SealingKey.generate())
        try:
            latency = await idle_latency(store, 200)
            p50, p99 = median(latency), latency[int(len(latency) * 0.99)]
            sys.stdout.write(f"single commit, idle: p50 {p50:.2f} ms, p99 {p99:.2f} ms\n")
            begun, written = await size(store._driver), 0
            for at_once in (1, 10, 100, 500):
                count = 20000 if at_once > 10 else 2000
                written += count
                rate, cpu = await flat_out(store, count, at_once)
                sys.stdout.write(f"{at_once:4} at once: {rate:6.0f} messages/s, {cpu:.3f} ms CPU each\n")
            kept = (await size(store._driver) - begun) / written
            sys.stdout.write(f"kept for good: {kept:.0f} octets a message (a row for each of two sides)\n")
            rate, _ = await beside_a_busy_loop(store, 5000, 100)
            sys.stdout.write(f" 100 at once, busy loop: {rate:6.0f} messages/s\n")
            sys.stdout.write(f"copies.of: {await read_cost(store, 500):.3f} ms\n")
        finally:
            await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
