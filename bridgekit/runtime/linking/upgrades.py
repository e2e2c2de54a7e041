"""Rooms that are replaced (m.room.tombstone): the bridge goes along, with its ghosts and with what waits meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import structlog

from bridgekit.contract.errors import BridgeError, MatrixError, MatrixRefused
from bridgekit.contract.ids import ChatId, PersonId, PortalKey
from bridgekit.core import wording
from bridgekit.matrix.client import MatrixClient
from bridgekit.runtime.linking.portals import Portals
from bridgekit.runtime.people.joins import Joins
from bridgekit.runtime.people.members import Members
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

TRIES = (1.0, 2.0, 4.0)
"""Seconds between the tries to enter: the tombstone may come before the new room lets anybody in."""
LATER = (60.0, 300.0, 1800.0)
"""Seconds between the further tries, once people were asked to let the bridge in; the last of them is repeated."""
REPLACED = "bridge.replaced"
"""Where it is kept which rooms were replaced by which, until the bridge has followed; no network is called so."""


class Upgrades:
    """Follows rooms to where they moved.

    From the moment that a room is known to be replaced until the bridge is in the new one, nothing that a chat says
    goes into either: it waits, on disk. `changed` is told of each link that has begun to wait, `doubt` of each that is
    about to be in another room, `replaces` of which room is about to be replaced by which; `settled` returns when
    nothing is on its way to the old room any more; `emptied` is told when its links are gone, and why.
    """

    def __init__(
        self,
        client: MatrixClient,
        store: Store,
        registry: Registry,
        joins: Joins,
        members: Members,
        portals: Portals,
        *,
        bot: PersonId,
        changed: Callable[[PortalKey], None],
        doubt: Callable[[PortalKey], None],
        replaces: Callable[[ChatId, ChatId], Awaitable[None]],
        settled: Callable[[ChatId], Awaitable[None]],
        moved: Callable[[ChatId, ChatId], None],
        emptied: Callable[[ChatId, str], Awaitable[None]],
        tell: Callable[[PersonId, str], Awaitable[None]],
        spawn: Spawn,
    ) -> None:
        self._client = client.patient
        self._store = store
        self._registry = registry
        self._joins = joins
        self._members = members
        self._portals = portals
        self._bot = bot
        self._changed = changed
        self._doubt = doubt
        self._replaces = replaces
        self._settled = settled
        self._moved = moved
        self._emptied = emptied
        self._tell = tell
        self._spawn = spawn
        self._leaving: dict[ChatId, ChatId] = {}  # rooms that were replaced and not yet left behind, by what

    async def load(self) -> None:
        """Read which rooms the last run was leaving; called once, before anything is planned."""
        for room, new in (await self._store.kv.items(REPLACED)).items():
            self._leaving[ChatId(room)] = ChatId(new.decode())

    def start(self) -> None:
        """Go on with what the last run could not end."""
        for old, new in list(self._leaving.items()):
            self._spawn(self._follow(old, new))

    def successor(self, room: ChatId) -> ChatId | None:
        """By what a room of the bridge was replaced, where the bridge has not followed yet."""
        return self._leaving.get(room)

    async def follow(self, old: ChatId, new: ChatId) -> None:
        """Go from `old` to `new`, in the background; where the bridge is not let in, it asks."""
        if self._is_ours(old) and self._leaving.get(old) != new:
            await self._leave(old, new)
            self._spawn(self._follow(old, new))

    async def is_replaced(self, room: ChatId) -> bool:
        """Whether a room that has just refused something was replaced: the homeserver knows it before its event is
        here."""
        if room in self._leaving:
            return True
        try:
            new = await self._client.successor(room)
        except BridgeError:
            return False
        if new is None or not self._is_ours(room):
            return False
        await self.follow(room, new)
        return True

    def awaits(self, room: ChatId) -> bool:
        """Whether the bridge wants to be let into the room, which replaced one of its own."""
        return room in self._leaving.values()

    async def entered(self, room: ChatId) -> bool:
        """The bot was invited into a room and is in it now; says whether that replaced one of the bridge's rooms."""
        old = await self._client.predecessor(room)
        # Anybody can say that their room replaced another: the old one must say so too.
        if old is None or not self._is_ours(old) or await self._client.successor(old) != room:
            return False
        await self._move(old, room)
        return True

    def _is_ours(self, room: ChatId) -> bool:
        return bool(self._registry.links_of(room)) or room in self._registry.portals

    async def _leave(self, old: ChatId, new: ChatId) -> None:
        """From now on what is said waits; it is on disk when this returns."""
        self._leaving[old] = new
        for link in self._registry.links_of(old):
            self._changed(link.key)
        await self._store.commit(self._store.kv.put(REPLACED, old, new.encode()))

    async def _follow(self, old: ChatId, new: ChatId) -> None:
        for wait in itertools.chain(TRIES, (None,), LATER, itertools.repeat(LATER[-1])):
            if self._leaving.get(old) != new:
                return
            try:
                await self._client.join(new, via=await self._that_know(old))
            except MatrixError:  # it is not let in, or the room's server does not answer
                if wait is None:
                    await self._ask(old, new)
                else:
                    await asyncio.sleep(wait)
            else:
                await self._move(old, new)
                return

    async def _that_know(self, old: ChatId) -> list[str]:
        """Servers that know the room which replaced this one; an id alone may not tell (MSC4291)."""
        try:
            found = await self._client.replacer(old)
        except MatrixRefused:  # the bot is not in it
            found = None
        return [found.partition(":")[2]] if found is not None else []

    async def _ask(self, old: ChatId, new: ChatId) -> None:
        """Tell everybody who could let the bridge in, or wonders where their words are."""
        if not self._is_ours(old):
            return
        links = self._registry.links_of(old)
        log.warning("room_not_followed", links=len(links))
        await self._portals.say(old, wording.let_me_in(self._bot, new))
        for link in links:
            await self._portals.announce(link.key, wording.replaced(new, self._bot))
        for creator in dict.fromkeys(link.creator for link in links if link.creator != self._bot):
            try:
                await self._tell(creator, wording.let_me_in(self._bot, new))
            except BridgeError as error:
                log.info("not_told", reason=error.notice)

    async def _move(self, old: ChatId, new: ChatId) -> None:
        if self._leaving.get(old) != new:
            await self._leave(old, new)
        if self._is_ours(old):
            await self._replaces(old, new)
        await self._settled(old)
        if self._leaving.pop(old, None) is None:
            return  # somebody else was faster
        if self._is_ours(old):
            for link in self._registry.links_of(old):
                self._doubt(link.key)  # until the new room was compared with what the chat allows
            await self._registry.move(old, new)
            await self._emptied(old, "the room was replaced")
            self._moved(old, new)
            self._members.moved(old, new)
            self._joins.move(old, new)
            log.info("room_followed")
        self._store.commit(self._store.kv.put(REPLACED, old, None))
