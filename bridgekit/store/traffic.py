"""Repositories of what is on its way: inbox, outbox, transactions, and the copies of what arrived."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec

from bridgekit.contract.ids import ChatId, MessageId, NetworkId, PersonId, PortalKey
from bridgekit.contract.policy import Protection
from bridgekit.store.driver import Reader
from bridgekit.store.rows import Copy, InboxRow, ParkedRow
from bridgekit.store.sealing import SealingKey
from bridgekit.store.statements import Statement, Write, delete, insert, storable, upsert
from bridgekit.store.tables import AMENDMENTS, COPIES, INBOX, NEWEST, OUTBOX, OVERDUE, TRANSACTIONS

_SEALED_BODY = "inbox.body"
_INBOX_ADD = insert(INBOX)
_INBOX_DONE = delete(INBOX)
_INBOX_PARK = Statement(INBOX, "UPDATE inbox SET error = $2 WHERE id = $1")
_INBOX_RETRY = Statement(INBOX, "UPDATE inbox SET error = NULL WHERE id = $1")
_INBOX_COLUMNS = "id, side, chat, receiver, body, at"

_OUTBOX_PUT = upsert(OUTBOX)
_OUTBOX_CLEAR = delete(OUTBOX)

_TRANSACTION_RECORD = insert(TRANSACTIONS)
_TRANSACTIONS_PRUNE = Statement(TRANSACTIONS, "DELETE FROM transactions WHERE at < $1", wide=True)
_TRANSACTIONS_PAGE = 1000
_event_ids = msgspec.json.Decoder(list[MessageId]).decode
_encode = msgspec.json.Encoder().encode

_OVERDUE_ADD = insert(OVERDUE)
_OVERDUE_PRUNE = Statement(OVERDUE, "DELETE FROM overdue WHERE at < $1", wide=True)

_AMENDMENT_ADD = insert(AMENDMENTS)
_AMENDMENTS_PRUNE = Statement(
    AMENDMENTS,
    "DELETE FROM amendments WHERE NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.id = amendments.number)",
    wide=True,
)

_COPIES_ADD = insert(COPIES)
_NEWEST_PUT = upsert(NEWEST)
_COPIES_FORGET = delete(COPIES)
_COPIES_SELECT = "SELECT " + ", ".join(column.name for column in COPIES.columns) + " FROM copies"
_PAGE = 20_000
"""Copies that are looked through in one read."""
_LAST = 2**63 - 1
_COPIES_ORDER = "ORDER BY message, origin DESC, side, chat, part, id"


class Inbox:
    """Facts that were accepted and are not done. A row leaves by `done`, together with its outbox rows."""

    def __init__(self, reader: Reader, key: SealingKey, outbox: Outbox) -> None:
        self._reader = reader
        self._key = key
        self._outbox = outbox

    def add(self, row: InboxRow) -> Write:
        """Keep the row; one with the same id that is there already stays as it is."""
        sealed = self._key.seal(row.body, _SEALED_BODY, str(row.id))
        return Write(_INBOX_ADD, (row.id, row.side, row.chat, row.receiver, sealed, row.at, None))

    def done(self, id: int) -> Write:
        """Forget the row and its outbox rows."""
        return Write(_INBOX_DONE, (id,), self._outbox.clear(id))

    def park(self, id: int, error: str) -> Write:
        """Set the row aside with the error text; its body stays, sealed."""
        return Write(_INBOX_PARK, (id, storable(error)))

    def retry(self, id: int) -> Write:
        """Make a parked row pending again."""
        return Write(_INBOX_RETRY, (id,))

    async def pending(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        """Rows that are neither done nor parked, by id, from `after` (exclusive) on."""
        sql = f"SELECT {_INBOX_COLUMNS} FROM inbox WHERE id > $1 AND error IS NULL ORDER BY id LIMIT $2"
        return [self._row(found) for found in await self._reader.fetch(sql, after, limit)]

    async def sides(self) -> list[PortalKey]:
        """The chats that have pending rows."""
        sql = "SELECT DISTINCT side, chat, receiver FROM inbox WHERE error IS NULL"
        return [PortalKey(*found) for found in await self._reader.fetch(sql)]

    async def of(self, side: PortalKey, after: int = 0, limit: int = 500) -> list[InboxRow]:
        """The pending rows of one chat, by id, from `after` (exclusive) on."""
        sql = (
            f"SELECT {_INBOX_COLUMNS} FROM inbox WHERE side = $1 AND chat = $2 AND "
            "COALESCE(receiver, '') = $3 AND id > $4 AND error IS NULL ORDER BY id LIMIT $5"
        )
        found = await self._reader.fetch(sql, side.network, side.chat, side.receiver or "", after, limit)
        return [self._row(row) for row in found]

    async def numbered(self, ids: Iterable[int]) -> list[InboxRow]:
        """Those of the rows that are pending, by id."""
        wanted = sorted(ids)
        marks = ", ".join(f"${n}" for n in range(1, len(wanted) + 1))
        if not wanted:
            return []
        sql = f"SELECT {_INBOX_COLUMNS} FROM inbox WHERE id IN ({marks}) AND error IS NULL ORDER BY id"
        return [self._row(found) for found in await self._reader.fetch(sql, *wanted)]

    async def parked(self, limit: int = 100) -> list[ParkedRow]:
        """The newest parked rows, the newest first."""
        sql = f"SELECT {_INBOX_COLUMNS}, error FROM inbox WHERE error IS NOT NULL ORDER BY id DESC LIMIT $1"
        return [
            ParkedRow(row=self._row(found), error=found[6]) for found in await self._reader.fetch(sql, limit)
        ]

    async def count(self) -> int:
        """How many rows are pending."""
        found = await self._reader.fetch("SELECT count(*) FROM inbox WHERE error IS NULL")
        return int(found[0][0])

    async def count_parked(self) -> int:
        """How many rows are parked."""
        found = await self._reader.fetch("SELECT count(*) FROM inbox WHERE error IS NOT NULL")
        return int(found[0][0])

    def _row(self, found: Sequence[Any]) -> InboxRow:
        id, side, chat, receiver, body, at = found[:6]
        opened = self._key.open(body, _SEALED_BODY, str(id))
        return InboxRow(id=id, side=side, chat=chat, receiver=receiver, body=opened, at=at)


class Transactions:
    """The homeserver's transactions that were answered; Store prunes those older than 7 days."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def record(self, txn_id: str, events: Sequence[MessageId] = ()) -> Write:
        """Remember the transaction, and which events it brought, as of now."""
        return Write(_TRANSACTION_RECORD, (txn_id, time.time_ns() // 1_000_000, _encode(events).decode()))

    def prune(self, before: int) -> Write:
        """Forget what was recorded before `before` (ms)."""
        return Write(_TRANSACTIONS_PRUNE, (before,))

    async def seen(self, txn_id: str) -> bool:
        """Was it recorded?"""
        return bool(await self._reader.fetch("SELECT 1 FROM transactions WHERE txn = $1", txn_id))

    async def without(self, events: Iterable[MessageId], since: int) -> set[MessageId]:
        """Those of the events that no transaction brought that was recorded at `since` (ms) or later."""
        left = set(events)
        at, txn = since, ""
        while left:
            page = await self._reader.fetch(
                "SELECT at, txn, events FROM transactions WHERE (at, txn) > ($1, $2) ORDER BY at, txn LIMIT $3",
                at,
                txn,
                _TRANSACTIONS_PAGE,
            )
            for at, txn, brought in page:  # noqa: B007 - where the next page begins
                left.difference_update(_event_ids(brought))
            if len(page) < _TRANSACTIONS_PAGE:
                break
        return left


class Amendments:
    """The pending rows that edit or take back an earlier message of their side.

    A row is written with that of the inbox and left behind by it: what is done is pruned by Store, once in a while.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def add(self, number: int, target: MessageId) -> Write:
        """The inbox row `number` amends what its side calls `target`."""
        return Write(_AMENDMENT_ADD, (number, storable(target)))

    def prune(self) -> Write:
        """Forget those whose row has left the inbox."""
        return Write(_AMENDMENTS_PRUNE, ())

    async def pending(self) -> list[tuple[PortalKey, MessageId, int]]:
        """Side, target and number of all that is pending, by number."""
        sql = (
            "SELECT side, chat, receiver, target, number FROM amendments JOIN inbox ON inbox.id = number "
            "WHERE error IS NULL ORDER BY number"
        )
        found = await self._reader.fetch(sql)
        return [
            (PortalKey(side, chat, who), MessageId(target), number)
            for side, chat, who, target, number in found
        ]


COMPARED = ("bridge.compared", "until")
"""Where `kv` keeps until when (ms) the rooms and what came of them are known to agree; no network is called so."""


class Overdue:
    """Events that no transaction brought and that were read in their rooms; Store prunes those older than a year."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def add(self, event: MessageId) -> Write:
        """Remember the event as of now."""
        return Write(_OVERDUE_ADD, (event, time.time_ns() // 1_000_000))

    def prune(self, before: int) -> Write:
        """Forget what was found before `before` (ms)."""
        return Write(_OVERDUE_PRUNE, (before,))

    async def all(self) -> set[MessageId]:
        """Every one of them."""
        return {MessageId(event) for (event,) in await self._reader.fetch("SELECT event FROM overdue")}


class Outbox:
    """What became of each step of an inbox row that leaves for a network: "sending", then its fate.

    Rows of the inbox up to `before` are those of earlier runs.
    """

    def __init__(self, reader: Reader, before: int) -> None:
        self._reader = reader
        self._before = before
        self._begun: set[int] = (
            set()
        )  # what has rows here since: of all that goes into rooms, hardly anything

    def sending(self, inbox_id: int, index: int) -> Write:
        """Committed before the bytes leave."""
        self._begun.add(inbox_id)
        return Write(_OUTBOX_PUT, (inbox_id, index, "sending"))

    def performed(self, inbox_id: int, index: int, fate: str = "performed") -> Write:
        """The step has its fate, in one word, and must not be repeated."""
        self._begun.add(inbox_id)
        return Write(_OUTBOX_PUT, (inbox_id, index, fate))

    def clear(self, inbox_id: int) -> Write | None:
        """Forget the steps of the inbox row; None where it can have none."""
        if inbox_id > self._before and inbox_id not in self._begun:
            return None
        self._begun.discard(inbox_id)
        return Write(_OUTBOX_CLEAR, (inbox_id,))

    async def of(self, inbox_id: int) -> dict[int, str]:
        """The state of each step that was begun."""
        return {
            int(step): str(state)
            for step, state in await self._reader.fetch(
                "SELECT step, state FROM outbox WHERE inbox = $1 ORDER BY step", inbox_id
            )
        }


class Copies:
    """Which message on one side is which on the others."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def add(self, copy: Copy) -> Write:
        """Link one more copy to its message; the same copy twice is one."""
        return Write(
            _COPIES_ADD,
            (
                copy.message,
                copy.side,
                copy.chat,
                copy.id,
                copy.part,
                copy.room,
                copy.sender,
                copy.at,
                int(copy.origin),
                copy.kind,
                copy.parent,
                copy.key,
                int(copy.protection),
            ),
            Write(_NEWEST_PUT, (copy.side, copy.chat, copy.message)) if copy.kind == "message" else None,
        )

    def forget(self, message: int) -> Write:
        """Forget all copies of the message."""
        return Write(_COPIES_FORGET, (message,))

    async def of(self, side: NetworkId, chat: ChatId, id: MessageId) -> list[Copy]:
        """All copies, on every side, of the message that has this id there; the newest message if several have.

        The origin comes first, then by side, chat and part.
        """
        return await self._select(
            "WHERE message = (SELECT message FROM copies WHERE side = $1 AND chat = $2 AND id = $3 "
            f"ORDER BY message DESC LIMIT 1) {_COPIES_ORDER}",
            side,
            chat,
            id,
        )

    async def by_message(self, message: int) -> list[Copy]:
        """All copies of the message, on every side, the origin first."""
        return await self._select(f"WHERE message = $1 {_COPIES_ORDER}", message)

    async def reaction(self, parent_message: int, sender: PersonId, key: str) -> list[Copy]:
        """All copies of the reactions `key` under that message of which `sender` has one; [] if there is none."""
        return await self._select(
            "WHERE message IN (SELECT message FROM copies WHERE parent = $1 AND sender = $2 AND key = $3 "
            f"AND parent > 0 AND kind = 'reaction') {_COPIES_ORDER}",
            parent_message,
            sender,
            key,
        )

    async def said_by(self, side: NetworkId, sender: PersonId) -> AsyncIterator[int]:
        """Messages and reactions that this person wrote there, the oldest first.

        Looks through all copies, some at a time: no read takes long, and what is added meanwhile is found as well.
        """
        after = 0
        while True:
            page = await self._reader.fetch(
                "SELECT message FROM copies WHERE message > $1 ORDER BY message LIMIT 1 OFFSET $2",
                after,
                _PAGE,
            )
            last = page[0][0] if page else _LAST
            found = await self._reader.fetch(
                "SELECT DISTINCT message FROM copies WHERE message > $1 AND message <= $2 AND side = $3 "
                "AND sender = $4 AND origin = 1 ORDER BY message",
                after,
                last,
                side,
                sender,
            )
            for (message,) in found:
                yield int(message)
            if last == _LAST:
                return
            after = last

    async def latest(self, side: NetworkId, chat: ChatId) -> Copy | None:
        """The last part of the message (no reaction) that was added last in that chat; None where there is none."""
        here = "side = $1 AND chat = $2"
        found = await self._reader.fetch(f"SELECT message FROM newest WHERE {here}", side, chat)
        if not found:
            return None
        order = "ORDER BY message DESC, part DESC LIMIT 1"
        last = await self._select(f"WHERE {here} AND message = $3 {order}", side, chat, found[0][0])
        if not last:  # it was forgotten: look through all of them, once in a while
            last = await self._select(f"WHERE {here} AND kind = 'message' {order}", side, chat)
        return last[0] if last else None

    async def _select(self, tail: str, *params: int | str) -> list[Copy]:
        return [_copy(found) for found in await self._reader.fetch(f"{_COPIES_SELECT} {tail}", *params)]


def _copy(found: Sequence[Any]) -> Copy:
    message, side, chat, id, part, room, sender, at, origin, kind, parent, key, protection = found
    return Copy(
        message=message,
        room=room,
        side=side,
        chat=chat,
        id=id,
        sender=sender,
        at=at,
        origin=bool(origin),
        part=part,
        kind=kind,
        parent=parent,
        key=key,
        protection=Protection(protection),
    )
