"""A bridge of a few lines for tests: a host in memory, and sessions that run while a test looks at their facts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

from bridgekit.contract.facts import ChatOpened, Fact, Message
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Login
from bridgekit.testing.host import FakeHost
from connectors.irc.config import IrcConfig
from connectors.irc.connector import connector
from connectors.irc.network import IrcNetwork
from connectors.irc.session import IrcSession
from connectors.irc.testing.ircd import Ircd

F = TypeVar("F", bound=Fact)


class MemoryHost(FakeHost):
    """A host without a public address; `kept` is what outlives a restart."""

    def __init__(self, chats: Iterable[str] = (), kept: dict[str, bytes] | None = None) -> None:
        super().__init__(linked=[ChatId(chat) for chat in chats], kept=kept)


class Running:
    """A session that runs: its facts so far, and how it ended."""

    def __init__(self, session: IrcSession) -> None:
        self.session = session
        self.facts: list[Fact] = []
        self.task = asyncio.create_task(session.run(self.emit), name="irc-run")
        self._came = asyncio.Event()

    def emit(self, fact: Fact) -> None:
        """Keep it."""
        self.facts.append(fact)
        self._came.set()

    def all(self, kind: type[F]) -> list[F]:
        """The facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def said(self) -> list[str]:
        """The words of all messages."""
        return [fact.content.text.body for fact in self.all(Message)]

    async def fact(self, kind: type[F], count: int = 1, seconds: float = 60.0, **fields: Any) -> F:
        """Wait for the `count`th fact of a kind whose fields are so; raises TimeoutError with what came instead."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    fit = [f for f in self.all(kind) if all(getattr(f, k) == v for k, v in fields.items())]
                    if len(fit) >= count:
                        return fit[count - 1]
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise TimeoutError(f"no {kind.__name__} {fields}; the last facts: {self.facts[-10:]}") from None

    async def ended(self, seconds: float = 60.0) -> BaseException | None:
        """Wait until `run` is over; what it raised."""
        await asyncio.wait([self.task], timeout=seconds)
        if not self.task.done():
            raise TimeoutError("the session goes on")
        return self.task.exception()


def network_of(ircd: Ircd, host: MemoryHost | None = None, **config: Any) -> IrcNetwork:
    """A network of one server without TLS and without flood control, unless the test says otherwise."""
    server = {"host": "127.0.0.1", "port": ircd.port or 6667, "tls": False}
    settings = {"servers": [server], "flood": {"refill": 0}, **config}
    return connector.network(IrcConfig.model_validate(settings), host or MemoryHost())


def login_of(user: str, **fields: str) -> Login:
    """A Matrix user's login."""
    return Login(id=LoginId(user), owner=PersonId(f"@{user}:example.org"), fields=fields)


@contextlib.asynccontextmanager
async def running(network: IrcNetwork, login: Login | None = None) -> AsyncIterator[Running]:
    """Connect and run for the length of an `async with`."""
    async with network.connect(login) as session:
        running = Running(session)
        try:
            yield running
        finally:
            running.task.cancel()
            await asyncio.wait([running.task])


@contextlib.asynccontextmanager
async def bridge_in(ircd: Ircd, **config: Any) -> AsyncIterator[Running]:
    """The bridge in `#c`, on a server that serves as long."""
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#c"]), **config)) as bridge:
        await bridge.fact(ChatOpened)
        yield bridge
