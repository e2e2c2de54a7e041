"""The echo connector keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Connector, Emit, Host, Network, Session
from bridgekit.contract.facts import Fact, Message
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Login, Person
from bridgekit.contract.verbs import Sent, Verb
from bridgekit.testing.contract import Ability, ConnectorContract
from connectors.echo.connector import EchoConfig, connector


class Overheard:
    """The peer: nobody but Echo lives there, so what was said is known from what Echo repeats."""

    abilities: frozenset[Ability] = frozenset()
    shared = "#room"
    somebody = "echo"
    nowhere = ""

    def __init__(self) -> None:
        self.repeated: list[tuple[ChatId, str]] = []

    async def say(self, chat: ChatId, who: str, words: str) -> None:
        raise NotImplementedError

    async def whisper(self, to: Person, who: str, words: str) -> None:
        raise NotImplementedError

    async def received(self, chat: ChatId) -> list[str]:
        return [words for where, words in self.repeated if where == chat]

    async def injected(self, mark: str) -> list[str]:
        return []  # there is no wire into which anything could be put

    async def drop(self) -> None:
        raise NotImplementedError

    async def refuse_logins(self) -> None:
        raise NotImplementedError

    def note(self, fact: Fact) -> None:
        if isinstance(fact, Message):
            self.repeated.append((fact.chat, fact.content.text.body))


class OverheardSession:
    """A session whose facts the peer hears, too."""

    def __init__(self, inner: Session, peer: Overheard) -> None:
        self._inner = inner
        self._peer = peer

    @property
    def me(self) -> Person:
        return self._inner.me

    def capabilities(self, chat: ChatId) -> Capabilities:
        return self._inner.capabilities(chat)

    async def run(self, emit: Emit) -> None:
        def both(fact: Fact) -> None:
            self._peer.note(fact)
            emit(fact)

        await self._inner.run(both)

    async def perform(self, verb: Verb) -> Sent | None:
        return await self._inner.perform(verb)


class OverheardNetwork:
    """A network with such sessions."""

    def __init__(self, inner: Network, peer: Overheard) -> None:
        self._inner = inner
        self._peer = peer
        self.own_accounts = inner.own_accounts
        self.asks_first = inner.asks_first
        self.retells = inner.retells

    @asynccontextmanager
    async def connect(self, login: Login | None) -> AsyncIterator[OverheardSession]:
        async with self._inner.connect(login) as session:
            yield OverheardSession(session, self._peer)

    def chat_id(self, name: str) -> tuple[ChatId, bool] | None:
        return self._inner.chat_id(name)

    def chat_name(self, chat: ChatId) -> str:
        return self._inner.chat_name(chat)

    def whereabouts(self, chat: ChatId) -> str:
        return self._inner.whereabouts(chat)

    def direct(self, person: PersonId) -> ChatId | None:
        return self._inner.direct(person)

    def is_service(self, person: PersonId) -> bool:
        return self._inner.is_service(person)


class OverheardConnector:
    """The echo connector with ears."""

    manifest = connector.manifest

    def __init__(self, peer: Overheard) -> None:
        self._peer = peer

    def network(self, config: EchoConfig, host: Host) -> OverheardNetwork:
        return OverheardNetwork(connector.network(config, host), self._peer)


class TestEcho(ConnectorContract):
    @pytest.fixture
    def peer(self) -> Overheard:
        return Overheard()

    @pytest.fixture
    def connector(self, peer: Overheard) -> Connector:
        return OverheardConnector(peer)

    @pytest.fixture
    def config(self) -> EchoConfig:
        return EchoConfig()

    @pytest.fixture
    def login(self) -> Login:
        return Login(id=LoginId("ada"), owner=PersonId("@ada:example.org"))
