"""Staying in a room: nicks that are taken, rooms that forgot us, rooms that change what they are."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.policy import Entry
from bridgekit.testing.host import FakeHost
from connectors.xmpp import session as sessions
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.script import COMPONENT, ROOM, ScriptedServer, scripted
from tests.connectors.xmpp.inside import component, inside, until


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted() as script:
        yield script


async def test_a_nick_that_is_taken_is_another_one(server: ScriptedServer):
    """XEP-0045, 7.2.8: <conflict/> when the nick is in use."""
    server.taken = {"bridge"}
    async with inside(server) as place:
        told = place.told
        await until(lambda: any(isinstance(f, facts.ChatOpened) for f in told))
    assert server.entered == ["bridge", "bridge (2)"]


async def test_a_room_that_forgot_us_is_entered_again_and_the_gap_is_asked_for(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
):
    """XEP-0410, 3.3: <not-acceptable/> to a ping of ourselves means that we are not in the room any more."""
    monkeypatch.setattr(sessions, "TICK", 0.05)
    monkeypatch.setattr(sessions, "SILENT", 0.05)
    async with inside(server) as place:
        told = place.told
        said = f"<body>hello</body><stanza-id xmlns='{wire.SID}' by='{ROOM}' id='1'/>"
        server.say(server.message(said))
        await until(lambda: any(isinstance(f, facts.Message) for f in told))
        server.forgotten = True
        await until(lambda: len(server.entered) == 2)
        server.forgotten = False
        await until(lambda: sum(isinstance(f, facts.ChatOpened) for f in told) == 2)
    assert (
        "since=" in server.presences[-1]
    )  # XEP-0045, 7.2.14: no archive here, so the room's own memory is asked
    assert "since=" not in server.presences[0]


async def test_a_room_that_becomes_members_only_is_told_at_once(server: ScriptedServer):
    """XEP-0045, 10.2.1: status 104 says that the configuration changed, and disco#info says to what."""
    async with inside(server) as place:
        told = place.told
        await until(lambda: any(isinstance(f, facts.ChatOpened) for f in told))
        first = next(i for i, f in enumerate(told) if isinstance(f, facts.ChatVisibility))
        opened = next(i for i, f in enumerate(told) if isinstance(f, facts.ChatOpened))
        server.features = (*(f for f in server.features if f != "muc_open"), "muc_membersonly", "muc_hidden")
        server.say(
            f"<message type='groupchat' from='{ROOM}' to='bridge@{COMPONENT}/bridge'>"
            f"<x xmlns='{wire.MUC_USER}'><status code='104'/></x></message>"
        )
        await until(lambda: sum(isinstance(f, facts.ChatVisibility) for f in told) == 2)
    assert first < opened  # who may read it is known before the room is made or linked
    seen = [f.visibility for f in told if isinstance(f, facts.ChatVisibility)]
    assert [(v.entry, v.listed, v.known) for v in seen] == [
        (Entry.OPEN, True, True),
        (Entry.INVITE, False, True),
    ]


async def test_a_room_that_is_renamed_is_told_once(server: ScriptedServer):
    """XEP-0045, 10.2.1: status 104; the name is that of the room's identity (6.4), its address where it has none."""
    changed = (
        f"<message type='groupchat' from='{ROOM}' to='bridge@{COMPONENT}/bridge'>"
        f"<x xmlns='{wire.MUC_USER}'><status code='104'/></x></message>"
    )
    async with inside(server) as place:
        await until(lambda: place.all(facts.ChatOpened))
        for name in ("Lair", "Lair", ""):
            looks = len(place.all(facts.ChatVisibility))
            server.name = name
            server.say(changed)
            await until(lambda: len(place.all(facts.ChatVisibility)) > looks)  # noqa: B023
        await until(lambda: len(place.all(facts.ChatName)) == 2)
    assert place.all(facts.ChatOpened)[0].name == "Den"
    assert [fact.name for fact in place.all(facts.ChatName)] == ["Lair", ROOM]


async def test_a_room_that_was_renamed_while_the_bridge_was_away_is_told_of(server: ScriptedServer):
    host, told = FakeHost(), list[str]()
    for name in ("Den", "Den", "Lair", "Lair"):
        server.name = name
        async with inside(server, host) as place:
            assert isinstance(place.session, sessions.XmppSession)
            await place.session.watches[ROOM].settled.wait()
            told += [f"{name}: {fact.name}" for fact in place.all(facts.ChatName)]
    assert told == ["Lair: Lair"]


@pytest.mark.parametrize("known", [True, False])
async def test_what_is_said_after_a_room_changed_waits_until_it_is_known_who_may_read_it(
    server: ScriptedServer, known: bool
):
    """XEP-0045, 10.2.1: what it has become is asked, and the answer takes its time; a refusal is an answer too."""
    async with inside(server) as place:
        await until(lambda: place.all(facts.ChatOpened))
        server.slow, server.silent = True, not known
        server.features = (*(f for f in server.features if f != "muc_open"), "muc_membersonly", "muc_hidden")
        server.say(
            f"<message type='groupchat' from='{ROOM}' to='bridge@{COMPONENT}/bridge'>"
            f"<x xmlns='{wire.MUC_USER}'><status code='104'/></x></message>"
            + server.message("<body>one</body>")
            + server.message("<body>two</body>")
        )
        await until(lambda: server.owes)
        assert not place.all(facts.Message)
        server.answer_slow()
        await until(lambda: len(place.all(facts.Message)) == 2)
    _, *told = [f for f in place.told if isinstance(f, facts.ChatVisibility | facts.Message)]
    assert [f.content.text.body if isinstance(f, facts.Message) else f.visibility.known for f in told] == [
        known, "one", "two",
    ]  # fmt: skip


async def test_what_would_go_on_beside_ends_with_the_session_wherever_it_was(server: ScriptedServer):
    """Before it began, and after the session has begun to end: nothing is left that was never awaited."""
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        try:
            await asyncio.sleep(60)
        finally:
            session.spawn(work("late"), "late")

    async with inside(server) as place:
        assert isinstance(place.session, sessions.XmppSession)
        session = place.session
        session.spawn(work("under way"), "work")
        await until(lambda: begun)
        early = session.spawn(work("not begun"), "work")
        assert early is not None
        early.cancel()
    session.spawn(work("afterwards"), "work")
    gc.collect()
    assert begun == ["under way"]


async def test_a_room_that_would_be_made_by_our_coming_is_left_to_others(server: ScriptedServer):
    """XEP-0045, 10.1.1: 201 says that the room is new, and ours; until we configure it nobody else may come in."""
    server.gone = True
    async with component(server.port, FakeHost(), jid=COMPONENT, secret="s") as place:
        with pytest.raises(SendRejected, match="There is no room"):
            await place.join(ROOM)
        await until(lambda: server.left == ["bridge"])
        assert not any(isinstance(fact, facts.ChatOpened) for fact in place.told)


async def test_a_room_that_is_gone_says_where_it_goes_on(server: ScriptedServer):
    """RFC 6120, 8.3.3.5: <gone/> holds the URI where it is to be had now."""
    server.refusal = (
        "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:heath@rooms.script.test?join</gone>"
    )
    async with component(server.port, FakeHost(), jid=COMPONENT, secret="s") as place:
        with pytest.raises(SendRejected, match=r"destroyed\. It goes on in heath@rooms\.script\.test"):
            await place.join(ROOM)
