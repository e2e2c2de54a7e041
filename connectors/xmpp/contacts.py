"""Contacts of our addresses (RFC 6121, 3): who asked to see one, and who was allowed to."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bridgekit.contract.connector import Host

MOST = 1000
"""Contacts of one address; who asks after that is refused."""


class Bond(StrEnum):
    """How somebody stands to one of our addresses."""

    ASKED = "asked"
    FRIEND = "friend"


class Contacts:
    """What is written down of contacts, in the connector's own store; by our bare address and theirs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[str, dict[str, Bond]] = {}

    async def of(self, ours: str) -> dict[str, Bond]:
        """Everybody who asked one of our addresses, or may see it."""
        if ours not in self._known:
            kept = await self._host.get(f"contacts/{ours}")
            found = msgspec.json.decode(kept, type=dict[str, Bond]) if kept else {}
            self._known.setdefault(ours, found)
        return self._known[ours]

    async def put(self, ours: str, theirs: str, bond: Bond | None) -> bool:
        """Write one down; None is a stranger again. False where there are too many."""
        known = await self.of(ours)
        if bond is None:
            known.pop(theirs, None)
        elif theirs not in known and len(known) >= MOST:
            return False
        else:
            known[theirs] = bond
        self._host.put_later(f"contacts/{ours}", msgspec.json.encode(known) if known else None)
        return True
