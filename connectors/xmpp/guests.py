"""One Matrix user's account on a component: an address under its domain, carried by the relay's stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.connector import Emit
from bridgekit.contract.errors import Disconnected
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Login, Person
from bridgekit.contract.verbs import FetchHistory, Leave, Sent, Verb
from connectors.xmpp.stanzas.jids import bare

if TYPE_CHECKING:
    from connectors.xmpp.network import XmppNetwork
    from connectors.xmpp.session import XmppSession


class Guest:
    """`contract.Session` for a login of a component."""

    def __init__(self, network: XmppNetwork, relay: XmppSession, login: Login) -> None:
        self.login = login
        self._network = network
        self._relay = relay
        self._emit: Emit | None = None
        self._early: list[Fact] = []
        self._speaker = network.known(login.owner)
        self.jid = network.address(self._speaker)

    @property
    def me(self) -> Person:
        """The address under the component's domain."""
        return Person(id=PersonId(bare(self.jid)), name=self._speaker.name, account=bare(self.jid))

    def capabilities(self, chat: ChatId) -> Capabilities:
        found = self._relay.capabilities_for(chat, own=True)
        return msgspec.structs.replace(found, verbs=found.verbs - {FetchHistory})

    async def run(self, emit: Emit) -> None:
        """Only what is said to this address alone is its own to tell."""
        self._emit = emit
        for fact in self._early:
            emit(fact)
        self._early = []
        why = await asyncio.shield(self._relay.stream.lost)
        raise Disconnected(why)

    @property
    def is_heard(self) -> bool:
        """Whether what it tells is taken at once."""
        return self._emit is not None

    def tell(self, fact: Fact) -> None:
        """Something was said to this address."""
        fact = self._network.fetched_here(fact)
        if self._emit is not None:
            self._emit(fact)
        elif len(self._early) < 1000:
            self._early.append(fact)

    async def perform(self, verb: Verb) -> Sent | None:
        """The relay does it in this person's name."""
        if (
            isinstance(verb, Leave)
            and self._network.is_room(verb.chat)
            and verb.chat not in self._relay.watches
        ):
            return None
        return await self._relay.perform(msgspec.structs.replace(verb, speaker=self._speaker))
