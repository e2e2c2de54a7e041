"""Stanza content encryption (XEP-0420): what of a message is hidden inside its encryption, as bytes and back. Pure."""

from __future__ import annotations

from copy import deepcopy
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from bridgekit.contract.errors import PeerMisbehaved
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.jids import bare
from connectors.xmpp.stanzas.wire import add, find, make, tag

HIDDEN = frozenset(
    {
        f"{{{wire.CLIENT}}}body",
        f"{{{wire.OOB}}}x",
        f"{{{wire.SFS}}}file-sharing",
        f"{{{wire.REACTIONS}}}reactions",
    }
)
"""What says something; everything else of a message is ids, ranges and requests."""
_COPIED = HIDDEN | {
    f"{{{wire.REPLY}}}reply",
    f"{{{wire.FALLBACK}}}fallback",
    f"{{{wire.CORRECT}}}replace",
}
"""What stands inside as well: outside it is for those whose encryption hides the body alone."""
FALLBACK = "This message is encrypted with OMEMO, which your client does not read."


def pack(stanza: Element, *, stamp: str, padding: str) -> bytes:
    """The envelope of a message; `padding` hides how long the words are."""
    envelope = make("envelope", wire.SCE)
    content = add(envelope, "content", wire.SCE)
    content.extend(deepcopy(child) for child in stanza if tag(child) in _COPIED)
    add(envelope, "rpad", wire.SCE, padding)
    add(envelope, "time", wire.SCE, stamp=stamp)
    add(envelope, "to", wire.SCE, jid=bare(stanza.get("to", "")))
    add(envelope, "from", wire.SCE, jid=bare(stanza.get("from", "")))
    return ElementTree.tostring(envelope, encoding="unicode").encode()


def unpack(data: bytes, *, sender: str, to: str, room: bool) -> list[Element]:
    """What an envelope holds, if `sender` packed it for `to` (bare addresses; `room`: that is a room's).

    Raises PeerMisbehaved.
    """
    # RFC 6120, 11.1: neither document types nor entities, comments or instructions are XMPP.
    if b"<!" in data.replace(b"<![CDATA[", b"") or b"<?" in data:
        raise PeerMisbehaved("an envelope that is not XMPP")
    try:
        envelope = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError):
        raise PeerMisbehaved("an envelope that is no XML") from None
    content = find(envelope, wire.SCE, "content")
    if tag(envelope) != f"{{{wire.SCE}}}envelope" or content is None:
        raise PeerMisbehaved("an envelope without content")
    # XEP-0420, 8.1: a server cannot move a message to another conversation. XEP-0384 wants <from/> in every envelope,
    # and <to/> in those of rooms: the same devices may also talk alone.
    for name, wanted, needed in (("from", sender, True), ("to", to, room)):
        said = find(envelope, wire.SCE, name)
        if said is None and not needed:
            continue
        if said is None or not wanted or bare(said.get("jid", "")).lower() != wanted.lower():
            raise PeerMisbehaved("an envelope from another conversation")
    return list(content)


def outside(stanza: Element) -> Element:
    """The message without what says something, and with words for whoever cannot open it."""
    left = Element(stanza.tag, dict(stanza.attrib))
    left.extend(child for child in stanza if tag(child) not in HIDDEN)
    add(left, "body", wire.CLIENT, FALLBACK)
    add(left, "store", wire.HINTS)
    return left


def opened(stanza: Element, inside: list[Element], *, whole: bool) -> Element:
    """The message as it was before it was encrypted; `whole`: an envelope held all of it, and not the body alone.

    What a server could have put beside it does not pass for what was inside.
    """
    made = Element(stanza.tag, dict(stanza.attrib))
    for child in stanza:
        space, _, name = tag(child)[1:].rpartition("}")
        is_body = name == "body" and space in wire.STREAMS
        is_cover = space in (*wire.OMEMO, wire.EME, wire.XHTML_IM) or is_body or tag(child) in HIDDEN
        if not is_cover and not (whole and tag(child) in _COPIED):
            made.append(child)
    made.extend(inside)
    return made
