"""Who is in which linked chat, and what becomes of the ghosts of those who go: at once, after a netsplit, or idle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from bridgekit.contract import facts
from bridgekit.contract.errors import BridgeError
from bridgekit.contract.facts import Change, Fact
from bridgekit.contract.ids import ChatId, LoginId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Member, Person, Role
from bridgekit.core.ghosts import Namespace
from bridgekit.core.membership import Attendance, idle
from bridgekit.core.splits import Splits
from bridgekit.runtime.clock import now
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.runtime.registry import Registry
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

SWEEP = 3600.0
"""Seconds between two looks at who has been silent for long."""

Emit = Callable[[NetworkId, LoginId | None, Fact], None]


class Members:
    """Hears every fact of the networks before it is planned, and answers what the plan has to know."""

    def __init__(
        self,
        registry: Registry,
        ghosts: Ghosts,
        namespace: Namespace,
        *,
        emit: Emit,
        spawn: Spawn,
        dice: random.Random | None = None,
    ) -> None:
        self.splits = Splits()
        self._attendance = Attendance()
        self._registry = registry
        self._ghosts = ghosts
        self._namespace = namespace
        self._emit = emit
        self._spawn = spawn
        self._dice = dice or random.Random()
        self._watching = False

    # What is heard ---------------------------------------------------------------------------------------------

    def hear(self, room: ChatId, side: PortalKey, fact: object) -> None:
        """Take in a fact of a network. Cheap for what is said, which is most."""
        match fact:
            case facts.Message(sender=sender) | facts.Reaction(sender=sender):
                if len(self.splits):
                    self.splits.back(side, sender.id)
            case facts.Membership(person=person, change=Change.JOIN):
                self.splits.back(side, person.id)
                self._attendance.came(room, side, Member(person=person))
            case facts.Membership(person=person, change=Change.LEAVE, split=True):
                self._attendance.went(room, side, person.id)
                self.splits.lost(side, person.id, now(), self._dice.random(), fact.reason)
                self._watch()
            case facts.Membership(person=person, change=Change.LEAVE | Change.KICK | Change.BAN):
                self.splits.gone(side, person.id)
                self._attendance.went(room, side, person.id)
            case facts.RoleChange(person=person, role=role) if self._attendance.is_in(room, side, person.id):
                self._attendance.came(room, side, Member(person=person, role=role))
            case facts.Roster(members=members):
                self.splits.read(side, (member.person.id for member in members))
                self._attendance.read(room, side, members)
            case _:
                pass

    def unlinked(self, room: ChatId, side: PortalKey) -> tuple[PersonId, ...]:
        """The link is gone; whose ghosts should leave the room."""
        self.splits.unlinked(side)
        return self._attendance.unlinked(room, side)

    def moved(self, old: ChatId, new: ChatId) -> None:
        """The room was replaced by another."""
        self._attendance.moved(old, new)

    # What is asked ---------------------------------------------------------------------------------------------

    def is_anywhere(self, room: ChatId, side: PortalKey, person: PersonId) -> bool:
        """Whether the person is in any of the room's chats on the network of `side`."""
        return self._attendance.is_anywhere(room, side, person)

    def remains(self, room: ChatId, side: PortalKey, person: PersonId, *, read: bool) -> bool:
        """Whether the ghost of somebody who is not in the chat (any more) stays all the same: they are in another
        chat of the room, or were cut off a moment ago. `read`: a roster did not name them."""
        if self.splits.is_away(side, person):
            return True
        if not read:
            return self._attendance.is_anywhere(room, side, person)
        links = self._registry.links_of(room)
        return len(links) > 1 and self._attendance.may_be_elsewhere(
            room, side, person, [link.key for link in links]
        )

    # What time does --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._spawn(self._until_healed())

    async def _until_healed(self) -> None:
        """Let those go in earnest who do not come back after a netsplit."""
        while (due := self.splits.next()) is not None:
            await asyncio.sleep(max(0.0, (due - now()) / 1000))
            for away in self.splits.due(now()):
                self._emit(
                    away.link.network,
                    away.link.receiver,
                    facts.Membership(
                        chat=away.link.chat,
                        at=now(),
                        private=away.link.receiver is not None,
                        person=Person(id=away.person, name=str(away.person)),
                        change=Change.LEAVE,
                        reason=away.reason,
                    ),
                )
        self._watching = False

    async def retire(self, days: int) -> int:
        """Take the ghosts out that were silent for so many days, but for those who keep order; says how many."""
        count = 0
        for room, portal in list(self._registry.portals.items()):
            if portal.kind != "channel":
                continue
            keep = {
                self._namespace.mxid(link.key.network, person)
                for link in self._registry.links_of(room)
                for person, member in self._attendance.members(room, link.key).items()
                if member.role >= Role.HALF_MODERATOR
            }
            for ghost in idle(self._ghosts.last_seen(room), now(), days, keep=keep):
                try:
                    await self._ghosts.retire(ghost, room)
                except BridgeError as error:
                    log.info("ghost_not_retired", reason=type(error).__name__)
                else:
                    count += 1
        if count:
            log.info("ghosts_retired", count=count)
        return count

    async def keep_retiring(self, days: Callable[[], int]) -> None:
        """Retire the idle for as long as the bridge runs; 0 days: nobody."""
        while True:
            await asyncio.sleep(SWEEP)
            await self.retire(days())
