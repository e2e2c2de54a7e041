"""One room as a session keeps it: what is known, what was handed on, and the gap that is being filled."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from bridgekit.contract.facts import Edit, Fact, Message, Missed
from bridgekit.contract.ids import MessageId
from connectors.xmpp.history import Archived
from connectors.xmpp.marks import Marks
from connectors.xmpp.stanzas import heard as reading
from connectors.xmpp.stanzas import translate, wire
from connectors.xmpp.stanzas.heard import Heard
from connectors.xmpp.stanzas.index import Index
from connectors.xmpp.stanzas.rooms import Room

REMEMBERED = 5000
"""Ids that are known to have been handed on: a message comes once, however often the room sends it."""
MOST_HELD = 5000
TOO_MUCH = "More was said than the bridge holds while it reads what it missed."
GAP, READERS = "gap", "readers"
"""What messages wait for: that what was said before them has been read, and that it is known who may read them."""
ENOUGH, RECENT = 3, 20
"""Messages with words, out of so many of the last, that tell whether a room speaks OMEMO alone."""
OWN = 10_000
"""Messages of our own whose arrival is remembered: what has arrived is not said again."""


class Watch:
    """A room that somebody of ours reads."""

    def __init__(
        self,
        room: Room,
        emit: Callable[[Fact], None],
        marks: Marks,
        trouble: Callable[[Exception | str], None] = lambda error: None,
    ) -> None:
        self.room = room
        self.index = Index(room.jid)
        self.heard_at = 0.0
        self.placed = False  # it is known from where on a gap has to be filled
        self.last = ""  # the newest stanza-id that was handed on; "" when the archive was empty
        self.last_at = 0  # and when it was said (ms)
        self.moved = False
        self.is_all_sealed = False  # what was said last here, by others, is encrypted without exception
        self.comings = 0  # counts up when somebody comes, goes or changes
        self.settled = asyncio.Event()  # what was missed is known
        self.unreadable = False  # there is an archive, and we may not read it
        self.wanted = True
        self.answered = False  # the room has said what it is, and nothing speaks against that since
        self.looking: asyncio.Task[None] | None = None
        self.entering: asyncio.Task[None] | None = None
        self._emit = emit
        self._marks = marks
        self._trouble = trouble
        self._own: OrderedDict[str, MessageId] = OrderedDict()
        self._done: OrderedDict[str, None] = OrderedDict()
        self._holding: set[str] = set()  # what messages wait for now
        self._held: list[tuple[Heard, int]] = []
        self._beyond: tuple[int, int] | None = None  # when (ms) the first and the last came that did not fit

    # What the room says ----------------------------------------------------------------------------------------

    def is_ours(self, heard: Heard) -> bool:
        """Whether one of our own occupants said it, now or before a restart."""
        marked = self._marks.is_ours(heard.origin_id) or self._marks.is_ours(heard.id)
        if heard.stamp:
            return marked and not self.room.is_stranger(heard)
        there = self.room.occupants.get(heard.nick)
        # Who has just left is heard once more: what they said before that may be on its way still.
        return heard.nick in self.room.ours or (
            marked and there is not None and there.person in self.room.own
        )

    def dated(self, heard: Heard, now: int) -> Heard:
        """What the room sends, with its time where the room tells its history, which it does before all else.

        XEP-0203: "from" is who held it back, and anybody can write that. XEP-0045, 7.2.14 and 7.2.15: history comes
        first, then the subject, then what is said from now on.
        """
        room = self.room
        told = heard
        if now <= room.replays_until:
            told = reading.dated(heard, (room.jid,), now)
        if not told.stamp and (told.nick or told.subject is not None):
            room.replays_until = 0
        return msgspec.structs.replace(told, real="")

    def arrived(self, wire: str) -> MessageId | None:
        """What the room calls the message of ours with this id on the wire, if it has it."""
        return self._own.get(wire)

    @property
    def is_certain(self) -> bool:
        """Whether the archive tells what of ours has arrived: then nothing is in doubt after an outage."""
        return self.room.about.archived and self.room.about.gives_ids and not self.unreadable

    def _keep_own(self, heard: Heard, name: MessageId) -> bool:
        """Remember a message of ours; False for another one with the same id, which somebody has copied."""
        wire = heard.id or heard.origin_id
        if self._own.setdefault(wire, name) != name:
            return False
        if len(self._own) > OWN:
            self._own.popitem(last=False)
        return True

    def echoed(self, heard: Heard, at: int) -> MessageId:
        """What the room calls a message of ours."""
        sender = self.room.person(heard)
        name = self.index.name(heard, sender.id, heard.stamp or at)
        self.index.keep(name, heard, sender.id, heard.stamp)
        self._keep_own(heard, name)
        self._passed(name, at)
        return name

    def live(self, heard: Heard, at: int) -> None:
        """A message that the room just sent; it waits while a gap is being filled, or nobody knows who may read it."""
        if self._holding:
            if len(self._held) < MOST_HELD:
                self._held.append((heard, at))
            else:
                self._beyond = (self._beyond[0] if self._beyond else at, at)
            return
        self._tell(heard, at)

    def sender_of(self, heard: Heard) -> str:
        """The bare address of whoever said it, "" where the room does not show it."""
        if heard.stamp and heard.real:
            return heard.real
        there = self.room.occupants.get(heard.nick)
        return there.jid if there is not None else ""

    def corrected(self, heard: Heard, at: int) -> None:
        """What was told of a message before is replaced: it has been opened since, or never will be."""
        person = self.room.person(heard)
        for fact in translate.replaced(heard, self.room.chat, self.index, person, at):
            self._emit(fact)

    def hold(self, why: str) -> None:
        """From now on messages wait until `release` with the same word."""
        self._holding.add(why)

    def release(self, why: str) -> None:
        """What waited for this alone comes, less what the archive told already."""
        self._holding.discard(why)
        if self._holding:
            return
        held, self._held = self._held, []
        for heard, at in held:
            self._tell(heard, at)
        if self._beyond:
            since, until = self._beyond
            self._emit(Missed(chat=self.room.chat, at=until, since=since, until=until, reason=TOO_MUCH))
            self._beyond = None

    def is_new(self, one: Archived) -> bool:
        """Whether what an archive told has not come to us before, and is not ours."""
        held = one.id in self._held_ids()
        return one.id not in self._done and not held and not self.is_ours(one.said)

    def archived(self, found: list[Archived], *, again: bool = False, quietly: bool = False) -> int:
        """What an archive told; how many messages that were.

        `again`: what was handed on before is handed on once more. `quietly`: only the names are learnt.
        """
        count = 0
        if quietly:
            last = [one.said for one in found if wire.core(one.message, "body") is not None]
            self.is_all_sealed = len(last) >= ENOUGH and all(said.encrypted for said in last[-RECENT:])
        waiting = self._held_ids()
        for one in found:
            try:
                facts = self._facts(one, waiting, again=again, quietly=quietly)
            except (
                Exception
            ) as error:  # whatever it holds costs itself alone, and is not met again at each start
                self._trouble(error)
                facts = self._unread(one)
            for fact in facts:
                if isinstance(fact, Message):
                    count += 1
                elif again:
                    continue  # only words are told twice: they have a name that tells them apart
                if not quietly:
                    self._emit(fact)
        return count

    def _facts(self, one: Archived, waiting: set[str | None], *, again: bool, quietly: bool) -> list[Fact]:
        id, at, heard = one.id, one.at, one.said
        name = MessageId(id)
        if self.is_ours(heard) and self._keep_own(heard, name):
            self.index.keep(name, heard, self.room.person(heard).id, at)
            self._passed(id, at)
            return []
        if (id in self._done and not again) or (id in waiting and (quietly or heard.encrypted)):
            return []  # what was said since we are in the room is told when it is its turn
        if heard.broken:
            self._trouble(heard.broken)
        facts = translate.groupchat(heard, self.room, self.index, at, archived=id, replayed=True)
        self._passed(id, at)
        return facts

    def _unread(self, one: Archived) -> list[Fact]:
        """That something was said which cannot be read."""
        self._passed(one.id, one.at)
        left = reading.unread(one.message, stamp=one.at, broken="told above")
        try:
            return translate.groupchat(left, self.room, self.index, one.at, archived=one.id, replayed=True)
        except Exception as error:
            self._trouble(error)
            return []

    def _held_ids(self) -> set[str | None]:
        return {heard.stanza_ids.get(self.room.jid) for heard, _ in self._held}

    def _tell(self, heard: Heard, at: int) -> None:
        given = heard.stanza_ids.get(self.room.jid, "") if self.index.believes else ""
        if given and given in self._done:
            return
        there = self.room.occupants.get(heard.nick)
        if heard.stamp and there is not None and self.index.has(heard, there.person, heard.stamp):
            return  # its history does not say who it was, but that was said here before
        facts = translate.groupchat(heard, self.room, self.index, at)
        self._passed(given, heard.stamp or at)
        if not heard.stamp and any(isinstance(fact, Message | Edit) for fact in facts):
            facts = [*self.room.spoke(heard.nick, at), *facts]
        for fact in facts:
            if isinstance(fact, Message | Edit) and not given and fact.id in self._done:
                continue
            self._emit(fact)

    def _passed(self, id: str, at: int) -> None:
        self.last_at, self.moved = max(self.last_at, at), True
        if not id:
            return
        self._done[id] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        if self.room.about.archived:
            self.last = id
