"""Commands about people's own accounts, and what they say with them in private."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridgekit.contract.connector import Manifest
from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.gates.directs import Directs
from bridgekit.runtime.lenient import allowed
from bridgekit.runtime.linking.making import Making
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.linking.remains import Remains
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.registry import Registry


class AccountCommands:
    """`label` is what people call a network."""

    def __init__(
        self,
        rights: Rights,
        client: MatrixClient,
        registry: Registry,
        portals: Portals,
        making: Making,
        accounts: Accounts,
        manifests: Mapping[NetworkId, Manifest],
        remains: Remains,
        directs: Directs,
        *,
        label: Callable[[NetworkId], str],
    ) -> None:
        self._rights = rights
        self._client = client
        self._registry = registry
        self._portals = portals
        self._making = making
        self._accounts = accounts
        self._manifests = manifests
        self._remains = remains
        self._directs = directs
        self._label = label

    @property
    def commands(self) -> Mapping[str, Command]:
        """By what people type."""
        return {"login": self._login, "logout": self._logout, "chat": self._chat}

    async def _login(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        network = self._network(words)
        fields: dict[str, str] = {}
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if not equals:
                raise NotAllowed(
                    f"Say `login {network} field=value ...`, with quotes around what has spaces."
                )
            fields[name] = value
        self._rights.spend(sender)
        await self._accounts.open(network, sender, fields)
        return (
            f"Your account on {self._label(network)} is being signed in. `!bridge status` shows how it does."
        )

    async def _logout(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        gone = bool(words) and self._remains.are_of(NetworkId(words[0]))
        network = NetworkId(words[0]) if gone else self._network(words)
        login = self._accounts.of(network, sender)
        if login is None:
            raise NotAllowed(f"You have no account on {self._label(network)} here.")
        await self._portals.close_account(network, login)
        return f"Your account on {self._label(network)} was taken away from the bridge, with its password."

    async def _chat(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        network = self._network(words)
        login = self._accounts.of(network, sender)
        if login is None:
            raise NotAllowed(self._making.no_login(network))
        if len(words) != 2:
            raise NotAllowed(f"Say `!bridge chat {network} <name>`.")
        side, person = self._portals.find_person(network, words[1], login)
        self._rights.spend(sender)
        if (link := self._registry.links.get(side)) is None:
            if why := await self._directs.refusal(sender, network, person):
                raise NotAllowed(why)
            await self._making.direct(side, person, sender)
            return f"You are invited to a room with {words[1]}."
        if await allowed(self._client.patient.invite(link.room, sender)):
            return f"There is a room with {words[1]} already: you are invited to it."
        return f"There is a room with {words[1]} already, and you are in it."

    def _network(self, words: list[str]) -> NetworkId:
        if not words or words[0] not in self._manifests:
            raise NotAllowed(f"Say which network: {', '.join(self._manifests) or 'none is configured'}.")
        return NetworkId(words[0])
