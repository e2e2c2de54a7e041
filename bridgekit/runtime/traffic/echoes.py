"""Echoes: events by which the homeserver shows the bridge what it did itself, as a double puppet."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from bridgekit.contract.ids import MATRIX, MessageId
from bridgekit.matrix import translate
from bridgekit.matrix.sending import PUPPET, SOURCE
from bridgekit.matrix.transactions import RawEvent
from bridgekit.runtime.traffic.steps import number_of
from bridgekit.store import Store

REDACTED = "bridge.puppet_redacted"
"""Where it is kept what was redacted, for an echo that comes after a restart; no network is called so."""
REMEMBERED = 200
HEARD = 5_000


class _Marks(msgspec.Struct, rename={"room": PUPPET, "source": SOURCE, "relates_to": "m.relates_to"}):
    room: Any = None
    source: Any = None
    relates_to: Any = None


class _Marked(msgspec.Struct):
    content: _Marks


_marked = msgspec.json.Decoder(_Marked).decode


class Echoes:
    """What is said bears a mark; a redaction cannot: so many targets are remembered, the oldest are forgotten first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._targets: dict[MessageId, None] = {}
        self._heard: OrderedDict[str, MessageId] = OrderedDict()  # the echo of each source

    async def load(self) -> None:
        """Read what the last run has redacted; called once."""
        self._targets = dict.fromkeys(MessageId(target) for target in await self._store.kv.items(REDACTED))

    async def expect(self, target: MessageId) -> None:
        """The event is about to be redacted; on disk when it returns."""
        kept = self._store.kv
        self._targets[target] = None
        writes = [kept.put(REDACTED, target, b"1")]
        if len(self._targets) > REMEMBERED:
            del self._targets[oldest := next(iter(self._targets))]
            writes.append(kept.put(REDACTED, oldest, None))
        await self._store.commit(*writes)

    async def is_one(self, event: RawEvent) -> bool:
        """Whether an event of somebody with an own account is what the bridge did as them."""
        if event.type == "m.room.redaction":
            return bool(self._targets) and translate.amended(event.raw) in self._targets
        return PUPPET.encode() in event.raw and await self._is_said(event)

    async def _is_said(self, event: RawEvent) -> bool:
        """Whether the mark that an event bears is its own. Clients forward contents with all that is in them: in
        another room the mark is another's, and in the same room it is that of an earlier event."""
        try:
            marks = _marked(event.raw).content
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        source = marks.source
        if marks.room != event.room_id or not isinstance(source, str):
            return False
        if (first := self._heard.get(source)) is not None:
            return first == event.event_id
        if not await self._is_of(event, source, marks.relates_to):
            return False
        self._heard[source] = event.event_id
        if len(self._heard) > HEARD:
            self._heard.popitem(last=False)
        return True

    async def _is_of(self, event: RawEvent, source: str, relation: Any) -> bool:
        """Whether an event was made from its source: it is linked as that, or what it is made from is not done."""
        under_way = await self._store.inbox.numbered(
            [number_of(source)]
        )  # asked first: it ends with the links
        copies = await self._store.copies.of(MATRIX, event.room_id, event.event_id)
        if any(copy.id == event.event_id and not copy.origin for copy in copies):
            return True
        # Edits are not linked. Whoever forwards one forwards no relation.
        edits = isinstance(relation, dict) and relation.get("rel_type") == "m.replace"
        return bool(under_way) or edits
