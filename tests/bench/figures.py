"""What was measured: figures by contestant, their medians, the goals, and the table of them all (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is measured. `better` is +1 where more is better, -1 where less is."""

    name: str
    unit: str
    better: int
    digits: int = 1
    goal: float | None = None


RATE_IN = "IRC to Matrix, flat out"
CPU_IN = "CPU for 1,000 IRC to Matrix"
RATE_OUT = "Matrix to IRC, flat out"
CPU_OUT = "CPU for 1,000 Matrix to IRC"
P50_IN = "IRC to Matrix at 50/s, p50"
P99_IN = "IRC to Matrix at 50/s, p99"
P50_OUT = "Matrix to IRC at 50/s, p50"
P99_OUT = "Matrix to IRC at 50/s, p99"
START = "start to first message"
RSS_IDLE = "RSS idle, 10 members"
RSS_LOAD = "RSS after the load"
FIRST_500 = "500 members: first message after the JOIN"
ALL_500 = "500 members: all joined after the JOIN"
RSS_500 = "RSS with 500 members"
RATE_FAR = "10 ms away: flat out, 10 senders"
RATE_STRICT = "10 ms away: in the strict order of the room"
LATE_FAR = "10 ms away, 50/s: late within the room"
RSS_GHOST = "RSS for each of 200 ghosts that spoke"
FIRST_SEALED = "on Synapse: first word of a new ghost, 50 waiting"

FIGURES = {
    figure.name: figure
    for figure in (
        Figure(name=RATE_IN, unit="msg/s", better=1, digits=0, goal=2500),
        Figure(name=CPU_IN, unit="s", better=-1, digits=3, goal=0.4),
        Figure(name=RATE_OUT, unit="msg/s", better=1, digits=0),
        Figure(name=CPU_OUT, unit="s", better=-1, digits=3),
        Figure(name=P50_IN, unit="ms", better=-1, digits=2, goal=2),
        Figure(name=P99_IN, unit="ms", better=-1, digits=2, goal=10),
        Figure(name=P50_OUT, unit="ms", better=-1, digits=2),
        Figure(name=P99_OUT, unit="ms", better=-1, digits=2),
        Figure(name=START, unit="s", better=-1, digits=2),
        Figure(name=FIRST_500, unit="s", better=-1, digits=3, goal=0.1),
        Figure(name=ALL_500, unit="s", better=-1, digits=2),
        Figure(name=RSS_IDLE, unit="MB", better=-1),
        Figure(name=RSS_500, unit="MB", better=-1, goal=90),
        Figure(name=RSS_LOAD, unit="MB", better=-1),
        Figure(name=RATE_FAR, unit="msg/s", better=1, digits=0),
        Figure(name=RATE_STRICT, unit="msg/s", better=1, digits=0),
        Figure(name=LATE_FAR, unit="", better=-1, digits=0),
    )
}
ENCRYPTED = {
    figure.name: figure
    for figure in (
        Figure(name=RATE_IN, unit="msg/s", better=1, digits=0),
        Figure(name=CPU_IN, unit="s", better=-1, digits=3),
        Figure(name=P50_IN, unit="ms", better=-1, digits=2),
        Figure(name=P99_IN, unit="ms", better=-1, digits=2),
        Figure(name=RSS_GHOST, unit="kB", better=-1, digits=0),
        Figure(name=FIRST_SEALED, unit="s", better=-1, digits=2, goal=1),
    )
}
"""Those of encrypted rooms; the yardstick is the same room in clear."""


class Results:
    """All figures of all repetitions, and what went wrong."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[float]] = {}
        self.faults: list[str] = []
        self.steal: list[float] = []
        self.others: list[float] = []

    def add(self, who: str, name: str, value: float) -> None:
        """One figure of one repetition."""
        self._values.setdefault((who, name), []).append(value)

    @property
    def noise(self) -> float:
        """The largest share of the machine's CPU that its host and other programs took during one load."""
        return max((a + b for a, b in zip(self.steal, self.others, strict=True)), default=0.0)

    def take(self, more: Results) -> None:
        """Add all that another one holds."""
        for key, values in more._values.items():
            self._values.setdefault(key, []).extend(values)
        self.faults += more.faults
        self.steal += more.steal
        self.others += more.others

    def of(self, who: str, name: str) -> float | None:
        """The median over the repetitions; None where it was not measured."""
        values = self._values.get((who, name))
        return median(values) if values else None

    def spread(self, who: str, name: str) -> tuple[float, float] | None:
        """The least and the most of the repetitions."""
        values = self._values.get((who, name))
        return (min(values), max(values)) if values else None

    def ratio(self, who: str, than: str, name: str) -> float | None:
        """The median of the repetitions' own ratios, so that a slow minute of the machine counts for both."""
        pairs = zip(self._values.get((who, name), ()), self._values.get((than, name), ()), strict=False)
        ratios = [mine / other for mine, other in pairs if other]
        return median(ratios) if ratios else None


def verdicts(results: Results, who: str, wanted: Mapping[str, Figure] = FIGURES) -> list[tuple[bool, str]]:
    """One line for each goal, and whether it is met."""
    said: list[tuple[bool, str]] = []
    for figure in wanted.values():
        if figure.goal is None:
            continue
        value = results.of(who, figure.name)
        sign = ">=" if figure.better > 0 else "<="
        goal = f"{figure.name} {sign} {figure.goal:g} {figure.unit}"
        if value is None:
            said.append((False, f"missed  {goal}: not measured"))
            continue
        met = (value - figure.goal) * figure.better >= 0
        said.append((met, f"{'met   ' if met else 'missed'}  {goal}: {value:.{figure.digits}f}"))
    right = not results.faults
    always = "lost 0, doubled 0, late within a sender 0, right ghost, in every load"
    said.append((right, f"{'met   ' if right else 'missed'}  {always}"))
    return said


def table(results: Results, who: str, than: str, wanted: Mapping[str, Figure] = FIGURES) -> str:
    """Markdown: a line for each figure; medians, spread and the ratio to the yardstick."""
    lines = [f"| | {who} | least to most | {than} | ratio |", "|---|---:|---:|---:|---:|"]
    for figure in wanted.values():
        ours, bare = results.of(who, figure.name), results.of(than, figure.name)
        if ours is None and bare is None:
            continue
        spread = results.spread(who, figure.name)
        between = "" if spread is None else " to ".join(f"{v:,.{figure.digits}f}" for v in spread)
        ratio = results.ratio(who, than, figure.name)
        said = "" if ratio is None else f"{ratio:.2f}"
        lines.append(
            f"| {figure.name} | {_shown(ours, figure)} | {between} | {_shown(bare, figure)} | {said} |"
        )
    return "\n".join(lines)


def _shown(value: float | None, figure: Figure) -> str:
    return "" if value is None else f"{value:,.{figure.digits}f} {figure.unit}".strip()
