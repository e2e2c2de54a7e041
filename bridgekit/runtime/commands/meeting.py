"""Commands by which people come together: look for somebody, decline an invitation, give out a code of a chat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog

from bridgekit.contract import verbs
from bridgekit.contract.connector import Session
from bridgekit.contract.errors import BridgeError, NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.meeting import FindsPeople, MakesCodes
from bridgekit.contract.people import Person
from bridgekit.core import wording
from bridgekit.core.rates import Buckets, Rate
from bridgekit.runtime.clock import now
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.registry import Registry

log = structlog.get_logger(__name__)

SEARCHES = Rate(20, 60_000)
"""Of all clients, on one network: each makes the bridge ask another server."""


class Meeting:
    """`label` is what people call a network; `permitted` raises NotAllowed where somebody may not change a room, and
    `spend` where they have asked for too much."""

    def __init__(
        self,
        portals: Portals,
        registry: Registry,
        accounts: Accounts,
        *,
        label: Callable[[NetworkId], str],
        permitted: Callable[[ChatId, PersonId], Awaitable[None]],
        spend: Callable[[PersonId], None],
    ) -> None:
        self._portals = portals
        self._registry = registry
        self._accounts = accounts
        self._label = label
        self._permitted = permitted
        self._spend = spend
        self._searches: Buckets[NetworkId] = Buckets(SEARCHES)

    @property
    def commands(self) -> Mapping[str, Callable[[ChatId, PersonId, list[str]], Awaitable[str]]]:
        """By what people type."""
        return {"find": self._find, "decline": self._decline, "code": self._code}

    async def _find(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        if len(words) < 2:
            raise NotAllowed("Say `!bridge find <network> <who>`.")
        network = self._network(words[0])
        session = self._session(network)
        if not isinstance(session, FindsPeople):
            raise NotAllowed(
                f"Nobody can be looked for on {self._label(network)}: only their address leads there."
            )
        self._spend(sender)
        return wording.found(network, self._label(network), await session.find(" ".join(words[1:])))

    async def search(self, network: NetworkId, words: str) -> list[Person]:
        """Whom a client looks for by the homeserver; nobody where that cannot be told now, or too often."""
        supervised = self._accounts.sessions.get((network, None))
        if supervised is None or supervised.session is None or not self._searches.take(network, now()):
            return []
        session = supervised.session
        try:
            return await session.find(words) if isinstance(session, FindsPeople) else []
        except BridgeError as error:
            log.info("nobody_looked_for", network=network, reason=error.notice)
            return []

    async def _decline(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        side = self._shared("decline", words)
        label = self._label(side.network)
        if (account := self._accounts.invited(side, sender)) is None:
            raise NotAllowed(f"Nobody waits for your answer about {words[1]} on {label}.")
        await account.perform(verbs.Leave(chat=side.chat))
        return f"Declined: {words[1]} on {label}."

    async def _code(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        """Said in a room of two with the bot, never in the chat: whoever has the code gets in."""
        end = words[2:] == ["off"]
        side = self._shared("code", words[:2] if end else words, more=" [off]")
        link = self._registry.links.get(side)
        if link is None:
            raise NotAllowed(f"{words[1]} on {self._label(side.network)} is not linked.")
        await self._permitted(link.room, sender)
        if end:
            return wording.codes_ended(link.name, await self.end_codes(side))
        portal = self._registry.portals.get(room)
        if portal is None or portal.kind != "management":
            raise NotAllowed("A code lets in whoever reads it: ask for it in a direct room with me.")
        return wording.code(side.network, link.name, await self.make_code(side))

    async def make_code(self, side: PortalKey) -> str:
        """A new code of a linked chat. Raises NotAllowed, RemoteError."""
        return await self._maker(side).make_code(side.chat)

    async def end_codes(self, side: PortalKey) -> int:
        """All of a linked chat's codes are void; how many there were. Raises NotAllowed, RemoteError."""
        return await self._maker(side).end_codes(side.chat)

    def _maker(self, side: PortalKey) -> MakesCodes:
        session = self._session(side.network)
        if not isinstance(session, MakesCodes):
            raise NotAllowed(f"There are no such codes on {self._label(side.network)}.")
        return session

    def _shared(self, command: str, words: list[str], more: str = "") -> PortalKey:
        if len(words) != 2:
            raise NotAllowed(f"Say `!bridge {command} <network> <chat>{more}`.")
        return self._portals.find_chat(self._network(words[0]), words[1])

    def _network(self, name: str) -> NetworkId:
        network = NetworkId(name)
        if (network, None) not in self._accounts.sessions:
            raise NotAllowed(f"There is no network called {name}: `!bridge networks` lists them.")
        return network

    def _session(self, network: NetworkId) -> Session:
        supervised = self._accounts.sessions.get((network, None))
        if supervised is None or supervised.session is None:
            raise NotAllowed(f"{self._label(network)} is not connected now.")
        return supervised.session
