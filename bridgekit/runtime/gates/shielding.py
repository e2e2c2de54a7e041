"""The spam shield at work: floods come slower or end, strangers wait for a nod, and everybody concerned is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bridgekit.contract import facts
from bridgekit.contract.ids import ChatId, NetworkId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.core import wording
from bridgekit.core.answers import NodWord
from bridgekit.core.commands import command_in
from bridgekit.core.crowd import Crowds
from bridgekit.core.gate import Cause, Held
from bridgekit.core.rates import Bucket, Buckets, Rate
from bridgekit.core.shield import (
    PASS,
    Nod,
    Pass,
    Quarantined,
    Refused,
    Ruling,
    Shield,
    ShieldRules,
    Wait,
    without_nodder,
)
from bridgekit.runtime.cases import Case
from bridgekit.runtime.clock import now
from bridgekit.runtime.gates.holding import Holding
from bridgekit.runtime.registry import Registry
from bridgekit.store import Store
from bridgekit.store.rows import Link
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

ASKS = Rate(5, 60_000)
"""Strangers whom a room is told of by name; of more in a minute it is told that there are more."""
TELLS = Rate(10, 60_000)
"""People of one network who are told that their words wait: a flood of strangers must not become one of ours."""
REPLIES = Rate(3, 60_000)
"""Answers to one person who is no operator and nods all the same."""
REST = 60.0
"""Seconds between two looks at floods that nobody was told of yet."""
SAYS = (facts.Message, facts.Edit, facts.Reaction)


class Shields:
    """The shields of all links that have one. `rules` says which do; `speaks_for` who may nod in a chat; `free` whether
    nothing else is in a link's way."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        crowds: Crowds,
        *,
        rules: Callable[[Link], ShieldRules | None],
        holding: Callable[[], Holding],
        free: Callable[[PortalKey], bool],
        speaks_for: Callable[[PortalKey, Person], bool],
        say: Callable[[ChatId, str], Awaitable[None]],
        announce: Callable[[PortalKey, str], Awaitable[None]],
        tell: Callable[[NetworkId, Person, str], Awaitable[None]],
        spawn: Spawn,
    ) -> None:
        self._store = store
        self._registry = registry
        self._crowds = crowds
        self._rules = rules
        self._holding = holding
        self._free = free
        self._speaks_for = speaks_for
        self._say = say
        self._announce = announce
        self._tell = tell
        self._spawn = spawn
        self._shields: dict[PortalKey, Shield | None] = {}
        self._nods: dict[tuple[PortalKey, PersonId], Nod] = {}
        self._names: dict[tuple[PortalKey, PersonId], str] = {}  # of strangers who wait
        self._due: dict[int, int] = {}  # ms: when a held fact goes on
        self._timers: dict[PortalKey, asyncio.TimerHandle] = {}
        self._asks: Buckets[PortalKey] = Buckets(ASKS)
        self._more: set[PortalKey] = set()  # links of which the room knows that more people wait
        self._tells: dict[NetworkId, Bucket] = {}
        self._replies: Buckets[PersonId] = Buckets(REPLIES)

    async def load(self) -> None:
        """Read what operators decided before."""
        self._nods = {(nod.side, nod.person): nod for nod in await self._store.nods.all()}

    def of(self, side: PortalKey) -> Shield | None:
        """The shield of a link; None where it has none."""
        try:
            return self._shields[side]
        except KeyError:
            return self._made(side)

    def _made(self, side: PortalKey) -> Shield | None:
        link = self._registry.links.get(side)
        rules = self._rules(link) if link is not None else None
        if link is None or rules is None:
            shield = None
        else:
            shield = Shield(rules, name=link.name, now=0)
            for nod in [n for n in self._nods.values() if n.side == side]:
                (shield.accept if nod.accepted else shield.reject)(nod.person)
        if link is not None:
            self._shields[side] = shield
        return shield

    def forget(self, side: PortalKey) -> None:
        """The link is gone, and with it what was decided about its strangers."""
        self._shields.pop(side, None)
        self._more.discard(side)
        if (timer := self._timers.pop(side, None)) is not None:
            timer.cancel()
        gone = [nod for nod in self._nods.values() if nod.side == side]
        for nod in gone:
            del self._nods[side, nod.person]
        if gone:
            self._store.commit(*(self._store.nods.remove(nod) for nod in gone))

    async def erase(self, network: NetworkId, person: PersonId) -> None:
        """Forget all that was decided about a person, and that they decided about others."""
        gone = [n for n in self._nods.values() if (n.side.network, n.person) == (network, person)]
        for nod in gone:
            del self._nods[nod.side, nod.person]
            self._shields.pop(nod.side, None)
            self._names.pop((nod.side, nod.person), None)
        writes = [self._store.nods.remove(nod) for nod in gone]
        for where, nod in list(self._nods.items()):
            if (kept := without_nodder(nod, network, person)) != nod:
                self._nods[where] = kept
                writes.append(self._store.nods.put(kept))
        await self._store.commit(*writes)

    # What is said ----------------------------------------------------------------------------------------------

    def judge(self, case: Case, person: PersonId) -> Ruling:
        """What the shield makes of a fact of a link, by the moment at which it came: a backlog is no flood."""
        side, fact = case.origin, case.fact
        shield = self.of(side)
        if shield is None or not isinstance(fact, SAYS) or _is_for_the_bridge(fact):
            return PASS
        role = self._crowds.of(side).role(person) if side.receiver is None else None
        at = case.accepted or now()
        if role is None or (case.released or (isinstance(fact, facts.Message) and fact.replayed)):
            ruling = (
                shield.stranger(fact.sender, role, at) if role is not None else shield.speed(fact.sender, at)
            )
        else:
            waiting = self._holding().count(side, person)
            ruling = shield.message(fact.sender, role, at, waiting=waiting)
        match ruling:
            case Wait(until=until) if until <= now():
                return PASS
            case Wait(until=until):
                self._due[case.number] = until
                self._tell_sender(side, fact.sender, ruling.tell)
            case Quarantined():
                self._names[side, person] = fact.sender.name
                if not case.recovering:
                    self._tell_sender(side, fact.sender, ruling.tell)
                if ruling.ask:
                    self._ask(side, ruling.ask)
            case Refused(tell=tell) if tell:
                log.warning("flood_refused", network=side.network)
                self._tell_room(side, f"⚠ {tell}")
            case Pass() if self._holding().ahead(side, person) is Cause.QUARANTINE:
                shield.vouch(person, now())
            case _:
                pass
        return ruling

    def _ask(self, side: PortalKey, words: str) -> None:
        log.info("quarantined", network=side.network)
        link = self._registry.links[side]
        if self._asks.take(side, now()):
            self._more.discard(side)
            self._tell_room(side, words)
        elif side not in self._more:
            self._more.add(side)
            self._tell_room(side, wording.more_strangers(link.name))

    def _tell_room(self, side: PortalKey, words: str) -> None:
        self._spawn(self._told(self._registry.links[side].room, words))

    async def _told(self, room: ChatId, words: str) -> None:
        await self._say(room, words)

    def _tell_sender(self, side: PortalKey, person: Person, words: str) -> None:
        bucket = self._tells.setdefault(side.network, Bucket(TELLS, 0))
        if words and bucket.take(now()):
            self._spawn(self._told_alone(side.network, person, words))

    async def _told_alone(self, network: NetworkId, person: Person, words: str) -> None:
        await self._tell(network, person, words)

    async def keep_telling(self) -> None:
        """Tell rooms of floods that were refused, once in a while, until cancelled."""
        while True:
            await asyncio.sleep(REST)
            for side, shield in list(self._shields.items()):
                for words in shield.rest() if shield is not None and side in self._registry.links else ():
                    self._tell_room(side, f"⚠ {words}")

    def joined(self, side: PortalKey) -> int:
        """Somebody came in: by how many milliseconds their ghost should come later."""
        shield = self.of(side)
        return shield.joined(now()) if shield is not None else 0

    # What waits ------------------------------------------------------------------------------------------------

    def behind(self, case: Case, person: PersonId) -> None:
        """A fact waits behind those of its sender, and goes on with the last of them."""
        ahead = self._holding().ledger.of(case.origin, cause=Cause.RATE, person=person)
        self._due.setdefault(case.number, max((self._due.get(row.number, 0) for row in ahead), default=0))

    def tend(self, side: PortalKey) -> None:
        """Let go what has waited long enough, or whose sender is no stranger any more."""
        shield = self._shields.get(side)
        if shield is None or not self._free(side):
            return
        holding = self._holding()
        holding.release(side, lambda row: self._is_ripe(row, shield), still=lambda: self._free(side))
        dues = [self._due.get(row.number, 0) for row in holding.ledger.of(side, cause=Cause.RATE)]
        if dues and side not in self._timers:
            delay = max(0.05, (min(dues) - now()) / 1000)
            self._timers[side] = asyncio.get_running_loop().call_later(delay, self._rung, side)

    def _rung(self, side: PortalKey) -> None:
        del self._timers[side]
        self.tend(side)

    def _is_ripe(self, row: Held, shield: Shield) -> bool:
        if row.cause is Cause.RATE and self._due.get(row.number, 0) <= now():
            self._due.pop(row.number, None)
            return True
        return row.cause is Cause.QUARANTINE and shield.is_free(row.person, row.since)

    # Nods ------------------------------------------------------------------------------------------------------

    def strangers(self, side: PortalKey) -> list[tuple[str, int]]:
        """Whose messages wait for a nod, by name, and how many."""
        counts: dict[PersonId, int] = {}
        for row in self._holding().ledger.of(side, cause=Cause.QUARANTINE):
            counts[row.person] = counts.get(row.person, 0) + 1
        return [(self._names.get((side, who), str(who)), count) for who, count in counts.items()]

    def find(self, side: PortalKey, who: str) -> PersonId | None:
        """The stranger of that name or id who waits, or about whom it was decided before."""
        waiting = {row.person for row in self._holding().ledger.of(side, cause=Cause.QUARANTINE)}
        named = {person: self._names.get((side, person), "") for person in waiting}
        named |= {n.person: n.name for n in self._nods.values() if n.side == side}
        for person, name in named.items():
            if person == who or name == who:
                return person
        return next(
            (p for p, name in named.items() if who.casefold() in (p.casefold(), name.casefold())), None
        )

    async def nod(
        self, side: PortalKey, person: PersonId, *, accepts: bool, by: PersonId, called: str = ""
    ) -> str:
        """An operator, `called` so, decides about a stranger; on disk when it returns, with what there is to say of
        it."""
        link, shield = self._registry.links[side], self.of(side)
        if shield is None:
            return wording.NO_STRANGERS
        known = self._nods.get((side, person))
        name = self._names.get((side, person)) or (known.name if known is not None else str(person))
        nod = self._nods[side, person] = Nod(
            side=side, person=person, name=name, accepted=accepts, by=by, at=now()
        )
        (shield.accept if accepts else shield.reject)(person)
        await self._store.commit(self._store.nods.put(nod))
        log.info("nodded", network=side.network, accepted=accepts)
        if accepts:
            self.tend(side)
            return wording.nodded(name, link.name, called or by)
        count = await self._holding().fail(
            side,
            wording.REJECTED,
            lambda row: row.person == person and row.cause in (Cause.QUARANTINE, Cause.RATE),
        )
        return wording.shaken(name, link.name, called or by, count)

    async def heard(self, side: PortalKey, sender: Person, word: NodWord) -> None:
        """Somebody in a chat nods, or shakes their head: heeded if they are an operator there."""
        link = self._registry.links.get(side)
        if link is None or self.of(side) is None:
            return
        if not self._speaks_for(side, sender):
            log.warning("nod_by_no_operator", network=side.network)
            if self._replies.take(sender.id, now()):
                await self._tell(side.network, sender, wording.not_operator(link.name))
            return
        person = self.find(side, word.who)
        if person is None:
            await self._tell(side.network, sender, wording.nobody_waits(word.who))
            return
        words = await self.nod(side, person, accepts=word.accepts, by=sender.id, called=sender.name)
        await self._say(link.room, words)
        await self._announce(side, words)


def _is_for_the_bridge(fact: facts.Message | facts.Edit | facts.Reaction) -> bool:
    """Whether it is a command, or said with an account of this bridge's own people."""
    return isinstance(fact, facts.Message) and (fact.own is not None or command_in(fact.content) is not None)
