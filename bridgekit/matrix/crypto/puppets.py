"""Devices of people's own users, with which they speak in encrypted rooms from elsewhere
(docs/decisions/0016-double-puppets.md).

Such a device is made when its owner asks for it, and used while the homeserver shows it signed by the owner's
identity, which is in their own clients: they verify it there. It only sends. It has no one-time keys, so that nobody
begins to send it anything, and a room's key that comes all the same is dropped (incoming). The owner's other devices
are other people's to the bridge, as ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum

import structlog

from bridgekit.contract.errors import BridgeError, MatrixForbidden, MatrixRefused
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.machines import NONE, Machines
from bridgekit.matrix.crypto.tracking import Tracking
from bridgekit.store import Store

log = structlog.get_logger(__name__)

NOT_SIGNED_OUT = (
    "The homeserver does not let the bridge sign your device here out: do that in a client of yours. Its keys are "
    "forgotten."
)


class Standing(Enum):
    """How far somebody's device has come."""

    NONE = "none"
    UNSIGNED = "unsigned"
    """It is there, and its owner has not verified it yet."""
    SIGNED = "signed"


class Puppets:
    """The devices of people's own users."""

    def __init__(
        self,
        store: Store,
        calls: KeyCalls,
        machines: Machines,
        tracking: Tracking,
        *,
        bot: PersonId,
        is_ours_alone: Callable[[], Awaitable[object]],
        signed: Callable[[PersonId], None],
        forgotten: Callable[[PersonId], Awaitable[None]],
    ) -> None:
        """`signed` is told of who can be believed from now on, `forgotten` of whose device is no more."""
        self._store = store
        self._calls = calls
        self._machines = machines
        self._tracking = tracking
        self._bot = bot
        self._is_ours_alone = is_ours_alone
        self._told_signed = signed
        self._forgotten = forgotten
        self._signed: set[PersonId] = set()
        self.lost: Callable[[PersonId], None] = lambda _: None
        """Called of somebody whose device is gone, without them having told the bridge: they have signed it out."""

    def has(self, user: PersonId) -> bool:
        """Whether there is a device of somebody's own user."""
        return self._machines.has(user) and not self._machines.may_have(user)

    async def make(self, user: PersonId) -> Machine:
        """The user's device, made if there is none; it is not signed yet. Raises MatrixError."""
        async with self._machines.lock(user):
            await self._is_ours_alone()
            machine = await self._machines.local(user)
            if machine is None:
                # What was under way when an earlier device ended may have left a session that was that one's.
                await self._forgotten(user)
                await self._store.commit(*self._store.keys.forget_device(user, ""))
                machine = await self._machines.add(
                    Machine.new(user, self._store.keys.pickle_key, identity=False)
                )
            if not machine.published:
                await self._publish(machine)
            return machine

    async def _publish(self, machine: Machine) -> None:
        await self._calls.put_device(machine.user, machine.device, f"bridgekit ({self._bot})")
        await self._calls.upload(machine.user, machine.device, {"device_keys": machine.device_keys})
        self._tracking.changed([machine.user])
        machine.published = True
        await self._store.commit(self._store.keys.put_device(machine.row()))
        log.info("puppet_device_made", user=machine.user)

    async def remove(self, user: PersonId) -> bool:
        """Sign the device out and forget its keys; False where there is none. Raises MatrixRefused where it cannot be
        signed out; the keys are forgotten all the same."""
        if not self.has(user):
            return False
        async with self._machines.lock(user):
            machine = await self._machines.local(user)
            if machine is None:
                return False
            refusal: MatrixRefused | None = None
            try:
                await self._calls.remove_device(user, machine.device)
            except MatrixRefused as error:
                refusal = error if error.status != 404 else None
            await self._forget(machine)
        if refusal is not None:
            raise MatrixRefused(NOT_SIGNED_OUT, errcode=refusal.errcode, status=refusal.status) from refusal
        return True

    async def standing(self, user: PersonId) -> Standing:
        """How far the user's device has come, as the homeserver shows it."""
        machine = await self._machines.local(user) if self.has(user) else None
        if machine is None or not machine.published:
            return Standing.NONE
        person = (await self._tracking.of([user])).get(user)
        device = machine.shown(person) if person is not None else None
        if device is not None and device.cross_signed:
            if user not in self._signed:
                self._signed.add(user)
                self._told_signed(user)
            return Standing.SIGNED
        self._signed.discard(user)
        if device is None and await self._is_gone(machine):
            return Standing.NONE
        return Standing.UNSIGNED

    async def of(self, user: PersonId) -> Machine:
        """The user's device, if it can be believed. Raises MatrixForbidden: it is as if they might not speak here, and
        their ghost does."""
        if await self.standing(user) is Standing.SIGNED:
            machine = await self._machines.local(user)
            if machine is not None:
                return machine
        raise MatrixForbidden(NONE, status=403)

    async def _is_gone(self, machine: Machine) -> bool:
        """Whether the device was signed out elsewhere; then that is its owner's word."""
        try:
            async with self._machines.lock(machine.user):
                if await self._machines.local(machine.user) is not machine:
                    return True
                if machine.device in await self._calls.device_names(machine.user):
                    return False
                await self._forget(machine)
        except BridgeError as error:
            log.warning("puppet_device_not_seen", reason=error.notice)
            return False
        self.lost(machine.user)
        return True

    async def _forget(self, machine: Machine) -> None:
        self._signed.discard(machine.user)
        await self._forgotten(machine.user)
        await self._machines.forget(machine)
        log.info("puppet_device_gone", user=machine.user)
