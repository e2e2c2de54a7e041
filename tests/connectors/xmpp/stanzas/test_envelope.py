"""What OMEMO hides: envelopes (XEP-0420), and addresses of encrypted files (XEP-0454). Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.filekeys import gcm
from connectors.xmpp.stanzas import envelope, files, heard, wire
from connectors.xmpp.stanzas.wire import add, find, make

ROOM = "room@rooms.test"
WHEN = "2026-01-01T00:00:00.000Z"


def message(words: str = "secret") -> Element:
    stanza = make("message", wire.CLIENT, to=ROOM, from_="ann@x.test/phone", id="1", type="groupchat")
    add(stanza, "origin-id", wire.SID, id="1")
    add(stanza, "reply", wire.REPLY, to=f"{ROOM}/bea", id="0")
    add(stanza, "body", wire.CLIENT, words)
    return stanza


def test_what_is_packed_is_unpacked_and_nothing_else_is_inside():
    packed = envelope.pack(message(), stamp=WHEN, padding="xx")
    inside = envelope.unpack(packed, sender="ann@x.test", to=ROOM, room=True)
    assert [wire.local(one) for one in inside] == ["reply", "body"]
    assert inside[1].text == "secret"


@pytest.mark.parametrize(("sender", "to"), [("eve@x.test", ROOM), ("ann@x.test", "other@rooms.test")])
def test_an_envelope_from_another_conversation_is_refused(sender: str, to: str):
    """XEP-0420, 8.1: an affix that does not match what is outside MUST lead to the message being discarded."""
    packed = envelope.pack(message(), stamp=WHEN, padding="")
    with pytest.raises(PeerMisbehaved):
        envelope.unpack(packed, sender=sender, to=to, room=True)


FROM, TO = "<from jid='ann@x.test'/>", "<to jid='{}'/>"


@pytest.mark.parametrize(
    ("affixes", "to", "room", "opens"),
    [
        (FROM, ROOM, True, False),  # said to somebody alone, shown in the room
        (FROM + TO.format(ROOM), ROOM, True, True),
        (FROM + TO.format(ROOM), "bea@x.test", False, False),  # and the reverse
        (FROM + TO.format("bea@x.test"), "bea@x.test", False, True),
        (FROM, "bea@x.test", False, True),
        (FROM + TO.format(""), "bea@x.test", False, False),
        (TO.format("bea@x.test"), "bea@x.test", False, False),
        (TO.format(ROOM), ROOM, True, False),
    ],
)
def test_a_server_cannot_move_what_was_said_between_a_room_and_a_person(
    affixes: str, to: str, room: bool, opens: bool
):
    """XEP-0420, 8.1; XEP-0384: <from/> in every envelope, and in a group chat <to/>, which names the room."""
    data = f"<envelope xmlns='{wire.SCE}'><content><body xmlns='{wire.CLIENT}'>hi</body></content>{affixes}</envelope>"
    if opens:
        (body,) = envelope.unpack(data.encode(), sender="ann@x.test", to=to, room=room)
        assert body.text == "hi"
    else:
        with pytest.raises(PeerMisbehaved):
            envelope.unpack(data.encode(), sender="ann@x.test", to=to, room=room)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<",
        b"<envelope/>",
        b"<envelope xmlns='urn:xmpp:sce:1'/>",
        b"\xff\xfe",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><envelope xmlns='urn:xmpp:sce:1'><content>&b;</content></envelope>",
        b"<?xml version='1.0'?><envelope xmlns='urn:xmpp:sce:1'><content/></envelope>",
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes):
    """RFC 6120, 11.1: no document types and no entities, inside as little as outside."""
    with pytest.raises(PeerMisbehaved):
        envelope.unpack(data, sender="a@b", to="", room=False)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_refused(data: bytes):
    try:
        envelope.unpack(data, sender="a@b", to="c@d", room=False)
    except PeerMisbehaved:
        return


def test_outside_stands_nothing_of_what_was_said():
    left = envelope.outside(message())
    assert "secret" not in tostring(left, encoding="unicode")
    assert find(left, wire.CLIENT, "body") is not None
    assert find(left, wire.SID, "origin-id") is not None


def test_what_a_server_puts_beside_an_encrypted_body_does_not_pass_for_it():
    outer = fromstring(
        f"<message xmlns='jabber:client' from='ann@x.test'><body>forged</body>"
        f"<html xmlns='{wire.XHTML_IM}'><body xmlns='{wire.XHTML}'>forged</body></html>"
        f"<x xmlns='{wire.OOB}'><url>https://evil.test/</url></x><reply xmlns='{wire.REPLY}' id='9'/></message>"
    )
    opened = envelope.opened(outer, [make("body", wire.CLIENT, "true")], whole=True)
    said = heard.read(opened, sealed=True)
    assert said.text is not None
    assert (said.text.body, said.files, said.answers) == ("true", (), "")


def test_an_address_of_an_encrypted_file_is_a_file_with_its_key():
    """XEP-0454, 3: aesgcm, and behind # the IV and the key in hexadecimal."""
    iv, secret = bytes(range(12)), bytes(range(32))
    address = files.sealed_address("https://up.test/a/b.jpg", iv, secret)
    assert address == f"aesgcm://up.test/a/b.jpg#{(iv + secret).hex()}"
    (shared,) = files.read_sealed(address)
    assert (shared.file.uri, shared.file.name, shared.file.mime) == (
        "https://up.test/a/b.jpg",
        "b.jpg",
        "image/jpeg",
    )
    assert shared.file.key == gcm(secret, iv)


@pytest.mark.parametrize(
    "body",
    [
        "aesgcm://x.test/a#zz",
        "aesgcm://x.test/a",
        "aesgcm://x.test/a#00",
        "see aesgcm://x",
        "https://x/#" + "0" * 88,
    ],
)
def test_what_is_no_such_address_is_words(body: str):
    assert files.read_sealed(body) == ()


def test_such_an_address_in_clear_is_no_file():
    """Its key would have been read by the servers: it is shown as it came."""
    stanza = make("message", wire.CLIENT, from_="ann@x.test")
    add(stanza, "body", wire.CLIENT, files.sealed_address("https://up.test/a", bytes(12), bytes(32)))
    assert heard.read(stanza).files == ()
