"""What a room says of itself (XEP-0030, XEP-0045 6.4): features, and from them who may read it."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract.policy import Entry, Exposure, Visibility
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.wire import children, find, words


class About(msgspec.Struct, frozen=True):
    """A service-discovery answer."""

    features: frozenset[str] = frozenset()
    name: str = ""
    identities: frozenset[tuple[str, str]] = frozenset()
    fields: dict[str, str] = {}

    @property
    def archived(self) -> bool:
        """It keeps an archive that can be asked (XEP-0313)."""
        return wire.MAM in self.features

    @property
    def gives_ids(self) -> bool:
        """It gives stanza-ids, and removes forged ones (XEP-0359, 4)."""
        return wire.SID in self.features

    @property
    def names_occupants(self) -> bool:
        """It gives occupant-ids, and removes forged ones (XEP-0421, 4)."""
        return wire.OCCUPANT in self.features

    @property
    def shows_addresses(self) -> bool:
        """Everybody sees everybody's real address (XEP-0045, 4.2: non-anonymous)."""
        return "muc_nonanonymous" in self.features

    @property
    def moderates(self) -> str:
        """The namespace in which moderators take messages back, "" where they cannot."""
        return next((ns for ns in (wire.MODERATE, wire.MODERATE_0) if ns in self.features), "")


def read(answer: Element | None) -> About:
    """The answer to disco#info; nothing where it is none."""
    query = find(answer, wire.DISCO_INFO, "query")
    if query is None:
        return About()
    identities = children(query, wire.DISCO_INFO, "identity")
    fields = {}
    for form in children(query, wire.DATA, "x"):
        for field in children(form, wire.DATA, "field"):
            fields[field.get("var", "")] = words(find(field, wire.DATA, "value"))
    return About(
        frozenset(one.get("var", "") for one in children(query, wire.DISCO_INFO, "feature")),
        next((one.get("name", "") for one in identities if one.get("category") == "conference"), "")
        or fields.get("muc#roomconfig_roomname", ""),
        frozenset((one.get("category", ""), one.get("type", "")) for one in identities),
        fields,
    )


def visibility(about: About) -> Visibility:
    """Who may read the room, as it says; without an answer that names it, nothing is known: that is secret."""
    features = about.features
    if wire.MUC not in features:
        return Visibility()
    closed = "muc_membersonly" in features or "muc_passwordprotected" in features
    words = [one.removeprefix("muc_") for one in sorted(features) if one.startswith("muc_")]
    # "Open" says who may come in and "public" that it is listed; what neither of them says stays secret.
    opened = "muc_open" in features and not closed and "muc_unsecured" in features
    if opened and "muc_public" in features:
        exposure = Exposure.SHARED if about.archived else Exposure.JOINED
    else:
        exposure = Exposure.JOINED
    return Visibility(
        exposure=exposure,
        entry=Entry.OPEN if opened else Entry.INVITE,
        listed="muc_public" in features and "muc_hidden" not in features,
        moderated="muc_moderated" in features,
        known=True,
        detail=", ".join(words),
    )
