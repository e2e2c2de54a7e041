"""What the component tells of itself and of people, and what people may ask of it; on real servers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import pytest

from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Content
from bridgekit.contract.people import Person as Someone
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Join, PostMessage
from bridgekit.testing.host import FakeHost
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.session import XmppSession
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.person import Person, person
from connectors.xmpp.testing.prosody import COMPONENT, ROOMS, SECRET, Prosody

ALICE = Someone(id=PersonId("@alice:example.org"), name="alice")
ADDRESS = rf"alice\3aexample.org@{COMPONENT}"
DISCO = "<query xmlns='http://jabber.org/protocol/disco#info'{}/>"
REGISTER = "jabber:iq:register"


@dataclass(frozen=True)
class Gate:
    session: XmppSession
    host: FakeHost
    bob: Person


@pytest.fixture(params=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Prosody | Ejabberd:
    found: Prosody | Ejabberd = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def gate(server: Prosody | Ejabberd) -> AsyncIterator[Gate]:
    config = XmppConfig.model_validate(
        {"mode": "component", "jid": COMPONENT, "secret": SECRET, "port": server.component_port}
    )
    host = FakeHost()
    account = await server.register("bob-at-the-gate")
    async with (
        person(*account, port=server.port, certificate=server.certificate) as bob,
        XmppConnector().network(config, host).connect(None) as session,
    ):
        assert isinstance(session, XmppSession)
        reader = asyncio.create_task(session.run(lambda fact: None))
        yield Gate(session, host, bob)
        reader.cancel()
        await asyncio.wait([reader])


def identities(answer: Element) -> set[tuple[str, str]]:
    return {
        (one.get("category", ""), one.get("type", ""))
        for one in answer.iter(f"{{{wire.DISCO_INFO}}}identity")
    }


def features(answer: Element) -> set[str]:
    return {one.get("var", "") for one in answer.iter(f"{{{wire.DISCO_INFO}}}feature")}


def verification(answer: Element) -> str:
    """XEP-0115, 5.1: category/type/lang/name of each identity, then each feature, sorted, each closed by "<"."""
    said = sorted(
        f"{one.get('category')}/{one.get('type')}//{one.get('name', '')}<"
        for one in answer.iter(f"{{{wire.DISCO_INFO}}}identity")
    )
    said += [f"{feature}<" for feature in sorted(features(answer))]
    return base64.b64encode(hashlib.sha1("".join(said).encode(), usedforsecurity=False).digest()).decode()


async def test_the_component_is_a_gateway_and_its_people_are_people(gate: Gate):
    """XEP-0100, 4.1.1: "an identity with category gateway"; XEP-0030: what each can is told of each."""
    component = await gate.bob.ask(COMPONENT, DISCO.format(""))
    assert ("gateway", "matrix") in identities(component)
    assert {REGISTER, wire.COMMANDS} <= features(component)
    alice = await gate.bob.ask(ADDRESS, DISCO.format(""))
    assert identities(alice) == {("account", "registered"), ("client", "web")}
    assert {wire.CORRECT, wire.REACTIONS, wire.REPLY, wire.RETRACT, wire.RECEIPTS, wire.SFS} <= features(
        alice
    )
    assert not features(alice) & set(wire.OMEMO)  # it could not keep that promise


async def test_the_hash_in_a_presence_is_that_of_the_answer(gate: Gate):
    """XEP-0115, 6.2: asked for node#ver, the answer makes the same hash."""
    room = ChatId(f"caps@{ROOMS}")
    await gate.bob.join(room)
    await gate.session.perform(Join(chat=room))
    await gate.session.perform(PostMessage(chat=room, speaker=ALICE, content=Content(text=plain("hello"))))
    presence = await gate.bob.sees(lambda s: s.kind == "presence" and s.nick == "alice", "alice")
    caps = presence.has(wire.CAPS, "c")
    assert caps is not None
    answer = await gate.bob.ask(ADDRESS, DISCO.format(f" node='{caps.get('node')}#{caps.get('ver')}'"))
    assert answer.get("type") == "result"
    assert verification(answer) == caps.get("ver")


async def test_who_signs_off_is_not_spoken_to_any_more(gate: Gate):
    """XEP-0077, 3.2: <remove/>; 3.1.1: <registered/> says how it stands."""

    async def registered() -> bool:
        answer = await gate.bob.ask(COMPONENT, f"<query xmlns='{REGISTER}'/>")
        return answer.find(f"{{{REGISTER}}}query/{{{REGISTER}}}registered") is not None

    async def speak(words: str) -> None:
        said = PostMessage(chat=ChatId(gate.bob.jid), speaker=ALICE, content=Content(text=plain(words)))
        await gate.session.perform(said)

    assert await registered()
    await speak("hello")
    await gate.bob.reads("hello")
    await gate.bob.ask(COMPONENT, f"<query xmlns='{REGISTER}'><remove/></query>", "set")
    assert not await registered()
    with pytest.raises(SendRejected, match="does not want to be spoken to"):
        await speak("still there?")
    assert gate.host.kept["signed-off"] == f'["{gate.bob.jid}"]'.encode()
    answer = await gate.bob.ask(COMPONENT, f"<query xmlns='{REGISTER}'/>", "set")
    assert answer.get("type") == "result"
    await speak("welcome back")
    await gate.bob.reads("welcome back")
    assert gate.bob.said("still there?") == 0


@pytest.mark.parametrize(
    ("mxid", "found"), [("@alice:example.org", ADDRESS), ("alice", ""), ("@a b:c", ""), ("@x:y<z>", "")]
)
async def test_a_command_tells_the_address_of_somebody_on_matrix(gate: Gate, mxid: str, found: str):
    """XEP-0050, 2.4: a form is executed, filled in and completed."""
    commands = "http://jabber.org/protocol/commands"
    listed = await gate.bob.ask(COMPONENT, f"<query xmlns='{wire.DISCO_ITEMS}' node='{commands}'/>")
    assert "find" in {one.get("node") for one in listed.iter(f"{{{wire.DISCO_ITEMS}}}item")}
    started = await gate.bob.ask(
        COMPONENT, f"<command xmlns='{commands}' node='find' action='execute'/>", "set"
    )
    command = started.find(f"{{{commands}}}command")
    assert command is not None
    assert command.get("status") == "executing"
    filled = wire.make("x", wire.DATA, type="submit")
    wire.add(wire.add(filled, "field", wire.DATA, var="mxid"), "value", wire.DATA, mxid)
    request = wire.make(
        "command", commands, node="find", action="complete", sessionid=command.get("sessionid", "")
    )
    request.append(filled)
    done = await gate.bob.ask_with(COMPONENT, request, "set")
    values = [one.text or "" for one in done.iter(f"{{{wire.DATA}}}value")]
    assert values == ([found] if found else [])
    assert bool(list(done.iter(f"{{{commands}}}note"))) is not bool(found)
