"""State that is stored survives SIGKILL: nothing is lost, and no key is used twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import bridgekit_mls as mls
import pytest

from tests.mls.crashing import Database
from tests.mls.people import METADATA, Client, Disk, agree, commit, meeting, read

KILLS = 12


def run_and_kill(what: str, path: Path, progress: str, dice: random.Random) -> None:
    """Let the member work until it has got somewhere, and a little longer; then kill it as hard as it goes."""
    database = Database(path)
    before = database.count(progress)
    with subprocess.Popen([sys.executable, "-m", "tests.mls.crashing", what, str(path)]) as process:
        deadline = time.monotonic() + 60
        while database.count(progress) < before + 5:
            assert process.poll() is None, "the member died of itself"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(dice.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_a_sender_killed_at_any_moment_uses_no_key_twice_and_loses_no_epoch(on_disk: Path):
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob)
    database = Database(on_disk / "alice.db")
    database.begin(alice.identity, hers)
    del hers
    dice = random.Random(20261128)
    last = 0
    for _ in range(KILLS):
        run_and_kill("send", on_disk / "alice.db", "outbox", dice)
        for number, message in database.after("outbox", last):
            received = his.process(message)
            if number % 7 == 0:
                assert isinstance(received, mls.ReceivedCommit)
                his.accept(received)
            else:
                assert isinstance(received, mls.Application)
                assert received.data == b"%d" % number
            last = number
    assert last >= 5 * KILLS
    after = database.group()
    if after.commit_pending:
        after.merge_commit()
    assert agree(after, his)


def test_a_receiver_killed_at_any_moment_reads_each_message_once_and_in_order(on_disk: Path):
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob)
    database = Database(on_disk / "bob.db")
    database.begin(bob.identity, his)
    del his
    dice = random.Random(19700101)
    expected = []
    for round_ in range(KILLS):
        for number in range(round_ * 15, round_ * 15 + 15):
            if number % 5 == 4:
                staged = hers.commit(update=True)
                database.put("inbox", staged.message)
                hers.merge_commit()
                expected.append(b"")
            else:
                database.put("inbox", hers.encrypt(b"%d" % number))
                expected.append(b"%d" % number)
        run_and_kill("receive", on_disk / "bob.db", "heard", dice)
    after = database.group()
    heard = [said for (said,) in database.connection.execute("select said from heard order by id")]
    assert heard == expected[: len(heard)]
    assert len(heard) >= 5 * KILLS
    for number, message in database.after("inbox", len(heard)):
        received = after.process(message)
        if isinstance(received, mls.ReceivedCommit):
            after.accept(received)
        else:
            assert isinstance(received, mls.Application)
            assert received.data == expected[number - 1]
    assert agree(hers, after)


def test_a_staged_commit_comes_back_with_the_group_and_can_be_merged_or_cleared():
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob, app_data={METADATA: b"old"})
    disk = Disk()
    disk.save(hers)
    staged = hers.commit(update=True, app_data_updates=[(METADATA, b"new")])
    disk.save(hers)
    del hers
    accepted = mls.Group.restore(alice.identity, disk)
    assert accepted.commit_pending
    assert isinstance(accepted.process(staged.message), mls.OwnCommit)
    accepted.merge_commit()
    received = his.process(staged.message)
    assert isinstance(received, mls.ReceivedCommit)
    his.accept(received)
    assert agree(accepted, his)
    assert accepted.app_data == {METADATA: b"new"}
    refused = mls.Group.restore(alice.identity, disk)
    refused.clear_commit()
    assert (refused.epoch, refused.commit_pending, refused.app_data) == (1, False, {METADATA: b"old"})


def test_changes_are_small_and_their_sum_is_the_group():
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob)
    disk = Disk()
    disk.save(hers)
    assert set(disk) == {
        "config",
        "confirmation_tag",
        "context",
        "epoch_secrets",
        "export_tree",
        "interim_transcript_hash",
        "leaf",
        "message_secrets/max_epochs",
        "message_secrets/message_secrets",
        "message_secrets/past_epoch_trees",
        "resumption_psks",
        "state",
        "tree",
        *(name for name in disk if name.startswith("epoch_keys/")),
    }
    assert hers.take_changes() == {}
    message = hers.encrypt(b"hello")
    assert set(disk.save(hers)) == {"message_secrets/message_secrets"}
    his_disk = Disk()
    his_disk.save(his)
    assert read(his, message).data == b"hello"
    assert set(his_disk.save(his)) == {"message_secrets/message_secrets"}
    for _ in range(6):
        commit(hers, his, update=True)
        disk.save(hers)
        his_disk.save(his)
        hers, his = mls.Group.restore(alice.identity, disk), mls.Group.restore(bob.identity, his_disk)
        assert agree(hers, his)
    assert sum(name.startswith("epoch_keys/") for name in disk) == 1


def test_forgetting_to_store_is_harmless_as_long_as_nothing_was_sent():
    """Encrypted, never stored, never sent: the key is used again after a crash, for the first message that goes out."""
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, his = meeting(alice, bob)
    disk = Disk()
    disk.save(hers)
    hers.encrypt(b"never sent")
    again = mls.Group.restore(alice.identity, disk)
    assert read(his, again.encrypt(b"sent")).data == b"sent"


def test_damaged_or_foreign_records_are_bad_state():
    alice, bob = Client.of("alice"), Client.of("bob")
    hers, _ = meeting(alice, bob)
    disk = Disk()
    disk.save(hers)
    with pytest.raises(mls.BadState, match="another identity"):
        mls.Group.restore(bob.identity, disk)
    for name in ("tree", "context", "message_secrets/message_secrets", "epoch_secrets", "leaf"):
        with pytest.raises(mls.BadState):
            mls.Group.restore(alice.identity, {key: value for key, value in disk.items() if key != name})
        for damaged in (b"", b"\x02" + disk[name][1:], disk[name][:-1]):
            with pytest.raises(mls.BadState):
                mls.Group.restore(alice.identity, {**disk, name: damaged})
