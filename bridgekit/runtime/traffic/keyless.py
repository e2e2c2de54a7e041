"""What came encrypted: it is opened, or waits for its key without keeping its room waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from bridgekit.contract.errors import EncryptionError, PeerMisbehaved
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.matrix.crypto.incoming import KeyMissing
from bridgekit.matrix.translate import Encrypted
from bridgekit.runtime.cases import Case, Fate, Outcome
from bridgekit.runtime.traffic.around import Surroundings
from bridgekit.runtime.traffic.endings import Endings, quietly
from bridgekit.runtime.traffic.steps import TOLD

log = structlog.get_logger(__name__)

KEY_SECONDS = 10.0
"""How long a key may be on its way before the sender is told that it is missing."""
KEY_LATEST = 24 * 3600.0
"""Seconds after which a key that has not come is waited for no longer."""
HELD = 200
"""Messages of one room that wait for keys."""
REFUSED = 1000
"""Sentences that are not said twice while their room is busy."""
LATER = " It is passed on as soon as the key comes."
UNREADABLE = "The bridge could not make sense of what your client encrypted."


class Keyless:
    """The messages of one room that nobody can read yet. `again` is given a case whose key has come."""

    def __init__(
        self, room: ChatId, around: Surroundings, endings: Endings, *, again: Callable[[Case], None]
    ) -> None:
        self.room = room
        self._around = around
        self._endings = endings
        self._again = again
        self._waiting: dict[MessageId | None, Case] = {}
        self._refused: set[tuple[PersonId, str]] = set()  # who has read here what is not passed on, and why

    def __contains__(self, event: MessageId) -> bool:
        """Whether an event waits for its key."""
        return event in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def take_back(self, event: MessageId) -> None:
        """An event was taken back: if it waits here, nobody needs its key any more."""
        if (unread := self._waiting.pop(event, None)) is not None:
            self._endings.finish(unread)

    async def open(self, case: Case, said: Encrypted) -> bool:
        """Put what was said in the place of what came; False where the case is over, or waits for its key."""
        try:
            opened = await self._around.open(said)
        except KeyMissing as missing:
            if self._around.heeds(self.room) and len(self._waiting) < HELD:
                if self._waiting.setdefault(case.event, case) is case:
                    self._around.spawn(self._await_key(case, missing))
                else:
                    self._endings.finish(case)  # it came twice
                return False
            self.unreadable(case, missing.notice)
        except EncryptionError as error:
            self.unreadable(case, error.notice)
        except PeerMisbehaved as error:
            log.info("not_decrypted", why=error.notice)
            self.unreadable(case, UNREADABLE)
        else:
            if opened is not None:
                case.fact, case.opened = opened, True
                return True
            self._endings.finish(case)
        return False

    def has_read(self, sender: PersonId, why: str) -> bool:
        """Whether somebody was told this here a while ago; from now on they were."""
        if (sender, why) in self._refused:
            return True
        if len(self._refused) >= REFUSED:
            self._refused.clear()
        self._refused.add((sender, why))
        return False

    def unreadable(self, case: Case, why: str, *, told: bool = False) -> None:
        """It ends here, and why; `told`: the room has read that already, and only the client is to show it."""
        if self._around.heeds(self.room):
            case.outcomes.append(Outcome(case.origin, Fate.FAILED, why, told=told))
        self._endings.finish(case)

    async def _await_key(self, case: Case, missing: KeyMissing) -> None:
        """Wait for a key without keeping the room waiting; the row stays in the inbox meanwhile."""
        try:
            came = await self._around.key(missing, KEY_SECONDS)
            if not came:
                await self._tell_of_key(case, missing.notice + LATER)
            while not came and (left := case.accepted / 1000 + KEY_LATEST - time.time()) > 0:
                told = missing.withheld
                came = await self._around.key(missing, left)
                if missing.withheld and not told:  # only now their client says why
                    await self._tell_of_key(case, missing.notice + LATER, again=True)
        finally:
            wanted = self._waiting.pop(case.event, None) is case
        if not wanted:
            return  # it was taken back meanwhile
        if came:
            self._again(case)
        else:
            self._endings.finish(case)

    async def _tell_of_key(self, case: Case, why: str, *, again: bool = False) -> None:
        if case.told and not again:
            return
        case.outcomes.append(Outcome(case.origin, Fate.FAILED, why))
        if (work := self._around.settled(self.room, case)) is not None:
            await quietly(work)
        case.outcomes.clear()
        case.told = True
        store = self._around.store
        store.commit(store.outbox.performed(case.number, TOLD, "told"))
