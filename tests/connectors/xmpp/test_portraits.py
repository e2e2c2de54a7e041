"""Matrix users as XMPP clients show them: name and picture, in rooms and alone; asked by a plain slixmpp on Prosody."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Content, Portrait
from bridgekit.contract.people import Person as Someone
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import PostMessage, ShowProfile
from bridgekit.testing.host import FakeHost
from connectors.xmpp.stanzas import cards, wire
from connectors.xmpp.testing.person import Person, Seen, codes, person
from connectors.xmpp.testing.prosody import COMPONENT, ROOMS, Prosody
from tests.connectors.xmpp.inside import Inside, component
from tests.connectors.xmpp.test_faces import PICTURE, PIXEL

ALICE = Someone(id=PersonId("@alice:example.org"), name="alice")
ADDRESS = rf"alice\3aexample.org@{COMPONENT}"
ANOTHER = cards.Picture(b"\x89PNG\r\n\x1a\n another", "image/png")


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost()
    host.portraits[ALICE.id] = Portrait(name="Alice of Example", picture=PIXEL)
    return host


@pytest.fixture
async def place(prosody: Prosody, host: FakeHost) -> AsyncIterator[Inside]:
    async with component(prosody.component_port, host) as found:
        yield found


@pytest.fixture
async def bob(prosody: Prosody) -> AsyncIterator[Person]:
    account = await prosody.register("bob-looks")
    async with person(*account, port=prosody.port, certificate=prosody.certificate) as one:
        yield one


async def alice_in(place: Inside, bob: Person, room: str) -> None:
    await bob.join(room)
    await place.join(room)
    said = PostMessage(chat=ChatId(room), speaker=ALICE, content=Content(text=plain("hello")))
    await place.session.perform(said)


def shows(seen: Seen, digest: str) -> bool:
    """Whether a presence announces that picture."""
    return seen.kind == "presence" and cards.announced(seen.xml) == digest


async def test_a_picture_is_announced_in_rooms_and_the_vcard_behind_the_nick_has_it(
    place: Inside, bob: Person
):
    """XEP-0153, 3.1: <photo/> with the SHA-1 of the picture; XEP-0054, 3.1, in a room through the room."""
    room = f"portraits@{ROOMS}"
    await alice_in(place, bob, room)
    await bob.sees(lambda s: s.nick == "alice" and shows(s, PICTURE.digest), "her picture")
    for address in (f"{room}/alice", ADDRESS):
        answer = await bob.ask(address, "<vCard xmlns='vcard-temp'/>")
        assert cards.read_card(answer) == ("Alice of Example", PICTURE), address


async def test_a_picture_is_an_avatar_too(place: Inside, bob: Person):
    """XEP-0084, 4.2: metadata with id, type and bytes; 4.1: the data under the same id."""
    await alice_in(place, bob, f"avatars@{ROOMS}")
    await bob.sees(lambda s: s.nick == "alice" and shows(s, PICTURE.digest), "her picture")
    metadata = await bob.ask_with(ADDRESS, cards.ask_items(wire.AVATAR_META))
    assert cards.read_metadata(metadata) == PICTURE.digest
    (info,) = metadata.iter(f"{{{wire.AVATAR_META}}}info")
    assert (info.get("type"), info.get("bytes")) == ("image/png", str(len(PIXEL)))
    data = await bob.ask_with(ADDRESS, cards.ask_items(wire.AVATAR_DATA, PICTURE.digest))
    assert cards.read_data(data) == PICTURE
    nothing = await bob.ask_with(ADDRESS, cards.ask_items("urn:xmpp:omemo:2:devices"))
    assert nothing.get("type") == "error"


async def test_who_changes_name_and_picture_does_so_in_the_room(place: Inside, bob: Person, host: FakeHost):
    """XEP-0045, 7.6: 303; XEP-0153, 3.1: the digest of the new picture."""
    room = f"changes@{ROOMS}"
    await alice_in(place, bob, room)
    await bob.sees(lambda s: s.nick == "alice" and shows(s, PICTURE.digest), "her picture")
    host.portraits[ALICE.id] = Portrait(name="Alicia", picture=ANOTHER.data)
    renamed = Someone(id=ALICE.id, name="Alicia")
    await place.session.perform(ShowProfile(chat=ChatId(room), speaker=renamed))
    gone = await bob.sees(lambda s: s.nick == "alice" and 303 in codes(s), "303")
    assert gone.type == "unavailable"
    await bob.sees(lambda s: s.nick == "Alicia" and shows(s, ANOTHER.digest), "the new one")
    host.portraits[ALICE.id] = Portrait(name="Alicia")
    await place.session.perform(ShowProfile(chat=ChatId(room), speaker=renamed))
    await bob.sees(lambda s: s.nick == "Alicia" and shows(s, ""), "none")
    assert (await bob.ask(ADDRESS, "<vCard xmlns='vcard-temp'/>")).find(
        "{vcard-temp}vCard/{vcard-temp}PHOTO"
    ) is None


async def test_of_somebody_who_never_spoke_here_nothing_is_told(place: Inside, bob: Person, host: FakeHost):
    """The bridge is no directory of the homeserver's users."""
    host.portraits[PersonId("@carol:example.org")] = Portrait(name="Carol", picture=PIXEL)
    for address in (rf"carol\3aexample.org@{COMPONENT}", rf"nobody\3aexample.org@{COMPONENT}"):
        answer = await bob.ask(address, "<vCard xmlns='vcard-temp'/>")
        assert answer.get("type") == "error"


def test_a_card_is_read_as_it_was_written():
    iq = wire.make("iq", wire.CLIENT)
    iq.append(cards.card("Alice\n of  Example", PICTURE))
    assert cards.read_card(iq) == ("Alice of Example", PICTURE)
    encoded = iq.findtext(".//{vcard-temp}BINVAL")
    assert encoded is not None
    assert base64.b64decode(encoded) == PIXEL
