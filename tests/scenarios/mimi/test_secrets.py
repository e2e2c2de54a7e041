"""A hub without any client of its own in a room knows nothing of what is said there: not on disk, not in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.runtime.running import has_fate
from tests.scenarios.mimi.lab import NETWORK
from tests.scenarios.mimi.places import CHAT, places

PLANTED = "the-planted-plaintext-of-this-test"


def memory(pid: int) -> Iterator[bytes]:
    """Everything that a process may write to, mapping by mapping (proc(5), /proc/PID/mem)."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None or "[vvar]" in line:
                continue
            start, end = int(found[1], 16), int(found[2], 16)
            mem.seek(start)
            try:
                yield mem.read(end - start)
            except OSError:
                continue  # a guard page, or gone meanwhile


def found_in(pid: int, words: str) -> bool:
    """In either of the encodings that Python keeps text in."""
    forms = (words.encode(), words.encode("utf-16-le"), words.encode("utf-32-le"))
    return any(form in piece for piece in memory(pid) for form in forms)


async def test_the_hub_of_others_people_has_no_plaintext(tmp_path: Path):
    async with places(tmp_path) as (a, b):
        await a.link()
        await b.link()
        await b.say(1, a)
        # The hub's own client leaves: a follower's commits that, and the room goes on without anybody here.
        await a.homeserver.user("owner").send(a.room, f"!bridge unlink {NETWORK} {CHAT}")
        await a.homeserver.wait_for(lambda e: e.sender == a.bridge.bot and "no longer linked" in e.body, 30)
        for number in range(5):
            sent = await b.homeserver.user(f"p{number}").send(b.room, f"{PLANTED} {number}")
            fate = await b.homeserver.wait_for(has_fate(sent), 120)
            assert fate.content["status"] == "SUCCESS", fate.content
        pid = a.bridge.service.pid
        assert found_in(pid, CHAT), "control: what it must know is found"
        assert not found_in(pid, PLANTED)
        on_disk = [path for path in a.bridge.folder.rglob("*") if path.is_file()]
        assert any(path.name.startswith("bridge.db") for path in on_disk)
        assert [path.name for path in on_disk if PLANTED.encode() in path.read_bytes()] == []
        assert found_in(b.bridge.service.pid, PLANTED), "control: who hosts its speakers has it"
