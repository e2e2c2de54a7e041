"""What follows elsewhere in the bridge when one of its parts has news."""

from __future__ import annotations

import time

import structlog

from bridgekit.admin.metrics import Direction
from bridgekit.contract import facts
from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import MATRIX, ChatId, NetworkId, PersonId, PortalKey
from bridgekit.core import wording
from bridgekit.core.scopes import Scope
from bridgekit.runtime.cases import Case, Fate, Outcome
from bridgekit.runtime.clock import now
from bridgekit.runtime.networks.sessions import State, Supervised
from bridgekit.runtime.parts import Parts
from bridgekit.runtime.registry import WAITING
from bridgekit.store import Store
from bridgekit.store.ids import new_id
from bridgekit.store.rows import Link

log = structlog.get_logger(__name__)


class Consequences:
    """What the parts are given to call when they have news that is not theirs alone."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def replaced(self, room: ChatId) -> str:
        new = self._parts.upgrades.successor(room)
        return wording.replaced(new, self._parts.me) if new is not None else ""

    def obstacle(self, link: Link) -> str:
        """What is in the way of a link besides what its state says, for people; "" where nothing is."""
        if why := self.replaced(link.room):
            return f"on its way: {why}"
        network, login = link.key.network, link.key.receiver
        supervised = self._parts.accounts.sessions.get((network, login))
        if supervised is not None and supervised.session is None:
            return f"not connected ({self._parts.accounts.status(network, login).rstrip('.')})"
        return ""

    def encrypted(self, room: ChatId) -> None:
        self._parts.readying.encrypted(room)
        self._parts.protecting.changed(room)

    def session_changed(self, supervised: Supervised) -> None:
        if supervised.login is None and supervised.state is State.READY:
            self._parts.exposures.visibilities.lost(supervised.id)  # while the bridge was away
        if supervised.login is None and supervised.state is not State.READY:
            self._parts.consenting.optouts.lost(supervised.id)
            self._parts.directs.lost(supervised.id)
        self._parts.owners.session_changed(supervised)
        self._parts.readers.session_changed(supervised)
        self._parts.policies.session_changed(supervised)
        self._parts.pending.session_changed(supervised)

    async def parted(self, owner: PersonId) -> None:
        """Somebody has no account of their own any more: there is nothing that they could say from elsewhere."""
        try:
            await self._parts.engine.puppets.remove(owner)
        except BridgeError as error:
            log.warning("puppet_device_not_signed_out", reason=error.notice)

    def scopes_changed(self, side: PortalKey, scopes: frozenset[Scope]) -> None:
        """What a chat's people agree to has changed: what may not pass any more stops this moment."""
        link = self._parts.registry.links.get(side)
        if link is None:
            return
        if Scope.BRIDGE not in scopes:
            self._parts.exposures.shut(side)
            self._parts.spawn(self._unsaid(link))
            others = [other.key for other in self._parts.registry.links_of(link.room) if other.key != side]
            if not any(
                key.network == side.network and key in self._parts.exposures.cleared for key in others
            ):
                self._parts.joins.forget(link.room, side.network)
                self._parts.spawn(
                    self._parts.clearing.clear(link.room, side.network, "the chat does not want it")
                )
        else:
            # The room may show more than they agree to now, and a comparison under way knows nothing of it.
            self._parts.exposures.doubt(side)
            if link.state == WAITING:
                self._parts.spawn(self._opened(link))
                return
        self._parts.exposures.weigh(link.room)

    async def _unsaid(self, link: Link) -> None:
        """What was held when the consent was taken back is never shown, whatever is agreed to later."""
        held, last = self._parts.holding, new_id()
        why = wording.taken_with_consent(link.name)
        if count := await held.fail(link.key, why, lambda row: row.number < last):
            log.warning("held_to_the_end", network=link.key.network, messages=count)
            label = self._parts.manifests[link.key.network].name
            await self._parts.portals.say(link.room, wording.unsaid(count, link.name, label))

    async def _opened(self, link: Link) -> None:
        """A chat has agreed: its room is compared, and then those who are in the chat are shown in it."""
        self._parts.registry.set_state(link.key, *self._parts.opening.state_of(link.key), now())
        await self._parts.exposures.weighed(link.room)
        crowd = self._parts.crowds.of(link.key)
        if crowd.known:
            roster = facts.Roster(chat=link.key.chat, at=now(), members=crowd.members())
            self._parts.rooms.remote(link.key.network, link.reader, roster)

    async def forget(self, side: NetworkId, person: PersonId) -> None:
        """What was kept of somebody who is erased: of a network, or of Matrix."""
        await self._parts.shields.erase(side, person)
        for key in [key for key in self._parts.registry.links if key.network == side]:
            await self._parts.holding.fail(key, wording.ERASED_WORDS, lambda row: row.person == person)
        if side == MATRIX:
            await self._parts.protecting.erase(person)
            for room in {link.room for link in self._parts.registry.links.values()}:
                self._parts.rooms.silence(room, person)
        self._parts.consenting.erase(side, person)
        await self._parts.directs.erase(side, person)
        await self._parts.reports.erase(side, person)

    def opted_out(self, network: NetworkId, person: PersonId) -> None:
        self._parts.spawn(self._parts.ghosts.leave_all(self._parts.ghosts.of(network, person)))

    def refused(self, case: Case, why: str) -> None:
        """Something that nobody wants is not passed on; the room hears of a flood once, not of each drop."""
        if isinstance(case.fact, facts.Message):
            seconds = time.monotonic() - case.started
            self._parts.metrics.message(case.origin.network, Direction.TO_MATRIX, Fate.FAILED.value, seconds)
        log.debug("refused", network=case.origin.network, why=why)
        drop(self._parts.store, case)

    def ended(self, case: Case, why: str) -> None:
        """Something will never be shown: the room hears of it."""
        case.outcomes.append(Outcome(case.origin, Fate.FAILED, why))
        link = self._parts.registry.links.get(case.origin)
        room = link.room if link is not None else case.origin.chat
        if (work := self._parts.around.settled(room, case)) is not None:
            self._parts.spawn(work)
        drop(self._parts.store, case)

    def held_to_the_end(self, side: PortalKey, case: Case, why: str) -> None:
        """Something that was held will never be shown: count it, and be done with it."""
        case.outcomes.append(Outcome(side, Fate.FAILED, why))
        if (work := self._parts.around.settled(side.chat, case)) is not None:
            work.close()
        drop(self._parts.store, case)


def drop(store: Store, case: Case) -> None:
    """Be done with a case from which nothing follows."""
    if case.durable:
        store.commit(store.inbox.done(case.number))
