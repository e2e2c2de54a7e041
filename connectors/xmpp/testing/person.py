"""Somebody on XMPP with a client that nobody here wrote: slixmpp in plain form."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring
from xml.sax.saxutils import escape, quoteattr

import msgspec
import slixmpp

from bridgekit.testing.sightings import Sightings
from connectors.xmpp import tls

SECONDS = 60.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One stanza as the client got it."""

    kind: str  # message or presence
    type: str
    sender: str
    id: str
    body: str
    subject: str | None
    stanza_id: str
    xml: Element

    @property
    def nick(self) -> str:
        return self.sender.partition("/")[2]

    def has(self, xmlns: str, name: str) -> Element | None:
        """A child of the stanza."""
        return self.xml.find(f"{{{xmlns}}}{name}")

    def __str__(self) -> str:
        return tostring(self.xml, encoding="unicode")[:400]


def seen(kind: str, element: Element, *, stanza_id: str) -> Seen:
    """The parts of a stanza that tests look at."""
    subject = element.find("{jabber:client}subject")
    return Seen(
        kind=kind,
        type=element.get("type", ""),
        sender=element.get("from", ""),
        id=element.get("id", ""),
        body=element.findtext("{jabber:client}body") or "",
        subject=None if subject is None else subject.text or "",
        stanza_id=stanza_id,
        xml=element,
    )


class Person:
    """One account, online. `seen` are all messages and presences in the order in which they came."""

    def __init__(self, jid: str, password: str, *, port: int, certificate: Path) -> None:
        self.jid = jid
        self.seen: Sightings[Seen] = Sightings(show=str)
        self._numbers = itertools.count(1)
        self._port = port
        self._xmpp: Any = slixmpp.ClientXMPP(jid, password, ssl_context=tls.context(certificate))
        self._xmpp.enable_direct_tls = False
        self._xmpp.register_plugin("xep_0030")
        self._xmpp.register_plugin("xep_0199")
        self._xmpp.add_filter("in", self._came)
        self._answers: dict[str, asyncio.Future[Element]] = {}

    @property
    def name(self) -> str:
        return self.jid.partition("@")[0]

    @property
    def full(self) -> str:
        """The full address."""
        return str(self._xmpp.boundjid)

    async def open(self) -> None:
        ready = asyncio.Event()
        self._xmpp.add_event_handler("stream_negotiated", lambda _: ready.set())
        self._xmpp.connect("127.0.0.1", self._port)
        async with asyncio.timeout(SECONDS):
            await ready.wait()
        self.send("<presence/>")

    async def close(self) -> None:
        xmpp = self._xmpp
        xmpp.cancel_connection_attempt()
        if xmpp.transport is not None:
            self.send("</stream:stream>")
            await asyncio.sleep(0.01)
        if xmpp.transport is not None:
            xmpp.transport.abort()  # some servers never answer the end of TLS
            while xmpp.transport is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for name in list(xmpp.scheduled_events):
            xmpp.cancel_schedule(name)
        if (filters := xmpp._run_out_filters) is not None:
            filters.cancel()
            await asyncio.gather(filters, return_exceptions=True)

    def _came(self, stanza: Any) -> Any:
        element: Element = stanza.xml
        kind = element.tag.rpartition("}")[2]
        if kind == "iq":
            waiting = self._answers.pop(element.get("id", ""), None)
            if waiting is not None and element.get("type") in ("result", "error"):
                waiting.set_result(element)
                return None
            return stanza
        if kind not in ("message", "presence"):
            return stanza
        given = element.find("{urn:xmpp:sid:0}stanza-id")
        self.seen.add(seen(kind, element, stanza_id=given.get("id", "") if given is not None else ""))
        return None

    # What they do ----------------------------------------------------------------------------------------------

    def send(self, xml: str) -> None:
        """A stanza as it is."""
        self._xmpp.send_raw(xml)

    def new_id(self) -> str:
        return f"{self.name}-{next(self._numbers)}"

    async def ask(self, to: str, payload: str, kind: str = "get") -> Element:
        """An IQ; its answer, whatever it says. To nobody ("") is to one's own account."""
        id = self.new_id()
        address = f" to={quoteattr(to)}" if to else ""
        self._answers[id] = asyncio.get_running_loop().create_future()
        self.send(f"<iq id='{id}' type='{kind}'{address}>{payload}</iq>")
        async with asyncio.timeout(SECONDS):
            return await self._answers[id]

    async def ask_with(self, to: str, payload: Element, kind: str = "get") -> Element:
        """The same with a payload that is an element."""
        return await self.ask(to, tostring(payload, encoding="unicode"), kind)

    async def join(self, room: str, nick: str = "", *, history: int = 0) -> None:
        """Enter a room; it is made if there is none."""
        self.enter(room, nick, history=history)
        await self.sees(
            lambda s: s.kind == "presence" and s.sender.startswith(f"{room}/") and 110 in codes(s), "110"
        )

    def enter(self, room: str, nick: str = "", *, history: int = 0) -> None:
        address = quoteattr(f"{room}/{nick or self.name}")
        self.send(
            f"<presence to={address}><x xmlns='http://jabber.org/protocol/muc'>"
            f"<history maxstanzas='{history}'/></x></presence>"
        )

    def leave(self, room: str, nick: str = "") -> None:
        self.send(f"<presence type='unavailable' to={quoteattr(f'{room}/{nick or self.name}')}/>")

    def say(self, to: str, body: str, extra: str = "", *, room: bool = True, id: str = "") -> str:
        """A message; its id. `extra` is XML beside the body."""
        id = id or self.new_id()
        kind = "groupchat" if room else "chat"
        words = f"<body>{escape(body)}</body>" if body else ""
        self.send(f"<message id={quoteattr(id)} type='{kind}' to={quoteattr(to)}>{words}{extra}</message>")
        return id

    async def keep_picture(self, data: bytes, mime: str) -> str:
        """Be ready to give a picture to who asks for it (XEP-0231); its cid."""
        self._xmpp.register_plugin("xep_0231")
        return str(await self._xmpp["xep_0231"].set_bob(data, mime))

    async def configure(self, room: str, **fields: str) -> None:
        """Change the room's configuration; underscores in names are dots of `muc#roomconfig_` fields."""
        form = "".join(
            f"<field var='muc#roomconfig_{name}'><value>{escape(value)}</value></field>"
            for name, value in fields.items()
        )
        answer = await self.ask(
            room,
            "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"
            "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"
            f"{form}</x></query>",
            "set",
        )
        assert answer.get("type") == "result", tostring(answer)

    async def administer(self, room: str, item: str) -> None:
        """Change a role or affiliation: `item` is the XML of it."""
        answer = await self.ask(
            room, f"<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>", "set"
        )
        assert answer.get("type") == "result", tostring(answer)

    # What they see ---------------------------------------------------------------------------------------------

    async def sees(self, matches: Callable[[Seen], object], what: str = "", seconds: float = SECONDS) -> Seen:
        """The next stanza that matches and was not taken before. Raises NotSeen."""

        def found(seen: Seen) -> bool:
            match = matches(seen)
            return match is not None if isinstance(match, Element) else bool(match)  # an empty element counts

        return await self.seen.take(found, seconds, f"{self.name}: {what or 'the stanza'}")

    async def reads(self, body: str, *, nick: str = "", seconds: float = SECONDS) -> Seen:
        """The next message with exactly these words. Raises NotSeen."""
        return await self.sees(
            lambda s: s.kind == "message" and s.body == body and nick in ("", s.nick),
            f"“{body[:60]}”",
            seconds,
        )

    async def archive(self, room: str) -> list[Seen]:
        """What the room's archive holds (XEP-0313), oldest first, under the names that were used then."""
        query = self.new_id()
        found: list[Seen] = []
        after = ""
        while True:
            before = len(self.seen.all)
            more = f"<after>{escape(after)}</after>" if after else ""
            answer = await self.ask(
                room,
                f"<query xmlns='urn:xmpp:mam:2' queryid='{query}'>"
                f"<set xmlns='http://jabber.org/protocol/rsm'><max>50</max>{more}</set></query>",
                "set",
            )
            assert answer.get("type") == "result", tostring(answer)
            page = [
                result
                for one in self.seen.all[before:]
                if (result := one.has("urn:xmpp:mam:2", "result")) is not None
                and result.get("queryid") == query
            ]
            for result in page:
                message = result.find("{urn:xmpp:forward:0}forwarded/{jabber:client}message")
                assert message is not None
                found.append(seen("message", message, stanza_id=result.get("id", "")))
            fin = answer.find("{urn:xmpp:mam:2}fin")
            if not page or (fin is not None and fin.get("complete") == "true"):
                return found
            after = page[-1].get("id", "")

    def said(self, words: str) -> int:
        """How often that was said so far."""
        return sum(1 for s in self.seen.all if s.kind == "message" and words in s.body)


def codes(seen: Seen) -> set[int]:
    """The status codes of a presence."""
    muc = seen.has("http://jabber.org/protocol/muc#user", "x")
    found = muc.findall("{http://jabber.org/protocol/muc#user}status") if muc is not None else []
    return {int(one.get("code", "0")) for one in found}


@asynccontextmanager
async def person(jid: str, password: str, *, port: int, certificate: Path) -> AsyncIterator[Person]:
    """Online while the block lasts."""
    one = Person(jid, password, port=port, certificate=certificate)
    try:
        await one.open()
        yield one
    finally:
        await one.close()
