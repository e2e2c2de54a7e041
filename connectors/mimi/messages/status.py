"""Reports of what became of messages: application/mimi-message-status (draft-mahy-mimi-message-status-01)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import cbor2
import msgspec

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.messages import cbor
from connectors.mimi.messages.content import read_id

MEDIA_TYPE = "application/mimi-message-status"
MAX_OCTETS = 256 * 1024  # ours: some 7,000 messages in one report


class Status(IntEnum):
    """What became of a message at the one who reports."""

    UNREAD = 0
    DELIVERED = 1
    READ = 2
    EXPIRED = 3
    DELETED = 4
    HIDDEN = 5
    ERROR = 6


class Report(msgspec.Struct, frozen=True):
    """`status` of the message `id`; a number that is no Status is kept as it came."""

    id: bytes
    status: int


def encode(reports: Sequence[Report]) -> bytes:
    """The octets of a report."""
    return cbor2.dumps([[report.id, report.status] for report in reports])


def decode(octets: bytes) -> list[Report]:
    """Read a report. Raises PeerMisbehaved, and nothing else. What is said last of a message counts."""
    if len(octets) > MAX_OCTETS:
        raise PeerMisbehaved("The other side sent a report that is too large.")
    if cbor.check(octets, nesting=2) != len(octets):
        raise PeerMisbehaved("The other side sent a report with something behind its end.")
    raw = cbor2.loads(octets)
    if type(raw) is not list:
        raise PeerMisbehaved("The other side sent a report that is not a list.")
    return [_report(entry) for entry in raw]


def _report(raw: Any) -> Report:
    match raw:
        case [id, int() as status] if type(status) is int and 0 <= status <= 255:
            return Report(read_id(id), status)
        case _:
            raise PeerMisbehaved("The other side sent a report with an entry of an unknown form.")
