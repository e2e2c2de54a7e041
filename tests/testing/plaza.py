"""A network in memory for tests of the contract suite, and the ways in which its connector can break a promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import count

from pydantic import BaseModel, ConfigDict

from bridgekit.contract import facts, verbs
from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit, Host, LoginField, Manifest, OwnAccounts
from bridgekit.contract.errors import Disconnected, LoginRejected, SendRejected
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Login, Person
from bridgekit.contract.split import lines
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Sent, Verb
from bridgekit.testing.contract import Ability


class Fault(StrEnum):
    """What the connector does wrong."""

    SAYS_TWICE = "it says everything twice"
    NAMES_ONE_LINE = "it puts the speaker before the first line only"
    INJECTS = "it hands line ends to the wire"
    LOSES_ORDER = "it says what is long later"
    SAYS_NOTHING = "it says nothing and claims that it did"
    BREAKS_ON_VERBS = "it raises KeyError for what it does not know"
    MUMBLES = "it gives error codes for sentences"
    LEAKS = "it leaves a task behind"
    NEVER_ENDS = "it does not notice that the connection is gone"
    PUBLISHES = "it takes what is private for shared"
    REPEATS_IDS = "it gives the same id to the same words"
    HEARS_ITSELF = "it tells its own words as somebody else's"
    TELLS_NONSENSE = "it emits what cannot be written to disk"
    DENIES = "it says that nothing was sent when it was"


class PlazaConfig(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid")


class Plaza:
    """The place itself, and the suite's peer."""

    abilities = frozenset(Ability)
    shared = "#plaza"
    somebody = "carol"
    nowhere = "#walled"

    def __init__(self, *faults: Fault) -> None:
        self.faults = set(faults)
        self.said: list[tuple[ChatId, str]] = []
        self.commands: list[str] = []
        self.sessions: list[PlazaSession] = []
        self.closed = False

    async def say(self, chat: ChatId, who: str, words: str) -> None:
        for session in self.sessions:
            session.hear(chat, who, words)

    async def whisper(self, to: Person, who: str, words: str) -> None:
        for session in self.sessions:
            if session.me == to:
                session.hear(ChatId(who), who, words, private=True)

    async def received(self, chat: ChatId) -> list[str]:
        return [words for where, words in self.said if where == chat]

    async def injected(self, mark: str) -> list[str]:
        return [command for command in self.commands if command.startswith(mark)]

    async def drop(self) -> None:
        for session in list(self.sessions):
            session.lost.set()

    async def refuse_logins(self) -> None:
        self.closed = True

    def wire(self, chat: ChatId, line: str) -> None:
        """What the connector writes: one line; whatever follows a line end is a command."""
        first, *rest = line.split("\n")
        self.said.append((chat, first))
        self.commands += rest


class PlazaSession:
    """One connection."""

    def __init__(self, plaza: Plaza, name: str) -> None:
        self.me = Person(id=PersonId(name), name=name, bot=True)
        self.lost = asyncio.Event()
        self._plaza = plaza
        self._heard: asyncio.Queue[facts.Fact] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._ids = count(1)

    def _has(self, fault: Fault) -> bool:
        return fault in self._plaza.faults

    def capabilities(self, chat: ChatId) -> Capabilities:
        known: frozenset[type[verbs.VerbBase]] = frozenset({verbs.PostMessage, verbs.Join, verbs.Leave})
        return Capabilities(verbs=known, kinds=frozenset(Kind), pipeline=8)

    def hear(self, chat: ChatId, who: str, words: str, *, private: bool = False) -> None:
        id = words if self._has(Fault.REPEATS_IDS) else str(next(self._ids))
        if self._has(Fault.TELLS_NONSENSE):
            words += "\ud800"
        heard = facts.Message(
            chat=chat,
            at=1_700_000_000_000,
            private=private and not self._has(Fault.PUBLISHES),
            sender=Person(id=PersonId(who), name=who),
            id=MessageId(id),
            content=Content(text=plain(words)),
        )
        self._heard.put_nowait(heard)

    async def run(self, emit: Emit) -> None:
        while self._has(Fault.NEVER_ENDS) or not self.lost.is_set():
            try:
                async with asyncio.timeout(0.01):
                    emit(await self._heard.get())
            except TimeoutError:
                continue
        raise Disconnected("The plaza has closed its gates.")

    async def perform(self, verb: Verb) -> Sent | None:
        if self.lost.is_set():
            raise Disconnected("The plaza has closed its gates.")
        match verb:
            case verbs.Join():
                self._heard.put_nowait(facts.ChatOpened(chat=verb.chat, at=1))
                return None
            case verbs.Leave():
                return None
            case verbs.PostMessage() if verb.chat == "#walled":
                raise SendRejected(
                    "404" if self._has(Fault.MUMBLES) else "There is a wall around that place."
                )
            case verbs.PostMessage():
                return await self._say(verb)
            case _ if self._has(Fault.BREAKS_ON_VERBS):
                raise KeyError(type(verb).__name__)
            case _:
                raise SendRejected("Nobody can do that on the plaza.")

    async def _say(self, verb: verbs.PostMessage) -> Sent:
        if self._has(Fault.LOSES_ORDER):
            await asyncio.sleep(0.001 * (len(verb.content.text.body) % 3))
        return await self._spoken(verb)

    async def _spoken(self, verb: verbs.PostMessage) -> Sent:
        await asyncio.sleep(0)
        if self.lost.is_set():
            raise Disconnected("The plaza has closed its gates.")
        body = verb.content.text.body.replace("\0", "")
        said = [body] if self._has(Fault.INJECTS) else [text.body for text in lines(plain(body))]
        for i, line in enumerate([] if self._has(Fault.SAYS_NOTHING) else said):
            named = verb.prefix if i == 0 or not self._has(Fault.NAMES_ONE_LINE) else ""
            for _ in range(2 if self._has(Fault.SAYS_TWICE) else 1):
                self._plaza.wire(verb.chat, f"{named}{line}")
        if self._has(Fault.HEARS_ITSELF):
            self.hear(verb.chat, self.me.name, body)
        if self._has(Fault.DENIES) and "cancelled" in body:
            raise Disconnected("Nothing at all was sent.")
        return Sent(id=MessageId(f"own-{next(self._ids)}"))


class PlazaNetwork:
    """How its chats are called: `#shared`, and people by their names."""

    own_accounts = OwnAccounts.ON_REQUEST
    asks_first = False
    retells = False

    def __init__(self, plaza: Plaza) -> None:
        self._plaza = plaza
        self._leaks: list[asyncio.Task[bool]] = []

    @asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[PlazaSession]:
        if self._plaza.closed:
            raise LoginRejected(
                "1" if Fault.MUMBLES in self._plaza.faults else "The plaza is closed for today."
            )
        session = PlazaSession(self._plaza, login.id if login is not None else "relay")
        if Fault.LEAKS in self._plaza.faults:
            self._leaks.append(asyncio.create_task(asyncio.Event().wait()))
        self._plaza.sessions.append(session)
        try:
            yield session
        finally:
            self._plaza.sessions.remove(session)

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        words = name.strip().lower()
        if not words or len(words.split()) > 1 or not words.isprintable():
            return None
        return ChatId(words), not words.startswith("#")

    def chat_name(self, chat: ChatId) -> str:
        return chat

    def whereabouts(self, chat: ChatId) -> str:
        return ""

    def direct(self, person: PersonId) -> ChatId | None:
        return ChatId(person)

    def is_service(self, person: PersonId) -> bool:
        return False


class PlazaConnector:
    """Its manifest."""

    manifest = Manifest(
        id="plaza",
        name="The plaza",
        config=PlazaConfig,
        login_fields=(LoginField(name="password", title="Password", password=True),),
        example_chat="#plaza",
    )

    def __init__(self, plaza: Plaza) -> None:
        self._plaza = plaza

    def network(self, config: PlazaConfig, host: Host) -> PlazaNetwork:
        return PlazaNetwork(self._plaza)
