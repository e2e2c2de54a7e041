"""IRC's part of the demo: a plain server, real or scripted, and the people of the play on it."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bridgekit.testing.servers.process import ServerUnavailable
from bridgekit.testing.stage import Stage
from connectors.irc.testing.ircd import PLAIN, Ircd
from connectors.irc.testing.ngircd import ngircd
from connectors.irc.testing.person import irc_person
from connectors.irc.testing.play import CHANNEL, NETWORK, Play


class IrcDemo:
    """`bridgekit.testing.stage.Show`: ngircd, or the scripted server where that is not installed."""

    title = "an IRC server"

    def __init__(self) -> None:
        self.port = 0
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
            yield

    def about(self) -> str:
        return self._about

    def networks(self) -> Mapping[str, Any]:
        return {
            NETWORK: {
                "connector": "irc",
                "consent": "off",  # all channels here are our own
                "name": "Lab",
                "servers": [{"host": "127.0.0.1", "port": self.port, "tls": False}],
                "nick": "bridge",
                "max_lines": 12,
                "flood": {"refill": 0, "lead_max": 0},  # our own server: no reason to hold back
                "puppets": {"connects_per_second": 20},
            }
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
        await Play(stage, alice, bob, carol).all()
