"""What MLS costs through our engine, beside the bare published bindings in the same run: python -m tests.bench mimi

Groups of 10, 100 and 1,000 members, all added by one commit, so that the tree above the leaves is blank: the dearest
case of the first commit. Ours includes `take_changes`, so what must be stored is at hand; the others keep their state
to themselves. Times are medians over the repetitions, contestants in turn; ratios, medians of each repetition's ratio.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import bridgekit_mls as mls
import mls_rs_uniffi
import rine_mls

ROOM = b"mimi://hub.example/r/bench"
BODY = b"x" * 200
MESSAGES = 50


class Contestant(Protocol):
    """A group of `size`: the first member, the second, and one more who waits for a Welcome."""

    def meet(self, size: int) -> None: ...
    def commit(self) -> Callable[[], None]:
        """Commit an update by the first member, merged; what is returned lets the second follow."""
        ...

    def invite(self) -> Callable[[], None]:
        """Add the waiting one; what is returned lets them join."""
        ...

    def encrypt(self) -> bytes: ...
    def decrypt(self, message: bytes) -> None: ...


class Ours:
    def __init__(self) -> None:
        self.stored = 0

    def _client(self, name: str) -> tuple[mls.Identity, mls.KeyPackages]:
        return mls.Identity.generate(name.encode()), mls.KeyPackages()

    def meet(self, size: int) -> None:
        me, _ = self._client("0")
        self.first = mls.Group.create(me, ROOM)
        clients = [self._client(str(number)) for number in range(1, size)]
        staged = self.first.commit(add=[keys.generate(who).message for who, keys in clients])
        self.first.merge_commit()
        self.first.take_changes()
        assert staged.welcome is not None
        self.second = mls.Group.join(*clients[0], staged.welcome, staged.ratchet_tree)
        self.second.take_changes()

    def commit(self) -> Callable[[], None]:
        staged = self.first.commit(update=True)
        self.first.take_changes()
        self.first.merge_commit()
        self.first.take_changes()

        def follow() -> None:
            received = self.second.process(staged.message)
            assert isinstance(received, mls.ReceivedCommit)
            self.second.accept(received)
            self.second.take_changes()

        return follow

    def invite(self) -> Callable[[], None]:
        client = self._client("late")
        staged = self.first.commit(add=[client[1].generate(client[0]).message])
        self.first.merge_commit()
        assert staged.welcome is not None
        welcome, tree = staged.welcome, staged.ratchet_tree

        def join() -> None:
            mls.Group.join(*client, welcome, tree).take_changes()

        return join

    def encrypt(self) -> bytes:
        message = self.first.encrypt(BODY)
        self.stored = sum(len(value or b"") for value in self.first.take_changes().values())
        return message

    def decrypt(self, message: bytes) -> None:
        self.second.process(message)
        self.second.take_changes()


class MlsRs:
    def _client(self, name: str) -> Any:
        key = mls_rs_uniffi.generate_signature_keypair(mls_rs_uniffi.CipherSuite.CURVE25519_AES128)
        return mls_rs_uniffi.Client(name.encode(), key, mls_rs_uniffi.client_config_default())

    def meet(self, size: int) -> None:
        self.first = self._client("0").create_group(ROOM)
        clients = [self._client(str(number)) for number in range(1, size)]
        output = self.first.add_members([client.generate_key_package_message() for client in clients])
        self.first.process_incoming_message(output.commit_message)
        self.second = clients[0].join_group(self.first.export_tree(), output.welcome_message).group

    def commit(self) -> Callable[[], None]:
        message = self.first.commit().commit_message
        self.first.process_incoming_message(message)
        return lambda: self.second.process_incoming_message(message) and None

    def invite(self) -> Callable[[], None]:
        client = self._client("late")
        output = self.first.add_members([client.generate_key_package_message()])
        self.first.process_incoming_message(output.commit_message)
        tree = self.first.export_tree()
        return lambda: client.join_group(tree, output.welcome_message) and None

    def encrypt(self) -> bytes:
        message: bytes = self.first.encrypt_application_message(BODY).to_bytes()
        return message

    def decrypt(self, message: bytes) -> None:
        self.second.process_incoming_message(mls_rs_uniffi.Message.from_bytes(message))


class Rine:
    """It stores each step in files of its own; they lie in memory where the system has /dev/shm."""

    def __init__(self) -> None:
        self._stores = tempfile.TemporaryDirectory(
            prefix="bridgekit-bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        )

    def _client(self) -> Any:
        store = tempfile.mkdtemp(dir=self._stores.name)
        return rine_mls.MlsClient(store, os.urandom(32), rine_mls.CIPHER_SUITE_CLASSICAL)

    def meet(self, size: int) -> None:
        self.first: Any = self._client().create_group(ROOM)
        clients = [self._client() for _ in range(1, size)]
        bundle = self.first.add_members([client.generate_key_package() for client in clients])
        self.second: Any = clients[0].join_from_welcome(bundle.welcomes[0])

    def commit(self) -> Callable[[], None]:
        raise NotImplementedError  # its face has no update

    def invite(self) -> Callable[[], None]:
        client = self._client()
        welcome = self.first.add_member(client.generate_key_package()).welcomes[0]
        return lambda: client.join_from_welcome(welcome) and None

    def encrypt(self) -> bytes:
        message: bytes = self.first.encrypt_application_message(BODY)
        return message

    def decrypt(self, message: bytes) -> None:
        self.second.decrypt_application_message(message)


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of wall clock."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def measured(contestant: Contestant, size: int) -> dict[str, float]:
    contestant.meet(size)
    figures: dict[str, float] = {}
    sent: list[bytes] = []
    figures["encrypt"] = timed(lambda: sent.extend(contestant.encrypt() for _ in range(MESSAGES))) / MESSAGES

    def decrypt_all() -> None:
        for message in sent:
            contestant.decrypt(message)

    figures["decrypt"] = timed(decrypt_all) / MESSAGES
    follow: list[Callable[[], None]] = []
    try:
        figures["commit, first"] = timed(lambda: follow.append(contestant.commit()))
        figures["follow, first"] = timed(follow.pop())
        figures["commit"] = timed(lambda: follow.append(contestant.commit()))
        figures["follow"] = timed(follow.pop())
    except NotImplementedError:
        pass
    figures["join"] = timed(contestant.invite())
    return figures


STEPS = ("encrypt", "decrypt", "commit, first", "follow, first", "commit", "follow", "join")


def tables(sizes: Sequence[int] = (10, 100, 1000), repetitions: int = 3) -> str:
    """Measure, and say it as Markdown: a table for each size."""
    return "\n\n".join(_table(size, repetitions) for size in sizes)


def _table(size: int, repetitions: int) -> str:
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "mls-rs": [], "rine": []}
    stored = 0
    for _ in range(repetitions):
        ours = Ours()
        contestants: dict[str, Contestant] = {"ours": ours, "mls-rs": MlsRs(), "rine": Rine()}
        for name, contestant in contestants.items():
            runs[name].append(measured(contestant, size))
        stored = ours.stored
    rows = [
        f"{size:,} members; {stored:,} octets to store after an encryption:\n",
        "| ms | ours | mls-rs | ratio | rine | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for step in STEPS:
        row = f"| {step} | {statistics.median(run[step] for run in runs['ours']):.2f} |"
        for other in ("mls-rs", "rine"):
            if step not in runs[other][0]:
                row += "  |  |"
                continue
            ratios = [
                mine[step] / theirs[step] for mine, theirs in zip(runs["ours"], runs[other], strict=True)
            ]
            row += f" {statistics.median(run[step] for run in runs[other]):.2f} | {statistics.median(ratios):.2f} |"
        rows.append(row)
    return "\n".join(rows)
