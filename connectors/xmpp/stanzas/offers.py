"""Files that somebody offers to hand over directly (Jingle, XEP-0234): nobody here can take them, and that is said."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from bridgekit.contract.people import Kind
from bridgekit.contract.text import Text
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.heard import Heard
from connectors.xmpp.stanzas.wire import children, find, words

_FILES = "urn:xmpp:jingle:apps:file-transfer:"
"""Behind it stands the version; clients offer what the other side announces, some without asking."""


def read(iq: Element) -> Heard | None:
    """The offer as words of whoever makes it; None where the question is another."""
    jingle = find(iq, wire.JINGLE, "jingle")
    if jingle is None or jingle.get("action") != "session-initiate":
        return None
    for content in children(jingle, wire.JINGLE, "content"):
        for description in content:
            if wire.local(description) == "description" and wire.tag(description).startswith(f"{{{_FILES}"):
                return Heard(
                    type="chat",
                    sender=iq.get("from", ""),
                    to=iq.get("to", ""),
                    id=jingle.get("sid", ""),
                    text=Text(_offer(description)),
                    kind=Kind.NOTICE,
                )
    return None


def _offer(description: Element) -> str:
    names = [words(one) for one in description.iter() if wire.local(one) == "name"]
    name = wire.line(names[0])[:120] if names else ""
    what = f"the file {name}" if name else "a file"
    return (
        f"(offered {what} directly from one client to another, which the bridge cannot take over: it has not arrived. "
        "An upload would.)"
    )
