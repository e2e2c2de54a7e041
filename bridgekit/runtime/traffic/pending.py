"""Pending: who speaks while a network is away, or makes them wait, learns that their words wait, and for what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from bridgekit.contract.ids import MATRIX, ChatId, LoginId, NetworkId, PortalKey
from bridgekit.core.model import RELAY
from bridgekit.runtime.cases import Case
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.networks.accounts import Key
from bridgekit.runtime.networks.sessions import State, Supervised
from bridgekit.runtime.traffic.fates import SPOKEN, Fates
from bridgekit.runtime.traffic.steps import TOLD
from bridgekit.store import Store
from bridgekit.tasks import Spawn

AFTER = 5.0
"""Seconds: what is back sooner was hardly away."""


class Pending:
    """Each message's client shows that it waits; the room reads it in words once in each outage."""

    def __init__(
        self,
        store: Store,
        sessions: Mapping[Key, Supervised],
        fates: Fates,
        portals: Portals,
        *,
        label: Callable[[NetworkId], str],
        spawn: Spawn,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._fates = fates
        self._portals = portals
        self._label = label
        self._spawn = spawn
        self._told: set[tuple[ChatId, NetworkId]] = set()  # rooms that know of an outage that lasts

    def look(self, room: ChatId, case: Case, side: PortalKey, actor: str) -> None:
        """Something has to be said on `side`, which may be away, by `actor`: a login, or the relay."""
        spoken = isinstance(case.fact, SPOKEN) and case.event is not None and not case.told
        if not spoken or side.network == MATRIX:
            return
        if self._is_away(side):
            self._spawn(self._wait(room, case, side))
        elif actor != RELAY and side.receiver is None and self._is_coming(side.network, LoginId(actor)):
            label = self._label(side.network)
            self._spawn(self._show(room, case, side.network, f"It waits for your account on {label}."))
        elif side.receiver is not None:
            asyncio.get_running_loop().call_later(AFTER, self._lingers, room, case, side.network)

    def _lingers(self, room: ChatId, case: Case, network: NetworkId) -> None:
        """A direct chat may have to wait for the other to agree to it."""
        if case.open and not case.told:
            words = f"{self._label(network)} has not taken it yet: it waits."
            self._spawn(self._show(room, case, network, words))

    def session_changed(self, supervised: Supervised) -> None:
        """A session is up, lost or rejected."""
        if supervised.state is State.READY and supervised.login is None:
            self._told = {one for one in self._told if one[1] != supervised.id}

    def _is_away(self, side: PortalKey) -> bool:
        """Whether the account that reads the chat has no connection, and will have one again."""
        supervised = self._sessions.get((side.network, side.receiver or None))
        if supervised is None or supervised.session is not None:
            return False
        return supervised.state in (State.CONNECTING, State.WAITING)

    def _is_coming(self, network: NetworkId, login: LoginId) -> bool:
        """Whether an account is still waited for: after a while in vain, its words go through the relay."""
        supervised = self._sessions.get((network, login))
        if supervised is None or supervised.session is not None or supervised.given_up:
            return False
        return supervised.state in (State.CONNECTING, State.WAITING)

    async def _wait(self, room: ChatId, case: Case, side: PortalKey) -> None:
        await asyncio.sleep(AFTER)
        if not case.open or case.told or not self._is_away(side):
            return
        supervised = self._sessions[side.network, side.receiver or None]
        why = f" {supervised.reason}" if supervised.reason else ""
        label = self._label(side.network)
        words = f"{label} cannot be reached.{why} What you say waits, and is passed on when it is back."
        if (room, side.network) not in self._told:
            self._told.add((room, side.network))
            await self._portals.say(room, f"⏳ {words}")
        await self._show(room, case, side.network, words)

    async def _show(self, room: ChatId, case: Case, network: NetworkId, words: str) -> None:
        """Let the sender's client show that it waits; once."""
        if case.told or not case.open:
            return
        case.told = True
        if case.durable:
            self._store.commit(self._store.outbox.performed(case.number, TOLD, "told"))
        await self._fates.pending(room, case, network, words)
