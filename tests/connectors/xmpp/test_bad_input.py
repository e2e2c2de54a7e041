"""Servers and people may send anything: each has a clear end, and the bridge lives."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridgekit.contract import facts
from bridgekit.contract.connector import Network
from bridgekit.contract.errors import Disconnected
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId
from bridgekit.contract.verbs import Join
from bridgekit.testing.host import FakeHost
from connectors.xmpp.config import XmppConfig
from connectors.xmpp.connector import XmppConnector
from connectors.xmpp.history import Archived
from connectors.xmpp.marks import Marks
from connectors.xmpp.network import XmppNetwork
from connectors.xmpp.stanzas import heard, translate, wire, xhtml
from connectors.xmpp.stanzas.rooms import Room
from connectors.xmpp.testing.script import COMPONENT, ROOM, ScriptedServer, scripted
from connectors.xmpp.watch import Watch

US = f"bridge@{COMPONENT}/bridge"
BOMB = (
    "<!DOCTYPE lolz [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {n} '{f'&{p};' * 10}'>" for p, n in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted() as script:
        yield script


class Reading:
    """A session that is read, and what it told."""

    def __init__(self) -> None:
        self.told: list[Fact] = []
        self.reader: asyncio.Task[None] | None = None

    async def until(self, words: str) -> list[str]:
        """All words so far, once these have come."""
        async with asyncio.timeout(60):
            while not (said := self.said()) or words not in said[-1]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return said

    def said(self) -> list[str]:
        return [fact.content.text.body for fact in self.told if isinstance(fact, facts.Message)]


def network_of(server: ScriptedServer, host: FakeHost | None = None) -> Network:
    config = XmppConfig.model_validate(
        {"mode": "component", "jid": COMPONENT, "secret": "s", "port": server.port}
    )
    return XmppConnector().network(config, host or FakeHost())


@asynccontextmanager
async def reading(network: Network) -> AsyncIterator[Reading]:
    """In the room, and read."""
    found = Reading()
    async with network.connect(None) as session:
        found.reader = asyncio.create_task(session.run(found.told.append))
        try:
            await session.perform(Join(chat=ChatId(ROOM)))
            yield found
        finally:
            found.reader.cancel()
            await asyncio.wait([found.reader])


def sid(id: str, by: str = ROOM) -> str:
    return f"<stanza-id xmlns='{wire.SID}' by='{by}' id='{id}'/>"


@pytest.mark.parametrize(
    "bad",
    [
        "<message><body>not closed</message>",
        "<message from='a' from='b'/>",
        "</presence>",
        "just words <<<",
        b"<message><body>\xff\xfe</body></message>",
        b"<message><body>\x00</body></message>",
        "<message><body>&undefined;</body></message>",
        BOMB + "<message><body>&i;</body></message>",
    ],
    ids=["unclosed", "twice", "closing", "words", "octets", "nul", "entity", "bomb"],
)
async def test_what_is_no_xml_ends_the_connection_and_the_next_one_works(
    server: ScriptedServer, bad: str | bytes
) -> None:
    """RFC 6120, 4.9.3.13 and 11.1: a stream that is not well-formed, or holds a DTD or entities, is closed."""
    network = network_of(server)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with reading(network) as first:
        server.say(server.message(f"<body>before</body>{sid('1')}"))
        await first.until("before")
        server.say(bad)
        assert first.reader is not None
        async with asyncio.timeout(60):
            await asyncio.wait([first.reader])
        error = first.reader.exception()
        assert isinstance(error, Disconnected)
        assert error.notice.endswith(".")
        assert not any("aaaaaaaaaaaaaaaaaaaa" in words for words in first.said())
    async with reading(network) as second:
        server.say(server.message(f"<body>and on</body>{sid('2')}"))
        assert await second.until("and on") == ["and on"]
    assert server.connections == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize(
    "stanza",
    [
        "<message/>",
        "<presence/>",
        "<presence from='@@@' type='subscribe'/>",
        f"<presence from='{ROOM}/eve' to='{US}' type='?'/>",
        f"<presence from='{ROOM}/eve' to='{US}' type='error'/>",
        f"<presence from='{ROOM}'/>",
        f"<message from='{ROOM}/eve' type='error'/>",
        f"<message from='{ROOM}' to='{US}'><x xmlns='{wire.MUC_USER}'><status code='104'/></x></message>",
        f"<message from='x@y' to='bridge@{COMPONENT}'><result xmlns='{wire.MAM}' queryid='q' id='1'/></message>",
        f"<message from='{ROOM}/eve' type='groupchat' to='{US}'><retract xmlns='{wire.RETRACT}'/></message>",
        f"<message from='{ROOM}/eve' type='groupchat' to='{US}'><reactions xmlns='{wire.REACTIONS}'/></message>",
        "<iq type='get' id='1' from='x@y' to='nobody@" + COMPONENT + "'/>",
        "<iq type='result' id='1' from='x@y'/>",
        "<iq/>",
        "<unknown xmlns='urn:unknown'/>",
        "<message" + " a='1'" + ">" + "<a>" * 3000 + "</a>" * 3000 + "</message>",
        "<!-- a comment -->",
    ],
)
async def test_what_makes_no_sense_is_left_alone(server: ScriptedServer, stanza: str) -> None:
    async with reading(network_of(server)) as found:
        server.say(stanza)
        server.say(server.message(f"<body>and on</body>{sid('1')}"))
        assert (await found.until("and on"))[-1] == "and on"


async def test_ids_that_the_room_did_not_give_are_nobodys(server: ScriptedServer) -> None:
    """XEP-0359, 6: of several ids only the one "by" the room counts, whoever else claims to have given one."""
    async with reading(network_of(server)) as found:
        forged = sid("taken", by="evil@example.org") + sid("taken", by=f"{ROOM}/eve") + sid("taken", by="")
        server.say(server.message(f"<body>first</body>{forged}{sid('1')}", more=" id='a'"))
        server.say(server.message(f"<body>second</body>{forged}{sid('2')}", more=" id='a'"))
        assert await found.until("second") == ["first", "second"]
        assert [f.id for f in found.told if isinstance(f, facts.Message)] == ["1", "2"]


async def test_a_message_of_a_megabyte_is_cut_with_an_ellipsis(server: ScriptedServer) -> None:
    async with reading(network_of(server)) as found:
        server.say(server.message(f"<body>{'x' * 1_000_000}</body>{sid('1')}"))
        server.say(server.message(f"<body>and on</body>{sid('2')}"))
        said = await found.until("and on")
        assert said[0].endswith("x …")
        assert 100_000 < len(said[0]) <= 300_002


async def test_ten_thousand_people_come_at_once_and_are_one_list(server: ScriptedServer) -> None:
    """XEP-0045, 7.2.2: the newcomer gets a presence of everybody, and their own at the end."""

    def crowd(to: str) -> str:
        return "".join(
            f"<presence from='{ROOM}/witch{i}' to='{to}'><occupant-id xmlns='{wire.OCCUPANT}' id='o{i}'/>"
            f"<x xmlns='{wire.MUC_USER}'><item affiliation='none' role='participant'/></x></presence>"
            for i in range(10_000)
        )

    server.before_us = crowd
    started = time.process_time()
    async with reading(network_of(server)) as found:
        server.say(server.message(f"<body>hello all</body>{sid('1')}", nick="witch77"))
        await found.until("hello all")
    (roster,) = [fact for fact in found.told if isinstance(fact, facts.Roster)]
    assert len({member.person.id for member in roster.members}) == 10_000
    assert not [fact for fact in found.told if isinstance(fact, facts.Membership)]
    assert time.process_time() - started < 30


NOWHERE = (
    f"<body>see</body><html xmlns='{wire.XHTML_IM}'><body xmlns='{wire.XHTML}'>"
    "<a href='http://[x'>see</a></body></html>"
)
"""A link whose address no parser of addresses takes."""


async def test_a_link_that_leads_nowhere_is_read_all_the_same(server: ScriptedServer) -> None:
    """XEP-0071, 9: what a client does not understand of it, it "MUST ignore"."""
    async with reading(network_of(server)) as found:
        server.say(server.message(f"{NOWHERE}{sid('1')}"))
        server.say(server.message(f"<body>and on</body>{sid('2')}"))
        assert await found.until("and on") == ["see", "and on"]


async def test_what_nobody_can_read_costs_itself_live_and_in_the_archive(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RFC 6120, 8.4 has no error for what one entity alone cannot read: it is told of, and the stream goes on.

    An archive tells it again at each start: a session that ends of it ends for ever.
    """

    def broken(stanza: Element) -> None:
        if "broken" in "".join(stanza.itertext()):
            raise ValueError("broken secret")

    monkeypatch.setattr(xhtml, "read", broken)
    host = FakeHost(linked=[ChatId(ROOM)])
    server.archived = ["<body>first</body>"]
    network = network_of(server, host)
    async with reading(network) as found:
        server.say(server.message(f"<body>broken secret</body>{sid('1')}"))
        server.say(server.message(f"<body>and on</body>{sid('2')}"))
        assert await found.until("and on") == [heard.UNREAD, "and on"]
    server.archived += ["<body>broken</body>", "<body>missed</body>", "<body>broken secret</body>", NOWHERE]
    server.archived[1:1] = ["", ""]
    for again in range(2):
        network = network_of(server, host)
        async with reading(network) as found:
            server.say(server.message(f"<body>still here</body>{sid(f'live-{again}')}"))
            said = await found.until("still here")
            assert found.reader is not None
            assert not found.reader.done()
            assert isinstance(network, XmppNetwork)
            if not again:
                assert said[:-1] == [heard.UNREAD, "missed", heard.UNREAD, "see"]
                assert network.troubles.count == 2
    logged = capsys.readouterr().out
    assert "secret" not in logged


@pytest.mark.parametrize("breaks", ["groupchat", "_message"])
def test_an_archived_message_that_breaks_what_is_behind_reading_costs_itself(
    monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    told, met = list[Fact](), list[object]()
    watch = Watch(Room(ROOM), told.append, Marks(b"x"), met.append)
    whole = getattr(translate, breaks)

    def broken(said: heard.Heard, *args: object, **more: object) -> object:
        if said.text is not None and said.text.body == "bad":
            raise KeyError("bad")
        return whole(said, *args, **more)

    monkeypatch.setattr(translate, breaks, broken)
    page = [
        Archived.of(id, 1, fromstring(server_message(words)))
        for id, words in (("1", "good"), ("2", "bad"), ("3", "better"))
    ]
    assert watch.archived(page) == 3
    assert [f.content.text.body for f in told if isinstance(f, facts.Message)] == [
        "good",
        heard.UNREAD,
        "better",
    ]
    assert (len(met), watch.last_at) == (1, 1)
    assert not watch.is_new(page[1])  # it is not met again


def server_message(words: str) -> str:
    return f"<message xmlns='jabber:client' type='groupchat' from='{ROOM}/eve'><body>{words}</body></message>"


NAMES = sorted(
    {
        (value, name)
        for value in vars(wire).values()
        if isinstance(value, str) and (value.startswith("urn:") or "jabber" in value)
        for name in "x item html body delay replace reply fallback reactions reaction url encrypted a".split()
    }
)
ODD = st.text(alphabet="0129:/[]@%-TZ.#<&*_ \n\ud7ff\U0001f600", max_size=12)


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> Element:
    space, name = draw(st.sampled_from(NAMES))
    made = Element(f"{{{space}}}{name}")
    for attribute in draw(
        st.sets(st.sampled_from(["href", "stamp", "start", "end", "id", "for", "jid", "from"]))
    ):
        made.set(attribute, draw(ODD))
    made.text = draw(st.none() | ODD)
    if depth < 2:
        made.extend(draw(st.lists(elements(depth + 1), max_size=3)))
    return made


@settings(max_examples=50, deadline=None)
@given(st.lists(elements(), max_size=4), ODD, st.booleans())
def test_whatever_stands_in_a_message_it_is_read(inside: list[Element], body: str, sealed: bool) -> None:
    """`heard.read` has an end for what breaks it; here nothing does."""
    stanza = wire.make("message", wire.CLIENT, from_=f"{ROOM}/eve", type="groupchat")
    stanza.extend(inside)
    wire.add(stanza, "body", wire.CLIENT, body)
    assert not heard.read(stanza, sealed=sealed).broken
