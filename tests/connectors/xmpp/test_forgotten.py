"""A room that forgets, does not answer, or is not ours to read; and ids that come twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import SendRejected
from bridgekit.contract.facts import ChatVisibility, Message
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Content, Person
from bridgekit.contract.policy import Visibility
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Leave, PostMessage, Sent
from bridgekit.testing.host import FakeHost
from connectors.xmpp import staying
from connectors.xmpp.stanzas import wire
from connectors.xmpp.testing.script import COMPONENT, ROOM, ScriptedServer, scripted
from tests.connectors.xmpp.inside import inside, until

ALICE = Person(id=PersonId("@alice:example.org"), name="alice")
DEN = ChatId(ROOM)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted() as script:
        yield script


async def test_who_is_not_in_the_room_any_more_comes_in_again_and_says_it_once_more(
    server: ScriptedServer,
) -> None:
    """XEP-0045, 7.4: <not-acceptable/> to who is no occupant; nobody has seen the words."""
    server.echoes = True
    async with inside(server) as place:
        post = PostMessage(chat=DEN, speaker=ALICE, content=Content(text=plain("one")), key="1")
        assert isinstance(await place.session.perform(post), Sent)
        server.lost = {"alice"}
        post = PostMessage(chat=DEN, speaker=ALICE, content=Content(text=plain("two")), key="2")
        assert isinstance(await place.session.perform(post), Sent)
        assert server.entered == ["bridge", "alice", "alice"]
        assert server.said == ["one", "two"]


async def test_who_is_refused_again_is_told(server: ScriptedServer) -> None:
    server.echoes, server.never = True, {"alice"}
    async with inside(server) as place:
        post = PostMessage(chat=DEN, speaker=ALICE, content=Content(text=plain("one")), key="1")
        with pytest.raises(SendRejected, match="is not in the room"):
            await place.session.perform(post)
        assert server.entered == ["bridge", "alice", "alice"]


async def test_a_room_that_does_not_say_what_it_is_now_is_secret_until_it_does(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XEP-0045, 10.2.1: status 104; what it does not tell is unknown."""
    monkeypatch.setattr(staying, "LOOK", 0.05)
    async with inside(server) as place:
        await until(lambda: place.all(ChatVisibility))
        assert place.all(ChatVisibility)[-1].visibility.known
        server.silent = True
        server.say(
            f"<message type='groupchat' from='{ROOM}' to='bridge@{COMPONENT}/bridge'>"
            f"<x xmlns='{wire.MUC_USER}'><status code='104'/></x></message>"
        )
        await until(lambda: place.all(ChatVisibility)[-1].visibility == Visibility())
        server.silent = False
        await until(lambda: place.all(ChatVisibility)[-1].visibility.known)


async def test_a_rooms_words_are_never_a_direct_chat(server: ScriptedServer) -> None:
    """XEP-0045, 7.4: groupchat is a room's. One that nobody of ours watches any more is nobody's to read."""
    async with inside(server) as place:
        await place.session.perform(Leave(chat=DEN))
        server.say(server.message("<body>secret room words</body>"))
        server.say(
            f"<message type='groupchat' from='bob@x.test/a' to='bridge@{COMPONENT}/bridge'>"
            "<body>posing as a room</body></message>"
        )
        server.say(
            f"<message type='chat' from='bob@x.test/a' to='bridge@{COMPONENT}/bridge'><body>hello</body></message>"
        )
        await until(lambda: place.all(Message))
        assert [m.content.text.body for m in place.all(Message)] == ["hello"]


def chat(words: str, id: str) -> str:
    return (
        f"<message type='chat' from='bob@x.test/a' to='bridge@{COMPONENT}/bridge' id='{id}'>"
        f"<body>{words}</body><request xmlns='{wire.RECEIPTS}'/></message>"
    )


async def test_an_id_that_comes_again_with_other_words_is_another_message(server: ScriptedServer) -> None:
    """RFC 6120, 8.1.3: unique within a stream. A copy of the same message comes once."""
    async with inside(server) as place:
        for words in ("first", "second", "second"):
            server.say(chat(words, "1"))
        server.say(chat("last", "2"))
        await until(lambda: "last" in [m.content.text.body for m in place.all(Message)])
        found = place.all(Message)
        assert [m.content.text.body for m in found] == ["first", "second", "last"]
        assert len({m.id for m in found}) == 3


async def test_the_same_words_under_the_same_id_a_day_later_are_said_again(server: ScriptedServer) -> None:
    async with inside(server) as place:
        server.say(chat("ok", "1"))
        await until(lambda: place.all(Message))
        place.host.advance(86400)
        server.say(chat("ok", "1"))
        await until(lambda: len(place.all(Message)) == 2)
        assert len({m.id for m in place.all(Message)}) == 2


async def test_without_stanza_ids_no_two_messages_of_a_room_share_a_name(server: ScriptedServer) -> None:
    """XEP-0359 is missing; some clients give no ids, others begin at 1 again."""
    server.features = tuple(one for one in server.features if "sid" not in one)
    async with inside(server) as place:
        for words, more in (("ok", ""), ("ok", ""), ("one", " id='1'"), ("two", " id='1'")):
            server.say(server.message(f"<body>{words}</body>", more=more))
        await until(lambda: len(place.all(Message)) == 4)
        assert len({m.id for m in place.all(Message)}) == 4
        assert isinstance(place.all(facts.ChatOpened)[0], facts.ChatOpened)
        await asyncio.sleep(0)


async def test_a_receipt_is_given_when_what_was_said_is_on_disk(server: ScriptedServer) -> None:
    """XEP-0184, 3: it says that the message was received; a bridge that is killed before must not have said so."""
    host = Slow()
    async with inside(server, host) as place:
        server.say(chat("pay", "77"))
        await until(lambda: host.waiting)
        assert [m.content.text.body for m in place.all(Message)] == ["pay"]
        assert "77" not in server.receipts
        host.disk.set()
        await until(lambda: "77" in server.receipts)


class Slow(FakeHost):
    """Its disk has not done anything until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = asyncio.Event()
        self.waiting = False

    async def put_all(self, values: Mapping[str, bytes | None]) -> None:
        self.waiting = True
        await self.disk.wait()
        await super().put_all(values)
