"""What both real servers say of a room and of people, each in its own way, and what the bridge makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import LoginRejected, SendRejected
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, Role
from bridgekit.contract.people import Person as Someone
from bridgekit.contract.policy import Entry
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Invite, PostMessage, SetName
from bridgekit.testing.host import FakeHost
from connectors.xmpp.session import XmppSession
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stream import REFUSED_SECONDS, UNKNOWN_SECONDS, client
from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.person import Person, person
from connectors.xmpp.testing.prosody import ROOMS, Prosody
from tests.connectors.xmpp.inside import Inside, component, until

ALICE = Someone(id=PersonId("@alice:example.org"), name="alice")


@dataclass(frozen=True)
class Place:
    """The bridge as a component, in a room of bob's."""

    server: Prosody | Ejabberd
    inside: Inside
    bob: Person
    room: ChatId

    @property
    def session(self) -> XmppSession:
        assert isinstance(self.inside.session, XmppSession)
        return self.inside.session

    async def say(self, chat: str, words: str, speaker: Someone | None = None) -> MessageId:
        content = Content(text=plain(words))
        sent = await self.session.perform(PostMessage(chat=ChatId(chat), speaker=speaker, content=content))
        assert sent is not None
        assert sent.id is not None
        return sent.id


@pytest.fixture(params=["prosody", "ejabberd"])
def server(request: pytest.FixtureRequest) -> Prosody | Ejabberd:
    found: Prosody | Ejabberd = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def place(request: pytest.FixtureRequest, server: Prosody | Ejabberd) -> AsyncIterator[Place]:
    name = request.function.__name__[5:25].strip("_")
    account = await server.register(f"bob-{name}")
    async with (
        person(*account, port=server.port, certificate=server.certificate) as bob,
        component(server.component_port, FakeHost()) as inside,
    ):
        room = f"{name}@{ROOMS}"
        await bob.join(room, "bob")
        await bob.configure(room, persistentroom="1")
        await inside.join(room)
        yield Place(server, inside, bob, ChatId(room))


async def test_a_server_that_does_not_know_the_component_is_asked_again_later(server: Prosody | Ejabberd):
    """XEP-0114: its admin has yet to write it down, or to set the secret right."""
    with pytest.raises(
        LoginRejected, match="does not know this component, or the secret is wrong"
    ) as refused:
        async with component(server.component_port, FakeHost(), secret="another"):
            pass
    assert refused.value.retry_after == UNKNOWN_SECONDS


async def test_an_account_that_is_refused_is_tried_again_much_later(server: Prosody | Ejabberd):
    jid, _ = await server.register("mistyped")
    with pytest.raises(LoginRejected, match="refused the address or the password") as refused:
        async with client(
            jid, "another", host="127.0.0.1", port=server.port, direct=False, ca_file=server.certificate
        ):
            pass
    assert refused.value.retry_after == REFUSED_SECONDS


async def test_who_is_there_is_who_is_there(place: Place):
    """XEP-0045, 7.2.2: occupants have nicks; what a room says of itself has none."""
    await until(lambda: place.inside.all(facts.Roster))
    (roster,) = place.inside.all(facts.Roster)
    assert [member.person.name for member in roster.members] == ["bob"]
    place.bob.leave(place.room, "bob")
    await until(lambda: place.inside.all(facts.Membership))
    assert {fact.person.name for fact in place.inside.all(facts.Membership)} == {"bob"}


async def test_a_room_that_is_destroyed_is_closed_and_says_where_it_goes_on(place: Place):
    """XEP-0045, 10.9; ejabberd does not say that it is about ourselves (110), as the example there does not."""
    await place.say(place.room, "one of us", ALICE)
    destroy = f"<destroy jid='other@{ROOMS}'><reason>moved.</reason></destroy>"
    await place.bob.ask(
        place.room, f"<query xmlns='http://jabber.org/protocol/muc#owner'>{destroy}</query>", "set"
    )
    await until(lambda: place.inside.all(facts.ChatClosed))
    (closed,) = place.inside.all(facts.ChatClosed)
    assert closed.reason == f"The room {place.room} was destroyed: moved. It goes on in other@{ROOMS}."
    assert closed.final
    await until(lambda: not place.session.voices.of(place.room))
    assert not place.inside.all(facts.Membership)


async def test_a_room_that_is_shut_while_we_are_in_it_is_told_of(place: Place):
    """XEP-0045, 9.1.2 and 10.2.1: 104 is a new configuration; 322, that who is no member is put out."""
    await place.bob.configure(place.room, passwordprotectedroom="1", roomsecret="open sesame")
    await until(lambda: place.inside.all(facts.ChatVisibility)[-1].visibility.entry is Entry.INVITE)
    await place.bob.configure(place.room, membersonly="1", passwordprotectedroom="0")
    await until(lambda: place.inside.all(facts.ChatClosed))
    assert "members only" in place.inside.all(facts.ChatClosed)[-1].reason


async def test_a_room_is_renamed_by_its_owners_and_by_the_bridge_where_it_is_one(place: Place):
    """XEP-0045, 10.2: the form is an owner's, and whatever else it says stays as it is."""
    session, room = place.session, place.room

    async def called(name: str) -> None:
        await until(lambda: name in [fact.name for fact in place.inside.all(facts.ChatName)])

    await place.bob.configure(room, moderatedroom="1", roomname="The Den")
    await called("The Den")
    assert SetName not in session.capabilities(room).verbs
    with pytest.raises(SendRejected, match="lets its owners alone change its name"):
        await session.perform(SetName(chat=room, name="Mine"))
    await place.bob.administer(room, f"<item jid='{session.me.id}' affiliation='owner'/>")
    await until(lambda: SetName in session.capabilities(room).verbs)
    before = session.watches[room].room.about
    await session.perform(SetName(chat=room, name="Our <Den>\n&c"))
    await called("Our <Den> &c")
    after = session.watches[room].room.about
    assert "muc_moderated" in after.features
    assert after.features == before.features


async def test_in_a_room_that_becomes_moderated_who_may_speak_has_a_voice(place: Place):
    """XEP-0045, 5.1: in a moderated room a visitor may not speak, and nobody is told again who is one."""
    account = await place.server.register("eve-with-a-voice")
    async with person(*account, port=place.server.port, certificate=place.server.certificate) as eve:
        await eve.join(place.room, "eve")
        await until(lambda: "eve" in place.session.watches[place.room].room.occupants)

        async def role(moderated: str) -> Role:
            before = len(place.inside.all(facts.Roster))
            await place.bob.configure(place.room, moderatedroom=moderated)
            await until(lambda: len(place.inside.all(facts.Roster)) > before)
            members = place.inside.all(facts.Roster)[-1].members
            return next(one.role for one in members if one.person.name == "eve")

        first = "0" if place.session.watches[place.room].room.moderated else "1"
        found = {moderated: await role(moderated) for moderated in (first, str(1 - int(first)))}
        assert found == {"0": Role.NONE, "1": Role.VOICE}


async def test_somebody_is_asked_in_directly_and_into_a_closed_room_by_the_room(place: Place):
    """XEP-0249, 2; XEP-0045, 7.8.2. Whom a room does not let invite people is told so."""
    account = await place.server.register("eve-who-is-asked")
    async with person(*account, port=place.server.port, certificate=place.server.certificate) as eve:
        asked = Invite(chat=place.room, person=Someone(id=PersonId(eve.jid), name="eve"), reason="Hey Hecate")
        await place.session.perform(asked)
        direct = (await eve.sees(lambda s: s.has(wire.CONFERENCE, "x"), "XEP-0249")).has(wire.CONFERENCE, "x")
        assert direct is not None
        assert (direct.get("jid"), direct.get("reason")) == (place.room, "Hey Hecate")
        admin = f"<item jid='{place.session.me.id}' affiliation='admin'/>"
        await place.bob.administer(place.room, admin)
        await place.bob.configure(place.room, membersonly="1")
        await until(lambda: "membersonly" in place.inside.all(facts.ChatVisibility)[-1].visibility.detail)
        await place.session.perform(asked)
        await eve.sees(lambda s: s.has(wire.MUC_USER, "x") and s.kind == "message", "the room's invitation")
        await eve.join(place.room)
        await place.bob.administer(place.room, admin.replace("admin'/", "member'/"))
        await until(
            lambda: place.session.watches[place.room].room.occupants["bridge"].affiliation == "member"
        )
        with pytest.raises(SendRejected, match="invite people"):
            await place.session.perform(asked)
    nobody = f"nobody-is-called-so@{eve.jid.partition('@')[2]}"
    await place.bob.configure(place.room, membersonly="0")
    await until(lambda: "membersonly" not in place.inside.all(facts.ChatVisibility)[-1].visibility.detail)
    with pytest.raises(SendRejected, match="no such address"):
        await place.session.perform(
            Invite(chat=place.room, person=Someone(id=PersonId(nobody), name="nobody"))
        )


async def test_the_bridge_and_its_people_are_asked_in_both_ways(place: Place):
    """XEP-0249, 2, from a person; XEP-0045, 7.8.2, through the room, which says who asks."""
    other = f"other-{place.room}"
    await place.bob.join(other)
    address = str(place.session.me.id)
    place.bob.say(address, "", f"<x xmlns='{wire.CONFERENCE}' jid='{place.room}'/>", room=False)
    place.bob.send(f"<message to='{other}'><x xmlns='{wire.MUC_USER}'><invite to='{address}'/></x></message>")
    await until(lambda: len(place.inside.all(facts.Invitation)) == 2)
    asked = {fact.chat: fact.sender.id for fact in place.inside.all(facts.Invitation)}
    assert asked[place.room] == place.bob.jid
    assert asked[ChatId(other)].startswith((place.bob.jid, other))


async def test_whoever_reads_what_we_say_may_tell(place: Place):
    """XEP-0333, 4: a marker answers a message that is <markable/>; XEP-0184, 5.1: a receipt, one that asks for it."""
    id = await place.say(place.bob.jid, "can you read this?")
    heard = await place.bob.reads("can you read this?")
    assert heard.has(wire.MARKERS, "markable") is not None
    assert heard.has(wire.RECEIPTS, "request") is not None
    place.bob.say(heard.sender, "", f"<displayed xmlns='{wire.MARKERS}' id='{heard.id}'/>", room=False)
    await until(lambda: place.inside.all(facts.Receipt))
    assert place.inside.all(facts.Receipt)[-1].target == id
