"""The batches that a server has open: what a line inside one belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridgekit.contract.errors import PeerMisbehaved
from connectors.irc.protocol.wire import Line

MAX_OPEN = 64
MAX_DEPTH = 8
MAX_COLLECTED = 1_000  # lines of one multiline message
HISTORY = frozenset({"chathistory", "znc.in/playback"})
SPLITS = frozenset({"netsplit", "netjoin"})
MULTILINE = "draft/multiline"


@dataclass(slots=True, eq=False)
class Batch:
    """One batch. `head` is the line that opened it; only a multiline batch collects its `lines`."""

    ref: str
    kind: str
    head: Line
    parent: Batch | None = None
    lines: list[Line] = field(default_factory=list)
    count: int = 0  # of the events in it
    last: str = ""  # the server-time of the last of them
    last_id: str = ""  # its msgid
    seen: dict[str, int] = field(default_factory=dict)  # synthetic ids given inside a history

    def within(self, kinds: frozenset[str]) -> Batch | None:
        """The batch itself or the nearest around it that is of one of these kinds."""
        batch: Batch | None = self
        while batch is not None and batch.kind not in kinds:
            batch = batch.parent
        return batch

    @property
    def label(self) -> str:
        """The label that this batch, or one around it, answers."""
        batch: Batch | None = self
        while batch is not None:
            if label := batch.head.tags.get("label", ""):
                return label
            batch = batch.parent
        return ""


class Batches:
    """Open batches by their reference; the oldest goes where a server opens too many."""

    def __init__(self) -> None:
        self._open: dict[str, Batch] = {}

    def of(self, line: Line) -> Batch | None:
        """The batch that `line` belongs to."""
        ref = line.tags.get("batch")
        return self._open.get(ref) if ref else None

    def feed(self, line: Line) -> Batch | None:
        """Take a BATCH line in; the batch that it ended."""
        word = line.param(0)
        if len(word) < 2 or word[0] not in "+-":
            raise PeerMisbehaved("The server sent BATCH without a reference.")
        sign, ref = word[0], word[1:]
        if sign == "-":
            return self._open.pop(ref, None)
        parent = self.of(line)
        depth, above = 0, parent
        while above is not None:
            depth, above = depth + 1, above.parent
        if depth >= MAX_DEPTH:
            raise PeerMisbehaved("The server nests batches too deeply.")
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        self._open.pop(ref, None)
        self._open[ref] = Batch(ref, line.param(1).lower(), line, parent)
        return None

    def collect(self, batch: Batch, line: Line) -> None:
        """Keep one line of a multiline batch. Raises PeerMisbehaved, and drops the batch, where it has no end."""
        if len(batch.lines) >= MAX_COLLECTED:
            self._open.pop(batch.ref, None)
            raise PeerMisbehaved("The server sent a message of too many lines.")
        batch.lines.append(line)
