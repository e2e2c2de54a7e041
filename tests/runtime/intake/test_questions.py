"""What homeservers ask an appservice, over the real routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from bridgekit.contract.policy import Entry, Exposure, Visibility
from bridgekit.contract.verbs import Join
from bridgekit.runtime.intake import reception
from bridgekit.runtime.linking import making
from tests.runtime.fake_network import TALK, Town
from tests.runtime.running import SERVER, ghost, town_world

ALIAS = f"#_bk_town_#talk:{SERVER}"


@asynccontextmanager
async def asking(folder: Path, town: Town) -> AsyncIterator[Any]:
    """A function that asks the bridge as its homeserver does: path in, status and answer out."""
    async with town_world(folder, town) as place, place.bridge() as bridge:
        headers = {"Authorization": "Bearer hs-secret"}
        async with aiohttp.ClientSession(f"http://{bridge.address}", headers=headers) as session:

            async def ask(path: str, **query: str) -> tuple[int, Any]:
                async with session.get(f"/_matrix/app/v1/{path}", params=query) as answer:
                    return answer.status, await answer.json()

            yield ask


async def test_users_exist_where_they_are_somebodys_ghost(tmp_path: Path) -> None:
    async with asking(tmp_path, Town()) as ask:
        assert (await ask(f"users/{quote(ghost('bob'))}"))[0] == 200
        assert (await ask(f"users/{quote(ghost('bob', 'elsewhere'))}"))[0] == 404
        assert (await ask(f"users/{quote(f'@alice:{SERVER}')}"))[0] == 404


async def test_nobody_is_made_up_whom_the_network_cannot_have(tmp_path: Path) -> None:
    """A ghost that homeservers can find takes invitations, and would never answer them."""
    async with asking(tmp_path, Town()) as ask:
        for name in ("=20", "_bob", "bob=20carter", "=23talk", "=0d=0a", "b=c3=b6b=00"):
            assert (await ask(f"users/{quote(ghost(name))}"))[0] == 404, name
            assert await ask("thirdparty/user", userid=ghost(name)) == (200, []), name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still for what is counted by the minute."""
    for module in (making, reception):
        monkeypatch.setattr(module, "now", lambda: 1_000_000)


@pytest.mark.usefixtures("clock")
async def test_whoever_looks_up_aliases_makes_the_bridge_knock_at_few_chats(tmp_path: Path) -> None:
    town = Town()
    for number in range(20):
        town.closed[f"#shut{number}"] = "Nobody gets in."  # type: ignore[index]
    async with asking(tmp_path, town) as ask:
        for number in range(20):
            alias = quote(f"#_bk_town_#shut{number}:{SERVER}", safe="")
            assert (await ask(f"rooms/{alias}"))[0] == 404
        assert [join.chat for join in town.done(Join)] == [f"#shut{number}" for number in range(10)]


@pytest.mark.usefixtures("clock")
async def test_whoever_looks_up_users_makes_few_ghosts(tmp_path: Path) -> None:
    async with asking(tmp_path, Town()) as ask:
        answers = [(await ask(f"users/{quote(ghost(f'bob{number}'))}"))[0] for number in range(70)]
        assert answers.count(200) == 60
        assert (await ask(f"users/{quote(ghost('bob0'))}"))[0] == 200  # who exists is known


async def test_aliases_exist_where_their_chats_are_open(tmp_path: Path) -> None:
    town = Town()
    town.visible[TALK] = Visibility(known=True, exposure=Exposure.JOINED, entry=Entry.OPEN, listed=True)
    town.closed["#shut"] = "Nobody gets in."  # type: ignore[index]
    async with asking(tmp_path, town) as ask:
        assert (await ask(f"rooms/{quote(ALIAS, safe='')}"))[0] == 200
        for name in ("town_#shut", "town_bob", "elsewhere_#talk", "town_"):
            alias = quote(f"#_bk_{name}:{SERVER}", safe="")
            assert (await ask(f"rooms/{alias}"))[0] == 404, name


async def test_third_party_networks_are_described(tmp_path: Path) -> None:
    async with asking(tmp_path, Town()) as ask:
        status, protocol = await ask("thirdparty/protocol/town")
        assert status == 200
        assert protocol["user_fields"] == ["network", "name"]
        assert protocol["location_fields"] == ["network", "chat"]
        assert protocol["instances"] == [
            {"network_id": "town", "desc": "Town", "fields": {"network": "town"}}
        ]
        assert (await ask("thirdparty/protocol/elsewhere"))[0] == 404


async def test_an_alias_names_no_place_that_its_network_cannot_have(tmp_path: Path) -> None:
    async with asking(tmp_path, Town()) as ask:
        for name in ("town_bob", "town_no chat", "elsewhere_#talk", "town_"):
            assert await ask("thirdparty/location", alias=f"#_bk_{name}:{SERVER}") == (200, []), name


async def test_third_party_people_and_places_are_found_both_ways(tmp_path: Path) -> None:
    async with asking(tmp_path, Town()) as ask:
        user = {"userid": ghost("bob"), "protocol": "town", "fields": {"network": "town", "name": "bob"}}
        assert await ask("thirdparty/user/town", name="bob") == (200, [user])
        assert await ask("thirdparty/user", userid=ghost("bob")) == (200, [user])
        assert await ask("thirdparty/user/town", name="#talk") == (200, [])
        assert await ask("thirdparty/user", userid="@alice:hs.test") == (200, [])
        place = {"alias": ALIAS, "protocol": "town", "fields": {"network": "town", "chat": "#talk"}}
        assert await ask("thirdparty/location/town", chat="#talk", network="town") == (200, [place])
        assert await ask("thirdparty/location", alias=ALIAS) == (200, [place])
        assert await ask("thirdparty/location/town", chat="#talk", network="elsewhere") == (200, [])
