"""Somebody on IRC whose client nobody here wrote: the `irc` library (jaraco)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import irc.client
import irc.client_aio
import msgspec

from bridgekit.testing.sightings import Sightings

TAGS = "message-tags", "account-tag", "server-time"
_KINDS = {
    "pubmsg": "text",
    "privmsg": "text",
    "action": "emote",
    "pubnotice": "notice",
    "privnotice": "notice",
}


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the library. `kind` is text, emote or notice for what people say, else the library's name of it."""

    kind: str
    nick: str
    source: str = ""
    target: str = ""
    words: str = ""
    arguments: tuple[str, ...] = ()
    tags: dict[str, str] = {}


class Peer:
    """One connection. `seen` are all events; the methods do what a person does in a client."""

    def __init__(self, reactor: Any, nick: str) -> None:
        self.nick = nick
        self.seen: Sightings[Heard] = Sightings()
        self._connection = reactor.server()
        self._connection.buffer_class.errors = "replace"
        reactor.add_global_handler("all_events", self._hear)

    async def connect(self, port: int, **more: Any) -> None:
        await self._connection.connect("127.0.0.1", port, self.nick, **more)
        await self.sees(lambda h: h.kind == "welcome")

    def _hear(self, _connection: Any, event: Any) -> None:
        if event.type in ("all_raw_messages", "ctcp"):
            return
        arguments = tuple(event.arguments)
        self.seen.add(
            Heard(
                kind=_KINDS.get(event.type, event.type),
                nick=getattr(event.source, "nick", None) or str(event.source or ""),
                source=str(event.source or ""),
                target=str(event.target or ""),
                words=arguments[0] if arguments else "",
                arguments=arguments,
                tags={tag["key"]: tag["value"] or "" for tag in event.tags or []},
            )
        )

    # What they do --------------------------------------------------------------------------------------------

    async def want(self, *capabilities: str) -> None:
        """Ask for capabilities, which must be granted."""
        self._connection.cap("REQ", *capabilities)
        await self.sees(lambda h: h.kind == "cap" and "ACK" in h.arguments, what="the capabilities")

    async def join(self, channel: str, key: str = "") -> None:
        self._connection.join(channel, key)
        await self.sees(
            lambda h: h.kind == "endofnames" and h.words.lower() == channel.lower(), what=f"{channel}"
        )

    def part(self, channel: str, words: str = "") -> None:
        self._connection.part(channel, words)

    def say(self, target: str, words: str) -> None:
        self._connection.privmsg(target, words)

    def me(self, target: str, words: str) -> None:
        self._connection.action(target, words)

    def notice(self, target: str, words: str) -> None:
        self._connection.notice(target, words)

    def raw(self, line: str) -> None:
        """One line as it is."""
        self._connection.send_raw(line)

    def encoding(self, name: str) -> None:
        """Speak in another encoding than UTF-8."""
        self._connection.transmit_encoding = name

    def mode(self, channel: str, change: str) -> None:
        self._connection.mode(channel, change)

    def topic(self, channel: str, words: str) -> None:
        self._connection.topic(channel, words)

    def kick(self, channel: str, nick: str, words: str = "") -> None:
        self._connection.kick(channel, nick, words)

    def invite(self, nick: str, channel: str) -> None:
        self._connection.invite(nick, channel)

    async def rename(self, nick: str) -> None:
        self._connection.nick(nick)
        await self.sees(lambda h: h.kind == "nick" and h.target == nick)
        self.nick = nick

    async def names(self, channel: str) -> set[str]:
        """Who is in the channel, with the signs of their modes."""
        self._connection.names([channel])
        found: set[str] = set()
        while True:
            heard = await self.sees(lambda h: h.kind in ("namreply", "endofnames"), what="the names")
            if heard.kind == "endofnames":
                return found
            found |= {name.partition("!")[0] for name in heard.arguments[2].split()}

    async def whois(self, nick: str) -> dict[str, Heard]:
        """What the server tells of somebody, by the kind of line."""
        self._connection.whois([nick])
        found: dict[str, Heard] = {}
        while True:
            heard = await self.sees(lambda h: h.kind.startswith(("whois", "endofwhois", "3", "nosuchnick")))
            found[heard.kind] = heard
            if heard.kind == "endofwhois":
                return found

    def quit(self, words: str = "bye") -> None:
        with suppress(irc.client.ServerNotConnectedError, OSError):
            self._connection.disconnect(words)

    # What they see -------------------------------------------------------------------------------------------

    async def sees(
        self, matches: Callable[[Heard], bool], seconds: float = 60, what: str = "the line"
    ) -> Heard:
        """The next event that matches and was not taken before. Raises NotSeen."""
        return await self.seen.take(matches, seconds, f"{self.nick}: {what}")

    async def reads(
        self, words: str, *, target: str = "", kind: str = "text", nick: str = "", seconds: float = 60
    ) -> Heard:
        """The next thing said with exactly these words, codes and all. Raises NotSeen."""
        return await self.sees(
            lambda h: (
                h.kind == kind
                and h.words == words
                and target.lower() in ("", h.target.lower())
                and nick in ("", h.nick)
            ),
            seconds,
            f"“{words[:60]}”",
        )

    def said(self, words: str) -> int:
        """How often somebody said that so far, in whatever way."""
        return sum(1 for h in self.seen.all if h.kind in ("text", "emote", "notice") and words in h.words)


@asynccontextmanager
async def peer(port: int, nick: str, *channels: str, tags: bool = False, **more: Any) -> AsyncIterator[Peer]:
    """Connect to 127.0.0.1:port, register, join; ends with QUIT."""
    reactor = irc.client_aio.AioReactor(loop=asyncio.get_running_loop())
    one = Peer(reactor, nick)
    await one.connect(port, **more)
    try:
        if tags:
            await one.want(*TAGS)
        for channel in channels:
            await one.join(channel)
        yield one
    finally:
        one.quit()
        await asyncio.sleep(0)
