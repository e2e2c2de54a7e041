"""Invitations to the bot and to ghosts: each comes, if it takes a day, or whoever asked reads why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import structlog

from bridgekit.contract import facts
from bridgekit.contract.errors import BridgeError, HomeserverUnavailable, MatrixRateLimited, MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core import wording
from bridgekit.core.ghosts import Namespace
from bridgekit.core.model import Permission
from bridgekit.core.plan import STRANGER
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.cases import Case
from bridgekit.runtime.clock import now
from bridgekit.runtime.lenient import quiet
from bridgekit.runtime.linking.making import Making
from bridgekit.runtime.linking.management import ManagementRooms
from bridgekit.runtime.linking.standing import StandingLinks
from bridgekit.runtime.linking.upgrades import Upgrades
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import Registry
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0
"""Seconds between two tries to come while another server, which is needed for it, does not answer."""
TOLD_AFTER = 3
"""Tries after which whoever asked is told that there will be more."""
PATIENCE_MS = 24 * 3_600_000


class Greet(Protocol):
    """Say who the bot is on entering a room, where `case` has invited it."""

    async def __call__(self, room: ChatId, case: Case, *, direct: bool) -> None: ...


class Invitations:
    """The homeserver itself is waited for in each call; what is tried again here is what it cannot do alone."""

    def __init__(
        self,
        client: MatrixClient,
        registry: Registry,
        ghosts: Ghosts,
        making: Making,
        management: ManagementRooms,
        standing: StandingLinks,
        upgrades: Upgrades,
        namespace: Namespace,
        *,
        me: PersonId,
        greet: Greet,
        permission: Callable[[PersonId], Permission],
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._registry = registry
        self._ghosts = ghosts
        self._making = making
        self._management = management
        self._standing = standing
        self._upgrades = upgrades
        self._namespace = namespace
        self._me = me
        self._greet = greet
        self._permission = permission
        self._spawn = spawn

    async def answer(self, room: ChatId, case: Case, fact: facts.Membership) -> None:
        """Somebody was asked into a room: if that is one of ours, they come or decline.

        Returns when that is done, so that a restart takes up what is not; but nothing that is said in a linked room
        waits for it.
        """
        who, inviter = fact.person.id, fact.actor.id if fact.actor is not None else None
        if who != self._me and (inviter is None or not self._namespace.is_ours(who)):
            return
        if inviter is None or not self._may_ask(room, who, inviter):
            await self._decline(room, who, STRANGER)
            return
        work = self._insist(room, case, fact, inviter)
        if self._registry.links_of(room):
            self._spawn(work)
        else:
            await work

    def _may_ask(self, room: ChatId, who: PersonId, inviter: PersonId) -> bool:
        """A ghost follows those who may use the bridge: its coming may open an account for them."""
        known = self._permission(inviter) not in (Permission.NONE, Permission.RELAY)
        return known or (who == self._me and self._upgrades.awaits(room))

    async def _insist(self, room: ChatId, case: Case, fact: facts.Membership, inviter: PersonId) -> None:
        who, wait, tries = fact.person.id, FIRST_WAIT, 0
        while True:
            try:
                await self._come(room, case, fact, inviter)
                return
            except (HomeserverUnavailable, MatrixRateLimited) as error:
                if now() - case.accepted > PATIENCE_MS:
                    await self._decline(room, who, error.notice)
                    return
                log.warning("invitation_waits", reason=error.notice, retry_in=wait)
                if (tries := tries + 1) == TOLD_AFTER:
                    self._spawn(
                        quiet(self._management.tell, inviter, wording.invitation_waits(room, error.notice))
                    )
                await asyncio.sleep(max(wait, error.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT)
            except BridgeError as error:
                await self._decline(room, who, error.notice)
                return
            except Exception:
                await self._decline(room, who, wording.CANNOT_COME)
                raise

    def _come(
        self, room: ChatId, case: Case, fact: facts.Membership, inviter: PersonId
    ) -> Coroutine[Any, Any, None]:
        if fact.person.id == self._me:
            return self._bot_comes(room, case, inviter, direct=fact.private)
        return self._making.invited(room, fact.person.id, inviter)

    async def _bot_comes(self, room: ChatId, case: Case, inviter: PersonId, *, direct: bool) -> None:
        await self._client.join(room)
        try:
            if await self._upgrades.entered(room):
                return
        except MatrixRefused as error:
            log.info("room_not_looked_at", reason=error.notice)
        await self._standing.welcome(room)
        if direct:
            await self._management.keep(room, inviter, made=False)
        await self._greet(room, case, direct=direct)

    async def _decline(self, room: ChatId, who: PersonId, why: str) -> None:
        log.warning("invitation_not_followed", reason=why)
        try:
            if who == self._me:
                await self._client.leave(room, reason=why)
            else:
                await self._ghosts.decline(who, room, why)
        except (MatrixRefused, HomeserverUnavailable, MatrixRateLimited) as error:
            log.info(
                "invitation_not_declined", reason=error.notice
            )  # it was withdrawn, or its server is away
