"""A session on the bench: connected, read, and watched while a check performs verbs on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, get_args

from bridgekit.contract import facts
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Network, Session
from bridgekit.contract.errors import BridgeError, Disconnected
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Login
from bridgekit.contract.verbs import Join, Sent, Verb
from bridgekit.testing.contract.peer import Peer
from bridgekit.testing.contract.samples import is_sentence, post

F = TypeVar("F", bound=Fact)
FACTS: tuple[type[Fact], ...] = get_args(Fact)
PATIENCE = 30.0
"""Seconds in which a peer on the same machine must have been heard."""


async def eventually(holds: Callable[[], object], *, what: Callable[[], str]) -> None:
    """Return once it holds. Raises TimeoutError that says `what` is instead."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 - what is looked at has no event of its own
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise TimeoutError(what()) from None


class Bench:
    """One open session, and everything that it emitted."""

    def __init__(self, network: Network, session: Session, peer: Peer) -> None:
        self.network = network
        self.session = session
        self.peer = peer
        self.heard: list[Fact] = []
        self.broken: list[str] = []
        self.reading: asyncio.Task[None] | None = None
        self._came = asyncio.Event()

    @property
    def shared(self) -> ChatId:
        """The shared chat in which most checks take place."""
        return chat_called(self.network, self.peer.shared)

    def can(self, chat: ChatId | None = None) -> Capabilities:
        """What the session can do, in the shared chat unless told otherwise."""
        return self.session.capabilities(chat or self.shared)

    def emit(self, fact: Fact) -> None:
        """What the bridge would do at once: write it down."""
        if not isinstance(fact, FACTS):
            self.broken.append(f"{type(fact).__name__} is not a fact")
            return
        try:
            if facts.decode(facts.encode(fact)) != fact:
                self.broken.append(f"{fact!r} is another fact when it is read back from disk")
        except Exception as error:
            self.broken.append(f"{fact!r} cannot be written to disk and read back: {error!r}")
        self.heard.append(fact)
        self._came.set()

    def all(self, kind: type[F]) -> list[F]:
        """The facts of one kind, so far."""
        return [fact for fact in self.heard if isinstance(fact, kind)]

    async def hear(
        self, kind: type[F], count: int = 1, *, where: Callable[[F], object] = lambda _: True
    ) -> list[F]:
        """The first `count` facts of a kind. Raises TimeoutError, with what came instead."""
        try:
            async with asyncio.timeout(PATIENCE):
                while len(found := [fact for fact in self.all(kind) if where(fact)]) < count:
                    self._came.clear()
                    await self._came.wait()
                return found[:count]
        except TimeoutError:
            last = [type(fact).__name__ for fact in self.heard[-20:]]
            raise TimeoutError(
                f"{count} {kind.__name__} did not come in {PATIENCE} s; what came last: {last}"
            ) from None

    async def message(self, words: str) -> facts.Message:
        """The message that says `words` somewhere in its text."""
        (found,) = await self.hear(facts.Message, where=lambda m: words in m.content.text.body)
        return found

    async def enter(self, chat: ChatId) -> None:
        """Be in the chat, as the bridge is in a linked one."""
        if Join in self.session.capabilities(chat).verbs:
            await self.perform(Join(chat=chat))
        await self.hear(facts.ChatOpened, where=lambda fact: fact.chat == chat)

    async def perform(self, verb: Verb) -> Sent | None:
        """Perform it as a worker does, but not for ever."""
        async with asyncio.timeout(6 * PATIENCE):
            return await self.session.perform(verb)

    async def attempt(self, verb: Verb, *, hostile: bool = False) -> Sent | BridgeError | None:
        """Perform it, and check whatever comes of it: ids, or an expected failure with a sentence.

        A sentence about `hostile` words may quote them, as long as it stays one line.
        """
        try:
            sent = await self.perform(verb)
        except BridgeError as error:
            failure = error
        else:
            check_sent(sent)
            return sent
        if hostile:
            assert failure.notice.strip()
            assert not set(failure.notice) & set("\r\n\0"), f"{failure.notice!r} is more than a line"
        else:
            assert is_sentence(failure.notice), f"{type(verb).__name__}: {failure.notice!r} is no sentence"
        return failure

    async def pipelined(self, verbs: list[Verb]) -> list[Sent | BridgeError | None]:
        """Perform them all, in order, as many at once as the session allows."""
        most = self.can().pipeline
        tasks: list[asyncio.Task[Sent | BridgeError | None]] = []
        running: set[asyncio.Task[Sent | BridgeError | None]] = set()
        for verb in verbs:
            if len(running) >= most:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            tasks.append(asyncio.create_task(self.attempt(verb)))
            running.add(tasks[-1])
        return list(await asyncio.gather(*tasks))

    async def received(self, words: str, count: int = 1, chat: ChatId | None = None) -> list[str]:
        """The peer's messages that hold `words`, once there are `count` of them. Raises TimeoutError."""
        chat = chat or self.shared
        found: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while len(found) < count:
                    found = [said for said in await self.peer.received(chat) if words in said]
                    await asyncio.sleep(0.01)
        except TimeoutError:
            everything = [said[:80] for said in (await self.peer.received(chat))[-10:]]
            raise TimeoutError(
                f"the peer did not receive {words!r} {count} times; what it received last: {everything}"
            ) from None
        return found

    async def works(self, words: str) -> None:
        """Say something more, and see it arrive: whatever came before broke nothing."""
        await self.perform(post(self.shared, words))
        await self.received(words)
        assert self.reading is not None
        assert not self.reading.done(), "the session's reader has ended"

    async def ended(self) -> BaseException | None:
        """What `run` raised, once it is over. Raises TimeoutError where it goes on."""
        assert self.reading is not None
        await asyncio.wait([self.reading], timeout=6 * PATIENCE)
        if not self.reading.done():
            raise TimeoutError("run() goes on although the connection is gone")
        return self.reading.exception()


def check_sent(sent: object) -> None:
    """What comes back names messages by strings that are not empty."""
    assert sent is None or isinstance(sent, Sent), repr(sent)
    if sent is not None:
        ids: list[object] = [*([] if sent.id is None else [sent.id]), *sent.more]
        assert all(isinstance(one, str) and one != "" for one in ids), repr(sent)
        assert sent.id is not None or not sent.more, "further ids without a first one"


def chat_called(network: Network, name: str) -> ChatId:
    """The chat that people call `name`."""
    found = network.chat_id(name)
    assert found is not None, f"{name!r} is no chat on this network"
    return found[0]


@asynccontextmanager
async def opened(network: Network, peer: Peer, login: Login | None = None) -> AsyncIterator[Bench]:
    """Connect and read for the length of an `async with`; what is wrong with the facts fails the check at its end."""
    async with network.connect(login) as session:
        bench = Bench(network, session, peer)
        bench.reading = asyncio.create_task(session.run(bench.emit), name="contract reader")
        try:
            yield bench
        finally:
            bench.reading.cancel()
            await asyncio.wait([bench.reading])
            error = None if bench.reading.cancelled() else bench.reading.exception()
            if error is not None and not isinstance(error, Disconnected):
                raise error
    assert not bench.broken, bench.broken[0]
