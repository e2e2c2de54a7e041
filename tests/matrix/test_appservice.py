"""The listener: tokens, transactions on disk before the 200, duplicates, queries, ping."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.appservice import Appservice, Encryption, RawEvent
from bridgekit.testing.homeserver import FakeHomeserver, Repeat
from tests.matrix.homeservers import client_of, registration

AUTH = {"Authorization": "Bearer hs-secret"}


def event(n: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "m.room.message",
        "room_id": "!r:hs.test",
        "sender": "@a:hs.test",
        "event_id": f"${n}",
        "origin_server_ts": n,
        "content": {"body": f"{n}"},
        **more,
    }


class Desk:
    """A receiver that writes down what it is handed."""

    def __init__(self) -> None:
        self.disk: list[tuple[str, list[str]]] = []
        self.known: set[str] = set()
        self.to_device: list[bytes] = []
        self.parked: list[bytes] = []
        self.states: list[RawEvent] = []
        self.counted = 0
        self.bare: list[bool] = []
        self.fleeting: list[bytes] = []
        self.pings: list[str | None] = []
        self.trouble: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.accepting = self.most = self.failures = 0

    async def seen(self, txn: str) -> bool:
        return txn in self.known

    def is_own(self, event: RawEvent) -> bool:
        return event.sender.startswith("@_bk_")

    async def accept(self, txn: str, events: list[RawEvent], encryption: Encryption) -> None:
        self.accepting += 1
        self.most = max(self.most, self.accepting)
        try:
            if self.hold is not None:
                await self.hold.wait()
            await asyncio.sleep(0)
            if self.trouble is not None:
                raise self.trouble
            assert txn not in self.known
            self.known.add(txn)
            self.disk.append((txn.partition(".")[0], [event.event_id for event in events]))
            self.to_device += encryption.to_device
        finally:
            self.accepting -= 1

    def failed(self) -> None:
        self.failures += 1

    def state(self, event: RawEvent) -> None:
        self.states.append(event)

    def keys(self, encryption: Encryption, rooms: set[ChatId], *, bare: bool) -> None:
        self.counted += bool(encryption.one_time_keys)
        self.bare.append(bare)

    def malformed(self, raw: bytes, why: str) -> None:
        self.parked.append(raw)

    def ephemeral(self, events: list[bytes]) -> None:
        self.fleeting += events

    async def has_user(self, user: PersonId) -> bool:
        return user in ("@_bk_anna:hs.test", "@_bk_a/b=é:hs.test")

    async def has_alias(self, alias: str) -> bool:
        return alias == "#_bk_#chan:hs.test"

    async def protocol(self, protocol: str) -> dict[str, Any] | None:
        return {"user_fields": ["nick"]} if protocol == "testnet" else None

    async def third_party_users(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        return [{"protocol": protocol, "fields": dict(fields)}]

    async def third_party_locations(
        self, protocol: str | None, fields: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        return [{"protocol": protocol, "fields": dict(fields)}]

    def pinged(self, txn_id: str | None) -> None:
        self.pings.append(txn_id)


@pytest.fixture
def desk() -> Desk:
    return Desk()


Http = TestClient[web.Request, web.Application]


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[Http]:
    app = web.Application()
    app.add_routes(Appservice("hs-secret", desk, max_body=100_000).routes())
    async with TestClient(TestServer(app)) as client:
        yield client


async def put(
    http: Http, txn: str, body: Any, path: str = "/_matrix/app/v1/transactions/", **more: Any
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with http.put(path + txn, data=data, headers={**AUTH, **more}) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("path", ["/_matrix/app/v1/transactions/", "/transactions/"])
async def test_a_transaction_is_on_disk_before_it_is_answered(http, desk, path):
    desk.hold = asyncio.Event()
    delivery = asyncio.create_task(put(http, "t1", {"events": [event(1), event(2)]}, path))
    await asyncio.sleep(0.05)
    assert not delivery.done()
    desk.hold.set()
    assert await delivery == (200, {})
    assert desk.disk == [("t1", ["$1", "$2"])]


@pytest.mark.parametrize(
    ("header", "query", "status", "errcode"),
    [
        ("Bearer hs-secret", None, 200, None),
        ("bearer hs-secret", None, 200, None),
        (None, "hs-secret", 200, None),
        ("Bearer hs-secret", "hs-secret", 200, None),
        (None, None, 401, "M_MISSING_TOKEN"),
        ("Basic aHM6", None, 401, "M_MISSING_TOKEN"),
        ("Bearer ", None, 403, "M_FORBIDDEN"),
        (None, "", 403, "M_FORBIDDEN"),
        ("Bearer hs-secreT", None, 403, "M_FORBIDDEN"),
        ("Bearer hs-secret", "other", 403, "M_FORBIDDEN"),
        ("Bearer other", "hs-secret", 403, "M_FORBIDDEN"),
        ("Bearer hs-secr\u00e9t", None, 403, "M_FORBIDDEN"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        ("PUT", "/_matrix/app/v1/transactions/t"),
        ("GET", "/users/@_bk_anna:hs.test"),
        ("POST", "/_matrix/app/v1/ping"),
    ],
)
async def test_only_the_homeserver_gets_in(http, call, header, query, status, errcode):
    """Application Service API v1.12, "Authorization"; the query form is from before v1.4."""
    headers = {} if header is None else {"Authorization": header}
    params = {} if query is None else {"access_token": query}
    async with http.request(*call, params=params, headers=headers, data=b'{"events":[]}') as response:
        assert response.status == status
        assert (await response.json()).get("errcode") == errcode


async def test_a_transaction_that_comes_again_is_answered_and_not_replayed(http, desk):
    assert await put(http, "t1", {"events": [event(1)]}) == (200, {})
    assert await put(http, "t1", {"events": [event(1)]}) == (200, {})
    assert desk.disk == [("t1", ["$1"])]
    app = web.Application()
    app.add_routes(Appservice("hs-secret", desk).routes())
    async with TestClient(TestServer(app)) as restarted:
        assert await put(restarted, "t1", {"events": [event(1)]}) == (200, {})
    assert desk.disk == [("t1", ["$1"])]


async def test_an_id_that_comes_again_with_other_events_is_another_transaction(http, desk):
    """Synapse on SQLite counts its transactions from one again after a restart."""
    for body in ({"events": [event(1)]}, {"events": [event(2)]}, {"events": [], "to_device": [{"a": 1}]}):
        for _ in range(2):
            assert await put(http, "1", body) == (200, {})
    assert [events for _, events in desk.disk] == [["$1"], ["$2"], []]
    assert desk.to_device == [b'{"a":1}']


async def test_what_is_sent_again_may_lack_what_was_for_devices(http, desk):
    """Synapse does not keep to-device messages for its second try of a transaction."""
    assert await put(http, "1", {"events": [event(1)], "to_device": [{"a": 1}]}) == (200, {})
    assert await put(http, "1", {"events": [event(1)]}) == (200, {})
    assert desk.disk == [("1", ["$1"])]
    assert desk.bare == [False, True]


async def test_a_transaction_that_holds_nothing_is_told_for_it_may_have_held_something(http, desk):
    bodies: list[dict[str, Any]] = [{"events": [], "device_lists": {"changed": ["@a:b"]}}, {"events": []}]
    for body in bodies:
        assert await put(http, "1", body) == (200, {})
    assert await put(http, "2", {"events": [], "ephemeral": [{"type": "m.typing"}]}) == (200, {})
    assert desk.bare == [False, True, False]


async def test_fleeting_events_alone_cost_no_disk(http, desk):
    assert await put(http, "1", {"events": [], "ephemeral": [{"type": "m.typing"}]}) == (200, {})
    assert desk.disk == []
    assert desk.fleeting == [b'{"type":"m.typing"}']


async def test_the_echo_of_our_own_calls_costs_no_disk(http, desk):
    """Half of what a homeserver sends to a bridge is what the bridge just did."""
    own = event(1, sender="@_bk_anna:hs.test")
    assert (await put(http, "t1", {"events": [own]}))[0] == 200
    assert desk.disk == []
    assert (await put(http, "t2", {"events": [own, event(2)]}))[0] == 200
    assert desk.disk == [("t2", ["$2"])]


async def test_one_transaction_delivered_five_times_at_once_is_taken_once(http, desk):
    answers = await asyncio.gather(*(put(http, "t1", {"events": [event(1)]}) for _ in range(5)))
    assert answers == [(200, {})] * 5
    assert desk.disk == [("t1", ["$1"])]
    assert desk.most == 1


async def test_a_transaction_that_cannot_be_kept_is_refused_and_taken_at_the_next_try(http, desk):
    desk.trouble = OSError("disk full")
    status, body = await put(http, "t1", {"events": [event(1)]})
    assert (status, body["errcode"]) == (500, "M_UNKNOWN")
    assert "disk full" not in str(body)
    assert desk.failures == 1
    desk.trouble = None
    assert await put(http, "t1", {"events": [event(1)]}) == (200, {})
    assert desk.disk == [("t1", ["$1"])]
    assert desk.failures == 1


async def test_a_poisoned_event_is_parked_and_its_neighbours_go_on(http, desk):
    assert await put(http, "t1", {"events": [event(1), {"type": "m.x"}, event(2)]}) == (200, {})
    assert desk.disk == [("t1", ["$1", "$2"])]
    assert desk.parked == [b'{"type":"m.x"}']


async def test_what_is_not_json_is_refused(http, desk):
    status, body = await put(http, "t1", b'{"events":')
    assert (status, body["errcode"]) == (400, "M_NOT_JSON")
    status, body = await put(http, "t1", b'{"events":7}')
    assert (status, body["errcode"]) == (400, "M_BAD_JSON")
    assert desk.disk == []


async def test_a_body_past_the_limit_is_refused_also_when_it_comes_packed_or_in_pieces(http, desk):
    big = msgspec.json.encode({"events": [event(1, content={"body": "x" * 200_000})]})

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(big), 10_000):
            yield big[at : at + 10_000]

    for data, headers in ((big, {}), (gzip.compress(big), {"Content-Encoding": "gzip"}), (pieces(), {})):
        async with http.put("/transactions/t1", data=data, headers={**AUTH, **headers}) as response:
            assert response.status == 413
            assert (await response.json())["errcode"] == "M_TOO_LARGE"
    assert desk.disk == []


async def test_fleeting_events_and_those_for_devices_arrive(http, desk):
    body = {
        "events": [],
        "de.sorunome.msc2409.ephemeral": [{"type": "m.typing", "room_id": "!r", "content": {"user_ids": []}}],
        "de.sorunome.msc2409.to_device": [{"type": "m.room_key"}],
    }
    assert await put(http, "t1", body) == (200, {})
    assert [msgspec.json.decode(raw)["type"] for raw in desk.fleeting] == ["m.typing"]
    assert desk.to_device == [b'{"type":"m.room_key"}']


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [
        ("/_matrix/app/v1/users/@_bk_anna:hs.test", 200, {}),
        ("/users/@_bk_anna:hs.test", 200, {}),
        ("/users/%40_bk_a%2Fb%3D%C3%A9%3Ahs.test", 200, {}),
        ("/_matrix/app/v1/users/@_bk_nobody:hs.test", 404, "M_NOT_FOUND"),
        ("/_matrix/app/v1/rooms/%23_bk_%23chan:hs.test", 200, {}),
        ("/rooms/%23_bk_%23chan:hs.test", 200, {}),
        ("/_matrix/app/v1/rooms/%23other:hs.test", 404, "M_NOT_FOUND"),
        ("/_matrix/app/v1/thirdparty/protocol/testnet", 200, {"user_fields": ["nick"]}),
        ("/_matrix/app/unstable/thirdparty/protocol/testnet", 200, {"user_fields": ["nick"]}),
        ("/_matrix/app/v1/thirdparty/protocol/other", 404, "M_NOT_FOUND"),
        (
            "/_matrix/app/v1/thirdparty/user/testnet?nick=a%20b",
            200,
            [{"protocol": "testnet", "fields": {"nick": "a b"}}],
        ),
        (
            "/_matrix/app/v1/thirdparty/user?userid=@x:y",
            200,
            [{"protocol": None, "fields": {"userid": "@x:y"}}],
        ),
        (
            "/_matrix/app/v1/thirdparty/location/testnet?channel=%23c",
            200,
            [{"protocol": "testnet", "fields": {"channel": "#c"}}],
        ),
        (
            "/_matrix/app/v1/thirdparty/location?alias=%23a:b",
            200,
            [{"protocol": None, "fields": {"alias": "#a:b"}}],
        ),
        ("/_matrix/app/v1/nonsense", 404, "M_UNRECOGNIZED"),
        ("/_matrix/app/v1/transactions/t", 404, "M_UNRECOGNIZED"),
    ],
)
async def test_questions_are_answered(http, path, status, answer):
    from yarl import URL

    async with http.session.get(
        URL(str(http.make_url("/")).rstrip("/") + path, encoded=True), headers=AUTH
    ) as response:
        assert response.status == status
        got = await response.json()
        assert (got if status == 200 else got["errcode"]) == answer


@pytest.mark.parametrize("path", ["/_matrix/app/v1/ping", "/_matrix/app/unstable/fi.mau.msc2659/ping"])
async def test_a_ping_is_heard(http, desk, path):
    async with http.post(path, json={"transaction_id": "mine"}, headers=AUTH) as response:
        assert (response.status, await response.json()) == (200, {})
    async with http.post(path, data=b"", headers=AUTH) as response:
        assert response.status == 200
    assert desk.pings == ["mine", None]


NESTED = b'{"more":' + b"[" * 50_000


@pytest.mark.parametrize(
    "body",
    [b'{"transaction_id":"\xff"}', b'{"transaction_id":', b'{"transaction_id":7}', b"[]", NESTED],
    ids=["not UTF-8", "cut off", "a number", "a list", "too deep"],
)
async def test_what_is_no_ping_is_refused_and_no_fault_of_ours(http, desk, body):
    async with http.post("/_matrix/app/v1/ping", data=body, headers=AUTH) as response:
        assert (response.status, (await response.json())["errcode"]) == (400, "M_NOT_JSON")
    async with http.post("/_matrix/app/v1/ping", data=NESTED * 3, headers=AUTH) as response:
        assert (response.status, (await response.json())["errcode"]) == (413, "M_TOO_LARGE")
    assert desk.pings == []


async def test_a_homeserver_delivers_its_events_in_order_and_pings(desk):
    app = web.Application()
    app.add_routes(Appservice("hs-secret", desk).routes())
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        async with FakeHomeserver(registration(url)) as hs, client_of(hs.url) as client:
            alice = hs.user("alice")
            room = await alice.create_room(preset="public_chat", invite=[client.bot])
            await client.join(room)
            await hs.settled()
            taken = sum(len(events) for _, events in desk.disk)
            hs.fault("PUT /_matrix/app/v1/transactions/*", Repeat(times=2))
            said = [await alice.send(room, f"{n}") for n in range(50)]
            await hs.settled()
            assert [event for _, events in desk.disk for event in events][taken:] == said
            await client.ping("bridgekit", txn="hello")
            assert desk.pings == ["hello"]
