"""The Matrix shell against a real Synapse: registration, ping, transactions, sends that survive a restart, files."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.appservice import Appservice, Encryption, RawEvent
from bridgekit.matrix.check import check_homeserver
from bridgekit.matrix.client import MatrixClient
from bridgekit.matrix.registration import Document, build, write
from bridgekit.matrix.sending import SOURCE
from bridgekit.testing.servers.process import free_port
from bridgekit.testing.servers.synapse import Synapse
from tests.matrix.test_appservice import Desk

PREFIX = "_shell_"


class Recorder(Desk):
    """Keeps whole events, and makes whatever portal is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.client: MatrixClient | None = None

    async def accept(self, txn: str, events: list[RawEvent], encryption: Encryption) -> None:
        await super().accept(txn, events, encryption)
        self.events += [msgspec.json.decode(event.raw) for event in events]

    async def has_alias(self, alias: str) -> bool:
        assert self.client is not None
        localpart = alias[1:].partition(":")[0]
        await self.client.create_room(preset="public_chat", room_alias_name=localpart)
        return True


@contextlib.asynccontextmanager
async def shell(synapse: Synapse, folder: Path) -> AsyncIterator[tuple[MatrixClient, Recorder, Document]]:
    """A listener that the homeserver knows, and a client."""
    desk = Recorder()
    token = secrets.token_hex(8)
    app = web.Application()
    app.add_routes(Appservice(f"hs{token}", desk).routes())
    port = free_port()
    document = build(
        id=f"shell{token}",
        url=f"http://127.0.0.1:{port}",
        as_token=f"as{token}",
        hs_token=f"hs{token}",
        sender_localpart="shellbot",
        server_name=synapse.server_name,
        prefix=PREFIX,
        protocols=("testnet",),
    )
    path = folder / "registration.yaml"
    write(document, path)
    bot = PersonId(f"@shellbot:{synapse.server_name}")
    async with (
        TestServer(app, port=port),
        MatrixClient(synapse.base_url, f"as{token}", bot=bot, backoff=(0.1, 0.5)) as client,
    ):
        desk.client = client
        await synapse.add_appservice(path)
        yield client, desk, document


async def until(desk: Recorder, wanted: str) -> dict[str, Any]:
    """The event with this body, once it was delivered."""
    async with asyncio.timeout(60):
        while True:
            for event in desk.events:
                if event["content"].get("body") == wanted:
                    return event
            await asyncio.sleep(0.05)


async def typing(desk: Recorder) -> None:
    """Wait until somebody was seen typing."""
    async with asyncio.timeout(60):
        while True:
            if any(msgspec.json.decode(raw)["type"] == "m.typing" for raw in desk.fleeting):
                return
            await asyncio.sleep(0.05)


async def test_the_shell_on_a_real_homeserver(synapse: Synapse, tmp_path: Path) -> None:
    async with MatrixClient(synapse.base_url, "nonsense", bot=PersonId("@shellbot:hs.test")) as stranger:
        (problem,) = await check_homeserver(stranger, {"id": "x", "url": None})
        assert "app_service_config_files" in problem
    async with shell(synapse, tmp_path) as (client, desk, document):
        assert await check_homeserver(client, document) == []
        assert desk.pings == ["bridgekit-check"]

        # A portal made by alias, a ghost with a name and a picture, and a person who talks to it.
        alice = await synapse.register(f"alice{secrets.token_hex(4)}")
        alias = f"#{PREFIX}chan:{synapse.server_name}"
        joined = await synapse.request(
            "POST", f"/_matrix/client/v3/join/{alias.replace('#', '%23')}", {}, token=alice.access_token
        )
        room = ChatId(joined["room_id"])
        assert await client.resolve_alias(alias) == (room, [synapse.server_name])
        ghost = PersonId(f"@{PREFIX}anna=2f:{synapse.server_name}")
        await client.register(f"{PREFIX}anna=2f")
        await client.register(f"{PREFIX}anna=2f")
        await client.join(room, user=ghost)
        picture = await client.upload(b"\x89PNG\r\n\x1a\n" + b"x" * 300_000, "image/png", "ä.png", user=ghost)
        await client.set_displayname("Anna", user=ghost)
        await client.set_avatar_url(picture, user=ghost)
        assert await client.profile(ghost) == {"displayname": "Anna", "avatar_url": picture}
        async with client.download(picture) as file:
            assert (file.mime, file.size) == ("image/png", 300_008)
            assert len(b"".join([piece async for piece in file.chunks()])) == 300_008

        # A message that bears the time at which it was said, and one whose fate a restart leaves unknown.
        content = {"msgtype": "m.text", "body": "from far away", SOURCE: "net #chan 1"}
        sent = await client.send(
            room,
            "m.room.message",
            content,
            txn="net/#chan/1",
            user=ghost,
            at=1_600_000_000_000,
            source="net #chan 1",
        )
        arrived = await until(desk, "from far away")
        assert (arrived["event_id"], arrived["sender"], arrived["origin_server_ts"]) == (
            sent,
            ghost,
            1_600_000_000_000,
        )
        await synapse.restart()  # it forgets its transaction ids
        again = await client.send(
            room,
            "m.room.message",
            content,
            txn="net/#chan/1",
            user=ghost,
            source="net #chan 1",
            recovering=True,
        )
        assert again == sent

        # An outage under a send: it waits, and it is there once.
        synapse.kill()
        content = {"msgtype": "m.text", "body": "through the outage", SOURCE: "net #chan 2"}
        sending = asyncio.create_task(
            client.send(room, "m.room.message", content, txn="net/#chan/2", user=ghost, source="net #chan 2")
        )
        await asyncio.sleep(0.3)
        assert not client.available
        await synapse.start()
        sent = await sending
        assert (await until(desk, "through the outage"))["event_id"] == sent

        # The other way: what a person says, in order, and that they type.
        await client.ping(document["id"])
        base = f"/_matrix/client/v3/rooms/{room}"
        for n in range(5):
            await synapse.request(
                "PUT",
                f"{base}/send/m.room.message/a{n}",
                {"msgtype": "m.text", "body": f"{n}"},
                token=alice.access_token,
            )
        await synapse.request(
            "PUT",
            f"{base}/typing/{alice.user_id}",
            {"typing": True, "timeout": 5000},
            token=alice.access_token,
        )
        await until(desk, "4")
        said = [
            event["content"]["body"]
            for event in desk.events
            if event["sender"] == alice.user_id and "body" in event["content"]
        ]
        assert said == ["0", "1", "2", "3", "4"]
        await typing(desk)
        assert desk.parked == []
