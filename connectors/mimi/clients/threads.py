"""Topics of MIMI and threads of Matrix: which message a topic began with.

draft-ietf-mimi-content-08, "Topics / Threading". A thread that begins here has its first message's id for a topic, so
both sides of it can be told from the name alone; what another client chose is kept with the message that it was first
seen with.
"""

from __future__ import annotations

import hashlib

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


class Threads:
    """What is to be remembered of topics and answers, on disk."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def root(self, room: str, topic: bytes, id: bytes) -> MessageId | None:
        """The first message of the topic of message `id`, None where it has none or is that itself."""
        if not topic:
            return None
        try:
            root = name(read_id(topic))
        except PeerMisbehaved:
            key = f"topic/{room}/{hashlib.sha256(topic).hexdigest()}"
            found = await self._host.get(key)
            if found is None:
                first = name(id)
                await self._host.put_all({key: first.encode(), f"thread/{first}": topic})
                return None
            root = MessageId(found.decode())
        return None if root == name(id) else root

    async def topic(self, root: MessageId | None) -> bytes:
        """The topic of the thread that begins with a message. Raises SendRejected where that is of no other side."""
        if root is None:
            return b""
        first = octets(root)
        return await self._host.get(f"thread/{name(first)}") or first

    async def said(self, id: bytes, origin: Origin) -> None:
        """Remember what a message of ours was part of."""
        if origin != Origin():
            await self._host.put(f"origin/{id.hex()}", msgspec.msgpack.encode(origin))

    async def origin(self, id: bytes) -> Origin:
        """What it was part of."""
        raw = await self._host.get(f"origin/{id.hex()}")
        return Origin() if raw is None else msgspec.msgpack.decode(raw, type=Origin)
