"""Names and pictures: read without trust, asked for when somebody speaks, shown once."""

from __future__ import annotations

import asyncio
import base64
from xml.etree.ElementTree import fromstring

import pytest

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.verbs import Join
from bridgekit.testing.host import FakeHost
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.stanzas import cards
from connectors.xmpp.testing.person import person
from connectors.xmpp.testing.prosody import COMPONENT, ROOMS, SECRET, Prosody

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PICTURE = cards.Picture(PIXEL, "image/png")
CARD = (
    "<vCard xmlns='vcard-temp'><FN>Robert  Example</FN><NICKNAME>bob</NICKNAME><PHOTO><TYPE>image/png</TYPE>"
    f"<BINVAL>{base64.encodebytes(PIXEL).decode()}</BINVAL></PHOTO></vCard>"
)


def test_a_card_has_a_name_and_a_picture():
    """XEP-0054: FN, NICKNAME, PHOTO with TYPE and BINVAL, in base64 with line breaks."""
    assert cards.read_card(fromstring(f"<iq xmlns='jabber:client'>{CARD}</iq>")) == (
        "Robert Example",
        PICTURE,
    )
    assert cards.read_card(fromstring("<iq xmlns='jabber:client'/>")) == ("", None)


@pytest.mark.parametrize(
    "encoded", ["", "not base64!", base64.b64encode(b"<svg onload='x'/>").decode(), "A" * 2_000_000, "\u00e9"]
)
def test_what_is_no_picture_is_none(encoded: str):
    assert cards.picture(encoded) is None


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("", None),
        ("<x xmlns='vcard-temp:x:update'/>", None),
        ("<x xmlns='vcard-temp:x:update'><photo/></x>", ""),
        (f"<x xmlns='vcard-temp:x:update'><photo>{PICTURE.digest.upper()}</photo></x>", PICTURE.digest),
        ("<x xmlns='vcard-temp:x:update'><photo>../../face</photo></x>", ""),
    ],
)
def test_a_presence_says_which_picture(inside: str, said: str | None):
    """XEP-0153, 4.2: an empty <photo/> is no picture; no <photo/> says nothing about it."""
    assert cards.announced(fromstring(f"<presence xmlns='jabber:client'>{inside}</presence>")) == said


def test_an_avatar_is_metadata_and_data():
    """XEP-0084, 4: the id of the item is the SHA-1 of the bytes; pictures elsewhere (url) are not fetched."""
    metadata = (
        "<iq xmlns='jabber:client'><pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        "<items node='urn:xmpp:avatar:metadata'><item id='x'><metadata xmlns='urn:xmpp:avatar:metadata'>"
        "<info bytes='9' id='elsewhere' type='image/png' url='http://10.0.0.1/x'/>"
        f"<info bytes='70' id='{PICTURE.digest}' type='image/png'/></metadata></item></items></pubsub></iq>"
    )
    assert cards.read_metadata(fromstring(metadata)) == PICTURE.digest
    data = (
        "<iq xmlns='jabber:client'><pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        f"<items node='urn:xmpp:avatar:data'><item id='{PICTURE.digest}'><data xmlns='urn:xmpp:avatar:data'>"
        f"{base64.b64encode(PIXEL).decode()}</data></item></items></pubsub></iq>"
    )
    assert cards.read_data(fromstring(data)) == PICTURE


async def test_who_speaks_gets_a_face_in_rooms_and_a_name_too_in_private(prosody: Prosody):
    """XEP-0153, 3.1: in a room the presence announces the picture, and the vCard behind the nick has it."""
    room = ChatId(f"faces@{ROOMS}")
    config = XmppConfig.model_validate(
        {"mode": "component", "jid": COMPONENT, "secret": SECRET, "port": prosody.component_port}
    )
    host = FakeHost()
    told: list[Fact] = []
    account = await prosody.register("bob-with-a-face")
    async with (
        person(*account, port=prosody.port, certificate=prosody.certificate) as bob,
        XmppConnector().network(config, host).connect(None) as session,
    ):
        answer = await bob.ask("", CARD, "set")
        assert answer.get("type") == "result"
        reader = asyncio.create_task(session.run(told.append))
        await bob.join(room)
        await session.perform(Join(chat=room))
        for i in range(3):
            bob.say(room, f"look at me {i}")
        bob.say(f"bridge@{COMPONENT}", "and here", room=False)
        async with asyncio.timeout(60):
            while len(profiles := [f for f in told if isinstance(f, facts.Profile)]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        reader.cancel()
        await asyncio.wait([reader])
    assert len([f for f in told if isinstance(f, facts.Profile)]) == 2
    names = {profile.private: (profile.chat, profile.person.name) for profile in profiles}
    assert names == {False: (room, bob.name), True: (bob.jid, "Robert Example")}
    (uri,) = {profile.person.avatar.uri for profile in profiles if profile.person.avatar is not None}
    assert host.media[uri] == PIXEL
    assert host.kept[f"face/{PICTURE.digest}"] == uri.encode()
