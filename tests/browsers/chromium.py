"""A headless Chromium with an empty profile, that reaches this machine and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

from bridgekit.testing.servers.process import ServerUnavailable, find_program

_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

SCREENSHOTS = Path(__file__).parents[2] / ".lab" / "screenshots"


async def photograph(page: Page, name: str) -> None:
    """Keep what the page shows now as .lab/screenshots/NAME.png, for people to look at."""
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser while the block lasts. Raises ServerUnavailable where Chromium is not installed."""
    program = find_program("chromium")
    if program is None:
        raise ServerUnavailable("Chromium is not installed: run `make clients`, or apt-get install chromium.")
    async with async_playwright() as driver:
        # Tests may run as root, who has no sandbox; the pages are our own.
        browser = await driver.chromium.launch(
            executable_path=program, args=_FLAGS, headless=True, chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            await browser.close()
