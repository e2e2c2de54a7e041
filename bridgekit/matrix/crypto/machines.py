"""Our devices: made when they are first needed, known to the homeserver, and never without keys for others to take."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakValueDictionary

import structlog

from bridgekit.contract.errors import BridgeError, MatrixForbidden
from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.devices import person
from bridgekit.matrix.crypto.machine import MARK, Machine
from bridgekit.store import Store
from bridgekit.store.keys import OurDevice
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

BOT_KEYS = 50
GHOST_KEYS = 10
"""One-time keys at the homeserver. A ghost is spoken to by the devices of the people around it, once each; the
fallback key covers the rest."""
FALLBACK_SECONDS = 3600.0
"""For so long a fallback key that was taken is not replaced again. An account keeps one that was replaced (MSC2732),
so that it opens what is on its way, and of a burst the homeserver says again and again that the key is taken."""
KEPT = 2000
"""Machines in memory that nobody uses just now; to read one back takes a millisecond."""
RECHECK_SECONDS = 2.0
ASKED_AT_ONCE = 100
SIGN_OUT_SECONDS = 10.0
"""After a ghost has got its device: whoever waits to speak comes first."""
NONE = "The bridge has no device of this user's that could encrypt."
_Counts = tuple[Mapping[str, Mapping[str, int]], Mapping[str, list[str]]]


class Machines:
    """The devices of the bot and of the ghosts; those of people's own users (`puppets`) are kept here, too."""

    def __init__(
        self,
        store: Store,
        calls: KeyCalls,
        *,
        bot: PersonId,
        may_have: Callable[[PersonId], bool],
        is_ours_alone: Callable[[], Awaitable[object]],
        published: Callable[[PersonId], None],
        spawn: Spawn,
    ) -> None:
        """`is_ours_alone` raises MatrixError where another process makes keys for the same users; `published` is told
        of everybody whose device the homeserver shows from now on."""
        self._store = store
        self._calls = calls
        self._bot = bot
        self.may_have = may_have
        self._is_ours_alone = is_ours_alone
        self._published = published
        self._spawn = spawn
        self._known: dict[PersonId, str] = {}
        # There is one machine for a user at a time, as long as anybody holds it: two would use a ratchet twice.
        self._machines: WeakValueDictionary[PersonId, Machine] = WeakValueDictionary()
        self._recent: OrderedDict[PersonId, Machine] = OrderedDict()
        self._locks: dict[PersonId, asyncio.Lock] = {}
        self._checked: set[PersonId] = set()  # the homeserver has them as they are, as of this run
        self._filling: set[PersonId] = set()
        self._said: dict[PersonId, _Counts] = {}  # what came while keys were being filled up
        self._fallback_until: dict[PersonId, float] = {}  # before that it is not replaced
        self._doubtful: set[PersonId] = set()
        self.bots_keys: int | None = None
        """One-time keys that the bot has left, as the homeserver said last."""

    async def load(self) -> None:
        """Read who has a device."""
        self._known = await self._store.keys.device_names()

    def lock(self, user: PersonId) -> asyncio.Lock:
        """Held by whoever changes the user's machine."""
        return self._locks.setdefault(user, asyncio.Lock())

    def has(self, user: object) -> bool:
        """Whether the user has a device."""
        return isinstance(user, str) and user in self._known

    def is_ready(self, user: PersonId) -> bool:
        """Whether the user's device is there and was seen to be as it should be."""
        return user in self._checked

    async def fingerprints(self, user: PersonId) -> dict[str, str]:
        """The public keys of one of ours, by what they are; {} for who has no device."""
        machine = await self.local(user)
        if machine is None:
            return {}
        identity = {"identity": machine.master} if machine.master else {}
        return {"device": machine.device, "device key": machine.ed25519, **identity}

    @property
    def names(self) -> Mapping[PersonId, str]:
        """Who of ours has a device, and what it is called."""
        return self._known

    async def check_all(self) -> None:
        """Ask the homeserver for all of our devices, and publish those anew that it does not have as they are.

        Raises MatrixError where it does not say."""
        users = sorted(filter(self.may_have, self._known))
        for start in range(0, len(users), ASKED_AT_ONCE):
            some = users[start : start + ASKED_AT_ONCE]
            answer = await self._calls.query(some, user=self._bot)
            for user in some:
                machine = await self.local(user)
                if (
                    machine is not None
                    and machine.published
                    and machine.is_as_published(person(user, answer))
                ):
                    self._checked.add(user)
        for user in users:
            if user not in self._checked:
                await self._again(user)

    async def _again(self, user: PersonId) -> None:
        """Publish one of ours anew; one that the homeserver does not let (it is deactivated, say) is alone in that."""
        try:
            await self.of(user)
        except BridgeError as error:
            log.warning("device_not_published", user=user, reason=error.notice)

    async def local(self, user: PersonId) -> Machine | None:
        """The user's machine as it stands in the store, whatever the homeserver knows; None if there is none."""
        machine = self._machines.get(user)
        if machine is None:
            if user not in self._known or (row := await self._store.keys.device(user)) is None:
                return None
            sessions = await self._store.keys.olm(user)
            machine = self._machines.get(user)  # another task may have read it meanwhile
            if machine is None:
                machine = self._machines[user] = Machine(row, sessions, self._store.keys.pickle_key)
        self._recent[user] = machine
        self._recent.move_to_end(user)
        while len(self._recent) > KEPT:
            self._recent.popitem(last=False)
        return machine

    async def of(self, user: PersonId) -> Machine:
        """The user's machine, made and published if need be. Raises MatrixError with a sentence."""
        if user in self._checked and (found := await self.local(user)) is not None:
            return found
        if not self.may_have(user):
            raise MatrixForbidden(NONE, status=403)
        async with self.lock(user):
            if user not in self._checked:
                await self._is_ours_alone()
            machine = await self.local(user)
            if machine is None:
                machine = await self.add(Machine.new(user, self._store.keys.pickle_key))
            if user not in self._checked:
                is_new = not machine.published
                await self._settle(machine)
                self._checked.add(user)
                if is_new:
                    self._spawn(self._sign_out_others(machine))
            return machine

    async def add(self, row: OurDevice) -> Machine:
        """Keep a new device, whose user's lock is held."""
        await self._store.commit(self._store.keys.put_device(row))
        self._known[row.mxid] = row.device
        machine = self._machines[row.mxid] = Machine(row, [], self._store.keys.pickle_key)
        self._recent[row.mxid] = machine
        return machine

    async def forget(self, machine: Machine) -> None:
        """Know nothing of a device any more, whose user's lock is held."""
        self._known.pop(machine.user, None)
        self._machines.pop(machine.user, None)
        self._recent.pop(machine.user, None)
        self._checked.discard(machine.user)
        await self._store.commit(*self._store.keys.forget_device(machine.user, machine.curve25519))

    async def _sign_out_others(self, machine: Machine) -> None:
        """End what an earlier bridge has left, whose store is lost: nobody can use it, clients warn of a device that
        the new identity has not signed, and what is sent to it is sent in vain."""
        if machine.user != self._bot:
            await asyncio.sleep(SIGN_OUT_SECONDS)
        try:
            for device in await self._calls.device_names(machine.user):
                if device.startswith(MARK) and device != machine.device:
                    await self._calls.remove_device(machine.user, device)
                    log.info("old_device_signed_out", user=machine.user)
        except BridgeError as error:
            log.warning("old_devices_not_signed_out", user=machine.user, reason=error.notice)

    async def _settle(self, machine: Machine) -> None:
        """See to it that the homeserver has the device and the identity as they are."""
        user = machine.user
        if machine.published:
            seen = person(user, await self._calls.query([user], user=user))
            if machine.is_as_published(seen):
                return
            replaced = seen.master not in ("", machine.master)
            log.warning("device_published_again", user=user, other_identity=replaced)
            if replaced:
                # Somebody has put another one in its place. Synapse (1.163) answers 500 to keys that were there before,
                # and so to ours, for as long as we ask: an identity that was replaced is over.
                machine.renew_identity()
        # On disk before the homeserver has them: a key that somebody takes must open what they send.
        machine.more_keys(self._wanted(user), fallback=True)
        await self._store.commit(self._store.keys.put_device(machine.row()))
        name = "bridgekit" if user == self._bot else "bridge"
        # The identity is there before the device's keys: a client that asked in between would take the device for one
        # that nobody vouches for, and what it could not decrypt for that reason it does not try again.
        for outcome in await asyncio.gather(
            self._name(machine, name), self._identify(machine), return_exceptions=True
        ):
            if outcome is not None:
                raise outcome
        await self._calls.upload(user, machine.device, {"device_keys": machine.device_keys})
        self._published(user)
        machine.confirm()
        machine.published = True
        await self._store.commit(self._store.keys.put_device(machine.row()))

    async def _name(self, machine: Machine, name: str) -> None:
        await self._calls.put_device(machine.user, machine.device, name)
        # The keys that others take come before the device that they are told of: Synapse (1.163) stores what comes in
        # one request the other way round, and a client that asks in between leaves the device out for minutes.
        await self._calls.upload(machine.user, machine.device, machine.unpublished())

    async def _identify(self, machine: Machine) -> None:
        await self._calls.upload_identity(machine.user, machine.identity())

    def _wanted(self, user: PersonId) -> int:
        return BOT_KEYS if user == self._bot else GHOST_KEYS

    # What the homeserver says of ours -------------------------------------------------------------------------

    def lost(self, user: PersonId) -> None:
        """The homeserver does not know the user's device: whoever asks for it next waits until it does."""
        self._checked.discard(user)

    def changed(self, users: list[PersonId]) -> None:
        """The homeserver says that these of ours have changed devices: mostly the echo of our own doing, so they are
        looked at in the background, all together, and published anew where they are not as they should be."""
        new = {user for user in users if user in self._checked}
        if new and not self._doubtful:
            self._spawn(self._recheck())
        self._doubtful |= new

    async def _recheck(self) -> None:
        await asyncio.sleep(RECHECK_SECONDS)
        users, self._doubtful = sorted(self._doubtful), set()
        try:
            for start in range(0, len(users), ASKED_AT_ONCE):
                some = users[start : start + ASKED_AT_ONCE]
                answer = await self._calls.query(some, user=self._bot)
                for user in some:
                    machine = await self.local(user)
                    if machine is not None and not machine.is_as_published(person(user, answer)):
                        self._checked.discard(user)
                        await self._again(user)
        except BridgeError as error:
            log.warning("devices_not_checked", reason=error.notice)

    def counts(
        self,
        one_time: Mapping[PersonId, Mapping[str, Mapping[str, int]]],
        fallback: Mapping[PersonId, Mapping[str, list[str]]],
    ) -> None:
        """How many keys the homeserver still has: what runs low is filled up in the background."""
        for user in {*one_time, *fallback}:
            device = self._known.get(user)
            if device is None or user not in self._checked:
                continue
            if user in self._filling:
                self._said[user] = one_time.get(user, {}), fallback.get(user, {})
                continue
            left = one_time.get(user, {}).get(device)
            if user == self._bot and left is not None:
                self.bots_keys = left.get("signed_curve25519", 0)
            unused = fallback.get(user, {}).get(device)
            low = left is not None and left.get("signed_curve25519", 0) <= self._wanted(user) // 2
            used_up = (
                unused is not None and "signed_curve25519" not in unused and self._may_replace_fallback(user)
            )
            if low or used_up:
                self._filling.add(user)
                have = left.get("signed_curve25519", 0) if left is not None else self._wanted(user)
                self._spawn(self._fill(user, self._wanted(user) - have, fallback=used_up))

    def _may_replace_fallback(self, user: PersonId) -> bool:
        return asyncio.get_running_loop().time() >= self._fallback_until.get(user, 0.0)

    async def _fill(self, user: PersonId, missing: int, *, fallback: bool) -> None:
        try:
            async with self.lock(user):
                machine = await self.local(user)
                if machine is None:
                    return
                if fallback:
                    self._fallback_until[user] = asyncio.get_running_loop().time() + FALLBACK_SECONDS
                machine.more_keys(missing, fallback=fallback)
                await self._store.commit(self._store.keys.put_device(machine.row()))
                await self._calls.upload(user, machine.device, machine.unpublished())
                machine.confirm()
                await self._store.commit(self._store.keys.put_device(machine.row()))
        except BridgeError as error:
            log.warning("keys_not_filled", reason=error.notice)
        finally:
            self._filling.discard(user)
            if (said := self._said.pop(user, None)) is not None:
                self.counts({user: said[0]}, {user: said[1]})
