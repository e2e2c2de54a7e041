"""A ledger of messages: what was sent, what arrived, and what cannot be explained (pure).

Sources put a marker into every text, `s03-000123`: speaker 3, its message 123. What arrives is fed back with the
marker that was found in it; whether it came once, in order and under the right name is then arithmetic::

    ledger = Ledger()
    ledger.sent(marker(3, 123), "alice", 123, at=now)
    ...
    for text, sender, at in seen:
        if (found := find_marker(text)) is not None:
            ledger.received(found.id, sender_behind(sender), found.seq, at)
    ledger.uncertain("s03-000124")           # the bridge said so
    report = ledger.report()
    assert report.unexplained == 0 and report.late_within_sender == 0, str(report)
"""

import re
from typing import NamedTuple

import msgspec

_MARKER = re.compile(r"\bs(\d{2,})-(\d{6,})\b")
_SHOWN = 10


class Marker(NamedTuple):
    """A marker that was found in a text."""

    id: str
    speaker: int
    seq: int


def marker(speaker: int, seq: int) -> str:
    """Return the marker of a speaker's message: `s03-000123`."""
    return f"s{speaker:02d}-{seq:06d}"


def find_marker(text: str) -> Marker | None:
    """Return the first marker of a text, None where there is none."""
    found = _MARKER.search(text)
    return None if found is None else Marker(found[0], int(found[1]), int(found[2]))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger comes to.

    `lost`: sent, not arrived. `doubled`: arrivals beyond the first. `accounted`: messages lost and reported as
    uncertain or failed, or doubled and reported as uncertain. `strangers`: arrivals of what was never sent.
    `misattributed`: arrived under another sender or number. `late_within_sender`: arrived after a later message
    of the same sender; `late_within_room`: arrived after a message sent later into the same room.
    `unexplained`: messages lost or doubled and not accounted for, strangers, misattributed, and those that
    arrived though they were reported as failed.
    `p50`, `p99`, `worst`: seconds from sending to arrival, None where no times are known. `examples` names some
    ids of each kind that is not zero.
    """

    sent: int
    arrived: int
    lost: int
    doubled: int
    accounted: int
    strangers: int
    misattributed: int
    late_within_sender: int
    late_within_room: int
    unexplained: int
    p50: float | None
    p99: float | None
    worst: float | None
    examples: dict[str, list[str]]

    @property
    def clean(self) -> bool:
        """Is nothing unexplained and every sender in order?"""
        return self.unexplained == 0 and self.late_within_sender == 0

    def __str__(self) -> str:
        parts = [
            f"sent {self.sent}, arrived {self.arrived}: lost {self.lost}, doubled {self.doubled}, "
            f"of these accounted for {self.accounted}; strangers {self.strangers}, "
            f"misattributed {self.misattributed}; late within sender {self.late_within_sender}, "
            f"within room {self.late_within_room}; unexplained {self.unexplained}"
        ]
        if self.p50 is not None and self.p99 is not None and self.worst is not None:
            times = (self.p50, self.p99, self.worst)
            parts.append(
                "latency p50 {:.1f} ms, p99 {:.1f} ms, worst {:.1f} ms".format(*(t * 1e3 for t in times))
            )
        parts += [f"{kind}: {', '.join(ids)}" for kind, ids in self.examples.items()]
        return "\n".join(parts)


class _Sent(NamedTuple):
    sender: str
    seq: int
    room: str
    at: float | None
    place: int


class _Received(NamedTuple):
    id: str
    sender: str
    seq: int
    at: float


class Ledger:
    """Feed it in any order; `report` may be asked at any time. `seq` rises with every message of a sender."""

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}
        self._received: list[_Received] = []
        self._uncertain: set[str] = set()
        self._failed: set[str] = set()

    def sent(self, id: str, sender: str, seq: int, *, at: float | None = None, room: str = "") -> None:
        """Somebody sent a message, `at` a time of the clock that `received` uses. Raise ValueError for an id twice.

        The order of these calls is the order of the room.
        """
        if id in self._sent:
            raise ValueError(f"{id} was sent already")
        self._sent[id] = _Sent(sender, seq, room, at, len(self._sent))

    def received(self, id: str, sender: str, seq: int, at: float) -> None:
        """A message arrived; arrivals are judged in the order of `at`, and of these calls where it is equal."""
        self._received.append(_Received(id, sender, seq, at))

    def uncertain(self, id: str) -> None:
        """The bridge reported that it does not know this message's fate: it may be lost or doubled."""
        self._uncertain.add(id)

    def failed(self, id: str) -> None:
        """The bridge reported that this message failed: it must not have arrived."""
        self._failed.add(id)

    def missing(self) -> list[str]:
        """Return the ids that have not arrived and are not reported, in the order of sending."""
        arrived = {arrival.id for arrival in self._received}
        reported = self._uncertain | self._failed
        return [id for id in self._sent if id not in arrived and id not in reported]

    def report(self) -> Report:
        """Add everything up."""
        times: dict[str, int] = {}
        latest_of_sender: dict[str, int] = {}
        latest_in_room: dict[str, int] = {}
        latencies: list[float] = []
        kinds: dict[str, list[str]] = {}

        def note(kind: str, id: str) -> None:
            kinds.setdefault(kind, []).append(id)

        for arrival in sorted(self._received, key=lambda arrival: arrival.at):
            origin = self._sent.get(arrival.id)
            if origin is None:
                note("strangers", arrival.id)
                continue
            times[arrival.id] = times.get(arrival.id, 0) + 1
            if times[arrival.id] > 1:
                note("doubled", arrival.id)
                continue
            if (arrival.sender, arrival.seq) != (origin.sender, origin.seq):
                note("misattributed", arrival.id)
            if origin.at is not None:
                latencies.append(arrival.at - origin.at)
            if origin.seq < latest_of_sender.get(origin.sender, origin.seq):
                note("late within sender", arrival.id)
            latest_of_sender[origin.sender] = max(origin.seq, latest_of_sender.get(origin.sender, origin.seq))
            if origin.place < latest_in_room.get(origin.room, -1):
                note("late within room", arrival.id)
            latest_in_room[origin.room] = max(origin.place, latest_in_room.get(origin.room, -1))
        for id in self._sent:
            if id not in times:
                note("lost", id)

        lost, doubled = kinds.get("lost", []), kinds.get("doubled", [])
        excused = [id for id in lost if id in self._uncertain or id in self._failed]
        excused += [id for id in dict.fromkeys(doubled) if id in self._uncertain]
        excused_ids = set(excused)
        wrong = {*lost, *doubled, *kinds.get("strangers", ()), *kinds.get("misattributed", ())}
        contradicted = {id for id in times if id in self._failed and id not in self._uncertain}
        for id in sorted(contradicted):
            note("arrived though reported as failed", id)
        unexplained = {id for id in wrong if id not in excused_ids} | contradicted
        latencies.sort()
        return Report(
            sent=len(self._sent),
            arrived=len(times),
            lost=len(lost),
            doubled=len(doubled),
            accounted=len(excused),
            strangers=len(kinds.get("strangers", ())),
            misattributed=len(kinds.get("misattributed", ())),
            late_within_sender=len(kinds.get("late within sender", ())),
            late_within_room=len(kinds.get("late within room", ())),
            unexplained=len(unexplained),
            p50=_quantile(latencies, 0.50),
            p99=_quantile(latencies, 0.99),
            worst=latencies[-1] if latencies else None,
            examples={kind: ids[:_SHOWN] for kind, ids in kinds.items()},
        )


def _quantile(ordered: list[float], q: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else None
