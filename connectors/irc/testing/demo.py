"""IRC's part of the demo: a plain server, real or scripted, and the people of the play on it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bridgekit.testing.servers.process import ServerUnavailable
from bridgekit.testing.stage import Stage
from connectors.irc.testing.inspircd import inspircd
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd
from connectors.irc.testing.ngircd import ngircd
from connectors.irc.testing.person import irc_person
from connectors.irc.testing.play import CHANNEL, NETWORK, Play
from connectors.irc.testing.play_tags import CAPS, REDACTION, TagPlay

MODERN = "modern"
NEWEST = "newest"


class IrcDemo:
    """`bridgekit.testing.stage.Show`: ngircd and InspIRCd, or the scripted server where they are not installed.

    No server that Debian has can take words back (draft/message-redaction): for that, the scripted one plays anyhow.
    """

    title = "IRC servers"

    def __init__(self) -> None:
        self.port = 0
        self.modern = 0
        self.newest = 0
        self._about = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start the server."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(ngircd())
                self.port, self._about = server.port, f"ngircd, 127.0.0.1:{server.port}"
            except ServerUnavailable as missing:
                scripted = await stack.enter_async_context(Ircd(caps=PLAIN).serving())
                self.port = scripted.port
                self._about = f"NOT a real server: bridgekit's own scripted ircd stands in. {missing}"
            try:
                tagged = await stack.enter_async_context(inspircd())
                self.modern = tagged.port
                self._about += "; InspIRCd"
            except ServerUnavailable as missing:
                scripted = await stack.enter_async_context(Ircd(caps=FULL).serving())
                self.modern = scripted.port
                self._about += f"; in place of InspIRCd, bridgekit's own scripted ircd. {missing}"
            newest = await stack.enter_async_context(Ircd(caps=FULL, first_id=1_000_000).serving())
            self.newest = newest.port
            self._about += "; and a scripted one, NOT a real server, for what Debian has none for (REDACT)"
            yield

    def about(self) -> str:
        return self._about

    def networks(self) -> Mapping[str, Any]:
        return {
            NETWORK: {
                "connector": "irc",
                "consent": "off",  # all channels here are our own
                "direct": "anyone",  # so that somebody whom alice does not know can write to her
                "name": "Lab",
                "servers": [{"host": "127.0.0.1", "port": self.port, "tls": False}],
                "nick": "bridge",
                "max_lines": 12,
                "flood": {"refill": 0, "lead_max": 0},  # our own server: no reason to hold back
                "puppets": {"connects_per_second": 20},
            },
            MODERN: self._tagged("Modern", self.modern),
            NEWEST: self._tagged("Newest (scripted)", self.newest),
        }

    @staticmethod
    def _tagged(name: str, port: int) -> dict[str, Any]:
        return {
            "connector": "irc",
            "consent": "off",
            "name": name,
            "servers": [{"host": "127.0.0.1", "port": port, "tls": False}],
            "nick": "bridge",
            "flood": {"refill": 0, "lead_max": 0},
            "puppets": {"mode": "auto", "connects_per_second": 20},
        }

    def by_hand(self) -> list[str]:
        return [
            f"join         #{CHANNEL[1:]}:demo.test   in Matrix",
            f"join         {CHANNEL}   on IRC: /connect 127.0.0.1 {self.port} (no TLS)",
        ]

    async def play(self, stage: Stage) -> None:
        alice = stage.people[0]
        bob = await stage.keep(irc_person(self.port, "bob"))
        carol = await stage.keep(irc_person(self.port, "carol"))
        play = Play(stage, alice, bob, carol)
        await play.all()
        dora = await stage.keep(irc_person(self.modern, "dora", caps=CAPS))
        tags = TagPlay(stage, alice, dora, MODERN, "#modern")
        await stage.act(
            "Replies and reactions, on a server that has words for them",
            _linked(tags, tags.replies_and_reactions),
        )
        dora = await stage.keep(irc_person(self.newest, "dora", caps=(*CAPS, REDACTION)))
        tags = TagPlay(stage, alice, dora, NEWEST, "#newest")
        await stage.act("Deletions, on a scripted server", _linked(tags, tags.deletions))
        await play.encrypted_room()


async def _linked(tags: TagPlay, act: Callable[[], Awaitable[None]]) -> None:
    await tags.link()
    await act()
