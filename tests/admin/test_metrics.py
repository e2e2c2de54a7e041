"""Metrics: what is counted, under which labels, and what it costs."""

from __future__ import annotations

import timeit

from prometheus_client import CollectorRegistry, Counter, Histogram

from bridgekit.admin.metrics import Direction, Encryption, Metrics, Queue
from bridgekit.contract.ids import MATRIX, NetworkId

LIBERA = NetworkId("libera")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_messages_are_counted_by_network_direction_and_fate():
    metrics = Metrics()
    metrics.message(LIBERA, Direction.TO_MATRIX, "delivered", 0.0015)
    metrics.message(LIBERA, Direction.TO_MATRIX, "delivered", 0.5)
    metrics.message(LIBERA, Direction.TO_NETWORK, "failed", 3)
    way = {"network": "libera", "direction": "to_matrix"}
    assert value(metrics, "bridgekit_messages_total", **way, fate="delivered") == 2
    back = {"network": "libera", "direction": "to_network"}
    assert value(metrics, "bridgekit_messages_total", **back, fate="failed") == 1
    assert value(metrics, "bridgekit_message_seconds_count", **way) == 2
    assert value(metrics, "bridgekit_message_seconds_bucket", **way, le="0.002") == 1


def test_declared_networks_start_at_zero():
    metrics = Metrics()
    metrics.declare([LIBERA, MATRIX])
    labels = {"network": "libera", "direction": "to_network", "fate": "uncertain"}
    assert value(metrics, "bridgekit_messages_total", **labels) == 0
    assert value(metrics, "bridgekit_parked_facts_total", network="matrix") == 0
    assert value(metrics, "bridgekit_reconnects_total", network="libera") == 0


def test_answers_of_the_homeserver_are_counted_by_call_and_class():
    metrics = Metrics()
    metrics.answered("send", 200, 0.01)
    metrics.answered("send", 201, 0.01)
    metrics.answered("send", 0, 60)
    metrics.answered("join", 403, 0.01)
    assert value(metrics, "bridgekit_homeserver_answers_total", call="send", status="2xx") == 2
    assert value(metrics, "bridgekit_homeserver_answers_total", call="send", status="none") == 1
    assert value(metrics, "bridgekit_homeserver_answers_total", call="join", status="4xx") == 1
    assert value(metrics, "bridgekit_homeserver_request_seconds_count", call="send") == 3


async def test_a_database_that_cannot_be_written_is_seen_as_a_homeserver_that_is_away_is():
    metrics, trouble = Metrics(), [""]
    assert value(metrics, "bridgekit_store_up") is None
    metrics.watch_store(lambda: not trouble[0])
    assert value(metrics, "bridgekit_store_up") == 1
    trouble[0] = "The database cannot be written: database or disk is full."
    assert value(metrics, "bridgekit_store_up") == 0


async def test_encryption_is_looked_at_when_somebody_asks():
    metrics = Metrics()

    counted: list[int] = []

    async def out() -> int:
        counted.append(3)
        return 3

    async def broken() -> int:
        raise OSError("the database is away")

    unread = {"untrusted": 0, "unreadable": 0}
    now = Encryption(
        devices=2, rooms=1, one_time_keys=None, unread=unread, missing={}, withheld={"no_olm": 4}
    )
    metrics.watch_encryption(lambda: now, out, broken)
    await metrics.exposition()
    assert value(metrics, "bridgekit_devices") == 2
    assert value(metrics, "bridgekit_one_time_keys") is None
    assert value(metrics, "bridgekit_megolm_sessions", direction="out") == 3
    assert value(metrics, "bridgekit_megolm_sessions", direction="in") is None
    await metrics.exposition()
    assert value(metrics, "bridgekit_megolm_sessions", direction="out") == 3
    assert counted == [3]  # a look through a table of years, and so a seldom one
    unread["untrusted"] += 1
    assert value(metrics, "bridgekit_undecrypted_total", why="untrusted") == 1
    assert value(metrics, "bridgekit_keys_withheld_total", why="no_olm") == 4


async def test_what_waits_is_asked_for_when_somebody_looks():
    metrics = Metrics()
    rows, queue = [1, 2, 3], [(4, 1.5)]

    async def pending() -> int:
        return len(rows)

    async def broken() -> int:
        raise OSError("the database is away")

    metrics.watch_inbox(pending, broken)
    metrics.watch_queue(Queue.ROOMS, lambda: queue[0])
    metrics.watch_sessions(lambda: {(LIBERA, "ready"): 2})
    rows.append(4)
    shown = (await metrics.exposition()).decode().splitlines()
    assert 'bridgekit_inbox_rows{state="pending"} 4.0' in shown
    assert not [line for line in shown if "parked" in line and line.startswith("bridgekit_inbox_rows")]
    assert value(metrics, "bridgekit_queue_depth", queue="rooms") == 4
    assert value(metrics, "bridgekit_queue_oldest_seconds", queue="rooms") == 1.5
    assert value(metrics, "bridgekit_sessions", network="libera", state="ready") == 2


def test_rare_events_are_counted():
    metrics = Metrics()
    metrics.homeserver(True)
    metrics.transaction("accepted")
    metrics.reconnect(LIBERA)
    metrics.parked(MATRIX)
    assert value(metrics, "bridgekit_homeserver_up") == 1
    assert value(metrics, "bridgekit_transactions_total", outcome="accepted") == 1
    assert value(metrics, "bridgekit_reconnects_total", network="libera") == 1
    assert value(metrics, "bridgekit_parked_facts_total", network="matrix") == 1
    metrics.homeserver(False)
    assert value(metrics, "bridgekit_homeserver_up") == 0


def test_two_bridges_in_one_process_count_apart():
    one, two = Metrics(), Metrics()
    one.reconnect(LIBERA)
    assert value(two, "bridgekit_reconnects_total", network="libera") is None


def test_no_label_can_grow_without_bound():
    metrics = Metrics()
    metrics.declare([LIBERA])
    metrics.watch_sessions(lambda: {(LIBERA, "ready"): 1})
    allowed = {"network", "direction", "fate", "queue", "state", "call", "status", "outcome", "version", "le"}
    used = {
        label for family in metrics.registry.collect() for sample in family.samples for label in sample.labels
    }
    assert used <= allowed


def test_a_message_costs_less_than_the_counter_and_the_histogram_of_the_client_library():
    """They are counted in numbers of our own, and become samples when somebody asks. Measured in the same run: a slow
    machine is slow for both."""
    metrics, registry = Metrics(), CollectorRegistry()
    counter = Counter("bare", "A yardstick.", ["network"], registry=registry).labels("libera")
    histogram = Histogram("bare_seconds", "Another.", ["network"], registry=registry).labels("libera")

    def bare() -> None:
        counter.inc()
        histogram.observe(0.004)

    def ours() -> None:
        metrics.message(LIBERA, Direction.TO_MATRIX, "delivered", 0.004)

    once, yardstick = (min(timeit.repeat(count, number=5_000, repeat=9)) for count in (ours, bare))
    assert once < yardstick
