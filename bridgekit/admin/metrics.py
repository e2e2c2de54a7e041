"""Every metric of the bridge, in one place; what is counted per message is a few additions until somebody looks.

Labels are networks, directions, fates and kinds of calls: no rooms, no people, so their number is known beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import StrEnum
from itertools import accumulate

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bridgekit import __version__
from bridgekit.contract.ids import NetworkId

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 600)
"""Seconds: the goals (2 ms, 10 ms) are bounds, and so is what an outage makes of it."""


class Direction(StrEnum):
    """Which way a message went, seen from its network."""

    TO_MATRIX = "to_matrix"
    TO_NETWORK = "to_network"


class Queue(StrEnum):
    """Where things wait."""

    ROOMS = "rooms"  # facts that are not planned yet, or whose verbs have no fate yet
    JOINS = "joins"  # ghosts that still have to enter a room


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """How encryption is doing; the mappings count by cause since the start."""

    devices: int
    rooms: int
    one_time_keys: int | None  # of the bot; None: the homeserver has not said yet
    unread: Mapping[str, int]
    missing: Mapping[str, int]
    withheld: Mapping[str, int]


Count = Callable[[], Awaitable[int]]
PATIENCE = 2.0
"""Seconds that the database has to count rows."""
SELDOM = 600.0
"""Seconds between two looks at what takes a look through a whole table."""


class _Tally:
    """How often something came and how long it took, in LATENCY's bounds; some five times cheaper than the library's
    counter and histogram, which take two locks and go through the bounds one by one."""

    __slots__ = ("bounds", "seconds")

    def __init__(self) -> None:
        self.bounds = [0] * (len(LATENCY) + 1)  # not cumulative; the last one is beyond all bounds
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.bounds[bisect_left(LATENCY, seconds)] += 1
        self.seconds += seconds

    @property
    def count(self) -> int:
        return sum(self.bounds)


class _Tallies(Collector):
    """One counter and one histogram over the same events: the counter splits them by one label more, its last."""

    def __init__(self, counter: tuple[str, str], histogram: tuple[str, str], labels: list[str]) -> None:
        self._counter, self._histogram, self._labels = counter, histogram, labels
        self._of: dict[tuple[str, ...], _Tally] = {}

    def of(self, *labels: str) -> _Tally:
        """The tally of these values of the labels; from now on it is shown, also while it is zero."""
        return self._of.setdefault(labels, _Tally())

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        counts = CounterMetricFamily(*self._counter, labels=self._labels)
        times: dict[tuple[str, ...], _Tally] = {}
        for labels, tally in self._of.items():
            counts.add_metric(labels, tally.count)
            whole = times.setdefault(labels[:-1], _Tally())
            whole.bounds = [a + b for a, b in zip(whole.bounds, tally.bounds, strict=True)]
            whole.seconds += tally.seconds
        yield counts
        histogram = HistogramMetricFamily(*self._histogram, labels=self._labels[:-1])
        for labels, tally in times.items():
            sums = list(accumulate(tally.bounds))
            ends = [*map(str, map(float, LATENCY)), "+Inf"]
            histogram.add_metric(labels, list(zip(ends, sums, strict=True)), tally.seconds)
        yield histogram


class _Live(Collector):
    """Gauges whose values are asked for when somebody looks."""

    def __init__(self) -> None:
        self.queues: dict[str, Callable[[], tuple[int, float]]] = {}
        self.inbox: dict[str, int] = {}
        self.megolm: dict[str, int] = {}
        self.encryption: Callable[[], Encryption] | None = None
        self.held: Callable[[], dict[tuple[NetworkId, str], int]] = dict
        self.sessions: Callable[[], dict[tuple[NetworkId, str], int]] = dict
        self.reports: Callable[[], dict[NetworkId, int]] = dict
        self.writable: Callable[[], bool] | None = None

    def describe(self) -> list[Metric]:
        return []  # nothing is asked before the bridge runs

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("bridgekit_queue_depth", "What waits now.", labels=["queue"])
        oldest = GaugeMetricFamily(
            "bridgekit_queue_oldest_seconds", "How long the oldest of it has waited.", labels=["queue"]
        )
        for name, look in self.queues.items():
            count, age = look()
            depth.add_metric([name], count)
            oldest.add_metric([name], age)
        yield depth
        yield oldest
        inbox = GaugeMetricFamily(
            "bridgekit_inbox_rows", "Facts on disk that are not done.", labels=["state"]
        )
        for state, rows in self.inbox.items():
            inbox.add_metric([state], rows)
        yield inbox
        if self.writable is not None:
            yield GaugeMetricFamily(
                "bridgekit_store_up", "1 while the database can be written.", value=self.writable()
            )
        held = GaugeMetricFamily(
            "bridgekit_held_facts",
            "Facts of a network that are held back, by cause.",
            labels=["network", "cause"],
        )
        for (network, cause), count in self.held().items():
            held.add_metric([network, cause], count)
        yield held
        sessions = GaugeMetricFamily(
            "bridgekit_sessions", "Connections to the networks by state.", labels=["network", "state"]
        )
        for (network, state), count in self.sessions().items():
            sessions.add_metric([network, state], count)
        yield sessions
        reports = GaugeMetricFamily(
            "bridgekit_open_abuse_reports",
            "Reports of abuse that no admin has dealt with.",
            labels=["network"],
        )
        for network, count in self.reports().items():
            reports.add_metric([network], count)
        yield reports
        if self.encryption is not None:
            yield from self._encryption(self.encryption())

    def _encryption(self, now: Encryption) -> Iterator[Metric]:
        yield GaugeMetricFamily("bridgekit_devices", "Devices of the bot and of ghosts.", value=now.devices)
        yield GaugeMetricFamily("bridgekit_encrypted_rooms", "Rooms known to be encrypted.", value=now.rooms)
        if now.one_time_keys is not None:
            yield GaugeMetricFamily(
                "bridgekit_one_time_keys", "One-time keys that the bot has left.", value=now.one_time_keys
            )
        megolm = GaugeMetricFamily("bridgekit_megolm_sessions", "Sessions on disk.", labels=["direction"])
        for direction, rows in self.megolm.items():
            megolm.add_metric([direction], rows)
        yield megolm
        for name, about, counts in (
            (
                "bridgekit_undecrypted",
                "Messages that were not opened though their key was there.",
                now.unread,
            ),
            ("bridgekit_keys_missing", "Sessions whose key did not come in time.", now.missing),
            ("bridgekit_keys_withheld", "Keys that the bridge gave to no device.", now.withheld),
        ):
            family = CounterMetricFamily(name, about, labels=["why"])
            for why, count in counts.items():
                family.add_metric([why], count)
            yield family


class Metrics:
    """One bridge's metrics; nothing is global. Every method is synchronous, cheap, and never raises."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reg = self.registry
        self._messages = _Tallies(
            ("bridgekit_messages", "Messages by what became of them."),
            ("bridgekit_message_seconds", "From the moment a message was known until its fate."),
            ["network", "direction", "fate"],
        )
        self._reconnects = Counter(
            "bridgekit_reconnects", "Sessions that were lost and started again.", ["network"], registry=reg
        )
        self._parked = Counter(
            "bridgekit_parked_facts",
            "Facts that struck a fault and were put aside.",
            ["network"],
            registry=reg,
        )
        self._turned_away = Counter(
            "bridgekit_turned_away",
            "Private messages from a network that no conversation may begin with.",
            ["network"],
            registry=reg,
        )
        self._reports = Counter(
            "bridgekit_abuse_reports", "Reports of abuse that came from a network.", ["network"], registry=reg
        )
        self._answers = _Tallies(
            (
                "bridgekit_homeserver_answers",
                "Answers of the homeserver by call and class of status (none: no answer).",
            ),
            ("bridgekit_homeserver_request_seconds", "Requests to the homeserver by call."),
            ["call", "status"],
        )
        reg.register(self._messages)
        reg.register(self._answers)
        self._up = Gauge(
            "bridgekit_homeserver_up", "1 while the homeserver answers and knows us.", registry=reg
        )
        self._transactions = Counter(
            "bridgekit_transactions", "Transactions of the homeserver by outcome.", ["outcome"], registry=reg
        )
        self._overdue = Counter(
            "bridgekit_overdue_events",
            "Events that the homeserver did not send and that were read in their rooms.",
            registry=reg,
        )
        info = Gauge(
            "bridgekit_info", "Always 1; the label says which version runs.", ["version"], registry=reg
        )
        info.labels(__version__).set(1)
        started = Gauge("bridgekit_start_time_seconds", "When the bridge started (Unix time).", registry=reg)
        started.set(time.time())
        ProcessCollector(registry=reg)
        self._live = _Live()
        reg.register(self._live)
        self._inbox: dict[str, Count] = {}
        self._megolm: dict[str, Count] = {}
        self._megolm_at = -math.inf  # when they were counted last
        self._fates: dict[tuple[NetworkId, Direction, str], _Tally] = {}
        self._answered: dict[tuple[str, int], _Tally] = {}

    # Counted for every message

    def message(self, network: NetworkId, direction: Direction, fate: str, seconds: float) -> None:
        """A message of (or for) `network` has its fate, `seconds` after it was known."""
        try:
            tally = self._fates[network, direction, fate]
        except KeyError:
            tally = self._fates[network, direction, fate] = self._messages.of(network, direction.value, fate)
        tally.add(seconds)

    def fates(self, network: NetworkId) -> dict[str, dict[str, int]]:
        """How many messages of a network had which fate since the start, by direction."""
        found: dict[str, dict[str, int]] = {direction.value: {} for direction in Direction}
        for (of, direction, fate), tally in self._fates.items():
            if of == network:
                found[direction.value][fate] = tally.count
        return found

    def answered(self, call: str, status: int, seconds: float) -> None:
        """One exchange with the homeserver is over; status 0 is no answer."""
        try:
            tally = self._answered[call, status]
        except KeyError:
            word = f"{status // 100}xx" if status else "none"
            tally = self._answered[call, status] = self._answers.of(call, word)
        tally.add(seconds)

    # Counted now and then

    def homeserver(self, available: bool) -> None:
        """It was lost, or is back."""
        self._up.set(available)

    def transaction(self, outcome: str) -> None:
        """The homeserver sent a transaction: `accepted`, or `repeated`."""
        self._transactions.labels(outcome).inc()

    def overdue(self, count: int) -> None:
        """So many events were read in their rooms, because the homeserver did not send them."""
        self._overdue.inc(count)

    def reconnect(self, network: NetworkId) -> None:
        """A session was lost and will be started again."""
        self._reconnects.labels(network).inc()

    def parked(self, network: NetworkId) -> None:
        """A fact of this side (`matrix`, or a network) struck a fault and was put aside."""
        self._parked.labels(network).inc()

    def turned_away(self, network: NetworkId) -> None:
        """A private message was not passed on: its sender may not begin a conversation."""
        self._turned_away.labels(network).inc()

    def report(self, network: NetworkId) -> None:
        """Somebody of a network reported abuse."""
        self._reports.labels(network).inc()

    def declare(self, networks: list[NetworkId]) -> None:
        """Show every series of these networks from the start, as zero: a rate needs a first value."""
        for network in networks:
            for direction in Direction:
                for fate in ("delivered", "failed", "uncertain"):
                    self._messages.of(network, direction.value, fate)
            for counter in (self._reconnects, self._parked, self._turned_away, self._reports):
                counter.labels(network)

    # Asked for when somebody looks: no cost before

    def watch_queue(self, queue: Queue, look: Callable[[], tuple[int, float]]) -> None:
        """`look` returns how many wait in `queue` and the age of the oldest in seconds."""
        self._live.queues[queue.value] = look

    def watch_inbox(self, pending: Count, parked: Count) -> None:
        """How many rows of the inbox are not done, and how many are put aside."""
        self._inbox = {"pending": pending, "parked": parked}

    def watch_store(self, look: Callable[[], bool]) -> None:
        """`look` returns whether the database can be written."""
        self._live.writable = look

    def watch_encryption(self, look: Callable[[], Encryption], out: Count, into: Count) -> None:
        """`look` returns how encryption is doing; `out` and `into` count the Megolm sessions on disk."""
        self._live.encryption = look
        self._megolm = {"out": out, "in": into}

    def watch_reports(self, look: Callable[[], dict[NetworkId, int]]) -> None:
        """`look` returns how many reports of abuse are open, by network."""
        self._live.reports = look

    def watch_held(self, look: Callable[[], dict[tuple[NetworkId, str], int]]) -> None:
        """`look` returns how many facts of each network are held back for which cause."""
        self._live.held = look

    def watch_sessions(self, look: Callable[[], dict[tuple[NetworkId, str], int]]) -> None:
        """`look` returns how many sessions of each network are in which state."""
        self._live.sessions = look

    async def exposition(self) -> bytes:
        """Everything, in Prometheus' text format (CONTENT_TYPE). What cannot be counted now is left out."""
        self._live.inbox = await _counted(self._inbox)
        if (now := time.monotonic()) - self._megolm_at >= SELDOM:
            self._megolm_at = now
            self._live.megolm = await _counted(self._megolm)
        return generate_latest(self.registry)


async def _counted(counts: Mapping[str, Count]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in counts.items():
        with contextlib.suppress(
            Exception
        ):  # a database that is away is told by the health, not by a gap here
            async with asyncio.timeout(PATIENCE):
                found[name] = await count()
    return found
