"""The bridge as a component, on a real server or in the scripted one's room, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from bridgekit.contract.connector import Session
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.verbs import Join
from bridgekit.testing.host import FakeHost
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.testing import prosody
from connectors.xmpp.testing.script import COMPONENT, ROOM, ScriptedServer

F = TypeVar("F", bound=Fact)


class Inside:
    """The session, and the facts so far."""

    def __init__(self, session: Session, host: FakeHost) -> None:
        self.session = session
        self.host = host
        self.told: list[Fact] = []

    def all(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.told if isinstance(fact, kind)]

    async def join(self, room: str) -> None:
        """Be in a room, as its reader."""
        await self.session.perform(Join(chat=ChatId(room)))


@asynccontextmanager
async def component(
    port: int, host: FakeHost, *, jid: str = prosody.COMPONENT, secret: str = prosody.SECRET
) -> AsyncIterator[Inside]:
    """The bridge as a component, read."""
    config = XmppConfig.model_validate({"mode": "component", "jid": jid, "secret": secret, "port": port})
    async with XmppConnector().network(config, host).connect(None) as session:
        place = Inside(session, host)
        reader = asyncio.create_task(session.run(place.told.append))
        try:
            yield place
        finally:
            reader.cancel()
            await asyncio.wait([reader])


@asynccontextmanager
async def inside(server: ScriptedServer, host: FakeHost | None = None) -> AsyncIterator[Inside]:
    """In the scripted server's room, as its reader."""
    async with component(server.port, host or FakeHost(), jid=COMPONENT, secret="s") as place:
        await place.join(ROOM)
        yield place


async def until(holds: Callable[[], object]) -> None:
    """Wait until it holds. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
