"""Commands that show how things are, and take away what is left of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridgekit.contract.connector import Manifest
from bridgekit.contract.errors import NotAllowed
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.core import wording
from bridgekit.core.direct import WITH_WHOM
from bridgekit.core.scopes import Policy
from bridgekit.runtime.commands.rights import Command, Rights
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.gates.directs import Directs
from bridgekit.runtime.gates.readers import Readers
from bridgekit.runtime.gates.shielding import Shields
from bridgekit.runtime.linking.remains import Remains
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.registry import OPEN, WAITING, Registry
from bridgekit.store.rows import Link

GONE = "this network is not in the bridge's configuration any more"


class OverviewCommands:
    """`held` is how much waits for a link, `obstacle` what is in its way."""

    def __init__(
        self,
        rights: Rights,
        registry: Registry,
        accounts: Accounts,
        manifests: Mapping[NetworkId, Manifest],
        remains: Remains,
        directs: Directs,
        protecting: Protecting,
        consenting: Consenting,
        readers: Readers,
        shields: Shields,
        *,
        held: Callable[[PortalKey], int],
        obstacle: Callable[[Link], str],
        label: Callable[[NetworkId], str],
    ) -> None:
        self._rights = rights
        self._registry = registry
        self._accounts = accounts
        self._manifests = manifests
        self._remains = remains
        self._directs = directs
        self._protecting = protecting
        self._consenting = consenting
        self._readers = readers
        self._shields = shields
        self._held = held
        self._obstacle = obstacle
        self._label = label

    @property
    def commands(self) -> Mapping[str, Command]:
        """By what people type."""
        return {"status": self._status, "networks": self._networks, "forget": self._forget}

    async def _status(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        lines = []
        for link in self._registry.links_of(room):
            seen = self._registry.visibility.get(link.key)
            modes = f" (modes {seen.detail})" if seen is not None and seen.detail else ""
            state = self._obstacle(link) or ("open" if link.state == OPEN else f"{link.state}: {link.reason}")
            if self._remains.are_of(link.key.network):
                state = f"{GONE}. `!bridge unlink {link.key.network} {link.name}` takes the link away."
            lines.append(f"{link.name} on {self._label(link.key.network)}: {state}{modes}")
            if (
                link.key.receiver is None
                and link.state != WAITING
                and self._consenting.policy(link.key.network) is not Policy.OFF
            ):
                lines += wording.what_holds(
                    self._consenting.consents(link.key),
                    self._consenting.scopes(link.key),
                    self._consenting.policy(link.key.network),
                )
            if blocked := self._readers.explained(link.key):
                lines.append(blocked)
            elif held := self._held(link.key):
                lines.append(wording.holding(held, link.name, self._label(link.key.network), []).rstrip())
            if waiting := self._shields.strangers(link.key):
                lines.append(wording.strangers(link.name, waiting))
        if (agreement := self._protecting.laid_open(room)) is not None:
            lines.append(wording.laid_open(agreement.person))
        for row in self._registry.logins.values():
            if row.login.owner == sender:
                status = self._accounts.status(row.network, row.login.id)
                if self._remains.are_of(row.network):
                    status = f"{GONE}. `!bridge logout {row.network}` takes the account away."
                lines.append(f"Your account on {self._label(row.network)}: {status}")
        return "\n".join(lines) or "This room is not linked, and you have no accounts here."

    async def _networks(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        admin = self._rights.is_admin(sender)
        lines = []
        for network, manifest in self._manifests.items():
            strangers = self._directs.turned_away[network] if admin else 0
            lines.append(
                f"{network}: {self._label(network)} ({manifest.name}), {self._accounts.status(network, None)}; "
                f"private conversations {WITH_WHOM[self._directs.policy(network)]}"
                + (f" ({wording.turned_away(strangers)})" if strangers else "")
            )
        if admin:
            lines += [
                f"{network}: {GONE}; {left} of it remain. `!bridge forget {network}` takes that away."
                for network, left in self._remains.all().items()
            ]
        return "\n".join(lines) or "No networks are configured."

    async def _forget(self, room: ChatId, sender: PersonId, words: list[str]) -> str:
        """For admins: what is left of a network that is not configured any more."""
        if not self._rights.is_admin(sender):
            raise NotAllowed("Only an admin of this bridge can do that.")
        network = NetworkId(words[0]) if words else NetworkId("")
        if not self._remains.are_of(network):
            left = ", ".join(self._remains.all())
            raise NotAllowed(
                f"Say `!bridge forget <network>`: something is left of {left}."
                if left
                else "Nothing is left of any network that is not configured."
            )
        return f"Nothing is left of {network}: {await self._remains.forget(network)} were taken away."
