"""The IRC connector keeps the contract, on servers of 1993 and of today."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from bridgekit.contract.connector import Connector
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Login, Person
from bridgekit.testing.contract import Ability, ConnectorContract
from connectors.irc.config import IrcConfig
from connectors.irc.connector import IrcConnector
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd

_NEVER_ON_A_LINE = re.compile(r"[\r\n\0]")


class IrcPeer:
    """A scripted server and the people on it."""

    abilities = frozenset(Ability)
    shared = "#Contract"
    somebody = "Carol"
    nowhere = "nobody-is-called-so"

    def __init__(self, ircd: Ircd) -> None:
        self.ircd = ircd
        ircd.user(self.somebody)

    async def say(self, chat: ChatId, who: str, words: str) -> None:
        self.ircd.user(who, chat).say(chat, _sayable(words))

    async def whisper(self, to: Person, who: str, words: str) -> None:
        self.ircd.user(who).say(to.name, _sayable(words))

    async def received(self, chat: ChatId) -> list[str]:
        if chat.startswith("#"):
            history = self.ircd.channel(chat).history
            return [out.params[1] for out in history if out.user is not None and out.user.client is not None]
        return [out.params[1] for out in self.ircd.user(chat).heard if out.command in ("PRIVMSG", "NOTICE")]

    async def injected(self, mark: str) -> list[str]:
        return self.ircd.lines(rf"^(@\S* )?(:\S* )?{mark}")

    async def drop(self) -> None:
        for client in list(self.ircd.clients):
            client.abort()

    async def refuse_logins(self) -> None:
        self.ircd.refuse = "Closing Link: 127.0.0.1 (K-Lined: no bridges here)"


def _sayable(words: str) -> str:
    """What can stand on a line of a client at all."""
    return _NEVER_ON_A_LINE.sub(" ", words).encode("utf-8", "replace").decode() or " "


class IrcContract(ConnectorContract):
    caps: dict[str, str]

    @pytest.fixture
    async def peer(self) -> AsyncIterator[IrcPeer]:
        ircd = Ircd(caps=self.caps)
        async with ircd.serving():
            yield IrcPeer(ircd)

    @pytest.fixture
    def connector(self) -> Connector:
        return IrcConnector()

    @pytest.fixture
    def config(self, peer: IrcPeer) -> IrcConfig:
        server = {"host": "127.0.0.1", "port": peer.ircd.port, "tls": False}
        return IrcConfig.model_validate({"servers": [server], "flood": {"refill": 0, "lead_max": 0}})

    @pytest.fixture
    def login(self) -> Login:
        return Login(id=LoginId("ann"), owner=PersonId("@ann:example.org"), fields={"nick": "annie"})


class TestPlain(IrcContract):
    """RFC 1459 and nothing else."""

    caps = PLAIN


class TestModern(IrcContract):
    """Every extension that the modern servers have."""

    caps = FULL
