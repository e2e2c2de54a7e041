"""One room as a session keeps it: what is known, what was handed on, and the gap that is being filled."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from bridgekit.contract.facts import Edit, Fact, Message
from bridgekit.contract.ids import MessageId
from connectors.xmpp import heard as reading
from connectors.xmpp import translate
from connectors.xmpp.heard import Heard
from connectors.xmpp.history import Archived
from connectors.xmpp.index import Index
from connectors.xmpp.rooms import Room

REMEMBERED = 5000
"""Ids that are known to have been handed on: a message comes once, however often the room sends it."""
MOST_HELD = 5000


class Watch:
    """A room that somebody of ours reads."""

    def __init__(self, room: Room, emit: Callable[[Fact], None], mark: str) -> None:
        self.room = room
        self.index = Index(room.jid)
        self.turn = asyncio.Lock()  # what is said goes out in the order of the calls
        self.heard_at = 0.0
        self.last = ""  # the newest stanza-id that was handed on
        self.moved = False
        self.wanted = True
        self.entering: asyncio.Task[None] | None = None
        self._emit = emit
        self._mark = mark
        self._done: OrderedDict[str, None] = OrderedDict()
        self._held: list[tuple[Heard, int]] | None = None

    # What the room says ----------------------------------------------------------------------------------------

    def is_ours(self, heard: Heard) -> bool:
        """Whether one of our own occupants said it, now or before a restart: our ids begin with a mark of our own."""
        if heard.stamp:
            return heard.origin_id.startswith(self._mark) or heard.id.startswith(self._mark)
        return heard.nick in self.room.ours

    def echoed(self, heard: Heard) -> MessageId:
        """What the room calls a message of ours."""
        sender = self.room.person(heard)
        name = self.index.name(heard, sender.id)
        self.index.keep(name, heard, sender.id, heard.stamp)
        self._passed(heard, name)
        return name

    def live(self, heard: Heard, at: int) -> None:
        """A message that the room just sent; it waits while a gap is being filled."""
        if self._held is not None:
            if len(self._held) < MOST_HELD:
                self._held.append((heard, at))
            return
        self._tell(heard, at)

    def hold(self) -> None:
        """From now on messages wait until `release`."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """What waited comes, less what the archive told already."""
        held, self._held = self._held or [], None
        for heard, at in held:
            self._tell(heard, at)

    def archived(self, found: list[Archived], *, again: bool = False, quietly: bool = False) -> int:
        """What an archive told; how many messages that were.

        `again`: what was handed on before is handed on once more. `quietly`: only the names are learnt.
        """
        count = 0
        for id, at, message in found:
            heard = reading.read(message, stamp=at)
            if self.is_ours(heard):
                sender = self.room.person(heard)
                self.index.keep(MessageId(id), heard, sender.id, at)
                self._passed(heard, id)
                continue
            if id in self._done and not again:
                continue
            facts = translate.groupchat(heard, self.room, self.index, at, archived=id, replayed=True)
            self._passed(heard, id)
            for fact in facts:
                if isinstance(fact, Message):
                    count += 1
                elif again:
                    continue  # only words are told twice: they have a name that tells them apart
                if not quietly:
                    self._emit(fact)
        return count

    def _tell(self, heard: Heard, at: int) -> None:
        given = heard.stanza_ids.get(self.room.jid, "") if self.index.believes else ""
        if given and given in self._done:
            return
        facts = translate.groupchat(heard, self.room, self.index, at)
        self._passed(heard, given)
        for fact in facts:
            if isinstance(fact, Message | Edit) and not given and fact.id in self._done:
                continue
            self._emit(fact)

    def _passed(self, heard: Heard, id: str) -> None:
        if not id:
            return
        self._done[id] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        if self.room.about.archived and (heard.stamp or heard.stanza_ids.get(self.room.jid)):
            self.last, self.moved = id, True
