"""The XMPP connector keeps the contract: as a component and as a client on Prosody, as a component on ejabberd."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from bridgekit.contract.connector import Connector
from bridgekit.contract.ids import ChatId, LoginId, PersonId
from bridgekit.contract.people import Login
from bridgekit.contract.people import Person as Someone
from bridgekit.testing.contract import Ability, ConnectorContract
from connectors.xmpp import stream
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.line import Line
from connectors.xmpp.testing.person import Person
from connectors.xmpp.testing.prosody import COMPONENT, DOMAIN, ROOMS, SECRET, Prosody

Server = Prosody | Ejabberd

_numbers = itertools.count(1)


class XmppPeer:
    """A real server, and people on it; what the bridge says is read by one of them."""

    abilities = frozenset(Ability)
    nowhere = f"nobody-is-called-so@{DOMAIN}"

    def __init__(self, server: Server, reader: Person, room: str, *, bridge: str) -> None:
        self.server = server
        self.reader = reader
        self.shared = room
        self.somebody = reader.jid
        self.bridge = bridge
        self.line = Line()
        self._people: dict[str, Person] = {}
        self._in: set[str] = set()

    async def person(self, who: str) -> Person:
        if who not in self._people:
            jid, password = await self.server.register(who)
            self._people[who] = Person(
                jid, password, port=self.server.port, certificate=self.server.certificate
            )
            await self._people[who].open()
        return self._people[who]

    async def say(self, chat: ChatId, who: str, words: str) -> None:
        one = await self.person(who)
        if who not in self._in:
            self._in.add(who)
            await one.join(chat, who)
        id = one.say(chat, wire.clean(words))
        # Two people are two connections, which the server reads as it likes: it is said when the room has said it.
        await one.sees(lambda seen: seen.id == id, "their own words")

    async def whisper(self, to: Someone, who: str, words: str) -> None:
        (await self.person(who)).say(to.id, wire.clean(words), room=False)

    async def received(self, chat: ChatId) -> list[str]:
        found = []
        for seen in self.reader.seen.all:
            if seen.kind != "message" or not seen.body:
                continue
            if chat == self.reader.jid:
                if seen.type == "chat" and self.bridge in seen.sender:
                    found.append(seen.body)
            elif seen.sender.startswith(f"{chat}/") and seen.nick not in {*self._people, self.reader.name}:
                found.append(seen.body)
        return found

    async def injected(self, mark: str) -> list[str]:
        return [
            str(seen)
            for seen in self.reader.seen.all
            for one in seen.xml.iter()
            if mark in str(one.tag) or any(mark in name for name in one.attrib)
        ]

    async def drop(self) -> None:
        self.line.cut()
        await asyncio.sleep(0.2)  # what had come through is still handed out by the server

    async def refuse_logins(self) -> None:
        self.line.dead = True

    async def close(self) -> None:
        await self.line.close()
        for one in self._people.values():
            await one.close()
        await self.reader.close()


class XmppContract(ConnectorContract):
    @pytest.fixture
    def bridge(self) -> str:
        """The address by which the bridge speaks to somebody alone."""
        return COMPONENT

    @pytest.fixture
    def server(self, prosody: Prosody) -> Server:
        return prosody

    @pytest.fixture
    async def peer(self, server: Server, bridge: str) -> AsyncIterator[XmppPeer]:
        number = next(_numbers)
        jid, password = await server.register("carol")
        reader = Person(jid, password, port=server.port, certificate=server.certificate)
        await reader.open()
        peer = XmppPeer(server, reader, f"contract{number}@{ROOMS}", bridge=bridge)
        await reader.join(peer.shared)
        try:
            yield peer
        finally:
            await peer.close()

    @pytest.fixture
    def connector(self) -> Connector:
        return XmppConnector()


class TestComponent(XmppContract):
    """XEP-0114: every Matrix user is an address under the bridge's sub-domain."""

    @pytest.fixture
    async def config(self, peer: XmppPeer) -> XmppConfig:
        port = await peer.line.open(peer.server.component_port)
        return XmppConfig.model_validate(
            {"mode": "component", "jid": COMPONENT, "secret": SECRET, "port": port, "joins_per_second": 1000}
        )

    @pytest.fixture
    def login(self) -> Login:
        return Login(id=LoginId("ann"), owner=PersonId("@ann:example.org"))


class TestComponentOfEjabberd(TestComponent):
    """The other server: stanza-ids, but no occupant ids."""

    @pytest.fixture
    def server(self, ejabberd: Ejabberd) -> Server:
        return ejabberd


class TestClient(XmppContract):
    """An ordinary account, without anybody's leave.

    A new one for each test: what makes a session ready reads the keys of all devices that its account has ever had.
    """

    @pytest.fixture
    def bridge(self) -> str:
        return f"robot{next(_numbers)}@{DOMAIN}"

    @pytest.fixture(autouse=True)
    def gone_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What can be resumed is not lost: test_resume.py shows that."""
        monkeypatch.setattr(stream, "RESUME_SECONDS", 0)

    @pytest.fixture
    async def config(self, peer: XmppPeer) -> XmppConfig:
        jid, password = await peer.server.register(peer.bridge.partition("@")[0])
        return XmppConfig.model_validate(
            {
                "mode": "client",
                "jid": jid,
                "password": password,
                "host": "127.0.0.1",
                "port": await peer.line.open(peer.server.port),
                "tls_ca_file": peer.server.certificate,
                "joins_per_second": 1000,
            }
        )

    @pytest.fixture
    async def login(self, peer: XmppPeer) -> Login:
        jid, password = await peer.server.register(f"annie{next(_numbers)}")
        return Login(
            id=LoginId("ann"), owner=PersonId("@ann:example.org"), fields={"jid": jid, "password": password}
        )
