"""Encryption as the rest of the bridge sees it: what goes out is sealed, what comes in is opened."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import msgspec
import structlog

from bridgekit.contract.errors import BridgeError, EncryptionError
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.core.trust import Trust
from bridgekit.matrix.crypto import rooms
from bridgekit.matrix.crypto.calls import KeyCalls
from bridgekit.matrix.crypto.catchup import CatchUp
from bridgekit.matrix.crypto.contents import Sealed
from bridgekit.matrix.crypto.devices import Device
from bridgekit.matrix.crypto.giving import Giving
from bridgekit.matrix.crypto.incoming import Incoming, KeyMissing
from bridgekit.matrix.crypto.machine import Machine
from bridgekit.matrix.crypto.machines import Machines
from bridgekit.matrix.crypto.meeting import Meetings
from bridgekit.matrix.crypto.members import Members
from bridgekit.matrix.crypto.outgoing import Outgoing
from bridgekit.matrix.crypto.puppets import Puppets
from bridgekit.matrix.crypto.tally import Tally
from bridgekit.matrix.crypto.tracking import Tracking
from bridgekit.matrix.crypto.verifying import Say, Show, Tell, Verifying
from bridgekit.matrix.speakers import Speakers
from bridgekit.matrix.transactions import Encryption, RawEvent
from bridgekit.matrix.transport import Homeserver
from bridgekit.store import Store
from bridgekit.store.statements import Write
from bridgekit.tasks import Spawn

log = structlog.get_logger(__name__)

Json = dict[str, Any]

LOOK_SECONDS = 2.0
"""Changes of devices that come so close together are asked about at once."""
LOOKED_AT = 3
"""Ghosts whose queues are looked into for a key: it was sent to all of them, where it was sent at all."""
PROBE = "org.bridgekit.probe"
"""What the bot sends to itself, to see whether the homeserver passes such events on."""
PROBE_SECONDS = 30.0
PROBE_AGAIN_SECONDS = 2.0
"""Until the second one; twice as long from each to the next."""
UNREACHED = (
    "The homeserver does not send the bridge what is meant for its devices, so it gets no keys of encrypted rooms. On "
    "Synapse, turn on experimental_features.msc2409_to_device_messages_enabled and msc3202_transaction_extensions, and "
    "restart it."
)
UNKNOWN_ALGORITHM = "This room is encrypted in a way that the bridge does not know."
_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(Json).decode


class Kept(NamedTuple):
    """What of a transaction concerns keys: the writes that keep it, and what follows when it is on disk."""

    writes: list[Write]
    to_device: list[tuple[int, bytes]]


class _Content(msgspec.Struct):
    content: Json = {}


_content = msgspec.json.Decoder(_Content).decode


class Engine:
    """The end-to-end encryption of one bridge."""

    def __init__(
        self,
        store: Store,
        homeserver: Homeserver,
        *,
        bot: PersonId,
        is_ours: Callable[[PersonId], bool],
        is_ours_alone: Callable[[], Awaitable[object]],
        trust: Trust,
        reset: Callable[[PersonId], None],
        encrypted: Callable[[ChatId], None],
        say: Say,
        show: Show,
        tell: Tell,
        speakers: Speakers,
        spawn: Spawn,
    ) -> None:
        """`is_ours` knows the bot and the ghosts, `is_ours_alone` raises MatrixError where another process makes keys
        for them; `reset` is told of everybody whose identity was replaced, `encrypted` of every room that turns out to
        be. `say` sends an event into a room as one of ours, `show` a picture; `tell` says what concerns only them to
        somebody in private."""
        self._store = store
        self._bot = bot
        self._is_ours = is_ours
        self.trouble = ""  # why the bridge cannot take part in encrypted rooms, as far as is known
        self._reached = asyncio.Event()
        self._probes = itertools.count(1)
        self._are_counted = False  # the homeserver says how many keys ours have left
        self._told = encrypted
        self._speakers = speakers
        self.tally = Tally()
        self._calls = KeyCalls(homeserver)
        self._rooms: dict[ChatId, rooms.Settings | None] = {}  # None: it was asked for, and is not encrypted
        self._askers: dict[ChatId, PersonId] = {}  # who was told so, and would hear of it if that changed
        self._locks: dict[ChatId, asyncio.Lock] = {}
        self._members = Members(self._calls)
        self._spawn = spawn
        self._meetings = Meetings(self._calls, bot=bot, spawn=spawn)
        self._introduced: set[PersonId] = set()  # who gets a device before anybody sees them
        self._looked_for: set[PersonId] = set()  # people in our rooms whose devices have changed
        self.machines = Machines(
            store,
            self._calls,
            bot=bot,
            may_have=is_ours,
            is_ours_alone=is_ours_alone,
            published=self._published,
            spawn=spawn,
        )
        self.tracking = Tracking(store, self._calls, bot=bot, reset=reset)
        self._outgoing = Outgoing(
            store,
            self._calls,
            self.tracking,
            self._members,
            trust=trust,
            is_ours=is_ours,
            is_our_device=lambda device: self.machines.names.get(device.user) == device.id,
            tally=self.tally,
        )
        self.puppets = Puppets(
            store,
            self._calls,
            self.machines,
            self.tracking,
            bot=bot,
            is_ours_alone=is_ours_alone,
            signed=self._meetings.begin,
            forgotten=self._outgoing.forget,
        )
        self.incoming = Incoming(
            store,
            self.machines,
            self.tracking,
            trust=trust,
            is_ours=is_ours,
            unwedge=self._unwedge,
            other=self._other,
            spawn=spawn,
        )

        self.verifying = Verifying(
            self.machines, self.tracking, self._calls, say=say, show=show, tell=tell, spawn=spawn
        )
        self._giving = Giving(store, self.tracking, self._outgoing, trust=trust, spawn=spawn)
        self._catchup = CatchUp(store, self._calls, self.machines, self.tracking, self.incoming)

    async def load(self) -> None:
        """Read back what the last run knew; what had come for our devices and was not opened is opened now."""
        for room, content in (await self._store.keys.rooms()).items():
            self._rooms[room] = rooms.settings(_object(content))
        await self.machines.load()
        await self.incoming.recover()

    async def start(self) -> None:
        """Give the bot its device, see to it that the homeserver has all of ours, and that it sends what is for them.

        Raises nothing: `trouble` says, as a sentence, what keeps the bridge out of encrypted rooms.
        """
        trouble = ""
        try:
            bot = await self.machines.of(self._bot)
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probe(bot)
            await self.machines.check_all()
        except TimeoutError:
            trouble = UNREACHED
        except BridgeError as error:
            trouble = error.notice
        if trouble and trouble != self.trouble:
            log.warning("encryption_unavailable", reason=trouble)
        self.trouble = trouble

    async def _probe(self, bot: Machine) -> None:
        """Return when the homeserver has passed on what the bot sent to itself. Raises MatrixError.

        Once is not enough: a probe in a transaction that fails is forgotten (catchup), and until it has repeated what
        came while the bridge was away, Synapse (1.163) fails all others without trying.
        """
        pause = PROBE_AGAIN_SECONDS
        while not self._reached.is_set():
            probe = {"number": next(self._probes)}  # what says the same is taken for the same (catchup)
            await self._calls.send(PROBE, [(bot.user, bot.device, probe)], user=bot.user, device=bot.device)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._reached.wait()
            pause *= 2

    @property
    def works(self) -> bool:
        """Whether the homeserver is known to send what is for our devices."""
        return self._reached.is_set() and not self.trouble

    # Rooms ---------------------------------------------------------------------------------------------------

    def knows_encrypted(self, room: ChatId) -> bool:
        """Whether the room is known to be encrypted."""
        return self._rooms.get(room) is not None

    def encrypted_rooms(self) -> list[ChatId]:
        """The rooms that are known to be encrypted."""
        return [room for room, settings in self._rooms.items() if settings is not None]

    def has_spoken(self, room: ChatId, user: PersonId) -> bool:
        """Whether the user's next message in the room has nothing more to wait for, as of this run."""
        return self._outgoing.is_live(room, user)

    def rooms_of(self, user: PersonId) -> list[ChatId]:
        """The encrypted rooms in which somebody was when that was last known."""
        return self._members.rooms_of(user)

    def heard(self, event: RawEvent) -> None:
        """A state event came, from whomever."""
        if event.type == "m.room.encryption" and event.state_key == "":
            try:
                self._encrypted(event.room_id, _content(event.raw).content)
            except (msgspec.MsgspecError, RecursionError):
                self._encrypted(event.room_id, {})
        elif event.type == "m.room.history_visibility":
            self._members.changed(event.room_id)
        elif event.type == "m.room.member":
            who = PersonId(event.state_key or "")
            if not self._is_ours(who):
                self._members.changed(event.room_id)
            elif self._askers.get(event.room_id) == who:
                self._doubt(event.room_id)  # while nobody of ours is in the room, nothing is heard of it

    def _doubt(self, room: ChatId) -> None:
        """That the room is not encrypted was true when it was asked for."""
        self._askers.pop(room, None)
        if self._rooms.get(room, _UNKNOWN) is None:
            del self._rooms[room]

    def _encrypted(self, room: ChatId, content: Json) -> rooms.Settings:
        """The room is encrypted, and will never again be taken for a clear one."""
        found = rooms.settings(content)
        before = self._rooms.get(room)
        if before is not None and before.supported and not found.supported:
            return before
        self._rooms[room] = found
        self._members.changed(room)
        self._store.commit(self._store.keys.put_room(room, _encode(content)))
        if before is None:
            self._told(room)
        return found

    async def _settings(self, room: ChatId, user: PersonId) -> rooms.Settings | None:
        if room not in self._rooms:
            async with self._locks.setdefault(room, asyncio.Lock()):
                if room not in self._rooms:
                    self._askers[room] = user
                    content = await self._calls.settings(room, user)
                    if room not in self._rooms:  # the event itself may have come while we asked
                        if content is not None:
                            self._encrypted(room, content)
                        elif self._askers.get(room) == user:  # and who asked may have left, and come again
                            self._rooms[room] = None
            self._locks.pop(room, None)
        return self._rooms.get(room)

    async def is_encrypted(self, room: ChatId, user: PersonId | None = None, *, anew: bool = False) -> bool:
        """Whether the room is encrypted; asked as `user` (the bot), who is in it, where that is not known.

        `anew`: there is a reason to doubt that it is not. That it is has no end.
        """
        if anew:
            self._doubt(room)
        return await self._settings(room, user or self._bot) is not None

    # Out -----------------------------------------------------------------------------------------------------

    def is_clear(self, room: ChatId, type: str) -> bool:
        """Whether an event of that type goes out as it is. Never True of a room that nothing is known of."""
        return type in rooms.CLEAR or self._rooms.get(room, _UNKNOWN) is None

    async def seal(self, room: ChatId, type: str, content: Json, user: PersonId) -> Sealed | None:
        """What to send in place of the event; None where the room is not encrypted.

        Waits for the homeserver. Raises MatrixError, EncryptionError with a sentence; then it must not be sent.
        """
        settings = await self._settings(room, user)
        if settings is None:
            return None
        if not settings.supported:
            raise EncryptionError(UNKNOWN_ALGORITHM)
        with contextlib.nullcontext() if self.has_spoken(room, user) else self._speakers.one():
            machine = await self._machine(user)
            sealed = await self._outgoing.seal(room, machine, settings, type, content)
            await self._meetings.over(user)
        return Sealed("m.room.encrypted", sealed, machine.device)

    def lost(self, user: PersonId) -> None:
        """The homeserver does not know the user's device any more: one of ours is published anew before it is used
        again, and that of somebody's own user is looked for."""
        self.machines.lost(user)
        if self.puppets.has(user):
            self.tracking.changed([user])

    async def _machine(self, user: PersonId) -> Machine:
        """What the user speaks with in encrypted rooms. Raises MatrixError with a sentence."""
        return await (self.machines if self._is_ours(user) else self.puppets).of(user)

    async def introduce(self, room: ChatId, user: PersonId) -> None:
        """Give the user, who will speak in the room and is not in it yet, a device where it is known to be encrypted.

        Raises MatrixError with a sentence.
        """
        if self.knows_encrypted(room):
            self._introduced.add(user)
            try:
                await self.machines.of(user)
            finally:
                self._introduced.discard(user)

    def _published(self, user: PersonId) -> None:
        if user not in self._introduced:
            self._meetings.begin(user)

    def entered(self, room: ChatId, user: PersonId) -> None:
        """One of ours is in the room now: people there see them, and the device that they may have."""
        if self.machines.has(user) and not self.is_clear(room, "m.room.message"):
            self._meetings.begin(user)

    async def acquaint(self, room: ChatId, user: PersonId) -> None:
        """While the user, who was introduced, enters the room: do ahead what their first message would have to wait
        for, where it is known who is there. Raises as `seal` does."""
        settings = self._rooms.get(room)
        if settings is not None and settings.supported and self._members.are_known(room):
            await self._outgoing.prepare(room, await self.machines.of(user), settings)

    async def prepare(self, room: ChatId, user: PersonId) -> None:
        """Do ahead what the user's next message in the room would have to wait for. Raises as `seal` does."""
        settings = await self._settings(room, user)
        if settings is not None and settings.supported:
            await self._outgoing.prepare(room, await self._machine(user), settings)

    # In ------------------------------------------------------------------------------------------------------

    def keep(self, said: Encryption) -> Kept:
        """What a transaction says to our devices, to be written together with the rest of it."""
        raws, records = self._catchup.fresh(said.to_device)
        writes, rows = self.incoming.keep(raws)
        return Kept([*writes, *records], rows)

    def take(self, kept: Kept) -> None:
        """It is on disk."""
        self.incoming.take(kept.to_device)

    def heard_of_keys(self, said: Encryption, places: Iterable[ChatId], *, bare: bool) -> None:
        """What else a transaction with events of these rooms says; `bare`: nothing.

        Where a homeserver counts keys, the bot's come with every event, but not where it repeats what it could not
        deliver (catchup): then there may be changed devices of which it will not tell. Synapse (1.163) repeats one that
        held nothing else as an empty one, and makes none at all for changed devices while it believes us away.
        """
        others = [user for user in {*said.changed, *said.left} if not self._is_ours(user)]
        self.tracking.changed(others)
        self._look_at(user for user in others if self.puppets.has(user) or self._members.rooms_of(user))
        self.machines.changed([user for user in said.changed if self._is_ours(user)])
        if said.one_time_keys or said.fallback_keys:
            self._are_counted = True
            self.machines.counts(said.one_time_keys, said.fallback_keys)
        elif (bare and self._are_counted) or any(map(self.knows_encrypted, places)):
            self.tracking.all_changed()

    def _look_at(self, users: Iterable[PersonId]) -> None:
        """See soon whether these have a new identity: where nobody speaks, nothing else would ask."""
        looking = bool(self._looked_for)
        self._looked_for.update(users)
        if self._looked_for and not looking:
            self._spawn(self._look())

    async def _look(self) -> None:
        await asyncio.sleep(LOOK_SECONDS)
        users, self._looked_for = self._looked_for, set()
        await self.tracking.of(users)
        for user in filter(self.puppets.has, users):
            await self.puppets.standing(user)

    async def open(self, raw: bytes) -> bytes:
        """An encrypted event of a room in clear. Raises KeyMissing, Undecryptable, PeerMisbehaved with a sentence."""
        return await self.incoming.open(raw)

    async def look_for(self, missing: KeyMissing, present: Iterable[PersonId]) -> None:
        """See whether a key waits in the queue of a ghost in the room; if not, ask the device that made it."""
        for ghost in [user for user in present if self.machines.has(user)][:LOOKED_AT]:
            await self._catchup.run(ghost)
            await self.incoming.caught_up()
            if await self.incoming.has(missing):
                return
        if await self.incoming.has(missing):
            return
        try:
            await self.incoming.ask(missing, await self.machines.of(self._bot), self._calls)
        except BridgeError as error:
            log.info("key_not_asked_for", reason=error.notice)

    def wait(self, missing: KeyMissing, wake: Callable[[], None]) -> None:
        """Call `wake` once when that key comes, or the news that it is kept."""
        self.incoming.wait(missing, wake)

    def wait_no_more(self, missing: KeyMissing, wake: Callable[[], None]) -> None:
        """Nobody waits for that any longer."""
        self.incoming.wait_no_more(missing, wake)

    # Within --------------------------------------------------------------------------------------------------

    async def _unwedge(self, machine: Machine, device: Device) -> None:
        try:
            await self._outgoing.tell(await self._machine(machine.user), device, "m.dummy", {}, anew=True)
        except BridgeError as error:
            log.warning("olm_not_mended", reason=error.notice)

    def _other(
        self, machine: Machine, sender: PersonId, type: str, content: msgspec.Raw, encrypted: bool
    ) -> None:
        """What else comes for a device."""
        if type == PROBE and sender == self._bot:
            self._reached.set()
            if self.trouble:
                log.info("encryption_available")
            self.trouble = ""
        elif type == "m.room_key_request":
            self._giving.asked(machine, sender, content)
        else:
            self.verifying.to_device(machine, sender, type, content)


_UNKNOWN = rooms.Settings()
