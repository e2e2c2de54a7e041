"""Owners of accounts, and the admins for the bridge's own: what they are told of an account on a network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec
import structlog

from bridgekit.admin.metrics import Metrics
from bridgekit.contract import facts
from bridgekit.contract.connector import Network
from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.core import wording
from bridgekit.runtime.networks.sessions import State, Supervised
from bridgekit.runtime.registry import Registry
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)


class Owners:
    """Hears what concerns one of them, or all admins: `tell` and `tell_admins` say it to them alone."""

    def __init__(
        self,
        registry: Registry,
        networks: Mapping[NetworkId, Network],
        metrics: Metrics,
        *,
        tell: Callable[[PersonId, str], Awaitable[None]],
        tell_admins: Callable[[str], Awaitable[None]],
        asked: Callable[[PortalKey, Person, PersonId], Coroutine[Any, Any, None]],
        withdrawn: Callable[[PortalKey, Person, PersonId], Coroutine[Any, Any, bool]],
        label: Callable[[NetworkId], str],
        spawn: Spawn,
        waits: Callable[[PortalKey, PersonId], object],
    ) -> None:
        self._registry = registry
        self._asked = asked
        self._withdrawn = withdrawn
        self._tell = tell
        self._tell_admins = tell_admins
        self._networks = networks
        self._metrics = metrics
        self._label = label
        self._spawn = spawn
        self._waits = waits
        self._turned_away: set[NetworkId] = set()  # the bridge itself, and the admins were told

    def session_changed(self, supervised: Supervised) -> None:
        """A session is up, lost or rejected."""
        if supervised.state is State.WAITING:
            self._metrics.reconnect(supervised.id)
        if supervised.state not in (State.REJECTED, State.READY):
            return
        again = supervised.state is State.REJECTED and not supervised.is_final
        if supervised.login is not None:
            self._spawn(self._login_changed(supervised.login.id, supervised.reason, again=again))
        elif supervised.state is State.READY:
            self._turned_away.discard(supervised.id)
        elif supervised.id not in self._turned_away:
            self._turned_away.add(supervised.id)
            self._spawn(self._turned_us_away(supervised.id, supervised.reason, again=again))

    async def _turned_us_away(self, network: NetworkId, reason: str, *, again: bool) -> None:
        why = wording.tried_again(reason) if again else reason
        try:
            await self._tell_admins(wording.turned_us_away(self._label(network), why))
        except BridgeError as error:
            log.warning("admins_not_told", network=network, reason=error.notice)

    async def _login_changed(self, login: LoginId, rejected: str, *, again: bool) -> None:
        """Keep whether a login is of use; its owner is told once of each reason why it is not."""
        row = self._registry.logins.get(login)
        state = "rejected" if rejected else "wanted"
        if row is None or (row.state, row.reason) == (state, rejected):
            return
        await self._registry.put_login(msgspec.structs.replace(row, state=state, reason=rejected))
        if rejected:
            why = wording.tried_again(rejected) if again else rejected
            words = f"Your account on {self._label(row.network)} cannot be used: {why}"
            await self._tell(row.login.owner, words)

    async def invited(self, network: NetworkId, login: LoginId | None, fact: facts.Invitation) -> None:
        """An account was asked into a chat, or is no more: its owner is told, and nothing is joined by itself.

        A private chat is a person who asks to be a contact: see `linking.contacts`.
        """
        row = self._registry.logins.get(login) if login is not None else None
        if row is None:
            log.info("invited", network=network)  # the relay: who links a chat asks it in
            return
        if fact.private:
            side = PortalKey(network, fact.chat, row.login.id)
            try:
                if not fact.withdrawn:
                    await self._asked(side, fact.sender, row.login.owner)
                elif await self._withdrawn(side, fact.sender, row.login.owner):
                    await self._tell(row.login.owner, wording.asks_no_more(fact.sender.name))
            except BridgeError as error:
                log.warning("contact_not_asked", network=network, reason=error.notice)
            return
        name = fact.name or self._networks[network].chat_name(fact.chat)
        if fact.withdrawn:
            words = wording.asks_in_no_more(fact.sender.name, name, self._label(network))
            await self._tell(row.login.owner, words)
            return
        waits = self._waits(PortalKey(network, fact.chat), row.login.owner)
        decline = f"\nOr decline: !bridge decline {network} {name}" if waits else ""
        await self._tell(
            row.login.owner,
            f"{fact.sender.name} asks you into {name} on {self._label(network)}. To take part, invite me to a "
            f"room and say there: !bridge link {network} {name}{decline}",
        )
