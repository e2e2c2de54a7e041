"""The Lounge, a web client for IRC: its server on loopback, and somebody who sits before its page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from playwright.async_api import Browser, Page, expect

from bridgekit.testing.servers.process import (
    ServerUnavailable,
    Service,
    answers,
    find_program,
    free_port,
    private_directory,
)
from bridgekit.testing.sightings import NotSeen
from tests.browsers.installed import modules

_CONFIG = """\
"use strict";
module.exports = {{
    public: true, // no accounts of its own: who opens the page fills in a network and connects
    host: "127.0.0.1",
    port: {port},
    transports: ["websocket"],
    messageStorage: [],
    prefetch: true,
    fileUpload: {{ enable: true, maxFileSize: 10240, baseUrl: null }},
}};
"""

_LINES = """\
() => [...document.querySelectorAll("#chat .messages .msg[data-type]")]
  .filter((line) => line.dataset.type !== "condensed")
  .map((line) => {
    const shown = line.querySelector(".content");
    const said = shown.cloneNode(true);
    said.querySelectorAll(".preview").forEach((preview) => preview.remove());
    const styled = (name) => [...said.querySelectorAll(`[class*="irc-${name}"]`)].map((s) => s.textContent);
    return {
      kind: line.dataset.type,
      who: line.dataset.from || line.querySelector(".user")?.dataset.name || "",
      words: said.textContent.trim(),
      bold: styled("bold"),
      italic: styled("italic"),
      red: styled("fg4"),
      links: [...said.querySelectorAll("a[href]")].map((a) => a.href),
      pictures: [...shown.querySelectorAll(".preview img")].map((i) => [i.naturalWidth, i.naturalHeight]),
      highlighted: line.classList.contains("highlight"),
    };
  })
"""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the open chat as the page shows it.

    `kind` is The Lounge's word for it: message, action, notice, topic, nick, join, part ... Of the words, those that
    are bold, italic and red (colour 4) stand apart; `pictures` are previews of links, width and height in pixels;
    a line is highlighted where it names its reader.
    """

    kind: str
    who: str
    words: str
    bold: list[str]
    italic: list[str]
    red: list[str]
    links: list[str]
    pictures: list[tuple[int, int]]
    highlighted: bool


class TheLounge:
    """The Lounge's server on 127.0.0.1, in its public mode."""

    def __init__(self, folder: Path, node: Path, entry: Path) -> None:
        self.port = free_port()
        (folder / "config.js").write_text(_CONFIG.format(port=self.port))
        self.service = Service(
            name="the_lounge",
            argv=[node, entry, "start"],
            ready=answers(self.port),
            log=folder / "the_lounge.log",
            cwd=folder,
            env={"THELOUNGE_HOME": str(folder), "NODE_ENV": "production"},
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@asynccontextmanager
async def the_lounge() -> AsyncIterator[TheLounge]:
    """The Lounge while the block lasts. Raises ServerUnavailable, ServerFailed."""
    installed = modules("the_lounge")
    node = find_program("node", installed / ".bin")
    if node is None:
        raise ServerUnavailable("The Lounge needs Node 22 or newer, and there is none for this machine.")
    with private_directory("the-lounge") as folder:
        server = TheLounge(folder, node, installed / "thelounge" / "index.js")
        await server.service.start()
        try:
            yield server
        finally:
            await server.service.stop()


class LoungePerson:
    """Somebody at The Lounge's page: types, clicks and reads. One connection to one IRC network."""

    def __init__(self, page: Page, nick: str) -> None:
        self.page = page
        self.nick = nick

    async def connect(self, server: TheLounge, port: int, *channels: str) -> None:
        """Fill in the page's form, connect to 127.0.0.1:port, and wait until the channels are joined."""
        # All lines of joins and parts, as the page's settings offer it, and not a summary of them
        await self.page.add_init_script("""localStorage.setItem("settings", '{"statusMessages": "shown"}')""")
        form = {
            "name": "Lab",
            "host": "127.0.0.1",
            "port": port,
            "tls": "false",
            "nick": self.nick,
            "username": "lounge",
            "realname": f"{self.nick} at The Lounge",
            "join": ",".join(channels),
        }
        await self.page.goto(f"{server.url}?{urlencode(form)}")
        await self.page.get_by_role("button", name="Connect").click()
        for channel in channels:
            await self.page.locator(
                f'.channel-list-item[data-name="{channel}"]:not(.parted-channel)'
            ).wait_for()

    async def open(self, chat: str) -> None:
        """Click a channel or a private chat in the list."""
        await self.page.locator(f'.channel-list-item[data-name="{chat}"]').click()
        await self.page.locator("#chat .header .title", has_text=chat).wait_for()

    async def attach(self, name: str, mime: str, data: bytes) -> None:
        """Upload a file with the paper clip; its address appears in the line, which is sent."""
        await self.page.locator("#upload-input").set_input_files(
            {"name": name, "mimeType": mime, "buffer": data}
        )
        await expect(self.page.locator("#input")).to_have_value(re.compile(r"/uploads/\S+"))
        await self.press("Enter")

    async def reads_topic(self, words: str) -> None:
        """Wait until exactly this stands above the open chat. Raises AssertionError."""
        await expect(self.page.locator("#chat .header .topic")).to_have_text(words, timeout=60_000)

    async def write(self, words: str) -> None:
        """Key by key, at the cursor."""
        await self.page.locator("#input").press_sequentially(words)

    async def press(self, keys: str) -> None:
        """A key or a chord such as Control+b, in the line that is being written."""
        await self.page.locator("#input").press(keys)

    async def say(self, words: str) -> None:
        """A whole line, a command if it begins with a slash."""
        await self.page.locator("#input").fill(words)
        await self.press("Enter")

    async def lines(self) -> list[Line]:
        """What the open chat shows, oldest first."""
        return msgspec.convert(await self.page.evaluate(_LINES), list[Line])

    async def sees(
        self, matches: Callable[[Line], bool], what: str = "the line", seconds: float = 60
    ) -> Line:
        """The first line of the open chat that matches; waits for it. Raises NotSeen."""
        lines: list[Line] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    lines = await self.lines()
                    found = next((line for line in lines if matches(line)), None)
                    if found is not None:
                        return found
                    await asyncio.sleep(0.1)
        except TimeoutError:
            last = (
                "\n".join(f"    {line.kind} {line.who}: {line.words}" for line in lines[-8:]) or "    nothing"
            )
            raise NotSeen(
                f"{self.nick} at The Lounge: {what} did not come; what stands there:\n{last}"
            ) from None

    async def reads(self, words: str, *, who: str = "", kind: str = "message") -> Line:
        """The line with exactly these words. Raises NotSeen."""
        return await self.sees(
            lambda line: (line.kind, line.words) == (kind, words) and who in ("", line.who), f"“{words[:60]}”"
        )


@asynccontextmanager
async def lounge_person(
    browser: Browser, server: TheLounge, port: int, nick: str, *channels: str
) -> AsyncIterator[LoungePerson]:
    """Somebody new at the page, connected to 127.0.0.1:port and in the channels; gone at the end."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        one = LoungePerson(await context.new_page(), nick)
        await one.connect(server, port, *channels)
        yield one
    finally:
        await context.close()
