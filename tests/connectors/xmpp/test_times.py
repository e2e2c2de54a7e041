"""When something was said, and by whom: a <delay/> and an address that anybody can write into a message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from xml.etree.ElementTree import fromstring

import pytest

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.verbs import Join
from bridgekit.testing.host import FakeHost
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.history import History
from connectors.xmpp.marks import Marks
from connectors.xmpp.stanzas import disco, heard, wire
from connectors.xmpp.stanzas.rooms import Occupant, Room
from connectors.xmpp.stream import Stream
from connectors.xmpp.testing.ejabberd import Ejabberd
from connectors.xmpp.testing.person import person
from connectors.xmpp.testing.prosody import COMPONENT, ROOMS, SECRET, Prosody
from connectors.xmpp.watch import Watch
from tests.connectors.xmpp.reading import BASIC, ROOM, stanza

NOW = 2_000_000_000_000
LATER = "<delay xmlns='urn:xmpp:delay' stamp='2099-01-01T00:00:00Z'{}/>"
EARLIER = "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'{}/>"
BY_ROOM = f" from='{ROOM}'"
THEN = wire.moment("2026-01-01T00:00:00Z")


def watching(*, nonanonymous: bool = False) -> tuple[Watch, list[Fact]]:
    told = list[Fact]()
    room = Room(ROOM)
    room.about = disco.About(BASIC)
    room.nonanonymous = nonanonymous
    room.joined, room.replays_until = True, NOW + 1000
    return Watch(room, told.append, Marks(b"x")), told


def sent(watch: Watch, inside: str, nick: str = "eve") -> heard.Heard:
    """A message that the room has just sent, told."""
    said = stanza(f"<message type='groupchat' from='{ROOM}/{nick}'>{inside}</message>")
    said = watch.dated(said, NOW)
    watch.live(said, NOW)
    return said


@pytest.mark.parametrize("by", ["", " from='eve@x.test'", BY_ROOM])
def test_a_time_that_a_speaker_gives_is_not_believed(by: str):
    """XEP-0203: "from" tells who held it back; a room does that with its history, before its subject."""
    watch, told = watching()
    sent(watch, "<subject>all was told</subject>")
    for delay in (LATER, EARLIER):
        assert sent(watch, f"<body>now</body>{delay.format(by)}").stamp == 0
    assert [(f.at, f.replayed) for f in told if isinstance(f, facts.Message)] == [(NOW, False)] * 2
    assert watch.last_at == NOW


@pytest.mark.parametrize(
    ("delay", "at"),
    [
        (EARLIER.format(BY_ROOM), THEN),
        (EARLIER.format(" from='eve@x.test'"), 0),
        (LATER.format(BY_ROOM), NOW),
        (EARLIER.format(BY_ROOM).replace("2026", "0001"), 1),
        (LATER.format(BY_ROOM) + EARLIER.format(BY_ROOM), THEN),  # the room's own stands behind
    ],
    ids=["room", "speaker", "future", "year-1", "both"],
)
def test_a_rooms_history_has_its_own_times_which_are_not_in_the_future(delay: str, at: int):
    """XEP-0045, 7.2.14: history "includes a <delay/> element ... from the room"."""
    watch, told = watching()
    assert sent(watch, f"<body>then</body>{delay}").stamp == at
    (message,) = (f for f in told if isinstance(f, facts.Message))
    assert (message.at, message.replayed) == (at or NOW, bool(at))
    assert watch.last_at <= NOW


def test_history_ends_with_the_first_word_that_is_new_and_with_time():
    watch, _ = watching()
    sent(watch, "<body>live</body>")
    assert sent(watch, f"<body>x</body>{EARLIER.format(BY_ROOM)}").stamp == 0
    watch, _ = watching()
    watch.room.replays_until = NOW - 1
    assert sent(watch, f"<body>x</body>{EARLIER.format(BY_ROOM)}").stamp == 0


def test_an_id_of_ours_that_somebody_copies_hides_nothing():
    """With a time in the past it was taken for ours, and nobody on Matrix saw it."""
    watch, told = watching()
    sent(watch, "<subject>s</subject>")
    id = watch._marks.make("m1")
    said = stanza(
        f"<message type='groupchat' from='{ROOM}/eve' id='{id}'><body>x</body>{EARLIER.format(BY_ROOM)}</message>"
    )
    said = watch.dated(said, NOW)
    assert not watch.is_ours(said)
    watch.live(said, NOW)
    assert [f.content.text.body for f in told if isinstance(f, facts.Message)] == ["x"]


def test_what_one_of_ours_said_before_they_left_is_ours():
    """Their session has ended, and the room still sends what it said: only they can have said that id."""
    watch, _ = watching()
    watch.room.occupants["ann"] = Occupant(nick="ann", person=watch.room.identity("ann"))
    watch.room.occupants["eve"] = Occupant(nick="eve", person=watch.room.identity("eve"))
    watch.room.own.add(watch.room.occupants["ann"].person)
    id = watch._marks.make("m1")

    def by(nick: str, id: str) -> bool:
        return watch.is_ours(
            stanza(f"<message type='groupchat' from='{ROOM}/{nick}' id='{id}'><body>x</body></message>")
        )

    assert by("ann", id)
    assert not by("ann", "another")  # with a client of their own
    assert not by("eve", id)


def test_what_a_room_tells_again_is_not_told_again():
    """Where addresses are shown and history does not say whose words they were."""
    watch, told = watching(nonanonymous=True)
    watch.room.occupants["eve"] = Occupant(nick="eve", person=watch.room.identity("eve", jid="eve@x.test"))
    once = f"<message type='groupchat' from='{ROOM}/eve' id='1'><body>once</body>{{}}</message>"
    watch.live(watch.dated(stanza(once.format("")), NOW), NOW)
    watch.room.replays_until = NOW + 1000
    again = f"<delay xmlns='{wire.DELAY}' stamp='{wire.stamp(NOW - 1000)}'{BY_ROOM}/>"
    watch.live(watch.dated(stanza(once.format(again)), NOW), NOW)
    assert [f.sender.id for f in told if isinstance(f, facts.Message)] == ["eve@x.test"]


def test_an_archive_tells_of_no_future():
    """What was read last is asked for from there on: in 2099 nothing would ever come."""

    class NoStream(Stream):
        def __init__(self) -> None: ...

    history = History(NoStream(), lambda: NOW)
    page = history._collecting[ROOM, "q"] = []
    history.took(
        fromstring(
            f"<message xmlns='jabber:client' from='{ROOM}'><result xmlns='{wire.MAM}' queryid='q' id='1'>"
            f"<forwarded xmlns='{wire.FORWARD}'>{LATER.format('')}<message xmlns='jabber:client' from='{ROOM}/eve'>"
            "<body>x</body></message></forwarded></result></message>"
        )
    )
    assert [(one.at, one.said.stamp) for one in page] == [(NOW, NOW)]


async def test_nobody_speaks_in_the_name_of_another_on_prosody(prosody: Prosody):
    await nobody_is_another(prosody)


async def test_nobody_speaks_in_the_name_of_another_on_ejabberd(ejabberd: Ejabberd):
    await nobody_is_another(ejabberd)


async def nobody_is_another(server: Prosody | Ejabberd) -> None:
    """XEP-0045, 7.2.14 and XEP-0313, 5.1.2: only history shows addresses. No server strips what a speaker writes."""
    mallory = await server.register("mallory-of-the-names")
    victim, _ = await server.register("victim-of-the-names")
    forged = f"<x xmlns='{wire.MUC_USER}'><item jid='{victim}'/></x>"
    told, room = list[Fact](), ChatId(f"names-of-others@{ROOMS}")
    config = XmppConfig.model_validate(
        {
            "mode": "component",
            "jid": COMPONENT,
            "secret": SECRET,
            "port": server.component_port,
            "rooms": ROOMS,
        }
    )
    network = XmppConnector().network(config, FakeHost(linked=[room]))
    async with person(*mallory, port=server.port, certificate=server.certificate) as one:
        await one.join(room)
        await one.configure(room, whois="anyone")
        async with network.connect(None) as session:
            reader = asyncio.create_task(session.run(told.append))
            await session.perform(Join(chat=room))
            for by in ("", f" from='{room}'"):
                one.say(room, f"I am the victim{by}", EARLIER.format(by) + forged)
            await until(lambda: len(said(told)) == 2)
            reader.cancel()
            await asyncio.wait([reader])
    assert {(f.sender.id, f.replayed) for f in said(told)} == {(mallory[0], False)}
    assert all(f.at > THEN for f in said(told))


def said(told: list[Fact]) -> list[facts.Message]:
    return [f for f in told if isinstance(f, facts.Message)]


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
