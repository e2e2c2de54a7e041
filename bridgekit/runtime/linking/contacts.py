"""Who asks to be a contact of a Matrix user: the user is asked into a room, a bounded number of times in an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridgekit.contract import verbs
from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.core import wording
from bridgekit.core.direct import Direct
from bridgekit.core.rates import Buckets, Rate
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.clock import now
from bridgekit.runtime.gates.directs import Directs
from bridgekit.runtime.lenient import allowed, quiet
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.networks.accounts import Accounts
from bridgekit.runtime.registry import Registry
from bridgekit.tasks import Spawn

PER_OWNER = Rate(30, 60 * 60_000)
"""Rooms into which one Matrix user is asked so. Addresses cost nothing: whoever is over it waits."""
PER_PERSON = Rate(3, 60 * 60_000)
"""How often one person is heard who asks and takes it back, and asks again."""

log = structlog.get_logger(__name__)


class Contacts:
    """Answers are those of the owner of an account alone: joining the room is a yes and declining it a no, which the
    session hears as Join and Leave. Whoever waits is told of anew when the account connects again."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        accounts: Accounts,
        portals: Portals,
        directs: Directs,
        *,
        direct: Callable[[PortalKey, Person, PersonId], Coroutine[Any, Any, ChatId]],
        spawn: Spawn,
    ) -> None:
        """`direct` makes the room of a private chat."""
        self._client = client.patient
        self._registry = registry
        self._sessions = accounts.sessions
        self._portals = portals
        self._directs = directs
        self._direct = direct
        self._spawn = spawn
        self._waiting: dict[PersonId, dict[PortalKey, Person]] = {}  # by whom they ask
        self._owners: Buckets[PersonId] = Buckets(PER_OWNER)
        self._people: Buckets[PortalKey] = Buckets(PER_PERSON)

    async def asked(self, side: PortalKey, person: Person, owner: PersonId) -> None:
        """Somebody on a network asks to be a contact. Who talks with them already has said yes."""
        link = self._registry.links.get(side)
        if link is not None:
            if owner in await self._client.joined_members(link.room):
                await quiet(self._sessions[side.network, side.receiver].perform, verbs.Join(chat=side.chat))
        elif self._directs.policy(side.network) is Direct.OFF:
            await quiet(self._sessions[side.network, side.receiver].perform, verbs.Leave(chat=side.chat))
        elif not self._people.take(side, now()):
            log.warning("contact_asks_too_often", network=side.network)
        elif owner not in self._waiting and self._owners.take(owner, now()):
            await self._ask(side, person, owner)
        else:
            self._wait(side, person, owner)

    async def _ask(self, side: PortalKey, person: Person, owner: PersonId) -> None:
        if side in self._portals.making or side in self._registry.links:
            return
        if side.receiver not in self._registry.logins:
            return  # the owner has given the account up while they waited
        making: asyncio.Future[ChatId | None] = asyncio.get_running_loop().create_future()
        self._portals.making[side] = making
        room: ChatId | None = None
        try:
            room = await self._direct(side, person, owner)
        finally:
            making.set_result(room)
            del self._portals.making[side]

    def _wait(self, side: PortalKey, person: Person, owner: PersonId) -> None:
        if owner not in self._waiting:
            log.warning("contacts_wait", network=side.network)
            self._waiting[owner] = {}
            self._spawn(self._ask_in_turn(owner))
        self._waiting[owner][side] = person

    async def _ask_in_turn(self, owner: PersonId) -> None:
        queue = self._waiting[owner]
        try:
            while queue:
                await asyncio.sleep(self._owners.of(owner, now()).wait(now()) / 1000)
                if queue and self._owners.take(owner, now()):
                    side = next(iter(queue))
                    try:
                        await self._ask(side, queue.pop(side), owner)
                    except BridgeError as error:
                        log.warning("contact_not_asked", network=side.network, reason=error.notice)
        finally:
            del self._waiting[owner]

    async def withdrawn(self, side: PortalKey, person: Person, owner: PersonId) -> bool:
        """Who asked to be a contact asks no more: an invitation that the owner has not answered is taken back, as far
        as the room lets the bridge, and the room is given up; False where there is none."""
        if self._waiting.get(owner, {}).pop(side, None) is not None:
            return False
        if (making := self._portals.making.get(side)) is not None:
            await making
        link = self._registry.links.get(side)
        member = link and await self._client.state(link.room, "m.room.member", owner)
        if link is None or not member or member.get("membership") != "invite":
            return False
        why = wording.asks_no_more(person.name)
        await allowed(self._client.kick(link.room, owner, reason=why))
        await self._portals.unlink(side, reason=why, leave=False)
        return True
