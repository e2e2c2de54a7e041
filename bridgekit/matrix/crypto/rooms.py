"""A room's encryption: what its settings say, when a session has had its day, and who needs its key (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from bridgekit.matrix.crypto.devices import MEGOLM, Device
from bridgekit.store.keys import Outbound, SharedWith

WEEK_MS = 7 * 24 * 3600 * 1000
HOUR_MS = 3600 * 1000
CLEAR = frozenset({"m.reaction", "m.room.redaction", "com.beeper.message_send_status"})
"""What is never encrypted: a redaction cannot be, a reaction is not by any client (what it says stands in its relation,
which homeservers must read), and a fate is for clients that show no message for it: encrypted, it would ring."""


class Settings(msgspec.Struct, frozen=True):
    """The content of m.room.encryption, within sensible bounds: ms and messages that one session may serve."""

    algorithm: str = MEGOLM
    rotation_period_ms: int = WEEK_MS
    rotation_period_msgs: int = 100

    @property
    def supported(self) -> bool:
        return self.algorithm == MEGOLM


def settings(content: Mapping[str, Any]) -> Settings:
    """The settings in an event's content; what is no number there is the default.

    At least an hour and one message, at most a year and 10,000 messages: a room must neither make every message
    cost what a first one costs, nor keep a key for ever.
    """
    algorithm = content.get("algorithm")
    period, messages = content.get("rotation_period_ms"), content.get("rotation_period_msgs")
    return Settings(
        algorithm=algorithm if isinstance(algorithm, str) else "",
        rotation_period_ms=_within(period, HOUR_MS, 52 * WEEK_MS, WEEK_MS),
        rotation_period_msgs=_within(messages, 1, 10_000, 100),
    )


def _within(value: object, least: int, most: int, default: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return default
    return min(max(value, least), most)


def is_over(session: Outbound, now: int, room: Settings) -> bool:
    """Whether a session has served its time or its messages (`now` in ms)."""
    old = now - session.made >= room.rotation_period_ms or now < session.made
    return old or session.sent >= room.rotation_period_msgs


def has_lost(shared: Iterable[SharedWith], wanted: Iterable[Device]) -> bool:
    """Whether somebody has the key who may not read on: they left, or their device was signed out or lost its trust."""
    still = {(device.user, device.id, device.curve25519) for device in wanted}
    return any(row.position >= 0 and (row.user, row.device, row.key) not in still for row in shared)


def without(shared: Iterable[SharedWith], devices: Iterable[Device], *, told: bool) -> list[Device]:
    """The devices that have not had the key (`told`: nor been told that they do not get it)."""
    have = {(row.user, row.device, row.key) for row in shared if told or row.position >= 0}
    return [device for device in devices if (device.user, device.id, device.curve25519) not in have]
