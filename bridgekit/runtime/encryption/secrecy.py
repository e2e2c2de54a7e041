"""Encrypted rooms as the runtime sees them: what was said is opened, keys are waited for, people are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from bridgekit.contract.errors import BridgeError, EncryptionError, MatrixError, PeerMisbehaved
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.trust import Trust
from bridgekit.matrix import translate
from bridgekit.matrix.crypto.engine import Engine
from bridgekit.matrix.crypto.incoming import KeyMissing, Untrusted
from bridgekit.runtime.people.names import Names
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

REMEMBERED = 1000
"""Missing keys that were counted."""
NOT_ENCRYPTED = (
    "Your client has encrypted this, and this room is not encrypted: it is not passed on in clear."
)

IN_CLEAR = (
    "This room is encrypted, and this was sent in clear, so that nobody can tell who wrote it. It was not passed on: "
    "say it with a client that encrypts."
)

Say = Callable[[ChatId, str], Coroutine[Any, Any, None]]


class Secrecy:
    """What the workers ask about encryption."""

    def __init__(
        self,
        engine: Engine,
        names: Names,
        say: Say,
        *,
        trust: Trust,
        present: Callable[[ChatId], Iterable[PersonId]],
        spawn: Spawn,
    ) -> None:
        """`present` names the ghosts in a room."""
        self._trust = trust
        self._present = present
        self._spawn = spawn
        self._engine = engine
        self._names = names
        self._say = say
        self._counted: OrderedDict[tuple[ChatId, str, PersonId], None] = OrderedDict()

    def in_clear(self, room: ChatId) -> str:
        """Why nothing follows from words that came in clear; "" where they are taken.

        A homeserver can put them into anybody's mouth, and so can a login that would not be believed if it encrypted:
        clients warn of them as they do of devices that nobody has verified (MSC4153).
        """
        doubted = self._trust is Trust.CROSS_SIGNED and self._engine.knows_encrypted(room)
        return IN_CLEAR if doubted else ""

    async def open(
        self, said: translate.Encrypted
    ) -> Fact | translate.StateChanged | translate.Encrypted | translate.Unreadable | None:
        """What was said; None where nothing follows from it. It is in memory only: the inbox keeps what came.

        Raises KeyMissing, EncryptionError, PeerMisbehaved.
        """
        if not self._engine.knows_encrypted(said.chat):
            # What protects it has to be known before it goes on: nobody encrypts in a room that is not encrypted.
            try:
                encrypted = await self._engine.is_encrypted(said.chat, anew=True)
            except MatrixError as error:
                raise EncryptionError(error.notice) from error
            if not encrypted:
                raise EncryptionError(NOT_ENCRYPTED)
        try:
            clear = await self._engine.open(said.raw)
        except KeyMissing:
            raise
        except (EncryptionError, PeerMisbehaved) as error:
            self._engine.tally.unread["untrusted" if isinstance(error, Untrusted) else "unreadable"] += 1
            raise
        if self._engine.verifying.in_room(clear):
            return None
        return translate.fact(clear, self._names.of)

    async def glance(self, said: translate.Encrypted) -> object:
        """What was said, where that can be read now, or None; nothing follows from it, and it is opened again."""
        try:
            return translate.fact(await self._engine.open(said.raw), self._names.of)
        except BridgeError:
            return None

    async def key(self, missing: KeyMissing, seconds: float) -> bool:
        """Wait for a key; False where it does not come in time, or where the news comes that it is kept. `missing` says
        then what is known by now."""
        came = asyncio.Event()
        self._engine.wait(missing, came.set)
        try:
            return await self._came(missing, came, seconds)
        finally:
            self._engine.wait_no_more(missing, came.set)

    async def _came(self, missing: KeyMissing, came: asyncio.Event, seconds: float) -> bool:
        if not missing.withheld and self._engine.incoming.missing(missing.place).withheld:
            came.set()  # the news has come already
        if await self._engine.incoming.has(missing):
            return True  # it came before anybody waited for it
        await self._engine.look_for(missing, self._present(missing.place[0]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await came.wait()
        if not await self._engine.incoming.has(missing):
            known = self._engine.incoming.missing(
                missing.place
            )  # a client may say so after the message itself
            missing.notice, missing.withheld = known.notice, known.withheld
            self._count(missing)
            return False
        return True

    def _count(self, missing: KeyMissing) -> None:
        """Count a session's key that has not come; once, however many messages wait for it."""
        if missing.place in self._counted:
            return
        self._counted[missing.place] = None
        while len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)
        self._engine.tally.missing["withheld" if missing.withheld else "silent"] += 1

    def identity_reset(self, user: PersonId) -> None:
        """Somebody has a new identity: who verified the old one should know."""
        for room in self._engine.rooms_of(user):
            words = (
                f"⚠ {user} has a new cryptographic identity. If you do not know why, ask them by another way."
            )
            self._spawn(self._say(room, words))
