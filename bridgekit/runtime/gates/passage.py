"""The passage from a chat into its room: what may go through now, what is held back, and what never gets in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.facts import Fact
from bridgekit.contract.ids import MATRIX, ChatId, PersonId, PortalKey
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import join, plain
from bridgekit.core import wording
from bridgekit.core.answers import nod_in
from bridgekit.core.commands import command_in
from bridgekit.core.crowd import Crowds
from bridgekit.core.gate import Cause
from bridgekit.core.shield import Quarantined, Refused, Wait
from bridgekit.runtime.cases import ABOUT_CROWD, ABOUT_LINK, Case
from bridgekit.runtime.encryption.protecting import Protecting
from bridgekit.runtime.gates.consenting import Consenting
from bridgekit.runtime.gates.directs import Directs
from bridgekit.runtime.gates.exposure import Exposures
from bridgekit.runtime.gates.holding import Holding
from bridgekit.runtime.gates.loops import Loops
from bridgekit.runtime.gates.readers import Readers
from bridgekit.runtime.gates.shielding import Shields
from bridgekit.runtime.registry import WAITING, Registry
from bridgekit.tasks import Spawn

NOBODY = PersonId("")


class Passage:
    """`passing` are the links of which everything may go on as it comes: the one look-up for each message.

    `replaced` says why nothing passes into a room that was replaced ("" where it was not); `explain` answers who asks
    a chat's bridge what it is; `drop` ends a case from which nothing may follow, `refuse` one that is not wanted, and
    `end` one that will never be shown, of which the room is told, with the reason.
    """

    def __init__(
        self,
        registry: Registry,
        crowds: Crowds,
        *,
        exposures: Exposures,
        consenting: Consenting,
        directs: Directs,
        holding: Holding,
        readers: Readers,
        protecting: Protecting,
        shields: Shields,
        loops: Loops,
        replaced: Callable[[ChatId], str],
        explain: Callable[[PortalKey], Coroutine[Any, Any, None]],
        drop: Callable[[Case], None],
        refuse: Callable[[Case, str], None],
        end: Callable[[Case, str], None],
        spawn: Spawn,
    ) -> None:
        self.passing: set[PortalKey] = set()
        self._registry = registry
        self._crowds = crowds
        self._exposures = exposures
        self._consenting = consenting
        self._directs = directs
        self._holding = holding
        self.hide = holding.hide
        self._readers = readers
        self._protecting = protecting
        self._shields = shields
        self._loops = loops
        self._replaced = replaced
        self._explain = explain
        self._drop = drop
        self._refuse = refuse
        self._end = end
        self._spawn = spawn
        # By link, the numbers of what was on its way when the gate closed.
        self._going_back: dict[PortalKey, set[int]] = {}

    # The moment that it is read --------------------------------------------------------------------------------

    def hear(self, side: PortalKey, fact: Fact) -> bool:
        """What the bridge itself makes of a fact before it is kept; True where it goes no further.

        Nothing that is said in a chat that has not agreed reaches a disk.
        """
        if side.receiver is None and not fact.private:
            come_or_gone = self._crowds.of(side).hear(fact)
            if come_or_gone is None or come_or_gone:
                self._readers.moved(side)
            if isinstance(fact, facts.ChatVisibility | facts.ChatOpened | facts.ChatClosed):
                self._exposures.visibilities.hear(side, fact)
        if self._consenting.hear(side, fact) or self._loops.is_ours(side, fact):
            return True
        if self._directs.hear(side, fact):
            return True
        if isinstance(fact, facts.Message) and self._is_live(fact) and (word := nod_in(fact.content)):
            self._spawn(self._shields.heard(side, fact.sender, word))
        link = self._registry.links.get(side)
        if link is None or link.state != WAITING or isinstance(fact, ABOUT_LINK):
            return False
        if isinstance(fact, facts.Message) and not fact.replayed and command_in(fact.content) == "":
            self._spawn(self._explain(side))
        return True

    @staticmethod
    def _is_live(fact: facts.Message) -> bool:
        """Whether somebody of the network says it now, to everybody."""
        return not (fact.private or fact.replayed or fact.own is not None or fact.sender.bot)

    def lets(self, side: PortalKey, fact: Fact) -> bool:
        """Whether what is worth nothing a minute later may be shown now."""
        if side in self.passing:
            return True
        free = side in self._registry.links and self.held_by(side) is None
        return free and not self._holding.is_behind(side, _doer(fact))

    # When it is its turn ---------------------------------------------------------------------------------------

    def stop(self, case: Case) -> bool:
        """Whether a fact of a link does not go on now: it is held, or nothing follows from it."""
        side, fact = case.origin, case.fact
        link = self._registry.links.get(side)
        if link is None or isinstance(fact, ABOUT_LINK):
            return False
        if self._is_from_before(side, fact):
            self._drop(case)
            return True
        if link.state == WAITING or self._was_unsaid(side, case):
            if isinstance(fact, ABOUT_CROWD):
                self._drop(case)
            else:
                self._end(case, wording.taken_with_consent(link.name))
            return True
        person = _doer(fact)
        ruling = self._shields.judge(case, person)
        if isinstance(ruling, Refused):
            self._refuse(case, ruling.why)
            return True
        ahead = None if case.released else self._holding.ahead(side, person)
        held = self.held_by(side)
        if held is None and ahead is Cause.PAUSE:
            held = ahead, wording.IN_ORDER
        if held is None:
            match ruling:
                case Quarantined(why=why):
                    held = Cause.QUARANTINE, why
                case Wait(why=why):
                    held = Cause.RATE, why
                case _ if ahead is not None:
                    held = ahead, wording.IN_ORDER
                    self._shields.behind(case, person)
                case _:
                    self._holding.passed(case.number)
                    return False
        self._exposures.hurry(link.room)
        if side.receiver is None:
            self._exposures.visibilities.spoken(side)
        self._hold(case, person, *held)
        if held[0] in (Cause.RATE, Cause.QUARANTINE):
            self._shields.tend(side)
        return True

    def is_elsewhere(self, room: ChatId, side: PortalKey) -> bool:
        """Whether the link's room is another one now."""
        link = self._registry.links.get(side)
        return link is not None and link.room != room

    def goes_back(self, case: Case) -> bool:
        """Whether what is on its way into the room must wait after all: the gate has closed since it was planned, or
        something that came before it waits, which it must not overtake. `hold_back` follows."""
        side = case.origin
        going = self._going_back.get(side)
        if going is None and side in self.passing:
            return False
        back = (
            bool(self._readers.blocked(side))
            or self._holding.ledger.is_before(side, case.number)
            or (going is not None and min(going) < case.number)
        )
        if back and case.durable:
            self._going_back.setdefault(side, set()).add(case.number)
        return back

    def hold_back(self, case: Case) -> None:
        """Keep what could not go into its room: the gate was closed, or the room was replaced by another."""
        side = case.origin
        if (going := self._going_back.get(side)) is not None:
            going.discard(case.number)
            if not going:
                del self._going_back[side]
        held = self.held_by(side)
        self._hold(case, _doer(case.fact), *(held or (Cause.PAUSE, wording.IN_ORDER)))
        self.changed(side)  # perhaps the new room is open already

    def _hold(self, case: Case, person: PersonId, cause: Cause, why: str) -> None:
        self._holding.hold(case, person, cause, why)
        if cause is Cause.GATE:
            self._readers.holds(case.origin)

    def held_by(self, side: PortalKey) -> tuple[Cause, str] | None:
        """What is in the way of a link now, and why."""
        link = self._registry.links.get(side)
        if link is not None and (why := self._replaced(link.room)):
            return Cause.PAUSE, why
        if side not in self._exposures.cleared:
            return Cause.PAUSE, (link.reason if link is not None else "") or wording.UNSETTLED
        if why := self._protecting.withheld(side):
            return Cause.PAUSE, why
        why = self._readers.blocked(side)
        return (Cause.GATE, why) if why else None

    def _is_from_before(self, side: PortalKey, fact: object) -> bool:
        """Whether it was said before the chat's operators agreed, and is only told now."""
        return (
            isinstance(fact, facts.Message)
            and fact.replayed
            and side.receiver is None
            and fact.at < self._consenting.agreed_at(side)
        )

    def _was_unsaid(self, side: PortalKey, case: Case) -> bool:
        """Whether the consent under which it came in has been taken back: a later one does not bring it back."""
        return side.receiver is None and 0 < case.accepted < self._consenting.agreed_at(side)

    def changed(self, side: PortalKey) -> None:
        """Something in the way of a link has come or gone."""
        if side.network == MATRIX:
            return
        held = self.held_by(side)
        free = held is None
        if held is not None:
            self._holding.explain(side, *held)
        if free and not self._holding.count(side) and self._shields.of(side) is None:
            self.passing.add(side)
            return
        self.passing.discard(side)
        if free:
            self._holding.release(side, still=lambda: self.held_by(side) is None)
            self._shields.tend(side)

    def admitted(self, side: PortalKey, fact: Fact) -> Fact:
        """The fact with what may be passed on: without its file, where files may not be."""
        if isinstance(fact, facts.ChatAvatar) and side not in self._exposures.media:
            return msgspec.structs.replace(fact, avatar=None)
        if not isinstance(fact, facts.Message) or fact.content.file is None or side in self._exposures.media:
            return fact
        words = plain(wording.without_file(fact.content.file.name))
        text = fact.content.text
        content = Content(text=join(text, "\n", words) if text else words, kind=fact.content.kind)
        return msgspec.structs.replace(fact, content=content)


def _doer(fact: object) -> PersonId:
    """Whose doing it is, as far as order matters."""
    for name in ("sender", "person"):
        who = getattr(fact, name, None)
        if isinstance(who, Person):
            return who.id
    return NOBODY
