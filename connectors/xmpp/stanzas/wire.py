"""XML as XMPP has it: namespaces, elements made from words that strangers typed, elements read without trust."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

STREAMS = ("jabber:client", "jabber:component:accept", "jabber:server")
CLIENT = STREAMS[0]
"""The namespace in which stanzas are written here; the stream puts its own in place of it."""

STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
MUC = "http://jabber.org/protocol/muc"
MUC_USER = "http://jabber.org/protocol/muc#user"
MUC_ADMIN = "http://jabber.org/protocol/muc#admin"
MUC_OWNER = "http://jabber.org/protocol/muc#owner"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
DATA = "jabber:x:data"
SID = "urn:xmpp:sid:0"
OCCUPANT = "urn:xmpp:occupant-id:0"
DELAY = "urn:xmpp:delay"
CORRECT = "urn:xmpp:message-correct:0"
REACTIONS = "urn:xmpp:reactions:0"
REPLY = "urn:xmpp:reply:0"
FALLBACK = "urn:xmpp:fallback:0"
RETRACT, RETRACT_0 = "urn:xmpp:message-retract:1", "urn:xmpp:message-retract:0"
MODERATE, MODERATE_0 = "urn:xmpp:message-moderate:1", "urn:xmpp:message-moderate:0"
FASTEN = "urn:xmpp:fasten:0"
RECEIPTS = "urn:xmpp:receipts"
MARKERS = "urn:xmpp:chat-markers:0"
STATES = "http://jabber.org/protocol/chatstates"
OOB = "jabber:x:oob"
SPOILER = "urn:xmpp:spoiler:0"
SFS, METADATA = "urn:xmpp:sfs:0", "urn:xmpp:file:metadata:0"
URL_DATA = "http://jabber.org/protocol/url-data"
XHTML_IM = "http://jabber.org/protocol/xhtml-im"
XHTML = "http://www.w3.org/1999/xhtml"
MAM = "urn:xmpp:mam:2"
RSM = "http://jabber.org/protocol/rsm"
FORWARD = "urn:xmpp:forward:0"
CARBONS = "urn:xmpp:carbons:2"
CONFERENCE = "jabber:x:conference"
HINTS = "urn:xmpp:hints"
PING = "urn:xmpp:ping"
VCARD, VCARD_UPDATE = "vcard-temp", "vcard-temp:x:update"
PUBSUB = "http://jabber.org/protocol/pubsub"
AVATAR_META, AVATAR_DATA = "urn:xmpp:avatar:metadata", "urn:xmpp:avatar:data"
BOOKMARKS = "urn:xmpp:bookmarks:1"
CAPS = "http://jabber.org/protocol/caps"
COMMANDS = "http://jabber.org/protocol/commands"
UPLOAD = "urn:xmpp:http:upload:0"
BOB = "urn:xmpp:bob"
JINGLE = "urn:xmpp:jingle:1"
EME = "urn:xmpp:eme:0"
OMEMO_2, OMEMO_LEGACY = "urn:xmpp:omemo:2", "eu.siacs.conversations.axolotl"
OMEMO = (OMEMO_2, "urn:xmpp:omemo:1", OMEMO_LEGACY)
SCE = "urn:xmpp:sce:1"
PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event"

# XML 1.0, 2.2: what a document may hold at all. Everything else would end the stream.
_UNSPEAKABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def clean(words: str) -> str:
    """The words without what XML cannot hold; CR and CRLF are LF, as every parser reads them (XML 1.0, 2.11)."""
    return _UNSPEAKABLE.sub("", words.replace("\r\n", "\n").replace("\r", "\n"))


def line(words: str) -> str:
    """The same on one line, for attributes."""
    return " ".join(clean(words).split())


def make(name_: str, xmlns: str, text: str = "", /, **attributes: str) -> Element:
    """An element; `_` at the end of a name of an attribute (`from_`) falls away, empty attributes are left out."""
    element = Element(f"{{{xmlns}}}{name_}")
    for name, value in attributes.items():
        if value:
            element.set(name.rstrip("_"), line(value))
    if text:
        element.text = clean(text)
    return element


def add(parent: Element, name_: str, xmlns: str, text: str = "", /, **attributes: str) -> Element:
    """The same, inside `parent`."""
    element = make(name_, xmlns, text, **attributes)
    parent.append(element)
    return element


def core(element: Element, name: str) -> Element | None:
    """The child of that name that belongs to the stanza itself (`body`, `subject`, `error` ...)."""
    for child in element:
        space, _, local = tag(child)[1:].rpartition("}")
        if local == name and space in STREAMS:
            return child
    return None


def tag(element: Element) -> str:
    """The name with its namespace; "" of what is no element (a comment, say)."""
    found: object = element.tag
    return found if isinstance(found, str) else ""


def local(element: Element) -> str:
    """The name without its namespace."""
    return tag(element).rpartition("}")[2]


def find(element: Element | None, xmlns: str, name: str) -> Element | None:
    """The first child of that name in that namespace."""
    return element.find(f"{{{xmlns}}}{name}") if element is not None else None


def words(element: Element | None) -> str:
    """The text inside, "" where there is none."""
    return (element.text or "") if element is not None else ""


def children(element: Element | None, xmlns: str, name: str) -> list[Element]:
    """All children of that name in that namespace."""
    return element.findall(f"{{{xmlns}}}{name}") if element is not None else []


def moment(stamp: str) -> int:
    """Milliseconds since the epoch of a XEP-0082 date-time, 0 where it is none."""
    found = _STAMP.fullmatch(stamp.strip())
    if found is None:
        return 0
    day, time, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone == 'Z' else zone}")
        return int(at.timestamp()) * 1000 + int((fraction or "0")[:3].ljust(3, "0"))
    except (ValueError, OverflowError):
        return 0


def stamp(at: int) -> str:
    """A XEP-0082 date-time for milliseconds since the epoch."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03}Z"


def in_namespace(element: Element, xmlns: str) -> Element:
    """The stanza as a stream of another namespace carries it: changed in place, all that stands in CLIENT."""
    for one in element.iter():
        if tag(one).startswith(f"{{{CLIENT}}}"):
            one.tag = f"{{{xmlns}}}{one.tag[len(CLIENT) + 2 :]}"
    return element
