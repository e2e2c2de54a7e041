"""A whole bridge over the fake homeserver and the echo network, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridgekit.config import Config
from bridgekit.contract.connector import Connector
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import FakeHomeserver
from bridgekit.testing.servers.process import free_port
from connectors.echo.connector import EchoConfig
from connectors.echo.connector import connector as echo

SERVER = "hs.test"
BOT = f"@bridgebot:{SERVER}"


def registration(port: int) -> dict[str, Any]:
    """What the fake homeserver is told of the bridge."""
    return {
        "id": "bridgekit",
        "url": f"http://127.0.0.1:{port}",
        "as_token": "as-secret",
        "hs_token": "hs-secret",
        "sender_localpart": "bridgebot",
        "rate_limited": False,
        "receive_ephemeral": True,
        "namespaces": {
            "users": [{"exclusive": True, "regex": "@_bk_.*:hs\\.test"}],
            "aliases": [{"exclusive": True, "regex": "#_bk_.*:hs\\.test"}],
            "rooms": [],
        },
    }


def config(folder: Path, homeserver: str, port: int, networks: Mapping[str, Any], **more: Any) -> Config:
    """A config as the loader would make it, with one admin called alice."""
    return Config.model_validate(
        {
            "homeserver": {"url": homeserver, "server_name": SERVER},
            "appservice": {"listen": f"127.0.0.1:{port}", "as_token": "as-secret", "hs_token": "hs-secret"},
            "admin": {"listen": "127.0.0.1:0"},
            "store": {"url": f"sqlite:///{folder}/bridge.db", "key_file": str(folder / "bridge.key")},
            "permissions": {f"@alice:{SERVER}": "admin", SERVER: "user", "*": "relay"},
            "networks": dict(networks),
            **more,
        }
    )


class World:
    """One homeserver and one bridge on it, which can be stopped and started again."""

    def __init__(self, folder: Path, homeserver: FakeHomeserver, port: int) -> None:
        self.folder = folder
        self.homeserver = homeserver
        self.port = port
        self.networks: dict[str, Any] = {"echo": {"connector": "echo", "config": EchoConfig()}}
        self.connectors: dict[str, Connector] = {"echo": echo}
        self.more: dict[str, Any] = {}

    def bridge(self) -> Bridge:
        """A bridge that is not started yet."""
        return Bridge(
            config(self.folder, self.homeserver.url, self.port, self.networks, **self.more), self.connectors
        )


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """A fake homeserver that knows a bridge."""
    port = free_port()
    async with FakeHomeserver(registration(port)) as homeserver:
        yield World(folder, homeserver, port)
