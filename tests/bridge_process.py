"""`bridgekit run` as a child process between other processes: written a config, started, killed, started again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bridgekit.testing.servers.process import ServerFailed, ServerProcess, answers, free_port, spawn
from tests.runtime.running import SERVER, registration

_CODE = "import sys; from bridgekit.cli import main; sys.exit(main())"
_TICKS = os.sysconf("SC_CLK_TCK")


class BridgeProcess:
    """One bridge: its config, and the process while there is one. Every start is a new process on the old state.

    `networks` is the config's section of that name; `store` a database URL, an SQLite file in `folder` where it is
    not given; `more` are further sections. `registration` is what the homeserver must be told.
    """

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.admin_port = free_port()
        self.config = folder / "config.yaml"
        self.log = folder / "bridge.log"
        self.registration = registration(self.port)
        self.process: ServerProcess | None = None
        self.starts = 0

    def configure(
        self, homeserver: str, networks: Mapping[str, Any], *, store: str | None = None, **more: Any
    ) -> None:
        """Write the config file."""
        config = {
            "homeserver": {"url": homeserver, "server_name": SERVER},
            "appservice": {
                "listen": f"127.0.0.1:{self.port}",
                "as_token": self.registration["as_token"],
                "hs_token": self.registration["hs_token"],
            },
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "store": {"url": store or "sqlite:///bridge.db", "key_file": "bridge.key"},
            "permissions": {f"@alice:{SERVER}": "admin", SERVER: "user", "*": "relay"},
            "log": {"level": "info", "format": "json"},
            "networks": dict(networks),
            **more,
        }
        self.config.write_bytes(msgspec.json.format(msgspec.json.encode(config)))  # JSON is YAML

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError while there is none."""
        if self.process is None:
            raise RuntimeError("the bridge is not started")
        return self.process.pid

    def launch(self) -> None:
        """Start the process and wait for nothing."""
        self.starts += 1
        self.process = spawn(
            "bridgekit",
            [sys.executable, "-c", _CODE, "run", "-c", self.config],
            log=self.log,
            cwd=self.folder,
        )

    async def listening(self, seconds: float = 90) -> None:
        """Return once it takes the homeserver's transactions. Raises ServerFailed."""
        probe = answers(self.port)
        try:
            async with asyncio.timeout(seconds):
                while not await probe():
                    if self.process is None or not self.process.running:
                        raise ServerFailed(f"the bridge ended:\n{self.tail()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerFailed(f"the bridge did not listen within {seconds:g} s:\n{self.tail()}") from None

    async def start(self, seconds: float = 90) -> None:
        """`launch`, and return once it listens."""
        self.launch()
        await self.listening(seconds)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to write anything."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    async def stop(self) -> int | None:
        """SIGTERM; the exit status, None where nothing ran."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        await process.stop(grace=20)
        return process.returncode

    def cpu(self) -> float:
        """User and system seconds of the process so far (proc(5), /proc/PID/stat)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes of `VmRSS`, or `VmHWM` for the most that it ever was (proc(5), /proc/PID/status)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
        raise KeyError(what)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What it logged, over all its lives; those called `name`, if given. Lines that are no JSON are left out."""
        found = []
        for line in self.log.read_bytes().splitlines() if self.log.exists() else ():
            try:
                said = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
            if isinstance(said, dict) and name in ("", said.get("event")):
                found.append(said)
        return found

    def tail(self, characters: int = 3000) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""
