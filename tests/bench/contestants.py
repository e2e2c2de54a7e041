"""Who is measured: our bridge as `bridgekit run`, and the bare loop; each a process with one channel and one room."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from bridgekit.testing.servers.process import ServerProcess, free_port, spawn
from tests.bench import bare
from tests.bridge_process import BridgeProcess
from tests.runtime.running import SERVER

_TICKS = os.sysconf("SC_CLK_TCK")


class Contestant(Protocol):
    """One process between a homeserver and an ircd."""

    name: str
    port: int

    def configure(self, homeserver: str, irc_port: int, channel: str, room: str) -> None:
        """Say where everything is."""
        ...

    def launch(self) -> None:
        """Start the process and wait for nothing."""
        ...

    @property
    def pid(self) -> int: ...

    async def waiting(self) -> int:
        """How many messages it has accepted and not finished."""
        ...

    async def stop(self) -> None: ...

    def tail(self) -> str:
        """The end of its log."""
        ...


class Ours:
    """`bridgekit run` on SQLite, with its defaults save for flood control."""

    name = "bridgekit"

    def __init__(self, folder: Path) -> None:
        self._bridge = BridgeProcess(folder)
        self.port = self._bridge.port

    def configure(self, homeserver: str, irc_port: int, channel: str, room: str) -> None:
        network = {
            "connector": "irc",
            "consent": "off",  # all channels here are our own
            "servers": [{"host": "127.0.0.1", "port": irc_port, "tls": False}],
            "nick": "bridge",
            "flood": {"burst": 1000, "refill": 0, "lead_max": 0},
            "links": [{"chat": channel, "room": room}],
        }
        self._bridge.configure(homeserver, {"net": network})

    def launch(self) -> None:
        self._bridge.launch()

    @property
    def pid(self) -> int:
        return self._bridge.pid

    async def waiting(self) -> int:
        url = f"http://127.0.0.1:{self._bridge.admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            for line in (await response.text()).splitlines():
                if line.startswith('bridgekit_inbox_rows{state="pending"}'):
                    return int(float(line.split()[-1]))
        return 0

    async def stop(self) -> None:
        await self._bridge.stop()

    def tail(self) -> str:
        return self._bridge.tail()


class Loop:
    """The bare loop."""

    name = "bare loop"

    def __init__(self, folder: Path, *, strict: bool = False) -> None:
        self._folder = folder
        self._strict = strict
        self.port = free_port()
        self._process: ServerProcess | None = None

    def configure(self, homeserver: str, irc_port: int, channel: str, room: str) -> None:
        config = bare.Config(
            homeserver=homeserver,
            server_name=SERVER,
            port=self.port,
            irc_port=irc_port,
            channel=channel,
            room=room,
            strict=self._strict,
        )
        (self._folder / "bare.json").write_bytes(msgspec.json.encode(config))

    def launch(self) -> None:
        words: list[str | Path] = [sys.executable, "-m", "tests.bench.bare", self._folder / "bare.json"]
        self._process = spawn("bare", words, log=self._folder / "bare.log")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the bare loop is not started")
        return self._process.pid

    async def waiting(self) -> int:
        return 0

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()

    def tail(self) -> str:
        return self._process.log_tail() if self._process is not None else ""


def cpu(pid: int) -> float:
    """User and system seconds of a process so far (proc(5), /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> float:
    """MB (10^6 bytes) that a process holds now (proc(5), VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError("VmRSS")


class Machine(msgspec.Struct, frozen=True):
    """All cores together since they were started, in seconds (proc(5), /proc/stat)."""

    total: float
    busy: float
    stolen: float  # by the host, from this machine

    @classmethod
    def now(cls) -> Machine:
        """As it stands."""
        fields = [int(f) / _TICKS for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        user, nice, system, _idle, _iowait, irq, softirq, stolen = fields
        return cls(sum(fields), user + nice + system + irq + softirq, stolen)
