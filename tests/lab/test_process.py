"""How a server process starts, fails, and ends."""

import asyncio
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bridgekit.testing.servers.process import (
    ServerFailed,
    Service,
    answers,
    find_program,
    free_port,
    start,
)

_LISTEN = "import socket,sys,time; s=socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
_DEAF = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


async def _never() -> bool:
    return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_free_port_is_outside_the_range_of_outgoing_connections():
    for _ in range(50):
        port = free_port()
        assert 1024 < port < 32768
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_a_port_that_was_given_out_is_given_to_nobody_else_before_its_server_listens(
    monkeypatch: pytest.MonkeyPatch,
):
    """Two laboratories draw at the same moment, in one process or in two."""
    given = free_port()
    script = (
        "from bridgekit.testing.servers import process\n"
        f"drawn = iter(range({given}, {given} + 50))\n"
        "process.random.randint = lambda low, high: next(drawn)\n"
        "print(process.free_port())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(elsewhere.stdout) != given
    drawn = iter(range(given, given + 50))
    monkeypatch.setattr(random, "randint", lambda low, high: next(drawn))
    assert free_port() != given


async def test_a_service_answers_on_the_same_port_after_each_start(tmp_path: Path):
    port = free_port()
    service = Service(
        name="listener",
        argv=[sys.executable, "-c", _LISTEN, str(port)],
        ready=answers(port),
        log=tmp_path / "log",
    )
    assert not await answers(port)()
    await service.start()
    first = service.pid
    await service.start()
    assert service.pid == first
    await service.restart()
    assert service.pid != first
    assert not _exists(first)
    assert await answers(port)()
    last = service.pid
    service.kill()
    assert not _exists(last)
    assert not await answers(port)()
    assert not service.running


async def test_a_server_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path):
    with pytest.raises(ServerFailed, match="ended before it answered:\nno such config"):
        await start(
            "broken",
            [sys.executable, "-c", "print('no such config')"],
            ready=_never,
            log=tmp_path / "log",
        )


async def test_a_server_that_never_answers_is_killed(tmp_path: Path):
    with pytest.raises(ServerFailed, match=r"mute did not answer in 3 s"):
        await start(
            "mute",
            ["sh", "-c", "echo $$; exec sleep 60"],
            ready=_never,
            log=tmp_path / "log",
            seconds=3,  # in which a shell has started, however slow the machine
        )
    assert not _exists(int((tmp_path / "log").read_text()))


async def test_a_server_that_ignores_term_is_killed_after_the_grace(tmp_path: Path):
    log = tmp_path / "log"

    async def up() -> bool:
        return log.exists() and "up" in log.read_text()

    server = await start("deaf", [sys.executable, "-c", _DEAF], ready=up, log=log)
    await server.stop(grace=0.2)
    assert server.returncode == -9


async def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path):
    script = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from bridgekit.testing.servers.process import spawn\n"
        "child = spawn('child', ['sleep', '60'], log=Path(sys.argv[1]))\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await parent.communicate()
    child = int(output)
    for _ in range(3000):
        state = Path(f"/proc/{child}/stat")
        # Where nobody reaps orphans the dead child stays as a zombie.
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        await asyncio.sleep(0.02)
    pytest.fail("the child outlived its parent by a minute")


def test_a_program_that_is_nowhere_is_none():
    assert find_program("no-such-program-of-the-lab") is None
    assert find_program("sh") is not None
