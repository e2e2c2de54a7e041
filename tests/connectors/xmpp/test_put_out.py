"""Our own in rooms: who is put out stays out, who stood there before a restart is no stranger, a nick is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridgekit.contract.errors import SendRejected
from bridgekit.contract.facts import Change, Membership, Message, Profile, Roster
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Depart, Join, PostMessage, React, Sent
from bridgekit.testing.host import FakeHost
from connectors.xmpp import network as networks
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.script import COMPONENT, ROOM, ScriptedServer, scripted
from tests.connectors.xmpp.inside import Inside, inside, until
from tests.connectors.xmpp.reading import Reader

ALICE = Person(id=PersonId("@alice:example.org"), name="alice")
ALICES = f"alice\\3aexample.org@{COMPONENT}"
DEN = ChatId(ROOM)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted() as script:
        script.echoes = True
        yield script


def post(words: str) -> PostMessage:
    return PostMessage(chat=DEN, speaker=ALICE, content=Content(text=plain(words)), key=words)


def out(code: int, affiliation: str, *, actor: str = "<actor nick='op'/>") -> str:
    """Alice's occupant is put out; first whoever reads is told, or first she."""
    reader, herself = (
        f"<presence type='unavailable' from='{ROOM}/alice' to='{to}'><x xmlns='{wire.MUC_USER}'>"
        f"<item affiliation='{affiliation}' role='none'>{actor}<reason>spam</reason></item>"
        f"<status code='{code}'/>{own}</x></presence>"
        for to, own in (
            (f"bridge@{COMPONENT}/bridge", ""),
            (f"{ALICES}/bridge", "<status code='110'/>"),
        )
    )
    return reader + herself


def there(nick: str, *, jid: str = "", to: str = f"bridge@{COMPONENT}/bridge") -> str:
    address = f" jid='{jid}'" if jid else ""
    return (
        f"<presence from='{ROOM}/{nick}' to='{to}'><x xmlns='{wire.MUC_USER}'>"
        f"<item affiliation='none' role='participant'{address}/></x></presence>"
    )


async def put_out(server: ScriptedServer, place: Inside, stanzas: str) -> Membership:
    assert isinstance(await place.session.perform(post("hello")), Sent)
    server.say(there("alice") + stanzas)
    await until(lambda: place.all(Membership))
    (fact,) = place.all(Membership)
    return fact


@pytest.mark.parametrize(
    ("code", "affiliation", "change"), [(307, "none", Change.KICK), (301, "outcast", Change.BAN)]
)
async def test_a_matrix_user_who_is_put_out_is_told_of_with_who_did_it_and_why(
    server: ScriptedServer, code: int, affiliation: str, change: Change
) -> None:
    """XEP-0045, 8.2 and 9.1: 307 is a kick, 301 a ban; the room names its actor."""
    async with inside(server) as place:
        fact = await put_out(server, place, out(code, affiliation))
        assert (fact.change, fact.reason, fact.stands_for) == (change, "spam", ALICE.id)
        assert fact.actor is not None
        assert fact.actor.name == "op"


async def test_a_room_that_does_not_say_who_did_it_has_a_moderator(server: ScriptedServer) -> None:
    """XEP-0045, 8.2: the actor is optional."""
    async with inside(server) as place:
        fact = await put_out(server, place, out(307, "none", actor=""))
        assert fact.actor is not None
        assert fact.actor.name == "a moderator"


async def test_who_leaves_the_matrix_room_leaves_the_chat_and_the_others_stay(server: ScriptedServer) -> None:
    """XEP-0045, 7.14."""
    async with inside(server) as place:
        for _ in range(2):  # again, there is nobody
            await place.session.perform(Depart(chat=DEN, speaker=ALICE))
            assert isinstance(await place.session.perform(post("hello")), Sent)
            await place.session.perform(Depart(chat=DEN, speaker=ALICE))
        await until(lambda: server.left == ["alice", "alice"])
        assert server.entered == ["bridge", "alice", "alice"]


async def test_nobody_walks_back_in_by_their_next_word(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XEP-0045, 8.2: a moderator has put them out; their own join brings them back."""
    async with inside(server) as place:
        await put_out(server, place, out(307, "none"))
        with pytest.raises(SendRejected, match=r"put out of den@rooms\.script\.test by op: spam"):
            await place.session.perform(post("again"))
        assert server.entered == ["bridge", "alice"]
        await place.session.perform(Join(chat=DEN, speaker=ALICE))
        assert isinstance(await place.session.perform(post("again")), Sent)
        assert server.entered == ["bridge", "alice", "alice"]


async def test_who_has_read_that_they_were_put_out_may_ask_to_go_in_again(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XEP-0045, 8.2: a kick is no ban, and on XMPP one comes back by hand. Where the bridge may not do the same on the
    other side, a word said without knowing of it must not do that."""
    async with inside(server) as place:
        await put_out(server, place, out(307, "none"))
        monkeypatch.setattr(networks, "TOLD_SECONDS", 0.0)  # however long ago it was
        with pytest.raises(SendRejected, match="say it once more in a minute"):
            await place.session.perform(post("again"))
        assert isinstance(await place.session.perform(post("again, please")), Sent)
        assert server.entered == ["bridge", "alice", "alice"]


async def test_who_was_put_out_is_not_brought_back_by_a_restart(server: ScriptedServer) -> None:
    host = FakeHost(linked=[DEN])
    async with inside(server, host) as place:
        await put_out(server, place, out(307, "none"))
        await until(lambda: f"places/{ROOM}" not in host.kept)


async def test_who_stood_there_before_a_restart_is_no_stranger_and_keeps_the_nick(
    server: ScriptedServer,
) -> None:
    """XEP-0045, 7.2.2: the room still shows the occupant of a bridge that was killed."""
    host = FakeHost(linked=[DEN])
    async with inside(server, host) as place:
        assert isinstance(await place.session.perform(post("hello")), Sent)
    server.before_us = lambda to: there("alice", to=to) if to.startswith("bridge@") else ""
    server.entered.clear()
    async with inside(server, host) as place:
        await until(lambda: "alice" in server.entered)
        assert isinstance(await place.session.perform(post("here again")), Sent)
        assert server.entered == ["bridge", "alice"]
        (roster,) = place.all(Roster)
        assert [member.person.name for member in roster.members] == []
        assert place.all(Membership) == []
        assert place.all(Profile) == []
        assert place.all(Message) == []


async def test_who_took_the_nick_meanwhile_is_told_of(server: ScriptedServer) -> None:
    """XEP-0045, 7.2.9: conflict: then it was a stranger's."""
    host = FakeHost(linked=[DEN])
    async with inside(server, host) as place:
        assert isinstance(await place.session.perform(post("hello")), Sent)
    server.before_us = lambda to: there("alice", to=to) if to.startswith("bridge@") else ""
    server.taken = {"alice"}
    async with inside(server, host) as place:
        await until(lambda: place.all(Membership))
        assert [(m.change, m.person.name) for m in place.all(Membership)] == [(Change.JOIN, "alice")]
        await until(lambda: "alice (2)" in server.entered)


def test_an_address_of_our_own_domain_is_no_stranger() -> None:
    """XEP-0045, 7.2.3: a room that shows addresses shows ours."""
    reader = Reader(nonanonymous=True)
    reader.room.home = "matrix.shakespeare.lit"
    assert reader.enter("alice", jid="alice@matrix.shakespeare.lit/bridge") == []
    roster = reader.room.roster(1)
    assert isinstance(roster, Roster)
    assert roster.members == ()


async def test_a_nick_is_ours_when_the_room_has_agreed(server: ScriptedServer) -> None:
    """XEP-0045, 7.2.3: the room answers with 110; until then the nick may be somebody else's."""
    server.taken = {"alice"}
    async with inside(server) as place:
        server.slow = True
        task = asyncio.create_task(place.session.perform(post("hello")))
        await until(lambda: "alice" in server.entered)
        server.say(server.message("<body>it is me</body>", nick="alice"))
        await until(lambda: place.all(Message))
        assert [m.content.text.body for m in place.all(Message)] == ["it is me"]
        server.answer_slow()
        assert isinstance(await task, Sent)
        assert server.entered == ["bridge", "alice", "alice (2)"]


async def test_who_adds_a_reaction_after_a_restart_keeps_the_one_before(server: ScriptedServer) -> None:
    """XEP-0444, 3: each message replaces the whole set of its sender."""
    host = FakeHost(linked=[DEN])
    for count, key in ((1, "👍"), (2, "❤")):
        async with inside(server, host) as place:
            react = React(chat=DEN, speaker=ALICE, target=MessageId("s0"), reaction=key, key=key)
            assert isinstance(await place.session.perform(react), Sent)
            assert len(server.reacted) == count
    assert server.reacted == [{"👍"}, {"👍", "❤"}]


async def test_a_reaction_that_was_refused_is_not_in_the_set(server: ScriptedServer) -> None:
    server.never = {"alice"}
    async with inside(server) as place:
        react = React(chat=DEN, speaker=ALICE, target=MessageId("s0"), reaction="👍", key="a")
        with pytest.raises(SendRejected):
            await place.session.perform(react)
        server.never = set()
        react = React(chat=DEN, speaker=ALICE, target=MessageId("s0"), reaction="❤", key="b")
        assert isinstance(await place.session.perform(react), Sent)
    assert server.reacted == [{"❤"}]
