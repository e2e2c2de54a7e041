"""A Synapse, a bridge on it with a town, and people with encrypted rooms."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bridgekit.cli.registering import document
from bridgekit.config import Config
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.fetch import fetch_remote
from bridgekit.matrix.registration import write
from bridgekit.runtime.bridge import Bridge
from bridgekit.testing.nio_client import NioClient
from bridgekit.testing.servers.process import free_port
from bridgekit.testing.servers.synapse import Account, Synapse
from tests.runtime.fake_network import Town, TownConfig, TownConnector
from tests.runtime.running import until


class Home:
    """One registration on a Synapse, and the accounts of its people; bridges come and go."""

    def __init__(self, synapse: Synapse, folder: Path, config: Config, accounts: dict[str, Account]) -> None:
        self.synapse = synapse
        self.folder = folder
        self.config = config
        self.accounts = accounts
        self.town = Town()
        self.bot = f"@{config.appservice.bot}:{synapse.server_name}"

    def ghost(self, name: str) -> str:
        return f"@{self.config.appservice.prefix}town_{name}:{self.synapse.server_name}"

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[Bridge]:
        """The bridge, until the block ends; its town is connected."""
        fetch = partial(fetch_remote, allow_private=True)
        async with Bridge(self.config, {"town": TownConnector(self.town)}, fetch=fetch) as bridge:
            await until(lambda: None in self.town.sessions, 60)
            engine = bridge.engine
            await until(lambda: engine.machines.is_ready(bridge.bot), 60)
            yield bridge

    async def knows(self, bridge: Bridge, person: NioClient) -> None:
        """Return when the news of somebody's device, and of its signature, have come to the bridge."""
        async with asyncio.timeout(60):
            while True:
                known = await bridge.engine.tracking.of([PersonId(person.id)])
                device = known[PersonId(person.id)].devices.get(person.client.device_id)
                if device is not None and device.cross_signed:
                    return
                await asyncio.sleep(0.1)

    async def invited(self, alice: NioClient, seconds: float = 60) -> str:
        """The room that the bot asks Alice into, once it does. Raises AssertionError."""
        await alice.until(lambda: alice.client.invited_rooms, seconds)
        return str(next(iter(alice.client.invited_rooms)))

    async def linked(self, alice: NioClient, chat: str = "#talk", **options: Any) -> str:
        """An encrypted room of Alice's that is linked to a chat."""
        return await linked(alice, self.bot, "town", chat, **options)


async def linked(alice: NioClient, bot: str, network: str, chat: str, **options: Any) -> str:
    """An encrypted room of Alice's that is linked to a chat, and she has agreed."""
    room = await alice.encrypted_room(bot, **options)
    await alice.until(lambda: any("I am a bridge" in body for body in alice.said_by(room, bot)))
    await alice.call(
        "PUT",
        f"/rooms/{room}/state/m.room.power_levels/",
        {"users": {bot: 100}},  # its maker stands above (room version 12)
    )
    await alice.say(room, f"!bridge link {network} {chat}")
    await alice.until(lambda: any("now linked" in body for body in alice.said_by(room, bot)))
    await alice.say(room, f"!bridge agree {network} {chat}")
    await alice.until(lambda: any("has agreed" in body for body in alice.said_by(room, bot)))
    return room


async def home(
    synapse: Synapse, folder: Path, *people: str, double_puppets: bool = False, **more: Any
) -> Home:
    """A registration that the homeserver knows, and accounts; the first person is the bridge's admin."""
    mark, port = secrets.token_hex(4), free_port()
    accounts = {name: await synapse.register(f"{name}{mark}") for name in people}
    config = Config.model_validate(
        {
            "homeserver": {"url": synapse.base_url, "server_name": synapse.server_name},
            "appservice": {
                "listen": f"127.0.0.1:{port}",
                "id": f"secret{mark}",
                "bot": f"bot{mark}",
                "prefix": f"_t{mark}_",
                "as_token": f"as{mark}",
                "hs_token": f"hs{mark}",
                "double_puppets": double_puppets,
            },
            "admin": {"listen": "127.0.0.1:0"},
            "store": {"url": f"sqlite:///{folder}/bridge.db", "key_file": str(folder / "bridge.key")},
            "permissions": {accounts[people[0]].user_id: "admin", "*": "user"},
            "networks": {
                "town": {"connector": "town", "config": TownConfig(), "name": "Town", "consent": "off"}
            },
            **more,
        }
    )
    write(document(config), folder / "registration.yaml")
    await synapse.add_appservice(folder / "registration.yaml")
    return Home(synapse, folder, config, accounts)
