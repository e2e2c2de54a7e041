"""What clients show that has no address: pictures by a cid (XEP-0231), and files that are offered from hand to hand."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from xml.etree.ElementTree import fromstring

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import PeerMisbehaved, SendRejected
from bridgekit.contract.people import File, Kind
from bridgekit.testing.host import FakeHost
from connectors.xmpp.stanzas import bits
from connectors.xmpp.testing.person import Person, person
from connectors.xmpp.testing.prosody import COMPONENT, ROOMS, Prosody
from tests.connectors.xmpp.inside import Inside, component, until
from tests.connectors.xmpp.reading import stanza
from tests.connectors.xmpp.test_faces import PIXEL

CID = f"sha1+{hashlib.sha1(PIXEL).hexdigest()}@bob.xmpp.org"
DATA = f"<data xmlns='urn:xmpp:bob' cid='{CID}' type='image/png'>{base64.b64encode(PIXEL).decode()}</data>"
STICKER = (
    "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>{}"
    f"<img alt=':cat:' src='cid:{CID}'/></body></html>"
)
OFFER = (
    "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' initiator='{}' sid='851ba2'>"
    "<content creator='initiator' name='a-file' senders='initiator'>"
    "<description xmlns='urn:xmpp:jingle:apps:file-transfer:5'><file><media-type>text/plain</media-type>"
    "<name>test.txt</name><size>6144</size></file></description>"
    "<transport xmlns='urn:xmpp:jingle:transports:s5b:1' sid='vj3hs98y'/></content></jingle>"
)


@pytest.fixture
async def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
async def place(prosody: Prosody, host: FakeHost) -> AsyncIterator[Inside]:
    async with component(prosody.component_port, host) as found:
        yield found


@pytest.fixture
async def bob(prosody: Prosody) -> AsyncIterator[Person]:
    account = await prosody.register("bob-with-stickers")
    async with person(*account, port=prosody.port, certificate=prosody.certificate) as one:
        yield one


async def shown(place: Inside) -> File:
    await until(lambda: place.all(facts.Message))
    (message,) = place.all(facts.Message)
    assert message.content.file is not None
    assert (message.content.text.body, message.content.file.name) == ("", "cat")
    return message.content.file


async def fetched(host: FakeHost, file: File) -> bytes:
    assert file.via == host.network
    assert host.opener is not None
    async with host.opener(file) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_sticker_is_asked_for_at_whoever_shows_it(place: Inside, bob: Person, host: FakeHost):
    """XEP-0231, 3: <data cid='...'/> in an IQ to the sender, who answers; in a room, through it."""
    room = f"stickers@{ROOMS}"
    await bob.join(room)
    await place.join(room)
    assert await bob.keep_picture(PIXEL, "image/png") == CID
    bob.say(room, ":cat:", STICKER.format(""))
    assert await fetched(host, await shown(place)) == PIXEL


async def test_a_sticker_that_comes_along_is_not_asked_for(place: Inside, bob: Person, host: FakeHost):
    """XEP-0231, 2.2: a sender may include the <data/> with the message."""
    bob.say(f"bridge@{COMPONENT}", ":cat:", STICKER.format("") + DATA, room=False)
    assert await fetched(host, await shown(place)) == PIXEL


async def test_a_sticker_that_its_sender_does_not_give_is_refused_with_a_reason(
    place: Inside, bob: Person, host: FakeHost
):
    bob.say(f"bridge@{COMPONENT}", ":cat:", STICKER.format(""), room=False)
    file = await shown(place)
    with pytest.raises(SendRejected, match="does not give it"):
        await fetched(host, file)


def test_among_words_what_stands_for_a_picture_stays():
    """XEP-0071, 7.6: "alt" is what is shown where the image is not."""
    found = stanza(f"<message><body>hello :cat:</body>{STICKER.format('hello ')}</message>")
    assert found.files == ()
    assert found.text is not None
    assert found.text.body == "hello :cat:"


@pytest.mark.parametrize(
    "data",
    [
        DATA.replace("iVBOR", "iVBOS"),
        f"<data xmlns='urn:xmpp:bob' cid='{CID}'>%%%</data>",
        f"<data xmlns='urn:xmpp:bob' cid='{CID}'>{'A' * 1_000_000}</data>",
    ],
)
def test_bytes_that_are_not_those_that_were_named_are_nobodys(data: str):
    """XEP-0231, 8: the hash in the cid tells whether they are."""
    with pytest.raises(PeerMisbehaved):
        bits.decoded(CID, fromstring(data))


async def test_a_file_that_is_offered_directly_is_said_to_have_been(place: Inside, bob: Person):
    """XEP-0234, 6.1: session-initiate; XEP-0166, 6.3.2: who does not know Jingle answers with an error."""
    answer = await bob.ask(f"bridge@{COMPONENT}/bridge", OFFER.format(bob.full), "set")
    assert answer.get("type") == "error"
    await until(lambda: place.all(facts.Message))
    (told,) = place.all(facts.Message)
    assert (told.chat, told.sender.id, told.content.kind) == (bob.jid, bob.jid, Kind.NOTICE)
    assert "offered the file test.txt directly" in told.content.text.body
    call = OFFER.replace("apps:file-transfer:5", "apps:rtp:1").replace("851ba2", "b")
    await bob.ask(f"bridge@{COMPONENT}/bridge", call.format(bob.full), "set")
    assert len(place.all(facts.Message)) == 1
