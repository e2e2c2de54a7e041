"""What we tell of ourselves: service discovery (XEP-0030) and entity capabilities (XEP-0115), by slixmpp's plugins."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from slixmpp.exceptions import XMPPError
from slixmpp.plugins.xep_0030.stanza import DiscoInfo

from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.wire import add

NODE = "https://github.com/bridgekit"
"""Under which name our capabilities go (XEP-0115, 4: the node is a URI of the software)."""
FEATURES = (
    wire.DISCO_INFO, wire.CAPS, wire.CORRECT, wire.REACTIONS, wire.REPLY, wire.FALLBACK, wire.RETRACT, wire.RECEIPTS,
    wire.MARKERS, wire.STATES, wire.OOB, wire.SFS, wire.SID, wire.CONFERENCE, wire.PING, wire.MUC,
    wire.VCARD,
)  # fmt: skip
"""What every address of ours can. OMEMO is not among them: a gateway could only pretend to be an end (XEP-0384). An
account's device is not announced here either, but by the list of its keys."""
GATEWAY = (("gateway", "matrix", "Matrix"),)
PERSON = (("account", "registered", ""), ("client", "web", "Matrix"))
ROBOT = (("client", "bot", "Matrix bridge"),)

Identities = tuple[tuple[str, str, str], ...]


class Announcement:
    """What each of our addresses says of itself. `own`: the address that is all of us, and what it is."""

    def __init__(self, xmpp: Any, own: Identities) -> None:
        self._caps = xmpp.plugin["xep_0115"]
        self._caps.broadcast = False  # it knows one address, and we have thousands: see `sign`
        # What others can, we ask where we want to know it, and not of everybody who comes by.
        xmpp.del_event_handler("entity_caps", self._caps._process_caps)
        self._domain = str(xmpp.boundjid) if xmpp.is_component else ""
        self._static = xmpp.plugin["xep_0030"].static
        self._own = own
        for category, kind, name in own:
            xmpp.plugin["xep_0030"].add_identity(category=category, itype=kind, name=name)
        for feature in FEATURES:
            xmpp.plugin["xep_0030"].add_feature(feature)
        xmpp.plugin["xep_0030"].api.register(self._info, "get_info", default=True)
        self._said = self._about(PERSON if self._domain else own)
        self._ver = self._caps.generate_verstring(self._said, "sha-1")

    @staticmethod
    def _about(identities: Identities) -> Any:
        info = DiscoInfo()
        for category, kind, name in identities:
            info.add_identity(category, kind, name or None)
        for feature in FEATURES:
            info.add_feature(feature)
        return info

    async def _info(self, jid: Any, node: str | None, ifrom: Any, data: Any) -> Any:
        """The answer to disco#info, for one of our addresses."""
        of_caps = bool(node) and node == f"{NODE}#{self._ver}"
        if self._domain and str(getattr(jid, "bare", jid) or "") in ("", self._domain):
            return self._static.get_info(jid, None if of_caps else node, ifrom, data)
        if node and not of_caps:
            if not self._domain:
                return self._static.get_info(jid, node, ifrom, data)
            raise XMPPError("item-not-found")
        return self._said

    def sign(self, presence: Element) -> None:
        """Put our capabilities into a presence that says that we are there (XEP-0115, 6.1)."""
        if not presence.get("type") and presence.find(f"{{{wire.CAPS}}}c") is None:
            add(presence, "c", wire.CAPS, hash="sha-1", node=NODE, ver=self._ver)
