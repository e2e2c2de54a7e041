"""The bridge itself as a server of the lab: `bridgekit run` in a process of its own, on SQLite."""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from bridgekit.cli.registering import document
from bridgekit.config import load
from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.core.ghosts import Namespace
from bridgekit.matrix import registration
from bridgekit.testing.servers.process import Service, free_port

_RUN = "import sys; from bridgekit.cli import main; sys.exit(main())"
_LOOPBACK = "import bridgekit.matrix.fetch as fetch; fetch.is_public = lambda address: True; "
"""This machine counts as the Internet where strangers' files are fetched."""


class BridgeProcess:
    """A bridge in a folder of its own: config, registration, key, database and log. Stopping and starting keeps all.

    `networks` is that part of the config; `more` are other sections. The public address is the bridge's own
    listener, so links to files work on this machine. With `loopback_certificate` files are fetched from this machine
    too, from servers that show that certificate. `prelude` is Python that the process runs before anything else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        homeserver_url: str,
        server_name: str,
        networks: Mapping[str, Any],
        permissions: Mapping[str, str],
        loopback_certificate: Path | None = None,
        prelude: str = "",
        **more: Any,
    ) -> None:
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        self.bot = f"@bridgebot:{server_name}"
        self.config = {
            "homeserver": {"url": homeserver_url, "server_name": server_name},
            "appservice": {
                "listen": f"127.0.0.1:{self.port}",
                "as_token": secrets.token_hex(32),
                "hs_token": secrets.token_hex(32),
            },
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "store": {"url": f"sqlite:///{folder}/bridge.db", "key_file": str(folder / "bridge.key")},
            "public": {"url": f"http://127.0.0.1:{self.port}"},
            "permissions": dict(permissions),
            "log": {"format": "json"},
            "networks": dict(networks),
            **more,
        }
        self.path = folder / "config.yaml"
        self.registration = folder / "registration.yaml"
        self.path.write_text(json.dumps(self.config, indent=2))  # JSON is YAML
        registration.write(document(load(self.path)), self.registration)
        self.log = folder / "bridge.log"
        near = loopback_certificate
        program = (f"{prelude}; " if prelude else "") + (_LOOPBACK if near else "") + _RUN
        self.service = Service(
            name="bridgekit",
            argv=[sys.executable, "-c", program, "run", "-c", self.path],
            ready=self.is_ready,
            log=self.log,
            seconds=90,  # on a machine that does much else
            cwd=folder,
            env={**os.environ, "SSL_CERT_FILE": str(near)} if near else None,
        )

    async def start(self) -> None:
        """Start and return once it is ready: the homeserver and every network answer. Raises ServerFailed."""
        await self.service.start()

    async def stop(self) -> None:
        """End it in good order."""
        await self.service.stop()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.service.kill()

    async def restart(self) -> None:
        await self.service.restart()

    async def is_ready(self) -> bool:
        """Whether the homeserver and every network answer; the bridge calls itself ready without the latter."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.admin_port}/health/ready") as response,
            ):
                parts = (await response.json())["parts"]
                return all(part["ok"] for part in parts.values())
        except aiohttp.ClientError:
            return False

    def ghost(self, network: str, person: str) -> str:
        """The user id of somebody on a network."""
        server = self.bot.partition(":")[2]
        return str(Namespace("_bk_", server).mxid(NetworkId(network), PersonId(person)))

    def complaints(self) -> list[dict[str, Any]]:
        """What it logged as a warning or worse."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines() if self.log.exists() else []:
            said = json.loads(line) if line.startswith("{") else {"level": "error", "event": line}
            if said.get("level") not in ("debug", "info"):
                found.append(said)
        return found

    @property
    def left_behind(self) -> int:
        """How many events the homeserver had left behind, so that the bridge took them out of their rooms, and late."""
        return sum(said["taken_in"] for said in self.complaints() if said["event"] == "events_overdue")
