"""Every metric of the bridge, in one place; what is counted per message costs no label lookup by name.

Labels are networks, directions, fates and kinds of calls: no rooms, no people, so their number is known beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
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


Count = Callable[[], Awaitable[int]]
PATIENCE = 2.0
"""Seconds that the database has to count rows."""

_Pair = tuple[Callable[[], None], Callable[[float], None]]
"""A counter's and a histogram's bound children: one look-up for both."""


class _Live(Collector):
    """Gauges whose values are asked for when somebody looks."""

    def __init__(self) -> None:
        self.queues: dict[str, Callable[[], tuple[int, float]]] = {}
        self.inbox: dict[str, int] = {}
        self.held: Callable[[], dict[tuple[NetworkId, str], int]] = dict
        self.sessions: Callable[[], dict[tuple[NetworkId, str], int]] = dict

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # nothing is asked before the bridge runs

    def collect(self) -> Iterator[GaugeMetricFamily]:
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


class Metrics:
    """One bridge's metrics; nothing is global. Every method is synchronous, cheap, and never raises."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reg = self.registry
        self._messages = Counter(
            "bridgekit_messages",
            "Messages by what became of them.",
            ["network", "direction", "fate"],
            registry=reg,
        )
        self._latency = Histogram(
            "bridgekit_message_seconds",
            "From the moment a message was known until its fate.",
            ["network", "direction"],
            buckets=LATENCY,
            registry=reg,
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
        self._requests = Histogram(
            "bridgekit_homeserver_request_seconds",
            "Requests to the homeserver by call.",
            ["call"],
            buckets=LATENCY,
            registry=reg,
        )
        self._answers = Counter(
            "bridgekit_homeserver_answers",
            "Answers of the homeserver by call and class of status (none: no answer).",
            ["call", "status"],
            registry=reg,
        )
        self._up = Gauge("bridgekit_homeserver_up", "1 while the homeserver answers.", registry=reg)
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
        self._bound: dict[tuple[str, str, str], _Pair] = {}
        self._answered: dict[tuple[str, int], _Pair] = {}

    # Counted for every message

    def message(self, network: NetworkId, direction: Direction, fate: str, seconds: float) -> None:
        """A message of (or for) `network` has its fate, `seconds` after it was known."""
        try:
            count, observe = self._bound[network, direction, fate]
        except KeyError:
            count = self._messages.labels(network, direction.value, fate).inc
            observe = self._latency.labels(network, direction.value).observe
            self._bound[network, direction, fate] = (count, observe)
        count()
        observe(seconds)

    def answered(self, call: str, status: int, seconds: float) -> None:
        """One exchange with the homeserver is over; status 0 is no answer."""
        try:
            count, observe = self._answered[call, status]
        except KeyError:
            word = f"{status // 100}xx" if status else "none"
            count = self._answers.labels(call, word).inc
            observe = self._requests.labels(call).observe
            self._answered[call, status] = (count, observe)
        count()
        observe(seconds)

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

    def declare(self, networks: list[NetworkId]) -> None:
        """Show every series of these networks from the start, as zero: a rate needs a first value."""
        for network in networks:
            for direction in Direction:
                self._latency.labels(network, direction.value)
                for fate in ("delivered", "failed", "uncertain"):
                    self._messages.labels(network, direction.value, fate)
            for counter in (self._reconnects, self._parked):
                counter.labels(network)

    # Asked for when somebody looks: no cost before

    def watch_queue(self, queue: Queue, look: Callable[[], tuple[int, float]]) -> None:
        """`look` returns how many wait in `queue` and the age of the oldest in seconds."""
        self._live.queues[queue.value] = look

    def watch_inbox(self, pending: Count, parked: Count) -> None:
        """How many rows of the inbox are not done, and how many are put aside."""
        self._inbox = {"pending": pending, "parked": parked}

    def watch_held(self, look: Callable[[], dict[tuple[NetworkId, str], int]]) -> None:
        """`look` returns how many facts of each network are held back for which cause."""
        self._live.held = look

    def watch_sessions(self, look: Callable[[], dict[tuple[NetworkId, str], int]]) -> None:
        """`look` returns how many sessions of each network are in which state."""
        self._live.sessions = look

    async def exposition(self) -> bytes:
        """Everything, in Prometheus' text format (CONTENT_TYPE). What cannot be counted now is left out."""
        self._live.inbox = {}
        for state, count in self._inbox.items():
            with contextlib.suppress(
                Exception
            ):  # a database that is away is told by the health, not by a gap here
                async with asyncio.timeout(PATIENCE):
                    self._live.inbox[state] = await count()
        return generate_latest(self.registry)
