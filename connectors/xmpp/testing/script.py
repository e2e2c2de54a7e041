"""A server's end of a component's stream that says whatever a test wants, well-formed or not."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable

COMPONENT = "matrix.script.test"
ROOM = "den@rooms.script.test"
_FEATURES = (
    "http://jabber.org/protocol/muc",
    "muc_open",
    "muc_public",
    "muc_unsecured",
    "muc_semianonymous",
    "urn:xmpp:sid:0",
    "urn:xmpp:occupant-id:0",
)


class ScriptedServer:
    """Accepts any secret, describes one room, lets everybody into it; the rest is `say`.

    `before_us` is what the room sends of those who are there before a newcomer's own presence (XEP-0045,
    7.2.2); `taken` are nicks that it refuses; where it has `forgotten` the bridge, it says so when it is asked.
    Where it has `archived` something (the insides of messages, whose ids are their places), it has an archive.
    Where it is `silent` it does not say what it is; where it has `gone`, whoever comes makes it anew. If it
    `echoes`, what occupants say is shown to them and kept in `said`; the words of those whom it has `lost` are
    refused until they come in again, of `never` always. Where it is `slow`, it refuses a nick, and says what it
    has become, only when it is told to `answer_slow`.
    """

    def __init__(self) -> None:
        self.port = 0
        self.heard = ""
        self.name = "Den"
        self.features: tuple[str, ...] = _FEATURES
        self.before_us: Callable[[str], str] = lambda to: ""
        self.connections = 0
        self.taken: set[str] = set()
        self.forgotten = False
        self.silent = False
        self.gone = False
        self.refusal = ""  # why it lets nobody in
        self.echoes = False
        self.lost: set[str] = set()
        self.never: set[str] = set()
        self.said: list[str] = []
        self.receipts: list[str] = []  # ids that the bridge has said it received
        self.reacted: list[set[str]] = []
        self.moderated: list[str] = []  # what moderators ask for, as they ask
        self.moderators: set[str] = set()  # their nicks
        self.slow = False
        self._kept = ""
        self._nicks: dict[str, str] = {}
        self.archived: list[str] = []
        self.entered: list[str] = []  # the nicks, in order
        self.left: list[str] = []
        self.presences: list[str] = []
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""
        self._writer = writer
        self.connections += 1
        self.heard = ""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.heard += data.decode()
                self._answer()
                await writer.drain()
        writer.close()

    def say(self, xml: str | bytes) -> None:
        """Whatever it is."""
        assert self._writer is not None
        self._writer.write(xml if isinstance(xml, bytes) else xml.encode())

    @property
    def owes(self) -> bool:
        """Whether there is something that it has not answered yet."""
        return bool(self._kept)

    def answer_slow(self) -> None:
        """What it has not answered, and from here on it answers at once."""
        self.slow = False
        self.say(self._kept)
        self._kept = ""

    def message(self, inside: str, *, nick: str = "eve", kind: str = "groupchat", more: str = "") -> str:
        """A message of the room to the bridge."""
        return f"<message type='{kind}' from='{ROOM}/{nick}' to='bridge@{COMPONENT}/bridge'{more}>{inside}</message>"

    def _answer(self) -> None:
        while self.heard:
            for pattern, answer in (
                (r"<stream:stream[^>]*>", self._stream),
                (r"<handshake[^>]*>[^<]*</handshake>", lambda _: "<handshake/>"),
                (r"<iq [^>]*?type=\"get\"[^>]*>.*?</iq>", self._asked),
                (r"<iq [^>]*?type=\"set\"[^>]*>.*?</iq>", self._told),
                (r"<presence [^>]*?(?:/>|>.*?</presence>)", self._presence),
                (r"<message .*?</message>", self._message),
                (r"<iq .*?</iq>|<\?xml[^>]*>|</stream:stream>", lambda _: ""),
            ):
                found = re.match(rf"\s*(?:{pattern})", self.heard, re.S)
                if found is not None:
                    self.heard = self.heard[found.end() :]
                    self.say(answer(found[0]))
                    break
            else:
                return

    def _stream(self, _: str) -> str:
        return (
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
            f"xmlns:stream='http://etherx.jabber.org/streams' id='1' from='{COMPONENT}'>"
        )

    def _asked(self, iq: str) -> str:
        id, to = _attribute(iq, "id"), _attribute(iq, "to")
        back = f"<iq type='result' id='{id}' from='{to}' to='{_attribute(iq, 'from')}'>"
        if "disco#info" in iq and to == ROOM:
            answer = self._about(back)
            if not self.slow:
                return answer
            self._kept += answer
            return ""
        if "urn:xmpp:ping" in iq and to.startswith(f"{ROOM}/") and self.forgotten:
            return back.replace("'result'", "'error'") + _error("not-acceptable") + "</iq>"
        return f"{back}</iq>"

    def _about(self, back: str) -> str:
        if self.silent:
            return back.replace("'result'", "'error'") + _error("forbidden") + "</iq>"
        features = (*self.features, "urn:xmpp:mam:2") if self.archived else self.features
        listed = "".join(f"<feature var='{one}'/>" for one in features)
        about = f"<identity category='conference' type='text' name='{self.name}'/>"
        return f"{back}<query xmlns='http://jabber.org/protocol/disco#info'>{about}{listed}</query></iq>"

    def _message(self, message: str) -> str:
        """What an occupant says, shown to the occupant who reads for the bridge."""
        self.receipts += re.findall(r"<received [^>]*?id=[\"']([^\"']*)", message)
        sender, words = _attribute(message, "from"), re.search(r"<body>(.*?)</body>", message)
        keys = set(re.findall(r"<reaction>(.*?)</reaction>", message))
        if not self.echoes or not (words or keys) or _attribute(message, "to") != ROOM:
            return ""
        nick, id = self._nicks.get(sender, ""), _attribute(message, "id")
        if nick in self.lost | self.never:
            return f"<message type='error' from='{ROOM}' to='{sender}' id='{id}'>{_error('not-acceptable')}</message>"
        if words is None:
            self.reacted.append(keys)
            return self.message("<store xmlns='urn:xmpp:hints'/>", nick=nick, more=f" id='{id}'")
        self.said.append(words[1])
        sid = f"<stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='s{len(self.said)}'/>"
        return self.message(f"<body>{words[1]}</body>{sid}", nick=nick, more=f" id='{id}'")

    def _told(self, iq: str) -> str:
        """A page of the archive (XEP-0313, 4), which is all of it behind the message that is named; and moderation."""
        id, reader, query = _attribute(iq, "id"), _attribute(iq, "from"), _attribute(iq, "queryid")
        if "urn:xmpp:message-moderate:" in iq:
            self.moderated.append(iq)
            back = f"<iq type='result' id='{id}' from='{ROOM}' to='{reader}'>"
            if self._nicks.get(reader) not in self.moderators:
                back = back.replace("'result'", "'error'") + _error("forbidden")
            return f"{back}</iq>"
        if "urn:xmpp:mam:2" not in iq:
            return ""
        after = re.search(r"<after[^>]*>(\d+)</after>", iq)
        found = "".join(
            f"<message from='{ROOM}' to='{reader}'><result xmlns='urn:xmpp:mam:2' queryid='{query}' id='{place}'>"
            "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>"
            f"<message xmlns='jabber:client' type='groupchat' from='{ROOM}/eve'>{inside}</message>"
            "</forwarded></result></message>"
            for place, inside in enumerate(self.archived)
            if after is None or place > int(after[1])
        )
        fin = "<fin xmlns='urn:xmpp:mam:2' complete='true'/>"
        return f"{found}<iq type='result' id='{id}' from='{ROOM}' to='{reader}'>{fin}</iq>"

    def _presence(self, presence: str) -> str:
        to, sender = _attribute(presence, "to"), _attribute(presence, "from")
        if not to.startswith(f"{ROOM}/"):
            return ""
        if 'type="unavailable"' in presence:
            self.left.append(to.partition("/")[2])
            return ""
        if self.refusal:
            why = f"<error type='cancel'>{self.refusal}</error>"
            return f"<presence type='error' from='{to}' to='{sender}'>{why}</presence>"
        nick = to.partition("/")[2]
        self._nicks[sender] = nick
        self.lost.discard(nick)
        self.entered.append(nick)
        self.presences.append(presence)
        if nick in self.taken:
            refusal = f"<presence type='error' from='{to}' to='{sender}'>{_error('conflict')}</presence>"
            if not self.slow:
                return refusal
            self._kept += refusal
            return ""
        made = "<status code='201'/>" if self.gone else ""
        return (
            self.before_us(sender)
            + f"<presence from='{to}' to='{sender}'><x xmlns='http://jabber.org/protocol/muc#user'>"
            f"<item affiliation='none' role='participant'/><status code='110'/>{made}</x></presence>"
            f"<message type='groupchat' from='{ROOM}' to='{sender}'><subject/></message>"
        )


def _error(condition: str) -> str:
    return f"<error type='cancel'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"


def _attribute(xml: str, name: str) -> str:
    found = re.search(rf"\s{name}=[\"']([^\"']*)[\"']", xml)
    return found[1] if found is not None else ""


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedServer]:
    """It listens on 127.0.0.1 while the block lasts."""
    script = ScriptedServer()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        if script._writer is not None:
            script._writer.transport.abort()
        await asyncio.sleep(0.01)
