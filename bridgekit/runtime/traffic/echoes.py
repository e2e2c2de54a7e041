"""Redactions by double puppets whose echo may still come: unlike what is sent, a redaction cannot be marked."""

from __future__ import annotations

from bridgekit.contract.ids import MessageId
from bridgekit.store import Store

REDACTED = "bridge.puppet_redacted"
"""Where it is kept what was redacted, for an echo that comes after a restart; no network is called so."""
REMEMBERED = 200


class Echoes:
    """The events that were redacted as somebody's own user: so many, the oldest are forgotten first."""

    def __init__(self, store: Store) -> None:
        self._kv = store.kv
        self._commit = store.commit
        self._targets: dict[bytes, None] = {}

    async def load(self) -> None:
        """Read what the last run has redacted; called once."""
        self._targets = dict.fromkeys(target.encode() for target in await self._kv.items(REDACTED))

    async def expect(self, target: MessageId) -> None:
        """The event is about to be redacted; on disk when it returns."""
        self._targets[target.encode()] = None
        writes = [self._kv.put(REDACTED, target, b"1")]
        if len(self._targets) > REMEMBERED:
            del self._targets[oldest := next(iter(self._targets))]
            writes.append(self._kv.put(REDACTED, oldest.decode(), None))
        await self._commit(*writes)

    def is_echo(self, raw: bytes) -> bool:
        """Whether an event of somebody with an own account is such a redaction."""
        if not self._targets or b'"m.room.redaction"' not in raw:
            return False
        return any(target in raw for target in self._targets)
