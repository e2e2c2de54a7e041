"""Stanzas as text, read as the connector reads them."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring

from bridgekit.contract.facts import Fact
from connectors.xmpp.stanzas import disco, heard, rooms, translate, wire
from connectors.xmpp.stanzas.index import Index
from connectors.xmpp.stanzas.rooms import Room

ROOM = "coven@chat.shakespeare.lit"
BASIC = frozenset({wire.MUC, "muc_semianonymous", "muc_open", "muc_public", "muc_unsecured"})
MODERN = BASIC | {wire.SID, wire.OCCUPANT, wire.MAM}
ME = "bridge@shakespeare.lit/bridge"


def stanza(xml: str) -> heard.Heard:
    """A message of the jabber:client namespace."""
    return heard.read(fromstring(xml.replace("<message", "<message xmlns='jabber:client'", 1)))


class Reader:
    """A room that has been entered, and what is read in it."""

    def __init__(self, features: frozenset[str] = MODERN, *, nonanonymous: bool = False) -> None:
        self.room = Room(ROOM)
        self.room.about = disco.About(features)
        self.room.nonanonymous = nonanonymous
        self.index = Index(ROOM)
        self.index.believes = wire.SID in features
        self.room.nick = "bridge"
        self.enter("bridge", codes="<status code='110'/>")

    def presence(self, xml: str) -> list[Fact]:
        element = fromstring(xml.replace("<presence", "<presence xmlns='jabber:client'", 1))
        return self.room.read_presence(rooms.read(element), 1000)

    def enter(
        self, nick: str, *, occupant: str = "", role: str = "participant", affiliation: str = "none",
        jid: str = "", codes: str = "",
    ) -> list[Fact]:  # fmt: skip
        address = f" jid='{jid}'" if jid else ""
        id = f"<occupant-id xmlns='urn:xmpp:occupant-id:0' id='{occupant}'/>" if occupant else ""
        return self.presence(
            f"<presence from='{ROOM}/{nick}' to='{ME}'>{id}<x xmlns='{wire.MUC_USER}'>"
            f"<item affiliation='{affiliation}' role='{role}'{address}/>{codes}</x></presence>"
        )

    def go(self, nick: str, item: str = "", codes: str = "", more: str = "") -> list[Fact]:
        item = item or "<item affiliation='none' role='none'/>"
        return self.presence(
            f"<presence type='unavailable' from='{ROOM}/{nick}' to='{ME}'><x xmlns='{wire.MUC_USER}'>"
            f"{item}{codes}</x>{more}</presence>"
        )

    def message(
        self, nick: str, inside: str, *, id: str = "", given: str = "", occupant: str = ""
    ) -> list[Fact]:
        """A groupchat message; `given` is the stanza-id that the room adds."""
        name = f" id='{id}'" if id else ""
        slash = f"/{nick}" if nick else ""
        sid = f"<stanza-id xmlns='{wire.SID}' by='{ROOM}' id='{given}'/>" if given else ""
        who = f"<occupant-id xmlns='{wire.OCCUPANT}' id='{occupant}'/>" if occupant else ""
        said = stanza(f"<message type='groupchat' from='{ROOM}{slash}'{name}>{inside}{sid}{who}</message>")
        return translate.groupchat(said, self.room, self.index, 2000)
