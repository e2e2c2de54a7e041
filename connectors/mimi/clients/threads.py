"""Topics of MIMI and threads of Matrix: which message a topic began with.

draft-ietf-mimi-content-08, "Topics / Threading". A thread that begins here has its first message's id for a topic, so
both sides of it can be told from the name alone; what another client chose is kept with the message that it was first
seen with.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.ids import MessageId
from connectors.mimi.compose import octets
from connectors.mimi.messages.content import read_id
from connectors.mimi.translate import name


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """What an edit of a message repeats of it (the draft's security considerations: only the body may change)."""

    topic: bytes = b""
    in_reply_to: bytes | None = None


KEPT = 10_000
"""So many are remembered of each kind, and as many again: an edit of what was said before names no topic, and a topic
that nobody has mentioned since begins a new thread."""


class Recent:
    """Values under a prefix of the store, on disk: the present generation of `KEPT`, and the one before it."""

    def __init__(self, host: Host, prefix: str) -> None:
        self._host = host
        self._prefix = prefix
        self._present = 1
        self._count = 0

    async def load(self) -> None:
        """Take up what is stored, and forget what is older."""
        counts: Counter[int] = Counter()
        async for key, _ in self._host.walk(self._prefix):
            generation = key.removeprefix(self._prefix).partition(".")[0]
            if generation.isdecimal():
                counts[int(generation)] += 1
            else:
                self._host.put_later(key, None)  # of an earlier version
        self._present = max(counts, default=1)
        self._count = counts[self._present]
        for old in counts:
            if old < self._present - 1:
                await self._forget(old)

    async def get(self, key: str) -> bytes | None:
        """What is remembered under it; it is remembered longer for that."""
        found = await self._host.get(self._row(self._present, key))
        if found is None:
            found = await self._host.get(self._row(self._present - 1, key))
            if found is not None:
                await self.put(key, found)
        return found

    async def put(self, key: str, value: bytes) -> None:
        """Remember; on disk when it returns."""
        if self._count >= KEPT:
            self._present, self._count = self._present + 1, 0
            await self._forget(self._present - 2)
        self._count += 1
        await self._host.put(self._row(self._present, key), value)

    def _row(self, generation: int, key: str) -> str:
        return f"{self._prefix}{generation}.{key}"

    async def _forget(self, generation: int) -> None:
        rows = await self._host.items(self._row(generation, ""))
        await self._host.put_all(dict.fromkeys(rows))


class Threads:
    """What is to be remembered of topics and answers, on disk."""

    def __init__(self, host: Host) -> None:
        self._topics = Recent(host, "topic/")
        self._threads = Recent(host, "thread/")
        self._origins = Recent(host, "origin/")

    async def load(self) -> None:
        """Take up what is stored."""
        for recent in (self._topics, self._threads, self._origins):
            await recent.load()

    async def root(self, room: str, topic: bytes, id: bytes) -> MessageId | None:
        """The first message of the topic of message `id`, None where it has none or is that itself."""
        if not topic:
            return None
        try:
            root = name(read_id(topic))
        except PeerMisbehaved:
            key = f"{room}/{hashlib.sha256(topic).hexdigest()}"
            found = await self._topics.get(key)
            if found is None:
                first = name(id)
                await self._threads.put(first, topic)
                await self._topics.put(key, first.encode())
                return None
            root = MessageId(found.decode())
        return None if root == name(id) else root

    async def topic(self, root: MessageId | None) -> bytes:
        """The topic of the thread that begins with a message. Raises SendRejected where that is of no other side."""
        if root is None:
            return b""
        first = octets(root)
        return await self._threads.get(name(first)) or first

    async def said(self, id: bytes, origin: Origin) -> None:
        """Remember what a message of ours was part of."""
        if origin != Origin():
            await self._origins.put(id.hex(), msgspec.msgpack.encode(origin))

    async def origin(self, id: bytes) -> Origin:
        """What it was part of."""
        raw = await self._origins.get(id.hex())
        return Origin() if raw is None else msgspec.msgpack.decode(raw, type=Origin)
