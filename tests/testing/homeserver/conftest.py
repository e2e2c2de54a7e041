"""A fake homeserver, an appservice that keeps what it is told, and a client of the ordinary kind (aiohttp)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from bridgekit.testing.homeserver import FakeHomeserver, Namespace, Namespaces, Registration

Json = dict[str, Any]


class Appservice:
    """Keeps every request of the homeserver; `status` is what it answers to transactions."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.transactions: list[tuple[str, Json]] = []
        self.refused: list[str] = []
        self.has_refused = asyncio.Event()
        self.tokens: set[str] = set()
        self.asked: list[str] = []
        self.pings: list[Json] = []
        self.on_alias: Callable[[str], Awaitable[bool]] | None = None
        self.slowness = 0.0
        self.most_at_once = 0
        self._at_once = 0

    @property
    def events(self) -> list[Json]:
        return [event for _, body in self.transactions for event in body["events"]]

    @property
    def ephemeral(self) -> list[Json]:
        return [edu for _, body in self.transactions for edu in body.get("ephemeral", [])]

    def texts(self) -> list[str]:
        return [event["content"]["body"] for event in self.events if event["type"] == "m.room.message"]

    async def transaction(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers["Authorization"])
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(self.slowness)
        self._at_once -= 1
        if self.status != 200:
            self.refused.append(request.match_info["txn"])
            self.has_refused.set()
            return web.json_response({}, status=self.status)
        self.transactions.append((request.match_info["txn"], await request.json()))
        return web.json_response({})

    async def ping(self, request: web.Request) -> web.Response:
        self.pings.append(await request.json())
        return web.json_response({})

    async def alias(self, request: web.Request) -> web.Response:
        alias = request.match_info["alias"]
        self.asked.append(alias)
        known = self.on_alias is not None and await self.on_alias(alias)
        return web.json_response({}, status=200 if known else 404)

    async def user(self, request: web.Request) -> web.Response:
        self.asked.append(request.match_info["user"])
        return web.json_response({}, status=404)


@pytest.fixture
async def appservice() -> AsyncIterator[Appservice]:
    kept = Appservice()
    app = web.Application()
    app.router.add_put("/_matrix/app/v1/transactions/{txn}", kept.transaction)
    app.router.add_post("/_matrix/app/v1/ping", kept.ping)
    app.router.add_get("/_matrix/app/v1/rooms/{alias}", kept.alias)
    app.router.add_get("/_matrix/app/v1/users/{user}", kept.user)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield kept
    await runner.cleanup()


@pytest.fixture
def registration(appservice: Appservice) -> Registration:
    return Registration(
        id="bridge",
        url=appservice.url,
        as_token="as-token",
        hs_token="hs-token",
        sender_localpart="bridgebot",
        namespaces=Namespaces(
            users=(Namespace(regex="@_bk_.*:hs.test"), Namespace(regex="@alice:hs.test", exclusive=False)),
            aliases=(Namespace(regex="#_bk_.*:hs.test"),),
        ),
        receive_ephemeral=True,
    )


@pytest.fixture
async def hs(registration: Registration) -> AsyncIterator[FakeHomeserver]:
    async with FakeHomeserver(registration, retry=(0.01, 0.05)) as running:
        yield running
        assert running.unknown_calls == []


FELT = 2
"""How many lost PUTs a caller of aiohttp feels as one: it repeats the first by itself."""


class Client:
    """The appservice's client: `await api("PUT", "rooms/!x/send/m.room.message/1", {...}, user="@_bk_a:hs.test")`."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str | None = None,
        token: str | None = "as-token",
        expect: int = 200,
        **query: str,
    ) -> Any:
        """Make a call; assert its status; return its JSON."""
        if user is not None:
            query["user_id"] = user
        url = f"{self._base}{path}" if path.startswith("/") else f"{self._base}/_matrix/client/v3/{path}"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self._session.request(method, url, json=body, headers=headers, params=query) as response:
            answer = await response.json()
            assert response.status == expect, answer
            return answer

    async def refused(self, errcode: str, method: str, path: str, body: Any = None, **more: Any) -> Json:
        """Make a call that must fail with this code; return the error's JSON."""
        answer: Json = await self(method, path, body, **more)
        assert answer["errcode"] == errcode
        return answer

    async def ghost(self, name: str) -> str:
        """Register a ghost; return its id."""
        body = {"type": "m.login.application_service", "username": f"_bk_{name}", "inhibit_login": True}
        return str((await self("POST", "register", body))["user_id"])

    async def send(self, room: str, text: str, txn: str, *, user: str | None = None, **more: Any) -> Any:
        """Send a text."""
        path = f"rooms/{quote(room)}/send/m.room.message/{txn}"
        return await self("PUT", path, {"msgtype": "m.text", "body": text}, user=user, **more)


@pytest.fixture
async def api(hs: FakeHomeserver) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, hs.url)


@pytest.fixture
async def room(hs: FakeHomeserver, api: Client) -> str:
    """A public room of alice with the bot and the ghost @_bk_ann in it."""
    room_id = await hs.user("alice").create_room(preset="public_chat")
    await api("POST", f"join/{room_id}")
    await api("POST", f"join/{room_id}", user=await api.ghost("ann"))
    return room_id


ANN = "@_bk_ann:hs.test"
