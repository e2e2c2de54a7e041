"""Ids of our own on the wire, and what a room's archive says of them."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from connectors.xmpp import watch as watches
from connectors.xmpp.history import Archived
from connectors.xmpp.marks import Marks
from connectors.xmpp.stanzas import heard, rooms, wire
from connectors.xmpp.stanzas.disco import About
from connectors.xmpp.stanzas.rooms import Room
from connectors.xmpp.watch import GAP, Watch
from tests.connectors.xmpp.reading import MODERN, ROOM, stanza

MARKS = Marks(b"of this bridge")


@given(st.text())
def test_an_id_is_the_same_at_every_try_and_ours_alone(token: str):
    id = MARKS.make(token)
    assert id == MARKS.make(token)
    assert MARKS.is_ours(id)
    assert not Marks(b"of another bridge").is_ours(id)


@given(st.text())
def test_no_other_id_is_ours(id: str):
    assert not MARKS.is_ours(id)
    assert not MARKS.is_ours(f"bk-{id}")


def archived(nick: str, id: str, words: str) -> Element:
    return fromstring(
        f"<message xmlns='jabber:client' type='groupchat' from='{ROOM}/{nick}' id='{id}'><body>{words}</body>"
        f"<occupant-id xmlns='{wire.OCCUPANT}' id='{nick}'/></message>"
    )


def watching() -> tuple[Watch, list[Fact]]:
    told: list[Fact] = []
    room = Room(ROOM)
    room.about = About(MODERN)
    watch = Watch(room, told.append, MARKS)
    watch.index.believes = True
    return watch, told


def said(told: list[Fact]) -> list[str]:
    return [fact.content.text.body for fact in told if isinstance(fact, facts.Message)]


def test_what_the_archive_has_of_ours_has_arrived_and_is_nobody_elses_words():
    """XEP-0359, 3.1: the room keeps the origin-id, so the archive tells what arrived before a crash."""
    watch, told = watching()
    id = MARKS.make("key")
    assert watch.arrived(id) is None
    watch.archived(
        [
            Archived.of("sid-1", 1000, archived("alice", id, "ours")),
            Archived.of("sid-2", 2000, archived("bob", "b1", "his")),
        ]
    )
    assert watch.arrived(id) == "sid-1"
    assert said(told) == ["his"]


def test_an_id_of_ours_that_somebody_copied_is_their_message():
    """Everybody in the room can read our ids."""
    watch, told = watching()
    id = MARKS.make("key")
    watch.archived(
        [
            Archived.of("sid-1", 1000, archived("alice", id, "ours")),
            Archived.of("sid-2", 2000, archived("eve", id, "copied")),
        ]
    )
    assert said(told) == ["copied"]
    assert watch.arrived(id) == "sid-1"


def test_an_id_of_ours_is_a_strangers_message_where_the_archive_says_who_said_it():
    """XEP-0421: the original may be older than what of the archive is read; whoever is there is known."""
    watch, told = watching()
    there = rooms.read(
        fromstring(
            f"<presence xmlns='jabber:client' from='{ROOM}/eve' to='bridge@us'><x xmlns='{wire.MUC_USER}'>"
            f"<item affiliation='none' role='participant'/></x><occupant-id xmlns='{wire.OCCUPANT}' id='eve'/>"
            "</presence>"
        )
    )
    watch.room.read_presence(there, 1000)
    watch.archived(
        [
            Archived.of("sid-1", 1000, archived("eve", MARKS.make("long ago"), "copied")),
            Archived.of("sid-2", 2000, archived("alice", MARKS.make("key"), "ours, who has left")),
        ]
    )
    assert said(told) == ["copied"]


def test_what_was_heard_live_is_not_told_again_from_the_archive():
    """XEP-0313, 5.1.3: in a room the archive's id is the stanza-id."""
    watch, told = watching()
    live = archived("bob", "b1", "once")
    live.append(fromstring(f"<stanza-id xmlns='{wire.SID}' by='{ROOM}' id='sid-1'/>"))
    watch.hold(GAP)
    watch.live(heard.read(live), 1000)
    assert told == []
    watch.archived([Archived.of("sid-1", 1000, archived("bob", "b1", "once"))])
    watch.release(GAP)
    assert said(told) == ["once"]
    assert (watch.last, watch.last_at) == ("sid-1", 1000)


def test_what_is_said_while_the_past_is_learnt_is_told():
    """The archive has it already, and it is no past."""
    watch, told = watching()
    live = archived("bob", "b2", "now")
    live.append(fromstring(f"<stanza-id xmlns='{wire.SID}' by='{ROOM}' id='sid-2'/>"))
    watch.hold(GAP)
    watch.live(heard.read(live), 2000)
    both = [
        Archived.of("sid-1", 1000, archived("bob", "b1", "past")),
        Archived.of("sid-2", 2000, archived("bob", "b2", "now")),
    ]
    watch.archived(both, quietly=True)
    watch.release(GAP)
    assert said(told) == ["now"]


def test_what_there_was_no_room_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """XEP-0313, 4: while an archive is read, what the room says waits; nothing of it is lost without a word."""
    monkeypatch.setattr(watches, "MOST_HELD", 1)
    told = list[facts.Fact]()
    watch = Watch(Room(ROOM), told.append, Marks(b"x"))
    watch.hold(GAP)
    for at, words in ((1, "one"), (2, "two"), (3, "three")):
        watch.live(
            stanza(f"<message type='groupchat' from='{ROOM}/eve' id='{at}'><body>{words}</body></message>"),
            at,
        )
    watch.release(GAP)
    said, missed = told
    assert isinstance(said, facts.Message)
    assert isinstance(missed, facts.Missed)
    assert (said.content.text.body, missed.since, missed.until) == ("one", 2, 3)
