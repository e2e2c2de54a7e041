"""A whole bridge over the fake homeserver, for tests: on the echo network, or on a town that the test holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from bridgekit.admin.server import serve
from bridgekit.config import Address, Config
from bridgekit.contract.connector import Connector
from bridgekit.matrix.fetch import fetch_remote
from bridgekit.matrix.files import Fetch
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.homeserver import Event, FakeHomeserver, Human
from bridgekit.testing.servers.process import free_port
from connectors.echo.connector import EchoConfig
from connectors.echo.connector import connector as echo
from tests.runtime.fake_network import Town, TownConfig, TownConnector

SERVER = "hs.test"
BOT = f"@bridgebot:{SERVER}"
ECHO = f"@_bk_echo_echo:{SERVER}"
STATUS = "com.beeper.message_send_status"


def registration(port: int, *, everybody: bool = False) -> dict[str, Any]:
    """What the fake homeserver is told of the bridge; `everybody`: that it may act as any user."""
    users = [{"exclusive": True, "regex": "@_bk_.*:hs\\.test"}]
    if everybody:
        users.append({"exclusive": False, "regex": "@.*:hs\\.test"})
    return {
        "id": "bridgekit",
        "url": f"http://127.0.0.1:{port}",
        "as_token": "as-secret",
        "hs_token": "hs-secret",
        "sender_localpart": "bridgebot",
        "rate_limited": False,
        "receive_ephemeral": True,
        "org.matrix.msc3202": True,
        "io.element.msc4190": True,
        "namespaces": {
            "users": users,
            "aliases": [{"exclusive": True, "regex": "#_bk_.*:hs\\.test"}],
            "rooms": [],
        },
    }


def config(
    folder: Path,
    homeserver: str,
    port: int,
    networks: Mapping[str, Any],
    *,
    double_puppets: bool = False,
    bot: str = "bridgebot",
    **more: Any,
) -> Config:
    """A config as the loader would make it, with one admin called alice."""
    return Config.model_validate(
        {
            "homeserver": {"url": homeserver, "server_name": SERVER},
            "appservice": {
                "listen": f"127.0.0.1:{port}",
                "as_token": "as-secret",
                "hs_token": "hs-secret",
                "double_puppets": double_puppets,
                "bot": bot,
            },
            "admin": {"listen": "127.0.0.1:0"},
            "store": {"url": f"sqlite:///{folder}/bridge.db", "key_file": str(folder / "bridge.key")},
            "permissions": {f"@alice:{SERVER}": "admin", SERVER: "user", "*": "relay"},
            "networks": {id: {"consent": "off", **section} for id, section in networks.items()},
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
        self.fetch: Fetch = partial(
            fetch_remote, allow_private=True
        )  # files of this machine are no danger here

    def bridge(self) -> Bridge:
        """A bridge that is not started yet."""
        return Bridge(self.config(), self.connectors, fetch=self.fetch)

    def config(self) -> Config:
        """What the config file would say now."""
        return config(self.folder, self.homeserver.url, self.port, self.networks, **self.more)


@asynccontextmanager
async def world(folder: Path, *, double_puppets: bool = False) -> AsyncIterator[World]:
    """A fake homeserver that knows a bridge."""
    port = free_port()
    async with FakeHomeserver(registration(port, everybody=double_puppets)) as homeserver:
        place = World(folder, homeserver, port)
        place.more["double_puppets"] = double_puppets
        yield place


def ghost(name: str, network: str = "town") -> str:
    """The user id of somebody's ghost."""
    return f"@_bk_{network}_{name}:{SERVER}"


def townsfolk(place: World, town: Town, **section: Any) -> World:
    """The same world, with a town instead of the echo network."""
    place.networks = {"town": {"connector": "town", "config": TownConfig(), "name": "Town", **section}}
    place.connectors = {"town": TownConnector(town)}
    return place


@asynccontextmanager
async def town_world(
    folder: Path, town: Town, *, double_puppets: bool = False, **section: Any
) -> AsyncIterator[World]:
    """A fake homeserver that knows a bridge, which knows a town."""
    async with world(folder, double_puppets=double_puppets) as place:
        yield townsfolk(place, town, **section)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@asynccontextmanager
async def web_server(folder: Path, **more: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """The files of some other server, `more` by name: its address, and the paths that it was asked for."""
    files = more | {
        "face.png": PNG,
        "cat.png": PNG,
        "note.txt": b"hello",
        "large.bin": bytes(60 * 1024 * 1024),
    }
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        found = files.get(request.path[1:])
        return web.Response(body=found, status=200 if found is not None else 404)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    async with serve(app, Address("127.0.0.1", 0)) as address:
        yield f"http://{address}", asked


# What people do, and what is seen of it ----------------------------------------------------------------------


async def invited(place: World, alice: Human, power: int = 100) -> str:
    """A room of Alice's with the bot in it, as one of its admins unless it has less power."""
    room = await alice.create_room(preset="public_chat", invite=[BOT])
    await place.homeserver.wait_for(
        lambda e: e.room_id == room and e.state_key == BOT and e.content.get("membership") == "join"
    )
    await alice.set_power(room, BOT, power)
    return room


async def linked(
    place: World, chat: str = "#talk", network: str = "", *, power: int = 100
) -> tuple[Human, str]:
    """A room of Alice's that is linked to a chat."""
    alice = place.homeserver.user("alice")
    room = await invited(place, alice, power)
    network = network or next(iter(place.networks))
    await alice.send(room, f"!bridge link {network} {chat}")
    await said(place, lambda e: e.room_id == room and e.sender == BOT and "now linked" in e.body)
    return alice, room


async def said(place: World, wanted: Callable[[Event], bool], seconds: float = 60) -> Event:
    return await place.homeserver.wait_for(wanted, seconds)


async def until(holds: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is looked at has no event of its own
            await asyncio.sleep(0.02)


async def emptied(bridge: Bridge) -> None:
    """Return once all that came in has its fate, on disk too."""
    async with asyncio.timeout(60):
        while await bridge.store.inbox.count():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


def is_echo(body: str) -> Callable[[Event], bool]:
    return lambda e: e.sender.startswith("@_bk_") and e.body == body


def has_fate(event: str) -> Callable[[Event], bool]:
    return lambda e: is_about(event)(e) and e.content["status"] != "PENDING"


def is_about(event: str) -> Callable[[Event], bool]:
    """Any status of a message, also one that is no fate yet."""
    return lambda e: e.type == STATUS and e.content["m.relates_to"]["event_id"] == event


def by(sender: str, words: str) -> Callable[[Event], bool]:
    """A message of `sender` in which `words` stand."""
    return lambda e: e.type == "m.room.message" and e.sender == sender and words in e.body


def membership(user: str, what: str) -> Callable[[Event], bool]:
    """Somebody's membership becomes `what`."""
    return lambda e: e.state_key == user and e.content.get("membership") == what
