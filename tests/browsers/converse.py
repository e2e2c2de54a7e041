"""converse.js, a web client for XMPP: its page on loopback, and somebody who is signed in there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web
from playwright.async_api import Browser, Locator, Page, expect

from bridgekit.testing.servers.process import free_port
from bridgekit.testing.sightings import NotSeen
from tests.browsers.installed import modules

_PAGE = """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>converse.js</title>
    <link rel="stylesheet" href="/dist/converse.min.css">
  </head>
  <body class="converse-fullscreen">
    <script type="module">
      import "/dist/converse.min.js";
      converse.initialize({settings});
    </script>
  </body>
</html>
"""

_LINES = """\
() => {
  const text = (element) => element?.textContent.trim() ?? "";
  let who = "";
  // A message that follows another of the same person has no name of its own.
  return [...document.querySelectorAll("converse-muc .chat-msg")].map((line) => {
    who = text(line.querySelector(".chat-msg__author")) || who;
    const deed = who.startsWith("**");
    const all = (selector) => [...line.querySelectorAll(selector)];
    const counted = (reaction) => [text(reaction).split(" ")[0], Number(text(reaction.querySelector(".count")))];
    return {
      who: who.replace("**", ""),
      deed,
      words: text(line.querySelector(".chat-msg__text")),
      retracted: Boolean(line.querySelector(".retraction")),
      edited: Boolean(line.querySelector(".chat-msg__edit-modal")),
      answers: text(line.querySelector(".chat-msg__reply-text")),
      reactions: Object.fromEntries(all("converse-reactions .chat-msg__reaction").map(counted)),
      links: all(".chat-msg__body--wrapper a[href], .chat-msg__media a[href]").map((a) => a.href),
      pictures: all(".chat-msg__body img").map((i) => [i.naturalWidth, i.naturalHeight]),
    };
  });
}
"""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the open room as the page shows it: `deed` for /me, `answers` are the words that it replies to,
    `reactions` say how many gave each emoji, pictures are width and height in pixels."""

    who: str
    deed: bool
    words: str
    retracted: bool
    edited: bool
    answers: str
    reactions: dict[str, int]
    links: list[str]
    pictures: list[tuple[int, int]]


class Converse:
    """The page on 127.0.0.1, for an XMPP server that speaks WebSocket (RFC 7395) at the given address."""

    def __init__(self, websocket: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        settings = {
            "websocket_url": websocket,
            "discover_connection_methods": False,
            "view_mode": "fullscreen",
            "assets_path": "/dist/",
            "i18n": "en",
            "play_sounds": False,
            "show_desktop_notifications": False,
            "auto_list_rooms": False,
            # Plain text here; and its WebAssembly is looked for beside the page
            "blacklisted_plugins": ["converse-omemo", "converse-omemo-views"],
        }
        self._page = _PAGE.replace("{settings}", json.dumps(settings))

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")


@asynccontextmanager
async def converse(websocket: str) -> AsyncIterator[Converse]:
    """The page while the block lasts. Raises ServerUnavailable."""
    client = Converse(websocket)
    app = web.Application()
    app.router.add_get("/", client.page)
    app.router.add_static("/dist", modules("converse") / "converse.js" / "dist")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", client.port).start()
        yield client
    finally:
        await runner.cleanup()


class ConversePerson:
    """Somebody at the page, signed in and in one room: types, clicks and reads."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name

    async def sign_in(self, client: Converse, jid: str, password: str) -> None:
        """Fill in the form, as a person does who comes for the first time."""
        await self.page.goto(client.url)
        await self.page.get_by_label("XMPP Address").fill(jid)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.locator(".xmpp-status .online").wait_for()

    async def join(self, room: str) -> None:
        """Enter a room by its address."""
        await self.page.locator("#chatrooms .dropdown-toggle").click()
        await self.page.locator(".show-add-muc-modal").click()
        form = self.page.locator("form.add-chatroom")
        await form.locator('input[name="chatroom"]').fill(room)
        await form.locator('input[name="nickname"]').fill(self.name)
        await form.locator('input[name="join"]').click()
        await self._draft.wait_for()

    # What they do --------------------------------------------------------------------------------------------

    async def say(self, words: str) -> None:
        """A message; /me and the other commands of the client work."""
        await self._draft.fill(words)
        await self._draft.press("Enter")

    async def edit(self, words: str, new: str) -> None:
        """Put other words in place of their own."""
        await self._choose(words, "edit")
        await expect(self._draft).to_have_value(words)
        await self.say(new)

    async def reply(self, words: str, answer: str) -> None:
        """Answer the message that has these words."""
        await self._choose(words, "reply")
        await self.page.locator("converse-reply-preview .reply-preview").wait_for()
        await self.say(answer)

    async def react(self, words: str, emoji: str) -> None:
        """Put one of the offered emojis under the message that has these words."""
        await self._choose(words, "reaction")
        await self._line(words).locator(".reaction-picker .reaction-item", has_text=emoji).click()

    async def retract(self, words: str) -> None:
        """Take a message of their own back."""
        await self._choose(words, "retract")
        await self.page.locator("converse-confirm-modal button[type=submit]").click()

    async def upload(self, name: str, mime: str, data: bytes) -> None:
        """Choose a file to send."""
        file = self.page.locator("converse-muc input.fileupload")
        await file.set_input_files({"name": name, "mimeType": mime, "buffer": data})

    @property
    def _draft(self) -> Locator:
        return self.page.locator("converse-muc textarea.chat-textarea")

    def _line(self, words: str) -> Locator:
        exact = self.page.locator(".chat-msg__text").get_by_text(words, exact=True)
        return self.page.locator("converse-muc .chat-msg").filter(has=exact).last

    async def _choose(self, words: str, action: str) -> None:
        """An item of the menu of a message."""
        line = self._line(words)
        item = line.locator(f".chat-msg__action-{action}")
        await line.hover()
        # The button shows the menu and hides it; and a message that changes while it is shown draws it anew, closed.
        while not await item.is_visible():
            await line.locator(".chat-msg__actions .dropdown-toggle").click()
            await asyncio.sleep(0.2)
        await item.click()

    # What they see -------------------------------------------------------------------------------------------

    async def lines(self) -> list[Line]:
        """What the open room shows, oldest first."""
        return msgspec.convert(await self.page.evaluate(_LINES), list[Line])

    async def sees(self, matches: Callable[[Line], object], what: str = "it", seconds: float = 60) -> Line:
        """The first message that matches; waits for it. Raises NotSeen."""
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
            last = "\n".join(f"    {line}" for line in lines[-8:]) or "    nothing"
            raise NotSeen(
                f"{self.name} at converse.js: {what} did not come; what stands there:\n{last}"
            ) from None

    async def reads(self, words: str, *, who: str = "") -> Line:
        """The message with exactly these words. Raises NotSeen."""
        return await self.sees(lambda line: line.words == words and who in ("", line.who), f"“{words[:60]}”")


@asynccontextmanager
async def converse_person(
    browser: Browser, client: Converse, account: tuple[str, str], room: str
) -> AsyncIterator[ConversePerson]:
    """The owner of an account (JID and password), signed in and in the room under their own name; gone at the end."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        one = ConversePerson(await context.new_page(), account[0].partition("@")[0])
        await one.sign_in(client, *account)
        await one.join(room)
        yield one
    finally:
        await context.close()
