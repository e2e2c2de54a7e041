"""What the admin API tells of a running bridge and does with it, over HTTP, and to whom."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridgekit.admin.server import LARGEST, serve
from bridgekit.cli import asking
from bridgekit.config import Address
from bridgekit.contract.connector import LoginField, OwnAccounts
from bridgekit.contract.ids import NetworkId, PortalKey
from bridgekit.runtime.bridge import Bridge
from tests.runtime.fake_network import TALK, Town, says
from tests.runtime.running import BOT, by, ghost, invited, said, town_world, until
from tests.runtime.running import linked as linked_room
from tests.runtime.secret_rooms import BOB, Scene, scene

ALICE = "@alice:hs.test"
TALK_NETWORK = NetworkId("town")
PASSWORD = LoginField(name="password", title="password", password=True, required=True)


async def call(
    bridge: Bridge, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, dict[str, Any]]:
    shown = bridge.admin_token if token is None else token
    headers = {"Authorization": f"Bearer {shown}"} if shown else {}
    url = f"http://{bridge.admin_address}/api/v1{path}"
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, url, json=body) as answer,
    ):
        return answer.status, await answer.json()


async def get(now: Scene, path: str, token: str | None = None) -> tuple[int, dict[str, Any]]:
    return await call(now.bridge, "GET", path, token=token)


async def test_each_rooms_label_is_the_one_of_its_state(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        status, found = await get(now, "/rooms")
        state = now.place.homeserver.state(now.room, "org.bridgekit.protection")
        assert state is not None
        (room,) = found["rooms"]
        (link,) = room["links"]
        assert (status, room["room"]) == (200, now.room)
        assert {name: room[name] for name in ("protection", "matrix")} == {
            name: state[name] for name in ("protection", "matrix")
        }
        assert [{name: link[name] for name in part} for part in state["links"]] == state["links"]
        assert room["words"].startswith("Messages in this room are encrypted up to the bridge.")
        visibility = now.place.homeserver.state(now.room, "m.room.history_visibility")
        assert visibility is not None
        assert (link["state"], link["creator"], link["name"], link["held"]) == ("open", ALICE, "#talk", 0)
        assert room["history"] == visibility["history_visibility"]


async def test_a_network_is_shown_with_what_went_over_it(tmp_path: Path) -> None:
    town = Town()
    town.fields = (PASSWORD,)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await linked_room(place)
        town.emit(says("Bob", "one"), says("Bob", "two"))
        await said(place, by(ghost("bob"), "two"))
        await until(lambda: bridge.metrics.fates(TALK_NETWORK)["to_matrix"] == {"delivered": 2})
        _, found = await call(bridge, "GET", "/networks")
        (network,) = found["networks"]
        assert (network["network"], network["state"], network["links"], network["held"]) == (
            "town",
            "ready",
            1,
            0,
        )
        assert network["fates"]["to_matrix"] == {"delivered": 2}
        assert network["fields"] == [
            {"name": "password", "title": "password", "secret": True, "required": True}
        ]


async def test_what_is_held_back_is_counted_with_its_reason(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked_room(place, power=50)
        await alice.set_state(room, "m.room.history_visibility", {"history_visibility": "world_readable"})
        await until(lambda: any(link.state == "paused" for link in bridge.registry.links.values()))
        town.emit(says("Bob", "two"))
        await until(lambda: bridge.parts.holding.ledger.links())
        _, found = await call(bridge, "GET", "/rooms")
        (link,) = found["rooms"][0]["links"]
        assert (link["state"], link["held"]) == ("paused", 1)
        assert "the whole world can read it" in link["reason"]
        assert link["held_since"] >= link["since"] > 0


async def test_the_fingerprints_of_ours_are_those_that_people_see(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        _, found = await get(now, "/devices")
        assert [one["user"] for one in found["devices"]] == sorted([BOB, BOT])
        (seen,) = now.alice.devices_of(BOB)
        _, bob = await get(now, f"/device?user={BOB}")
        identity = now.place.homeserver.keys.identities[BOB]["master_key"]["keys"]
        assert bob == {
            "user": BOB,
            "device": seen.id,
            "device_key": seen.ed25519,
            "identity": next(iter(identity.values())),
        }
        assert await get(now, f"/device?user={ALICE}") == (
            404,
            {"error": f"{ALICE} has no device of the bridge's."},
        )


async def test_an_account_is_opened_and_closed_and_its_password_is_never_told(tmp_path: Path) -> None:
    town = Town(own_accounts=OwnAccounts.ON_REQUEST)
    town.fields = (PASSWORD,)
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        place.homeserver.user("alice")
        wish = {"network": "town", "user": ALICE, "fields": {"password": "correct horse"}}
        status, opened = await call(bridge, "PUT", "/accounts", wish)
        assert (status, opened["network"], opened["user"]) == (202, "town", ALICE)
        await until(lambda: any(login is not None for login in town.logins))
        login = next(login for login in town.logins if login is not None)
        assert (login.owner, login.fields) == (ALICE, {"password": "correct horse"})

        async def its_state() -> str:
            _, found = await call(bridge, "GET", "/accounts")
            assert "correct horse" not in json.dumps(found)
            return str(found["accounts"][0]["state"])

        while await its_state() != "ready":
            await until(lambda: bridge.accounts.is_ready(TALK_NETWORK, login.id))
        assert await call(bridge, "DELETE", f"/accounts?network=town&user={ALICE}") == (200, {"done": True})
        assert await call(bridge, "GET", "/accounts") == (200, {"accounts": []})
        assert await bridge.store.logins.all() == []
        status, refused = await call(bridge, "DELETE", f"/accounts?network=town&user={ALICE}")
        assert (status, refused["error"]) == (404, f"{ALICE} has no account on town.")


@pytest.mark.parametrize(
    ("wish", "status", "why"),
    [
        ({"network": "nowhere", "user": ALICE}, 404, "There is no network nowhere: town is configured."),
        ({"network": "town", "user": ALICE}, 400, "also needs: password"),
        ({"network": "town", "user": ALICE, "fields": {"pin": "1"}}, 400, "knows no pin"),
        ({"network": "town", "user": "@eve:elsewhere.test"}, 400, "may have no account here"),
        ({"network": "town", "user": "alice"}, 400, "no user id of a person"),
        (
            {"network": "town", "user": ghost("bob"), "fields": {"password": "x"}},
            400,
            "no user id of a person",
        ),
        ({"network": "town", "user": BOT, "fields": {"password": "x"}}, 400, "no user id of a person"),
        ({"network": "town"}, 400, "user"),
        ({"network": "town", "user": ALICE, "password": "x"}, 400, "password"),
        ("not an object", 400, "cannot be read"),
    ],
)
async def test_an_account_that_cannot_be_is_refused_with_the_reason(
    tmp_path: Path, wish: object, status: int, why: str
) -> None:
    town = Town()
    town.fields = (PASSWORD,)
    async with town_world(tmp_path, town) as place:
        place.more["permissions"] = {"hs.test": "user", "@admin:hs.test": "admin"}
        async with place.bridge() as bridge:
            found, answer = await call(bridge, "PUT", "/accounts", wish)
            assert found == status
            assert why in answer["error"]
            assert bridge.registry.logins == {}


async def test_a_room_is_linked_and_the_link_taken_apart(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice, 100)
        wish = {"network": "town", "chat": "#talk", "room": room, "user": ALICE}
        status, link = await call(bridge, "PUT", "/links", wish)
        assert (status, link["state"], link["creator"]) == (200, "open", ALICE)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        assert await call(bridge, "DELETE", "/links?network=town&chat=%23talk") == (200, {"done": True})
        assert bridge.registry.links == {}
        status, refused = await call(bridge, "DELETE", "/links?network=town&chat=%23talk")
        assert (status, refused) == (404, {"error": "#talk on town is not linked."})


async def test_a_code_is_asked_for_where_there_are_none(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge:
        wish = {"network": "town", "chat": "#talk"}
        assert await call(bridge, "POST", "/codes", wish) == (404, {"error": "#talk on town is not linked."})
        await linked_room(place)
        none = (400, {"error": "There are no such codes on Town."})
        assert await call(bridge, "POST", "/codes", wish) == none
        assert await call(bridge, "DELETE", "/codes?network=town&chat=%23talk") == none
        status, refused = await call(bridge, "POST", "/codes", {"network": "town"})
        assert (status, "chat" in refused["error"]) == (400, True)


async def test_a_link_that_cannot_be_is_refused_with_the_reason(tmp_path: Path) -> None:
    town = Town()
    town.closed[TALK] = "You are banned there."
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice = place.homeserver.user("alice")
        room = await invited(place, alice, 100)
        wish = {"network": "town", "chat": "#talk", "room": room, "user": ALICE}
        status, refused = await call(bridge, "PUT", "/links", wish)
        assert status in (400, 502)
        assert "banned" in refused["error"]
        status, refused = await call(bridge, "PUT", "/links", {**wish, "chat": "no chat"})
        assert status == 400
        status, refused = await call(bridge, "PUT", "/links", {**wish, "user": BOT})
        assert (status, refused["error"].partition(" is ")[0]) == (400, BOT)
        status, refused = await call(bridge, "DELETE", "/links?network=town")
        assert (status, refused) == (400, {"error": "Say which: ?chat=..."})
        assert bridge.registry.links == {}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/codes"),
        ("DELETE", "/codes?network=town&chat=x"),
        ("GET", "/networks"),
        ("GET", "/rooms"),
        ("GET", "/accounts"),
        ("GET", "/devices"),
        ("GET", f"/device?user={BOT}"),
        ("GET", "/openapi.json"),
        ("PUT", "/accounts"),
        ("DELETE", f"/accounts?network=town&user={ALICE}"),
        ("PUT", "/links"),
        ("DELETE", "/links?network=town&chat=x"),
        ("POST", "/erasures"),
        ("GET", f"/erasures?user={ALICE}"),
    ],
)
async def test_who_has_not_the_key_is_told_nothing(tmp_path: Path, method: str, path: str) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge:
        for shown in ("", "wrong"):
            status, found = await call(bridge, method, path, token=shown)
            assert (status, list(found)) == (401, ["error"])


async def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge:
        url = f"http://{bridge.admin_address}/api/v1/accounts"
        headers = {"Authorization": f"Bearer {bridge.admin_token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.put(url, data=b" " * (LARGEST + 1)) as answer,
        ):
            assert answer.status == 413


async def test_what_matrix_says_and_no_chat_gets_counts_as_on_its_way_to_networks(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge:
        alice, room = await linked_room(place)
        bridge.registry.set_state(PortalKey(TALK_NETWORK, TALK), "closed", "It is closed.", 0)
        await alice.send(room, "hello?")
        await said(place, by(BOT, "Not delivered"))
        value = bridge.metrics.registry.get_sample_value
        there = {"network": "matrix", "direction": "to_network", "fate": "failed"}
        assert value("bridgekit_messages_total", there) == 1
        assert not value("bridgekit_messages_total", there | {"direction": "to_matrix"})


async def test_the_command_prints_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge:
        _, room = await linked_room(place)
        url = f"http://{bridge.admin_address}/api/v1/rooms"
        assert await asking._ask(url, bridge.admin_token) == 0
        assert f'"room":"{room}"' in capsys.readouterr().out
        assert await asking._ask(url, "wrong") == 1
        links = f"http://{bridge.admin_address}/api/v1/links"
        assert await asking._ask(links, bridge.admin_token, "PUT", "{}") == 1
        assert "cannot be read" in capsys.readouterr().out
    assert await asking._ask(url, "") == 1
    assert capsys.readouterr().err == f"The bridge does not answer at {url}. It has to run.\n"


async def test_the_command_tells_a_bridge_that_waits_from_one_that_does_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def waits(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/api/v1/rooms", waits)
    monkeypatch.setattr(asking, "SECONDS", 0.5)
    async with serve(app, Address("127.0.0.1", 0)) as address:
        assert await asking._ask(f"http://{address}/api/v1/rooms", "") == 1
    told = capsys.readouterr().err
    assert "may still do what it was asked" in told
    assert "It has to run" not in told
