"""How Matrix users look on XMPP: a vCard (XEP-0054), its digest in presences (XEP-0153), and an avatar (XEP-0084)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import msgspec
from slixmpp.exceptions import XMPPError
from slixmpp.xmlstream.handler import CoroutineCallback
from slixmpp.xmlstream.matcher import StanzaPath

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import MatrixError
from bridgekit.contract.ids import PersonId
from connectors.xmpp.stanzas import cards, wire
from connectors.xmpp.stanzas.cards import Picture
from connectors.xmpp.stanzas.jids import bare

if TYPE_CHECKING:
    from connectors.xmpp.stream import Stream

AT_ONCE = 4
"""People whom the homeserver is asked about at a time: after a start, everybody comes back at once."""
KNOWN = 500
"""People whose pictures are at hand, at most 128 KiB each; others are asked for anew."""


class Look(msgspec.Struct, frozen=True):
    """Somebody's name and picture."""

    name: str = ""
    picture: Picture | None = None

    @property
    def digest(self) -> str:
        return self.picture.digest if self.picture is not None else ""


class Portraits:
    """Of everybody whom a component gives an address; `whose` tells the Matrix user behind one."""

    def __init__(self, host: Host, whose: Callable[[str], PersonId | None]) -> None:
        self._host = host
        self._whose = whose
        self._known: OrderedDict[PersonId, Look] = OrderedDict()
        self._turn = asyncio.Semaphore(AT_ONCE)

    def digest(self, owner: PersonId) -> str | None:
        """What a presence says of their picture: its digest, "" for none; None while it is not known."""
        known = self._known.get(owner)
        return known.digest if known is not None else None

    async def look(self, owner: PersonId, *, again: bool = False) -> Look:
        """How they look, as it was last asked or, `again`, as it is now. Raises MatrixError."""
        known = self._known.get(owner)
        if known is not None and not again:
            return known
        async with self._turn:
            portrait = await self._host.portrait(owner)
        found = Look(portrait.name, cards.of_bytes(portrait.picture))
        self._known[owner] = found
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return found

    def sign(self, presence: Element) -> None:
        """Put the digest of its sender's picture into a presence that says that they are there, if it is known."""
        if presence.get("type"):
            return
        owner = self._whose(bare(presence.get("from", "")))
        digest = self.digest(owner) if owner is not None else None
        if digest is not None:
            cards.announce(presence, digest)

    # What others ask ---------------------------------------------------------------------------------------------

    def serve(self, stream: Stream) -> None:
        """Answer on a component's stream, by slixmpp's plugins."""
        stream.signs.append(self.sign)
        plugins = stream.plugins(("xep_0054", "xep_0060"))
        plugins["xep_0054"].api.register(self._card, "get_vcard", default=True)
        plugins["xep_0054"].xmpp.register_handler(
            CoroutineCallback("Avatars", StanzaPath("iq@type=get/pubsub/items"), self._items)
        )

    async def _shown(self, address: Any) -> Look:
        owner = self._whose(str(address))
        try:
            found = await self.look(owner) if owner is not None else None
        except MatrixError:
            raise XMPPError("remote-server-timeout") from None
        if found is None:
            raise XMPPError("item-not-found")
        return found

    async def _card(self, jid: Any, node: Any, ifrom: Any, args: Any) -> Element:
        look = await self._shown(getattr(jid, "bare", jid))
        return cards.card(look.name, look.picture)

    async def _items(self, iq: Any) -> None:
        """XEP-0084, 4.1 and 4.2: the newest metadata, and the bytes by their digest."""
        look = await self._shown(iq["to"].bare)
        items = wire.find(wire.find(iq.xml, wire.PUBSUB, "pubsub"), wire.PUBSUB, "items")
        found = cards.items(items.get("node", "") if items is not None else "", look.picture)
        if found is None:
            raise XMPPError("item-not-found")
        answer = iq.reply(clear=True)
        answer.xml.append(found)
        answer.send()
