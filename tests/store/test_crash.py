"""What was acknowledged is there after a SIGKILL, and a unit is there whole or not at all."""

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from bridgekit.store import SealingKey, Store
from bridgekit.store import postgres as postgresql
from bridgekit.testing.servers.postgres import postgres as run_postgres
from tests.store.samples import inbox_row

KILLS = 10


async def acknowledged_until_killed(url: str, key_file: Path, seconds: float) -> list[tuple[int, int]]:
    """Let a child write for so long after its first commit, kill it, and return what it was promised."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.writing_child", url, str(key_file), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline()]

    async def read() -> None:
        assert child.stdout is not None
        while line := await child.stdout.readline():
            lines.append(line)

    reading = asyncio.create_task(read())
    await asyncio.sleep(seconds)
    child.kill()
    await child.wait()
    await reading
    return [(int(done), int(left)) for done, left in (line.split() for line in lines)]


async def test_every_acknowledged_commit_survives_ten_kills(url: str, tmp_path: Path):
    key_file = tmp_path / "bridge.key"
    key = SealingKey.load_or_create(key_file)
    dice = random.Random(1)
    promised: set[int] = set()
    last = 0
    for _ in range(KILLS):
        news = await acknowledged_until_killed(url, key_file, dice.uniform(0.02, 0.3))
        assert news
        store = await Store.open(url, key)
        waiting = {row.id for row in await store.inbox.pending(after=last, limit=1_000_000)}
        for done, left in news:
            promised.add(left)
            assert done not in waiting
            assert left in waiting
            assert len(await store.copies.by_message(done)) == 2
        # Those that were under way: done with their copies, or waiting without.
        for id in waiting - promised:
            assert await store.copies.by_message(id) == []
        last = max(waiting)
        await store.close()
    store = await Store.open(url, key)
    assert promised <= {row.id for row in await store.inbox.pending(limit=1_000_000)}
    await store.close()


async def test_a_postgresql_that_restarts_in_the_middle_loses_and_reorders_nothing(key: SealingKey):
    async with run_postgres() as server:
        store = await Store.open(await server.create_database(), key)
        rows = [inbox_row(b"%d" % n) for n in range(3000)]
        futures = []

        async def write() -> None:
            for n, row in enumerate(rows):
                last = store.kv.put("last", "n", b"%d" % n)
                futures.append(store.commit(store.inbox.add(row), last, store.outbox.sending(row.id, n)))
                if n % 10 == 0:
                    await asyncio.sleep(0.003)

        async def interrupt() -> None:
            await asyncio.sleep(0.1)
            server.kill()
            read = asyncio.create_task(store.kv.get("last", "n"))
            while store.trouble is None:  # noqa: ASYNC110 - the writer tells nobody
                await asyncio.sleep(0.02)
            await server.start()
            assert await read is not None
            await asyncio.sleep(0.1)
            await server.stop()
            await server.start()

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(interrupt())
        await asyncio.gather(*futures)
        assert store.trouble is None
        assert store.failures == 0
        assert await store.inbox.pending(limit=5000) == rows
        assert await store.kv.get("last", "n") == b"2999"
        assert await store.outbox.of(rows[17].id) == {17: "sending"}
        await store.close()


async def away(store: Store, expected: bool) -> None:
    """Return when the store knows it."""
    while (store.trouble is not None) != expected:  # noqa: ASYNC110 - the writer tells nobody
        await asyncio.sleep(0.02)


async def test_a_store_that_has_nothing_to_write_notices_that_its_database_is_away(
    key: SealingKey, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bridgekit.store.postgres._ASK_AFTER", 0.1)
    async with run_postgres() as server:
        store = await Store.open(await server.create_database(), key)
        await store.commit(store.kv.put("a", "b", b""))
        server.kill()
        async with asyncio.timeout(60):
            await away(store, True)
            await server.start()
            await away(store, False)
        await store.close()


async def test_a_store_whose_database_is_away_closes_and_says_what_was_not_written(key: SealingKey):
    async with run_postgres() as server:
        store = await Store.open(await server.create_database(), key)
        await store.commit(store.kv.put("a", "written", b""))
        await server.stop()
        lost = store.commit(store.kv.put("a", "lost", b""))
        await asyncio.sleep(0.3)
        async with asyncio.timeout(60):
            await store.close(within=1.0)
        assert "closed while the database was away" in str(lost.exception())
        assert store.failures == 1


@pytest.fixture
async def frozen(postgres, key: SealingKey) -> AsyncIterator[Store]:
    """A store whose server hangs: it has two connections to read, one to write, and no answer for any."""
    url = await postgres.create_database()
    store = await Store.open(url, key)
    await asyncio.gather(store.inbox.count(), store.inbox.count())
    admin = await asyncpg.connect(url)
    rows = await admin.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'bridgekit' AND datname = current_database()"
    )
    await admin.close()
    assert len(rows) == 3
    for row in rows:
        os.kill(row["pid"], signal.SIGSTOP)
    yield store
    for row in rows:
        os.kill(row["pid"], signal.SIGCONT)
    await store.close()


async def test_a_store_whose_database_hangs_closes_in_the_time_that_it_has(frozen: Store):
    """Each of its connections was waited for besides, two seconds each, one after the other."""
    lost = frozen.commit(frozen.kv.put("a", "lost", b""))
    began = time.monotonic()
    with capture_logs() as logged:
        await frozen.close(within=0.5)
    assert time.monotonic() - began < 4
    assert "closed while the database was away" in str(lost.exception())
    told = next(entry for entry in logged if entry["event"] == "store_closed_unwritten")
    assert told["commits"] == 1
    assert "The homeserver sends again" in told["reason"]


async def test_a_database_that_hangs_is_told_before_it_breaks(frozen: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bridgekit.store.postgres._SLOW", 0.1)
    frozen.commit(frozen.kv.put("a", "waits", b""))
    async with asyncio.timeout(60):
        while frozen.trouble is None:  # noqa: ASYNC110 - the writer tells nobody
            await asyncio.sleep(0.02)
    assert frozen.trouble == "The database cannot be used: it does not answer."
    await frozen.close(within=0.1)


async def test_why_a_database_is_away_is_said_as_long_as_it_is(
    key: SealingKey, monkeypatch: pytest.MonkeyPatch
):
    """A database that refuses answers: that it does not is no news, and not true."""
    tries: list[str] = []
    connect = postgresql.connect

    async def counted(dsn: str, **more: bool) -> asyncpg.Connection:
        tries.append(dsn)
        return await connect(dsn, **more)

    async with run_postgres() as server:
        monkeypatch.setattr(postgresql, "_SLOW", 0.1)
        store = await Store.open(await server.create_database(), key)
        monkeypatch.setattr(postgresql, "connect", counted)
        await store.commit(store.kv.put("a", "written", b""))
        server.kill()
        lost = store.commit(store.kv.put("a", "waits", b""))
        await away(store, True)
        said: set[str | None] = set()
        async with asyncio.timeout(60):
            while len(tries) < 6:
                said.add(store.trouble)
                await asyncio.sleep(0.01)
        await store.close(within=0.1)
        assert lost.exception() is not None
    assert not [reason for reason in said if "does not answer" in str(reason)]


async def test_what_was_not_written_for_one_reason_is_one_line_of_the_log(frozen: Store):
    """A bridge in whose rooms much is said has thousands of writes under way when it stops."""
    frozen.commit(frozen.kv.put("a", "lost", b""))
    for row in (inbox_row(), inbox_row()):
        frozen.commit(frozen.inbox.add(row))
    with capture_logs() as logged:
        await frozen.close(within=0.1)
    told = [entry for entry in logged if entry["event"] == "store_write_failed"]
    assert sorted((entry["tables"], entry["units"]) for entry in told) == [(["inbox"], 2), (["kv"], 1)]


def test_a_reason_is_one_line_for_people():
    """PostgreSQL adds lines with hints; asyncpg tells of its insides where a connection ends as something is asked."""
    full = asyncpg.DiskFullError("could not extend file: No space left on device.")
    full.hint = "Check free disk space."
    assert "\n" in str(full)
    assert postgresql._reason(full) == "could not extend file: No space left on device"
    inside = asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
    assert postgresql._reason(inside) == "the connection was lost"


async def test_a_store_whose_file_somebody_else_holds_closes_and_says_what_was_not_written(
    key: SealingKey, tmp_path: Path
):
    store = await Store.open(f"sqlite:///{tmp_path}/bridge.db", key)
    await store.commit(store.kv.put("a", "written", b""))
    holder = sqlite3.connect(tmp_path / "bridge.db")
    holder.execute("BEGIN IMMEDIATE")
    lost = [store.commit(store.kv.put("a", f"lost {number}", b"")) for number in range(5000)]
    async with asyncio.timeout(60):
        while store.trouble is None:  # noqa: ASYNC110 - the writer tells nobody
            await asyncio.sleep(0.02)
        await store.close(within=0.5)
    holder.close()
    assert {str(one.exception()) for one in lost} == {
        "The store was closed. The database cannot be written: database is locked."
    }
    assert store.failures == 5000


async def test_another_bridge_that_took_the_database_over_is_not_written_into(postgres, key: SealingKey):
    url = await postgres.create_database()
    first = await Store.open(url, key)
    admin = await asyncpg.connect(url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'bridgekit' AND datname = current_database()"
    )
    second = await Store.open(url, key)
    waiting = first.commit(first.kv.put("a", "b", b"from the first"))
    async with asyncio.timeout(60):
        while "Another bridgekit" not in (first.trouble or ""):  # noqa: ASYNC110 - first it hears of the end alone
            await asyncio.sleep(0.01)
    await second.commit(second.kv.put("a", "b", b"from the second"))
    assert await second.kv.get("a", "b") == b"from the second"
    await second.close()
    await waiting
    assert await first.kv.get("a", "b") == b"from the first"
    await first.close()
    await admin.close()
