"""Contacts of our addresses (RFC 6121, 3): who asked to see one, and who was allowed to."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.errors import Disconnected
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Person
from connectors.xmpp.stanzas import wire
from connectors.xmpp.stanzas.jids import bare, normal
from connectors.xmpp.stanzas.wire import make

if TYPE_CHECKING:
    from connectors.xmpp.guests import Guest
    from connectors.xmpp.network import XmppNetwork
    from connectors.xmpp.session import XmppSession

MOST = 1000
"""Contacts of one address; who asks after that is refused."""
MOST_ASKING = 50
"""Of these, such as nobody has answered yet: the oldest of them gives way, for addresses cost nothing."""


class Bond(StrEnum):
    """How somebody stands to one of our addresses."""

    ASKED = "asked"
    FRIEND = "friend"


class Contacts:
    """Presences of people, and what is written down of them; by our bare address and theirs."""

    def __init__(self, network: XmppNetwork) -> None:
        self._network = network
        self._host = network.host
        self._known: dict[str, dict[str, Bond]] = {}
        self._told: set[tuple[str, str]] = set()  # who was told of since we run: asking again is no news

    async def of(self, ours: str) -> dict[str, Bond]:
        """Everybody who asked one of our addresses, or may see it."""
        if ours not in self._known:
            kept = await self._host.get(f"contacts/{ours}")
            found = msgspec.json.decode(kept, type=dict[str, Bond]) if kept else {}
            self._known.setdefault(ours, found)
        return self._known[ours]

    async def put(self, ours: str, theirs: str, bond: Bond | None) -> bool:
        """Write one down; None is a stranger again. False where there are too many."""
        known = await self.of(ours)
        if bond is not Bond.ASKED:
            self._told.discard((ours, theirs))
        if bond is None:
            known.pop(theirs, None)
        elif theirs not in known and len(known) >= MOST:
            return False
        else:
            known[theirs] = bond
        self._host.put_later(f"contacts/{ours}", msgspec.json.encode(known) if known else None)
        return True

    # Presences -------------------------------------------------------------------------------------------------

    def presence(self, session: XmppSession, stanza: Element) -> None:
        """Presence of people: who asks to see somebody of ours is told of to them, and waits for the answer."""
        if stanza.get("type", "") in ("subscribe", "unsubscribe", "probe"):
            session.spawn(self._asked(session, stanza), "xmpp-contact")

    async def _asked(self, session: XmppSession, stanza: Element) -> None:
        """RFC 6121, 3.1.3 (subscribe), 3.3.3 (unsubscribe), 4.3.2 (probe)."""
        kind, theirs = stanza.get("type"), normal(bare(stanza.get("from", "")))
        ours = bare(stanza.get("to", "")) or bare(session.jid)
        if theirs is None or theirs == ours:
            return
        if session.login is None and ours == bare(session.jid):  # the bridge itself: everybody may see it
            if kind == "subscribe":
                self._present(session, "subscribed", ours, theirs)
            if kind != "unsubscribe":
                self._present(session, "", ours, theirs)
            return
        guest = self._network.guest(ours)
        owner = guest or (session if session.login is not None else None)
        known = (await self.of(ours)).get(theirs)
        if kind == "unsubscribe":
            await self._forget(session, owner, ours, theirs)
        elif kind == "probe":
            if known is not Bond.FRIEND:
                self._present(session, "unsubscribed", ours, theirs)
            elif guest is not None:
                self._present(session, "", ours, theirs)
        elif known is Bond.FRIEND:
            self._present(session, "subscribed", ours, theirs)
        elif owner is None or not await self._may_ask(session, owner, ours, theirs):
            self._present(session, "unsubscribed", ours, theirs)
        elif (ours, theirs) not in self._told:
            self._told.add((ours, theirs))
            owner.tell(self._request(theirs))

    async def _may_ask(
        self, session: XmppSession, owner: Guest | XmppSession, ours: str, theirs: str
    ) -> bool:
        """Whether one more may ask; the oldest of too many gives way to them."""
        known = await self.of(ours)
        asking = [one for one, its in known.items() if its is Bond.ASKED]
        if theirs not in known and len(asking) >= MOST_ASKING:
            await self._forget(session, owner, ours, asking[0])
        return await self.put(ours, theirs, Bond.ASKED)

    async def _forget(
        self, session: XmppSession, owner: Guest | XmppSession | None, ours: str, theirs: str
    ) -> None:
        """They are a stranger again; an answer of which nobody would hear is not waited for any more."""
        known = (await self.of(ours)).get(theirs)
        await self.put(ours, theirs, None)
        self._present(session, "unsubscribed", ours, theirs)
        if known is Bond.ASKED and owner is not None:
            owner.tell(self._request(theirs, withdrawn=True))

    def _request(self, theirs: str, *, withdrawn: bool = False) -> facts.Invitation:
        """Somebody asks to be a contact, or does no more."""
        return facts.Invitation(
            chat=ChatId(theirs),
            at=int(self._host.now() * 1000),
            private=True,
            sender=Person(id=PersonId(theirs), name=theirs.partition("@")[0], account=theirs),
            withdrawn=withdrawn,
        )

    def _present(self, session: XmppSession, kind: str, ours: str, theirs: str) -> None:
        """A presence for one person; availability is that of a device."""
        address = (
            ours if kind in ("subscribe", "subscribed", "unsubscribe", "unsubscribed") else f"{ours}/bridge"
        )
        session.stream.send(make("presence", wire.CLIENT, to=theirs, from_=address, type=kind))

    async def answer(self, session: XmppSession, ours: str, theirs: str, yes: bool) -> None:
        """The owner of one of our addresses has decided about somebody who asked to be a contact."""
        known = (await self.of(ours)).get(theirs)
        if known is None or (yes and known is Bond.FRIEND):
            return
        await self.put(ours, theirs, Bond.FRIEND if yes else None)
        self._present(session, "subscribed" if yes else "unsubscribed", ours, theirs)
        if yes:
            self._present(session, "subscribe", ours, theirs)
            if self._network.is_component:
                self._present(session, "", ours, theirs)
        elif self._network.is_component:
            self._present(session, "unavailable", ours, theirs)

    async def appear(self, session: XmppSession, guest: Guest) -> None:
        """A guest is here: friends see it, and who asked while nobody answered is told of again."""
        ours = bare(guest.jid)
        for theirs, bond in list((await self.of(ours)).items()):
            if bond is Bond.FRIEND:
                self._present(session, "", ours, theirs)
            else:
                guest.tell(self._request(theirs))

    async def disappear(self, session: XmppSession, guest: Guest) -> None:
        """A guest is gone."""
        ours = bare(guest.jid)
        with contextlib.suppress(Disconnected):
            for theirs, bond in list((await self.of(ours)).items()):
                if bond is Bond.FRIEND:
                    self._present(session, "unavailable", ours, theirs)
