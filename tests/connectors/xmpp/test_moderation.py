"""What others said is taken back on Matrix: the room is asked to, as it understands it, and its refusal is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element, fromstring

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.ids import ChatId, MessageId
from bridgekit.contract.verbs import Kick, Retract, SetTopic
from bridgekit.testing.host import FakeHost
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.person import person
from connectors.xmpp.testing.prosody import ROOMS, Prosody
from connectors.xmpp.testing.script import ROOM, ScriptedServer, scripted
from tests.connectors.xmpp.inside import component, inside, until


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted() as script:
        yield script


TAKE_BACK = Retract(chat=ChatId(ROOM), target=MessageId("stanza-id-1"), reason="spam & worse")


async def asked(server: ScriptedServer) -> Element:
    """What the bridge, a moderator, asks the room for."""
    server.moderators = {"bridge"}
    async with inside(server) as place:
        assert await place.session.perform(TAKE_BACK) is None
    (iq,) = server.moderated
    found = fromstring(iq)
    assert (found.get("type"), found.get("to")) == ("set", ROOM)
    return found[0]


async def test_a_moderator_asks_the_room(server: ScriptedServer):
    """XEP-0425, 3: <moderate id='stanza-id-1' xmlns='urn:xmpp:message-moderate:1'><retract .../><reason/>."""
    server.features = (*server.features, wire.MODERATE, wire.MODERATE_0)
    moderate = await asked(server)
    assert (moderate.tag, moderate.get("id")) == (f"{{{wire.MODERATE}}}moderate", "stanza-id-1")
    assert moderate.find(f"{{{wire.RETRACT}}}retract") is not None
    assert moderate.findtext(f"{{{wire.MODERATE}}}reason") == "spam & worse"


async def test_a_room_of_the_older_version_is_asked_as_it_understands(server: ScriptedServer):
    """XEP-0425 before 0.3: <apply-to id='...' xmlns='urn:xmpp:fasten:0'><moderate xmlns='...:0'><retract/>."""
    server.features = (*server.features, wire.MODERATE_0)
    applies = await asked(server)
    assert (applies.tag, applies.get("id")) == (f"{{{wire.FASTEN}}}apply-to", "stanza-id-1")
    moderate = applies.find(f"{{{wire.MODERATE_0}}}moderate")
    assert moderate is not None
    assert moderate.find(f"{{{wire.RETRACT_0}}}retract") is not None
    assert moderate.findtext(f"{{{wire.MODERATE_0}}}reason") == "spam & worse"


@pytest.mark.parametrize(
    ("offers", "why"),
    [
        ((), "does not let moderators take messages back"),
        ((wire.MODERATE,), "ask its admins to make it a moderator"),
    ],
)
async def test_where_the_room_does_not_do_it_that_is_told(
    server: ScriptedServer, offers: tuple[str, ...], why: str
):
    """XEP-0425, 5: <forbidden/> for who is no moderator."""
    server.features = (*server.features, *offers)
    async with inside(server) as place:
        with pytest.raises(SendRejected, match=why):
            await place.session.perform(TAKE_BACK)


async def test_a_real_room_says_who_may_do_what(prosody: Prosody):
    """XEP-0045, 8.1 and 8.2: <forbidden/> for the subject, <not-allowed/> or <forbidden/> for a kick."""
    account = await prosody.register("owner-of-the-rights")
    async with (
        person(*account, port=prosody.port, certificate=prosody.certificate) as bob,
        component(prosody.component_port, FakeHost()) as place,
    ):
        room = ChatId(f"rights@{ROOMS}")
        await bob.join(room)
        await place.join(room)
        await until(lambda: place.all(facts.Roster))
        them = next(
            m.person for fact in place.all(facts.Roster) for m in fact.members if m.person.name == bob.name
        )
        with pytest.raises(SendRejected, match="lets its moderators alone change the subject"):
            await place.session.perform(SetTopic(chat=room, topic="mine"))
        with pytest.raises(SendRejected, match="does not let the bridge do that"):
            await place.session.perform(Kick(chat=room, person=them, reason="out"))
