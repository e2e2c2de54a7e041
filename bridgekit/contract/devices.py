"""Devices with keys of their own: what a session shows of them where its network encrypts from device to device."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from bridgekit.contract.ids import ChatId, PersonId


class Trust(StrEnum):
    """What is thought of a device's key."""

    BLIND = "blind"  # nobody has compared it; trusted until somebody compares one of its owner's
    VERIFIED = "verified"
    UNDECIDED = "undecided"  # its owner has verified devices, and this is none: nothing is encrypted to it
    DISTRUSTED = "distrusted"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device. `fingerprint` is what its owner's client shows; `own`: it is the session's."""

    person: PersonId
    id: str
    fingerprint: str
    trust: Trust
    own: bool = False
    active: bool = True


@runtime_checkable
class KeepsDevices(Protocol):
    """What a `Session` has besides, where it encrypts to devices."""

    async def devices(self, chat: ChatId) -> list[Device]:
        """The session's own device, and those of the people whom it encrypts to in `chat`. Raises RemoteError.

        The network is asked; what `capabilities` says of the chat's protection is true afterwards.
        """
        ...

    async def judge(self, chat: ChatId, fingerprint: str, trust: Trust) -> Device | None:
        """From now on the device with this fingerprint, of somebody in `chat`, is trusted so; None where there is none.

        VERIFIED and DISTRUSTED alone can be asked for. Raises RemoteError.
        """
        ...
