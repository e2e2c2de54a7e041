"""A bridge process between a Synapse of its own and an ngircd, and encrypted rooms that are read by matrix-js-sdk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from msgspec import Struct

from bridgekit.admin.api import calls
from bridgekit.cli.asking import token
from bridgekit.config import load
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.store.copy import backup
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import Synapse
from bridgekit.testing.servers.synapse import synapse as run_synapse
from connectors.irc.testing.ngircd import Ngircd
from connectors.irc.testing.person import IrcPerson, irc_person
from tests.scenarios.encryption.js_client import Driver, JsClient, Shown, driver

NETWORK = "plain"
STALLED = """\
import asyncio
import bridgekit.matrix.crypto.incoming as i
async def never(self): await asyncio.Event().wait()
i.Incoming._work = never
"""
"""A bridge that runs this keeps what comes for its devices, and never looks at it."""
_BEFORE_US = "HISTORICAL_MESSAGE_USER_NOT_JOINED"
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Servers and bridge. Names that come out of here are used once."""

    synapse: Synapse
    ngircd: Ngircd
    bridge: BridgeProcess

    def new(self, stem: str) -> str:
        """A name that nobody has yet."""
        return f"{stem}{next(_numbers)}"

    def ghost(self, nick: str) -> str:
        return self.bridge.ghost(NETWORK, nick.lower())

    def count(self, table: str) -> int:
        """How many rows a table of the bridge's database has."""
        with contextlib.closing(sqlite3.connect(self.bridge.folder / "bridge.db")) as database:
            (found,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(found)

    def device(self, user: str) -> str:
        """The device of one of the bridge's users; empty where there is none yet."""
        with contextlib.closing(sqlite3.connect(self.bridge.folder / "bridge.db")) as database:
            found = database.execute("SELECT device FROM our_devices WHERE mxid = ?", (user,)).fetchone()
        return str(found[0]) if found else ""

    def sent_by(self, user: str) -> int:
        """How many messages a ghost has sent with the Megolm sessions that it uses now."""
        with contextlib.closing(sqlite3.connect(self.bridge.folder / "bridge.db")) as database:
            found = database.execute("SELECT sum(sent) FROM megolm_out WHERE sender = ?", (user,)).fetchone()
        return int(found[0] or 0)

    def forget_devices(self, *users: str) -> None:
        """Have the bridge, which is stopped, know nothing of the devices of these of its users; of none: of all."""
        tables = (("our_devices", "mxid"), ("olm", "ours"), ("megolm_out", "sender"))
        with contextlib.closing(sqlite3.connect(self.bridge.folder / "bridge.db")) as database, database:
            for table, column in tables:
                for user in users:
                    database.execute(f"DELETE FROM {table} WHERE {column} = ?", (user,))
                if not users:
                    database.execute(f"DELETE FROM {table}")

    async def master(self, user: str) -> dict[str, Any]:
        """Somebody's master key as the homeserver gives it out."""
        body: dict[str, Any] = {"device_keys": {user: []}}
        found = await self._as_bridge("POST", "/keys/query", body)
        return dict(found["master_keys"][user])

    async def usurp(self, user: str) -> None:
        """Put a foreign identity in the place of one of the bridge's users, as who has stolen its token might."""
        stranger = Machine(Machine.new(PersonId(user), bytes(32)), [], bytes(32))
        await self._as_bridge("POST", f"/keys/device_signing/upload?user_id={user}", stranger.identity())

    async def _as_bridge(self, method: str, path: str, body: dict[str, Any]) -> Any:
        token = self.bridge.config["appservice"]["as_token"]
        return await self.synapse.request(method, f"/_matrix/client/v3{path}", body, token=token)

    async def sign_out(self, user: str) -> None:
        """End the device of one of the bridge's users, as an admin of the homeserver can."""
        await self._as_bridge("DELETE", f"/devices/{self.device(user)}?user_id={quote(user)}", {})

    def remembered(self, *words: str) -> list[str]:
        """Which of these stand in the memory of the homeserver's process, its database's included, just now."""
        pid, left = self.synapse.service.pid, set(words)
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:  # proc(5)
            for line in maps:
                place, modes, *rest = line.split()
                start, end = (int(address, 16) for address in place.split("-"))
                if "w" not in modes or rest[-1].startswith("[v"):
                    continue  # nothing is written there, or it is the kernel's
                memory.seek(start)
                with contextlib.suppress(OSError):  # gone since
                    data = memory.read(end - start)
                    left -= {word for word in left if word.encode() in data}
        return [word for word in words if word not in left]

    def somebody(self, stem: str) -> contextlib.AbstractAsyncContextManager[IrcPerson]:
        """Somebody new on IRC, in no channel."""
        return irc_person(self.ngircd.port, self.new(stem))

    async def where(self, *words: str) -> list[tuple[str, str]]:
        """Where any of these stand in clear: (place, words) over both servers' files, a backup among them, and what the
        bridge answers."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            (self.bridge.folder / "backup.db").unlink()
        await backup(self.bridge.config["store"]["url"], self.bridge.folder / "backup.db")
        for folder in (self.bridge.folder, self.synapse.folder):
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    data = path.read_bytes()
                    found += [(str(path), word) for word in words if word.encode() in data]
        headers = {"Authorization": f"Bearer {token(load(self.bridge.path))}"}
        url = f"http://127.0.0.1:{self.bridge.admin_port}"
        async with aiohttp.ClientSession(url, headers=headers) as session:
            asked = [call.path for call in calls(Struct) if call.method == "GET"]
            for address in ("/metrics", "/health/ready", *(f"/api/v1{path}" for path in asked)):
                async with session.get(address, params={"user": self.bridge.bot}) as answer:
                    assert answer.status in (200, 404), address  # of the bot there is no erasure
                    said = await answer.text()
                found += [(address, word) for word in words if word in said]
        return found

    @contextlib.asynccontextmanager
    async def altered(self, code: str) -> AsyncIterator[None]:
        """The bridge as another process with `code` run before it, until the block ends; then it is as it was."""
        service = self.bridge.service
        real = service.argv
        service.argv = [
            sys.executable,
            "-c",
            f"{code}\nimport sys; from bridgekit.cli import main; sys.exit(main())",
            "run",
            "-c",
            self.bridge.path,
        ]
        try:
            await self.bridge.restart()
            yield
        finally:
            service.argv = real
            await self.bridge.restart()


class Gathering:
    """An encrypted room that is linked to a channel: Alice is in the default mode, Carol excludes insecure devices."""

    def __init__(
        self, lab: Lab, driver: Driver, alice: JsClient, carol: JsClient, room: str, channel: str
    ) -> None:
        self.lab = lab
        self.driver = driver
        self.alice = alice
        self.carol = carol
        self.room = room
        self.channel = channel

    @property
    def readers(self) -> tuple[JsClient, JsClient]:
        return self.alice, self.carol

    async def again(self, who: JsClient) -> JsClient:
        """The same person with the same identity on another device."""
        return await self.driver.login(
            self.lab.synapse, who.account, strict=who.strict, recovery=who.recovery
        )

    @contextlib.asynccontextmanager
    async def on_irc(self, *stems: str) -> AsyncIterator[list[IrcPerson]]:
        """New people in the channel, whose ghosts the readers have met."""
        async with contextlib.AsyncExitStack() as stack:
            people = [await stack.enter_async_context(self.newcomer(stem)) for stem in stems]
            for reader in self.readers:
                await reader.knows(*(self.lab.ghost(person.nick) for person in people), seconds=120)
            yield people

    def newcomer(self, stem: str) -> contextlib.AbstractAsyncContextManager[IrcPerson]:
        """Somebody new in the channel of whom nobody has heard yet."""
        return irc_person(self.lab.ngircd.port, self.lab.new(stem), self.channel)

    async def says_in_clear(self, words: str) -> None:
        """Alice's client, gone wrong, does not encrypt."""
        path = f"/_matrix/client/v3/rooms/{quote(self.room)}/send/m.room.message/clear"
        body = {"msgtype": "m.text", "body": words}
        await self.lab.synapse.request("PUT", path, body, token=self.alice.account.access_token)

    async def everybody_reads(self, *bodies: str, seconds: float = 60) -> None:
        """Both clients read all of these, encrypted and with nothing to warn of."""
        for reader in self.readers:
            shown = await reader.reads(self.room, *bodies, seconds=seconds)
            assert sorted(s.body for s in shown) == sorted(bodies)
            assert [s for s in shown if not s.is_trusted] == []

    async def flaws(self) -> list[Shown]:
        """What either client could not decrypt, got in clear, or warns of, of what the bridge's users said to it."""
        found = [shown for reader in self.readers for shown in await reader.read(self.room)]
        assert found, "nobody has read anything"
        ours = (self.lab.bridge.bot, self.lab.ghost("a").partition("a:")[0])
        bridged = [s for s in found if s.sender.startswith(ours) and s.failure != _BEFORE_US]
        return [s for s in bridged if not s.is_trusted]


@contextlib.asynccontextmanager
async def gathering(lab: Lab, folder: Path, *, after: int = 0) -> AsyncIterator[Gathering]:
    """Two clients, a room and a channel, while the block lasts. `after`: so many messages of the room."""
    async with driver(folder) as process:
        alice = await process.login(lab.synapse, await lab.synapse.register(lab.new("alice")))
        carol = await process.login(lab.synapse, await lab.synapse.register(lab.new("carol")), strict=True)
        channel = f"#{lab.new('secret')}"
        room = await alice.create(lab.bridge.bot, power_level_content_override=_levels(lab))
        await answered(lab, alice, room, "I am a bridge")
        if after:
            await _flood(lab, alice, room, after)
        await alice.say(room, f"!bridge link {NETWORK} {channel}")
        await answered(lab, alice, room, "now linked")
        await alice.say(room, f"!bridge agree {NETWORK} {channel}")
        await answered(lab, alice, room, "has agreed")
        await alice.invite(room, carol.id)
        await carol.join(room)
        yield Gathering(lab, process, alice, carol, room, channel)


async def _flood(lab: Lab, alice: JsClient, room: str, count: int) -> None:
    """Somebody in the room says so many things in clear, 20 of them at once, while Alice sleeps."""
    dave = await lab.synapse.register(lab.new("dave"))
    await alice.invite(room, dave.user_id)
    path = f"/_matrix/client/v3/rooms/{quote(room)}"
    await lab.synapse.request("POST", f"{path}/join", {}, token=dave.access_token)

    async def chatter(numbers: Iterator[int]) -> None:
        for number in numbers:
            body = {"msgtype": "m.text", "body": f"{number} of {count}"}
            await lab.synapse.request(
                "PUT", f"{path}/send/m.room.message/flood{number}", body, token=dave.access_token
            )

    numbers = iter(range(count))
    await alice.sleep()
    await asyncio.gather(*(chatter(numbers) for _ in range(20)))
    await alice.wake()


def _levels(lab: Lab) -> dict[str, Any]:
    return {"users": {lab.bridge.bot: 100}}  # its maker stands above (room version 12)


async def answered(lab: Lab, who: JsClient, room: str, words: str) -> Shown:
    """What the bot said with these words in it."""
    found = await who.until(
        room,
        lambda shown: [s for s in shown if s.sender == lab.bridge.bot and words in s.body],
        bool,
    )
    return found[0]


@contextlib.asynccontextmanager
async def laboratory(ngircd: Ngircd) -> AsyncIterator[Lab]:
    """The bridge on both, while the block lasts."""
    async with run_synapse(server_name="secret.test") as synapse:
        with private_directory("encryption") as folder:
            bridge = BridgeProcess(
                folder,
                homeserver_url=synapse.base_url,
                server_name=synapse.server_name,
                networks={NETWORK: _network(ngircd)},
                permissions={synapse.server_name: "admin"},
            )
            await synapse.add_appservice(bridge.registration)
            await bridge.start()
            try:
                yield Lab(synapse=synapse, ngircd=ngircd, bridge=bridge)
            finally:
                await bridge.stop()


def _network(server: Ngircd) -> dict[str, Any]:
    return {
        "connector": "irc",
        "consent": "off",  # all channels here are our own
        "direct": "anyone",
        "name": "Plain",
        "nick": "secretbridge",
        "servers": [{"host": "127.0.0.1", "port": server.port, "tls": False}],
        "max_lines": 12,
        "flood": {"refill": 0, "lead_max": 0},  # a server of our own
        "puppets": {"connects_per_second": 50},
    }
