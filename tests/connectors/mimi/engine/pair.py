"""Two sessions of the connector, each a provider: the first is the hub of the room, the second follows."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from bridgekit.contract import facts, verbs
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, File, Person
from bridgekit.contract.text import plain
from bridgekit.testing.host import FakeHost
from bridgekit.testing.servers.process import free_port
from connectors.mimi.certificates import Authority
from connectors.mimi.clients.tenants import Tenants
from connectors.mimi.config import MimiConfig
from connectors.mimi.connector import connector
from connectors.mimi.session import MimiSession

ROOM = ChatId("mimi://a.example/r/club")
F = TypeVar("F", bound=Fact)


class Side:
    """One provider; `kept` outlives its sessions."""

    def __init__(self, config: MimiConfig) -> None:
        self.config = config
        self.kept: dict[str, bytes] = {}
        self.heard: list[Fact] = []
        self.host: FakeHost
        self.session: MimiSession
        self._came = asyncio.Event()

    @asynccontextmanager
    async def up(self, *, linked: bool = True) -> AsyncIterator[MimiSession]:
        """Connected and reading, with the room linked."""
        self.host = FakeHost("mimi", linked=[ROOM] if linked else [], kept=self.kept)
        network = connector.network(self.config, self.host)
        async with network.connect(None) as session:
            assert isinstance(session, MimiSession)
            self.session = session
            reading = asyncio.create_task(session.run(self._emit))
            try:
                if linked:
                    await self.hears(facts.ChatOpened)
                yield session
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    def _emit(self, fact: Fact) -> None:
        self.heard.append(fact)
        self._came.set()

    async def hears(self, kind: type[F], where: Callable[[F], bool] = lambda _: True) -> F:
        """The first fact of a kind."""
        async with asyncio.timeout(30):
            while True:
                for fact in self.heard:
                    if isinstance(fact, kind) and where(fact):
                        return fact
                self._came.clear()
                await self._came.wait()

    @property
    def tenants(self) -> Tenants:
        """The clients that are hosted there."""
        return self.session.tenants

    def person(self, who: str) -> Person:
        """A Matrix user of this side."""
        return Person(id=PersonId(f"@{who}:hs"), name=who)

    async def says(
        self,
        who: str,
        words: str,
        *,
        key: str = "",
        file: File | None = None,
        thread: MessageId | None = None,
    ) -> MessageId:
        """Somebody of this side says it; the message's id."""
        content = Content(text=plain(words), file=file)
        sent = await self.session.perform(
            verbs.PostMessage(chat=ROOM, content=content, speaker=self.person(who), key=key, thread=thread)
        )
        assert sent is not None
        assert sent.id is not None
        return sent.id

    async def reads(self, words: str) -> facts.Message:
        """The message with these words."""
        return await self.hears(facts.Message, lambda m: m.content.text.body == words)

    @property
    def bodies(self) -> list[str]:
        """All that was said by people of the other side, in order."""
        return [fact.content.text.body for fact in self.heard if isinstance(fact, facts.Message)]


class Pair:
    """`a` is the hub."""

    def __init__(self, folder: Path, *, open_rooms: bool = True) -> None:
        self.authority = authority = Authority(folder, now=datetime.datetime.now(datetime.UTC))
        ports = {"a.example": free_port(), "b.example": free_port()}
        peers = {domain: f"https://127.0.0.1:{port}" for domain, port in ports.items()}
        made = []
        for domain, port in ports.items():
            credentials = authority.issue(domain)
            config = MimiConfig(
                domain=domain,
                certificate=credentials.certificate,
                key=credentials.key,
                authorities=authority.path,
                listen="127.0.0.1",
                port=port,
                public_url=f"https://{domain}:{port}",
                open_rooms=open_rooms,
                peers=peers,
            )
            made.append(Side(config))
        self.a, self.b = made

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Both."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.a.up())
            await stack.enter_async_context(self.b.up())
            yield
