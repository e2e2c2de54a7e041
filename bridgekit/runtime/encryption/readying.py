"""Readying: ghosts that may speak next in an encrypted room get their devices and keys ahead, in the background."""

from __future__ import annotations

from collections import OrderedDict

import structlog

from bridgekit.contract.errors import BridgeError
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.speakers import Speakers
from bridgekit.runtime.people.ghosts import Ghosts
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

SMALL = 50
"""In a room with at most so many ghosts, everybody is somebody who may speak next; in a larger one, whoever types."""
GIVES_WAY = 10.0
"""Seconds that a device waits, at most, for those who speak."""


class Readying:
    """One ghost at a time, and none while somebody speaks: a device takes the homeserver about as long as a join."""

    def __init__(
        self,
        engine: Engine,
        ghosts: Ghosts,
        *,
        speakers: Speakers,
        spawn: Spawn,
    ) -> None:
        self._engine = engine
        self._ghosts = ghosts
        self._speakers = speakers
        self._spawn = spawn
        self._queue: OrderedDict[tuple[ChatId, PersonId], None] = OrderedDict()
        self._working = False
        ghosts.arrived = self.entered
        ghosts.introduce = self.introduce
        ghosts.acquaint = self.acquaint

    def all(self) -> None:
        """Look at every encrypted room: what the last run did not come to is done now."""
        for room in self._engine.encrypted_rooms():
            self.encrypted(room)

    def encrypted(self, room: ChatId) -> None:
        """The room is encrypted."""
        present = self._ghosts.present(room)
        if len(present) <= SMALL:
            for ghost in sorted(present):
                self._want(room, ghost)

    def entered(self, room: ChatId, ghost: PersonId) -> None:
        """A ghost is in the room now. Where it was invited, nobody has looked yet whether that is encrypted."""
        self._engine.entered(room, ghost)
        if not self._engine.is_clear(room, "m.room.message") and len(self._ghosts.present(room)) <= SMALL:
            self._want(room, ghost)

    async def introduce(self, room: ChatId, ghost: PersonId) -> None:
        """A ghost is about to enter the room and to speak there: it has its device before.

        Clients ask for the keys of whoever comes in when they see them come. One that knew of no identity when the
        first word came refuses it where insecure devices are excluded, and does not try again (matrix-js-sdk 43).
        """
        try:
            await self._engine.introduce(room, ghost)
        except BridgeError as error:
            log.info("device_not_ready", reason=error.notice)

    async def acquaint(self, room: ChatId, ghost: PersonId) -> None:
        """The ghost enters now: the keys of its first word go out meanwhile."""
        try:
            await self._engine.acquaint(room, ghost)
        except BridgeError as error:
            log.info("keys_not_ready", reason=error.notice)

    def likely(self, room: ChatId, ghost: PersonId) -> None:
        """A ghost is about to speak: before all others."""
        if self._engine.knows_encrypted(room) and self._ghosts.is_one(ghost):
            self._want(room, ghost)
            if (room, ghost) in self._queue:
                self._queue.move_to_end((room, ghost), last=False)

    def _want(self, room: ChatId, ghost: PersonId) -> None:
        if self._engine.has_spoken(room, ghost):
            return
        self._queue.setdefault((room, ghost))
        if not self._working:
            self._working = True
            self._spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._speakers.give_way(GIVES_WAY)
                (room, ghost), _ = self._queue.popitem(last=False)
                if not self._ghosts.is_present(ghost, room):
                    continue
                try:
                    await self._engine.prepare(room, ghost)
                except BridgeError as error:
                    log.info("device_not_ready", reason=error.notice)
        finally:
            self._working = False
