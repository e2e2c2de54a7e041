"""Words that more people could read than their chats allow: what was said between somebody opening a room too far and
the bridge closing it again.

A homeserver shows an event by the history visibility that held when it was sent (Client-Server API, "Room History
Visibility"), so putting the setting back does not cover what was sent before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from bridgekit.contract.ids import MessageId, PersonId
from bridgekit.contract.policy import Exposure
from bridgekit.core.corrections import HISTORY_TYPE, room_of

WORDS = frozenset({"m.room.message", "m.room.encrypted", "m.reaction", "m.sticker"})
"""What is taken back. State has no words of a chat, and would hold all the same."""


class Exposed(msgspec.Struct, frozen=True):
    """One event that was sent while the room was too open."""

    event: MessageId
    sender: PersonId


class LookBack:
    """Reads a timeline from its newest event backwards; `done` when all that is older was sent within the bounds.

    `allowed` is how far the room may be read now, and `bound` how far the words of one sender may be; None where the
    sender is nobody of ours.
    """

    def __init__(self, allowed: Exposure, bound: Callable[[PersonId], Exposure | None]) -> None:
        self.found: list[Exposed] = []
        self.done = False
        self._allowed = max(allowed, Exposure.JOINED)
        self._bound = bound
        self._unjudged: list[tuple[Exposed, Exposure]] = []  # newer than the last setting that was read
        self._opened = False

    def read(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take the next older events in, the newest of them first. Raises nothing, whatever they say."""
        for event in events:
            if self.done:
                return
            if event.get("type") == HISTORY_TYPE and event.get("state_key") == "":
                self._setting(event)
            elif event.get("type") in WORDS and event.get("content"):
                self._word(event)

    def end(self) -> None:
        """There is nothing older; before the first setting, "shared" holds."""
        self._judge(Exposure.SHARED)
        self.done = True

    def _word(self, event: Mapping[str, Any]) -> None:
        sender, id = event.get("sender"), event.get("event_id")
        if isinstance(sender, str) and isinstance(id, str):
            bound = self._bound(PersonId(sender))
            if bound is not None:
                self._unjudged.append((Exposed(MessageId(id), PersonId(sender)), bound))

    def _setting(self, event: Mapping[str, Any]) -> None:
        shown, unsigned = _history(event.get("content")), event.get("unsigned")
        before = unsigned.get("prev_content") if isinstance(unsigned, Mapping) else None
        was = _history(before) if before is not None else None
        self._judge(shown)
        if shown > self._allowed:  # here it was opened, or had been before
            self._opened = True
            self.done = was is not None and was <= self._allowed
        elif self._opened:
            self.done = True  # the opening came after this
        # else: it was put back here or nearer to now, and what had been said until then is older.

    def _judge(self, shown: Exposure) -> None:
        self.found += [exposed for exposed, bound in self._unjudged if shown > max(bound, Exposure.JOINED)]
        self._unjudged.clear()


def _history(content: object) -> Exposure:
    return room_of({HISTORY_TYPE: content if isinstance(content, Mapping) else {}}, listed=True).history
