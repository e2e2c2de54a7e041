"""What became of every message of a storm: added up from what each side saw, without a guess (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from bridgekit.testing.ledger import find_marker
from connectors.irc.protocol.wire import Line
from tests.scenarios.visibility.crowd import Handed


class Arrived(NamedTuple):
    """A message in the room: its marker, who sent it, and when the homeserver took it (ms since the epoch)."""

    id: str
    sender: str
    at: int


class Told(NamedTuple):
    """What the sender of a message from Matrix was told last: a status, and why."""

    status: str
    why: str


class Account(NamedTuple):
    """How many messages of one direction had which fate, and which of them had none or the wrong one."""

    fates: Counter[str]
    wrong: list[str]

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {fate}" for fate, count in sorted(self.fates.items()))
        return f"{self.fates.total()} messages: {counted}; wrong: {self.wrong or 'none'}"


def from_irc(
    here: Sequence[Line], beyond: Sequence[Line], handed: Sequence[Handed], arrived: Sequence[Arrived],
    *, people: Collection[str], relay: str, held: Collection[str] = (),
) -> Account:  # fmt: skip
    """The account of what `people` said in the channel.

    `here` and `beyond` is what somebody on the bridge's server and on the other one saw, in their order; `handed`
    what the bridge's own connection was given; `held` what the bridge says it keeps. A message that the bridge was
    given is `delivered` once, or `held`. One that it was not given was said while it was away, or on the other side
    of a netsplit; anything else is wrong.
    """
    times = Counter(message.id for message in arrived)
    given = {found for one in handed if (found := said(one.line, people))}
    fates: Counter[str] = Counter()
    wrong: list[str] = []
    heard = [(id, line) for line in here if (id := said(line, people)) or _moves(line, relay)]
    explained = True  # of what was not given: the bridge's coming or going follows
    for id, _ in reversed(heard):
        if not id:
            explained = True
        elif id not in given:
            fates["said while the bridge was away"] += 1
            if not explained:
                wrong.append(f"{id} was said while the bridge was there, and it was not given")
            if times[id]:
                wrong.append(f"{id} was not given to the bridge, and is in the room")
        else:
            explained = False
    for id in given:
        if times[id] == 1 and id not in held:
            fates["delivered"] += 1
        elif not times[id] and id in held:
            fates["held"] += 1
        else:
            fates["unexplained"] += 1
            wrong.append(f"{id} is {times[id]} times in the room{' and is held' if id in held else ''}")
    first = {found for line in here if (found := said(line, people))}
    for id in sorted({found for line in beyond if (found := said(line, people))} - first):
        fates["said beyond a netsplit"] += 1
        if times[id] or id in given:
            wrong.append(f"{id} was said beyond a netsplit and came through it")
    wrong += [f"{id} was never said" for id in times if id not in given]
    return Account(fates, wrong)


def from_matrix(sent: Collection[str], told: Mapping[str, Told], heard: Sequence[Sequence[str]]) -> Account:
    """The account of what was said in Matrix: `sent`, what their senders were `told`, and what somebody on each
    server heard. `delivered` is heard by somebody and by nobody twice; `failed` by nobody; `uncertain` perhaps."""
    fates: Counter[str] = Counter()
    wrong: list[str] = []
    times = [Counter(one) for one in heard]
    for id in sent:
        most = max(counted[id] for counted in times)
        match told.get(id):
            case Told("SUCCESS", _):
                fates["delivered"] += 1
                bad = most != 1
            case Told("FAIL_RETRIABLE", why) if why:
                fates["uncertain, with why"] += 1
                bad = most > 1
            case Told("FAIL_PERMANENT", why) if why:
                fates["failed, with why"] += 1
                bad = most > 0
            case _:
                fates["unexplained"] += 1
                bad = True
        if bad:
            wrong.append(f"{id}: {told.get(id)}, heard {[counted[id] for counted in times]} times")
    wrong += [f"{id} was never said" for counted in times for id in counted if id not in sent]
    return Account(fates, wrong)


def late(order: Iterable[str]) -> list[str]:
    """The markers that stand behind a later one of the same speaker."""
    newest: dict[int, int] = {}
    found: list[str] = []
    for id in order:
        marker = find_marker(id)
        assert marker is not None
        if marker.seq < newest.get(marker.speaker, -1):
            found.append(id)
        newest[marker.speaker] = max(marker.seq, newest.get(marker.speaker, -1))
    return found


def read_unseen(
    handed: Sequence[Handed], arrived: Sequence[Arrived], puppets: Collection[str], people: Collection[str]
) -> tuple[list[str], int]:
    """The messages that were shown before everybody who reads the room was seen in the channel again, and how many
    had to wait for that.

    `puppets` are the nicks of those who read. By what the bridge was given, line by line: who is not in the channel
    when something is said must be seen there before it is shown. `Handed.at` is the earliest moment at which the
    bridge can have known it, and `Arrived.at` is the homeserver's own: same clock, so there is nothing to tolerate.
    """
    shown = {message.id: message.at for message in arrived}
    away = dict.fromkeys(puppets, "not seen yet")
    waiting: dict[str, list[str]] = {nick: [] for nick in puppets}
    named: set[str] = set()
    connection = 0
    waited: set[str] = set()
    wrong: list[str] = []

    def seen(nick: str, at: float) -> None:
        away.pop(nick, None)
        wrong.extend(
            f"{id} was shown {at - shown[id]:.0f} ms before {nick} was seen"
            for id in waiting[nick]
            if id in shown and shown[id] < int(at)
        )
        waiting[nick].clear()

    for one in handed:
        line = one.line
        if one.connection != connection:  # nobody is seen before the channel's names were told
            connection = one.connection
            away |= dict.fromkeys(puppets, "the bridge was away")
        match line.command:
            case "353":
                named |= {name.lstrip("~&@%+").partition("!")[0] for name in line.param(3).split()}
            case "366":
                for nick in named & waiting.keys():
                    seen(nick, one.at)
                named.clear()
            case "JOIN" if line.nick in waiting:
                seen(line.nick, one.at)
            case "QUIT" | "PART" if line.nick in waiting:
                away[line.nick] = line.command
            case "PRIVMSG" if id := said(line, people):
                for nick in away:
                    waiting[nick].append(id)
                if away:
                    waited.add(id)
            case _:
                pass
    wrong += [
        f"{id} was shown and {nick} was never seen again"
        for nick, ids in waiting.items()
        for id in ids
        if id in shown
    ]
    return wrong, len(waited)


def said(line: Line, people: Collection[str]) -> str:
    """The marker of what one of `people` says in this line; "" where it is nothing of that kind."""
    if line.command != "PRIVMSG" or line.nick not in people:
        return ""
    found = find_marker(line.param(1))
    return found.id if found is not None else ""


def _moves(line: Line, relay: str) -> bool:
    return line.nick == relay and line.command in ("JOIN", "QUIT", "PART")
