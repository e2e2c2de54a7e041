"""The engine beside Python's threads: the GIL is free while it computes, and one object serves many threads."""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import bridgekit_mls as mls
import pytest

from tests.mls.people import METADATA, Client, Disk, agree, commit, meeting, read


@pytest.fixture
def patient() -> Iterator[None]:
    """Nobody is asked to let the GIL go: a thread that gets on got it from somebody who gave it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


def test_other_threads_get_on_while_the_engine_computes(patient: None):
    alice = Client.of("alice")
    group = alice.create()
    packages = [Client.of(f"guest{number}").package().message for number in range(40)]
    ticks = 0
    stop = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.0001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        advanced = 0
        for _ in range(100):
            before = ticks
            group.commit(add=packages)
            advanced = max(advanced, ticks - before)
            group.clear_commit()
            if advanced >= 3:
                break
    finally:
        stop.set()
        ticker.join()
    assert advanced >= 3


def test_many_threads_encrypt_in_one_group_and_no_key_is_used_twice():
    bob = Client.of("bob")
    hers, his = meeting(Client.of("alice"), bob)
    disk = Disk()
    disk.save(his)
    with ThreadPoolExecutor(4) as pool:
        messages = list(pool.map(lambda number: hers.encrypt(b"%d" % number), range(200)))
    # Who gets its turn when is anybody's guess, so each is read by a fresh copy of Bob. What the copy then knows of
    # Alice's ratchet tells how far along it the message was.
    places = set()
    for number, message in enumerate(messages):
        fresh = mls.Group.restore(bob.identity, disk)
        assert read(fresh, message).data == b"%d" % number
        places.add(fresh.take_changes()["message_secrets/message_secrets"])
    assert len(places) == 200


def test_a_resolver_may_wait_for_another_thread_that_uses_another_group():
    hers, his = meeting(Client.of("alice"), Client.of("bob"))
    (other,) = meeting(Client.of("carol"), group_id=b"another")

    def asking_around(component: int, now: bytes | None, updates: list[bytes | None]) -> bytes | None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(other.encrypt, b"busy").result()
        return updates[-1]

    commit(hers, his, app_data_updates=[(METADATA, b"new")], resolve=asking_around)
    assert agree(hers, his)
