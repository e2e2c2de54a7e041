"""The presence gate: nobody reads a chat unseen, and nothing that is held back for it is lost or hidden."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from bridgekit.contract.ids import PersonId, PortalKey
from bridgekit.core import wording

MINUTE = 60_000


class GateMode(StrEnum):
    """What becomes of a Matrix user whose own account is not seen in the chat."""

    KICK = "kick"  # taken out of the room as soon as it is clear that they are not coming
    PAUSE = "pause"  # messages wait for them; taken out after a grace time
    RELAY_ALLOWED = "relay-allowed"  # the bridge's own presence is enough


class Seen(StrEnum):
    """Where a Matrix user's own account is, as the network itself tells: never a stored member list."""

    PRESENT = "present"
    COMING = "coming"  # it connects, or is joining
    SPLIT = "split"  # on the other side of a netsplit: it does not see what is said on this one
    ABSENT = "absent"


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A Matrix user who is joined to the room. `since` (ms): when they entered it or their account left the chat,
    whichever came last. `why` says in people's words what is the matter with the account. `turns`: how often in the
    last hour (`TURN`) messages have waited for them until they left or were taken out."""

    user: PersonId
    seen: Seen
    since: int
    why: str = ""
    turns: int = 0


TURN = 60 * MINUTE
"""So long it counts that somebody has held up a room in vain: whoever comes in again and again stops nobody."""


class GateRules(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the gate is, in milliseconds."""

    mode: GateMode = GateMode.PAUSE
    coming: int = 30_000  # for an account that is on its way, whatever the mode
    split: int = 10 * MINUTE  # for a netsplit to heal
    grace: int = 5 * MINUTE  # PAUSE: for an account that is not there

    def patience(self, seen: Seen, turns: int = 0) -> int:
        """How long messages wait for an account in this state, after so many turns in vain: the second is for who has
        mended what was the matter, and there is no third."""
        if turns:
            return min(self.coming, self.patience(seen)) if turns == 1 else 0
        match seen:
            case Seen.COMING:
                return self.coming if self.mode is GateMode.KICK else max(self.coming, self.grace)
            case Seen.SPLIT:
                return self.split
            case Seen.ABSENT | Seen.PRESENT:
                return 0 if self.mode is GateMode.KICK else self.grace


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    """One user for whom messages are held: since when, until when they are waited for, why."""

    user: PersonId
    seen: Seen
    since: int
    until: int
    why: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate decides about one link at one moment.

    `passes`: messages of the link may be shown in the room. `blockers`: for whom they wait. `remove`: who is to be
    taken out of the room now; messages wait until that is done. `stuck`: who cannot be taken out, for want of power:
    the link pauses until somebody mends that. `again`: when (ms) to ask anew at the latest, 0 for only on a change.
    """

    passes: bool
    blockers: tuple[Blocker, ...] = ()
    remove: tuple[PersonId, ...] = ()
    stuck: tuple[PersonId, ...] = ()
    again: int = 0


PASSES = Verdict(passes=True)


def judge(rules: GateRules, readers: Iterable[Reader], now: int, *, removable: bool = True) -> Verdict:
    """Whether the messages of a link may be shown to those who are in the room.

    `readers` are the Matrix users in the room who should have an account in the chat; `removable` says whether the
    bot has the power to take users out. Pure; one user who is stuck never stops a room for longer than the grace.
    """
    if rules.mode is GateMode.RELAY_ALLOWED:
        return PASSES
    blockers: list[Blocker] = []
    late: list[PersonId] = []
    for reader in readers:
        if reader.seen is Seen.PRESENT:
            continue
        until = reader.since + rules.patience(reader.seen, reader.turns)
        why = reader.why or _WHY[reader.seen]
        blockers.append(Blocker(user=reader.user, seen=reader.seen, since=reader.since, until=until, why=why))
        if now >= until:
            late.append(reader.user)
    if not blockers:
        return PASSES
    waiting = [b.until for b in blockers if b.until > now]
    return Verdict(
        passes=False,
        blockers=tuple(blockers),
        remove=tuple(late) if removable else (),
        stuck=() if removable else tuple(late),
        again=min(waiting, default=0),
    )


_WHY = {
    Seen.PRESENT: "",
    Seen.COMING: "the account is just connecting",
    Seen.SPLIT: "a part of the network is cut off",
    Seen.ABSENT: "the account is not there",
}


def explain(verdict: Verdict, held: int, name: str, label: str, now: int) -> str:
    """For people: how much is held, who blocks, since when, and what to do; "" where nothing is in the way."""
    if verdict.passes:
        return ""
    lines = [
        wording.blocker(
            b.user, name, label, b.why, minutes=(now - b.since) // MINUTE, removes=b.user not in verdict.stuck
        )
        for b in verdict.blockers
    ]
    return wording.holding(held, name, label, lines)


# What is held ------------------------------------------------------------------------------------------------


class Cause(StrEnum):
    """Why something is held."""

    GATE = "gate"
    PAUSE = "pause"  # the room shows more than the link allows
    QUARANTINE = "quarantine"
    RATE = "rate"


_WHOLE = (Cause.GATE, Cause.PAUSE)
"""What these hold up, they hold up for the whole link."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One fact from the inbox that waits, since `since` (ms). `number` is its inbox row; `why` is a sentence."""

    number: int
    link: PortalKey
    person: PersonId
    cause: Cause
    why: str
    since: int


class Ledger:
    """All that is held, in the order in which it came. What goes in comes out by `release` or `fail`, and no other way.

    The facts themselves stay in the inbox, on disk; age alone never ends anything.
    """

    def __init__(self, rows: Iterable[Held] = ()) -> None:
        self._links: dict[PortalKey, dict[int, Held]] = {}
        self._where: dict[int, PortalKey] = {}
        self._whole: Counter[PortalKey] = Counter()  # rows that hold up the whole link
        self._people: dict[tuple[PortalKey, PersonId], dict[int, Held]] = {}
        for row in rows:
            self.hold(row)

    def __len__(self) -> int:
        return len(self._where)

    def hold(self, row: Held) -> None:
        """It waits. Something that is held already keeps its place and its age, and may have a new reason."""
        rows = self._links.setdefault(row.link, {})
        if (old := rows.get(row.number)) is not None:
            row = msgspec.structs.replace(row, since=old.since)
            if old.cause in _WHOLE:
                self._less(old.link)
        rows[row.number] = row
        self._where[row.number] = row.link
        if row.cause in _WHOLE:
            self._whole[row.link] += 1
        self._people.setdefault((row.link, row.person), {})[row.number] = row

    def is_behind(self, link: PortalKey, person: PersonId) -> bool:
        """Whether something of the link waits that a new fact of this person must not overtake.

        What waits for the gate or a pause holds up the whole link; what waits for its sender's sake only them.
        """
        return self.ahead(link, person) is not None

    def ahead(self, link: PortalKey, person: PersonId) -> Cause | None:
        """Why that waits behind which a new fact of this person has to wait."""
        if self._whole[link]:
            return Cause.PAUSE
        rows = self._people.get((link, person))
        return next(reversed(rows.values())).cause if rows else None

    def is_before(self, link: PortalKey, number: int) -> bool:
        """Whether something that came before this fact waits and holds up the whole link."""
        if not self._whole[link]:
            return False
        return any(row.number < number and row.cause in _WHOLE for row in self._links[link].values())

    def of(
        self, link: PortalKey, *, cause: Cause | None = None, person: PersonId | None = None
    ) -> list[Held]:
        """What waits, the oldest first."""
        rows = self._links.get(link, {}) if person is None else self._people.get((link, person), {})
        return [row for row in rows.values() if cause is None or row.cause is cause]

    def links(self) -> list[PortalKey]:
        """The links of which something waits."""
        return list(self._links)

    def count(self, link: PortalKey, person: PersonId | None = None) -> int:
        """How much of the link (or of one person there) waits."""
        return len(self._links.get(link, ()) if person is None else self._people.get((link, person), ()))

    def release(self, rows: Iterable[Held]) -> list[int]:
        """These go on: their inbox numbers, in order, to be planned anew."""
        return self._take(rows)

    def fail(self, rows: Iterable[Held]) -> list[int]:
        """These end undelivered: their inbox numbers, in order, to be reported with the reason and done with."""
        return self._take(rows)

    def _take(self, rows: Iterable[Held]) -> list[int]:
        taken = []
        for number in [row.number for row in rows]:
            link = self._where.pop(number, None)
            if link is None:
                continue
            self._uncount(self._links[link].pop(number))
            if not self._links[link]:
                del self._links[link]
            taken.append(number)
        return taken

    def _uncount(self, row: Held) -> None:
        of_person = self._people[row.link, row.person]
        del of_person[row.number]
        if not of_person:
            del self._people[row.link, row.person]
        if row.cause in _WHOLE:
            self._less(row.link)

    def _less(self, link: PortalKey) -> None:
        self._whole[link] -= 1
        if not self._whole[link]:
            del self._whole[link]
