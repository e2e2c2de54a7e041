"""The dashboard in a browser: what its reader sees, and that no name of anybody's becomes more than text there."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Route, expect

from bridgekit.contract.ids import NetworkId, PersonId
from bridgekit.contract.reports import AbuseReport
from tests.browsers.chromium import chromium, photograph
from tests.runtime.fake_network import TALK, Town, now, says
from tests.runtime.running import by, ghost, linked, said, town_world, until
from tests.runtime.secret_rooms import scene

HOSTILE = "<img src=x onerror=document.title='struck'>"


async def test_it_shows_the_label_of_an_encrypted_room_and_how_its_network_does(tmp_path: Path) -> None:
    async with scene(tmp_path) as now, chromium() as browser:
        await now.bob_says("hello")
        await until(lambda: now.bridge.metrics.fates(*now.bridge.parts.networks)["to_matrix"])
        page = await browser.new_page(viewport={"width": 1000, "height": 900})
        troubles: list[str] = []
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        await page.goto(f"http://{now.bridge.admin_address}/#{now.bridge.admin_token}")
        room = page.locator("article")
        await expect(room.locator("header")).to_contain_text(now.room)
        await expect(room.locator(".label")).to_have_text("in clear")
        await expect(room).to_contain_text("Messages in this room are encrypted up to the bridge.")
        await expect(room.locator("li")).to_contain_text("#talk on Town")
        await expect(page.locator("#networks tbody tr")).to_contain_text("1 delivered")
        await expect(page.locator("#devices tbody tr")).to_have_count(2)
        await expect(page.locator("#state")).to_contain_text("well")
        assert page.url == f"http://{now.bridge.admin_address}/"  # no token stays where people copy it from
        await photograph(page, "dashboard")
        assert troubles == []


async def test_without_the_token_it_shows_nothing_and_takes_it_at_the_door(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge, chromium() as browser:
        _, room = await linked(place)
        page = await browser.new_page()
        await page.goto(f"http://{bridge.admin_address}/#wrong")
        await expect(page.locator("#state")).to_have_text("locked")
        await expect(page.locator("main")).to_be_hidden()
        assert room not in await page.content()
        await page.fill("#token", bridge.admin_token)
        await page.press("#token", "Enter")
        await expect(page.locator("article header")).to_contain_text(room)
        await expect(page.locator("#door")).to_be_hidden()


async def test_a_name_is_text_whatever_is_in_it(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge, chromium() as browser:
        await linked(place)
        town.emit(says("Bob", "hello"))
        await said(place, by(ghost("bob"), "hello"))
        bridge.registry.links = {
            side: type(link)(**{**{f: getattr(link, f) for f in link.__struct_fields__}, "name": HOSTILE})
            for side, link in bridge.registry.links.items()
        }
        page = await browser.new_page()
        await page.goto(f"http://{bridge.admin_address}/#{bridge.admin_token}")
        await expect(page.locator("article li strong")).to_have_text(HOSTILE)
        assert await page.locator("article img").count() == 0
        assert await page.title() == "bridgekit"


async def test_abuse_that_was_reported_stands_there_in_the_reporters_words(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge, chromium() as browser:
        page = await browser.new_page(viewport={"width": 1000, "height": 600})
        await page.goto(f"http://{bridge.admin_address}/#{bridge.admin_token}")
        await expect(page.locator("#state")).to_contain_text("well")
        await expect(page.locator("#reported")).to_be_hidden()
        await bridge.parts.reports.file(
            NetworkId("town"),
            AbuseReport(
                chat=TALK,
                at=now(),
                accused=PersonId("mallory"),
                note=f"He posts {HOSTILE}",
                messages=3,
                proven=2,
            ),
        )
        await page.reload()
        row = page.locator("#reports tbody tr")
        await expect(row).to_contain_text(f"He posts {HOSTILE}")
        await expect(row).to_contain_text("mallory")
        await expect(row).to_contain_text("2 of 3")
        assert await row.locator("img").count() == 0
        await photograph(page, "dashboard-reports")


async def test_rooms_that_wait_for_something_come_first_and_the_others_by_name(tmp_path: Path) -> None:
    async with town_world(tmp_path, Town()) as place, place.bridge() as bridge, chromium() as browser:
        await linked(place)
        page = await browser.new_page()

        async def crowded(route: Route) -> None:
            answer = await (await route.fetch()).json()
            (room,) = answer["rooms"]
            answer["rooms"] = [
                room | {"room": f"!{name}:x", "links": [room["links"][0] | {"name": name, "state": state}]}
                for name, state in (("#c", "open"), ("#a", "open"), ("#b", "waiting"))
            ]
            await route.fulfill(json=answer)

        await page.route("**/api/v1/rooms", crowded)
        await page.goto(f"http://{bridge.admin_address}/#{bridge.admin_token}")
        await expect(page.locator("article h3")).to_have_text(["#b", "#a", "#c"])
