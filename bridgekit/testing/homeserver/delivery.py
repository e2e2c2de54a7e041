"""The sending side: transactions to one appservice, in order, one at a time, repeated until it says 200."""

import asyncio
import contextlib
import time
from collections import deque
from urllib.parse import quote

import msgspec

from bridgekit.testing.homeserver.courier import Courier
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.faults import Drop, Fail, Faults, RateLimit, Suffering
from bridgekit.testing.homeserver.keys import KeyStore
from bridgekit.testing.homeserver.refusals import Json, Refused
from bridgekit.testing.homeserver.registration import Registration
from bridgekit.testing.homeserver.rooms import Room
from bridgekit.testing.homeserver.world import World, for_invited

REMEMBERED_TRANSACTIONS = 100


class Delivery:
    """What one appservice is sent, and the queries that it is asked.

    `first_wait` and `longest_wait` are the back-off in seconds: doubled after every failure, back to the first
    after a success or a ping. A transaction keeps its id and its bytes however often it is repeated; ids start
    at the clock's milliseconds, so no two homeservers of a test share any.
    """

    def __init__(
        self,
        registration: Registration,
        world: World,
        faults: Faults,
        *,
        first_wait: float = 0.02,
        longest_wait: float = 1.0,
        batch: int = 100,
        timeout: float = 30.0,
    ) -> None:
        self.registration = registration
        self.transactions = 0
        self.retries = 0
        self.delivered = 0
        self._world = world
        self._faults = faults
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._batch = batch
        self._timeout = timeout
        url = registration.url
        self._posts = None if url is None else Courier(url, registration.hs_token)
        self._asks = None if url is None else Courier(url, registration.hs_token)
        self._next_txn = time.time_ns() // 1_000_000
        self._events: deque[bytes] = deque()
        self._ephemeral: deque[bytes] = deque()
        self._to_device: deque[bytes] = deque()
        self._changed: dict[str, None] = {}  # users with other devices
        self._counted: dict[str, None] = {}  # users of the appservice whose keys became more or fewer
        self.keys: KeyStore | None = None
        self._unknown_users: dict[str, None] = {}
        self._asked_users: set[str] = set()
        self._rooms: dict[str, tuple[int, bool]] = {}
        self._past: deque[tuple[str, bytes]] = deque(maxlen=REMEMBERED_TRANSACTIONS)
        self._withholding = 0
        self._withheld: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._up = asyncio.Event()
        self._up.set()
        self._hurry = asyncio.Event()
        self._took = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    # What happens on the homeserver

    def on_event(self, room: Room, event: Event, encoded: bytes) -> None:
        """Queue the event if the appservice has an interest in it (Application Service API, "Namespaces")."""
        if self._posts is None or not (self._lives_in(room) or self._wants(event)):
            return
        if event.state_key is not None and event.type == "m.room.member":
            target = event.state_key
            if self.registration.claims_user(target):
                if event.content.get("membership") == "invite":
                    encoded = for_invited(room, event)
                if target not in self._world.profiles and target not in self._asked_users:
                    self._unknown_users[target] = None
        self._events.append(encoded)
        self._quiet.clear()
        self._wake.set()

    def on_ephemeral(self, room: Room, edu: Json) -> None:
        """Queue a typing notice or a receipt, if the registration asks for them."""
        if self._posts is None or not self.registration.receive_ephemeral or not self._lives_in(room):
            return
        self._ephemeral.append(msgspec.json.encode(edu))
        self._quiet.clear()
        self._wake.set()

    # Keys (MSC4203, MSC3202)

    def on_to_device(self, user: str, device: str, event: Json) -> None:
        """Queue an event for a device of the appservice's users."""
        ours = self.registration.owns_user(user, self._world.server)
        if self._posts is not None and self.registration.msc3202 and ours:
            whole = {**event, "to_user_id": user, "to_device_id": device}
            self._to_device.append(msgspec.json.encode(whole))
            self._stir()

    def on_devices(self, user: str) -> None:
        """Queue the news that somebody who shares a room with the appservice has other devices."""
        if self._posts is None or not self.registration.msc3202:
            return
        if any(self._lives_in(self._world.rooms[room]) for room in self._world.joined_by.get(user, ())):
            self._changed[user] = None
            self._stir()

    def on_counts(self, user: str) -> None:
        """Queue how many keys a user of the appservice has left."""
        if (
            self._posts is not None
            and self.registration.msc3202
            and self.registration.owns_user(user, self._world.server)
        ):
            self._counted[user] = None
            self._stir()

    def _stir(self) -> None:
        self._quiet.clear()
        self._wake.set()

    def _keys_body(self, events: bool) -> bytes:
        """What a transaction says of keys, under the names that Synapse 1.163 uses; b"" where there is nothing."""
        if self.keys is not None and self.registration.msc3202 and events:
            # Synapse says it of everybody of ours in the rooms of these events, again and again.
            bot = f"@{self.registration.sender_localpart}:{self._world.server}"
            if bot in self.keys.devices:
                self._counted[bot] = None
        if self.keys is None or not (self._to_device or self._changed or self._counted):
            return b""
        told = [self._to_device.popleft() for _ in range(min(self._batch, len(self._to_device)))]
        changed, self._changed = list(self._changed), {}
        users, self._counted = list(self._counted), {}
        keys = self.keys
        devices = {user: list(keys.devices.get(user, {})) for user in users}
        counts = {user: {id: keys.counts(user, id) for id in ids} for user, ids in devices.items()}
        unused = {user: {id: keys.unused_fallbacks(user, id) for id in ids} for user, ids in devices.items()}
        prefix = "org.matrix.msc3202."
        parts = {
            f"{prefix}device_lists": {"changed": changed, "left": []},
            f"{prefix}device_one_time_key_counts": counts,
            f"{prefix}device_one_time_keys_count": counts,
            f"{prefix}device_unused_fallback_key_types": unused,
        }
        body = b',"de.sorunome.msc2409.to_device":[%b],' % b",".join(told)
        return body + msgspec.json.encode(parts)[1:-1]

    def _wants(self, event: Event) -> bool:
        return self.registration.wants(event, self._world.server)

    def _lives_in(self, room: Room) -> bool:
        cached = self._rooms.get(room.room_id)
        if cached is None or cached[0] != room.changes:
            registration, server = self.registration, self._world.server
            lives = (
                registration.claims_room(room.room_id)
                or any(map(registration.claims_alias, room.aliases))
                or any(registration.owns_user(user, server) for user in room.joined)
            )
            cached = self._rooms[room.room_id] = (room.changes, lives)
        return cached[1]

    # Transactions

    async def run(self) -> None:
        """Deliver until cancelled."""
        if self._posts is None:
            return
        while True:
            if not self._has_work():
                self._quiet.set()
                self._wake.clear()
                await self._wake.wait()
            await self._up.wait()
            await self._ask_for_users()
            async with self._one_at_a_time:
                count, body, keys = self._next_body()
                txn = str(self._next_txn)
                self._next_txn += 1
                if count and self._withholding:
                    self._withholding -= 1
                    self._withheld.append((txn, body))
                    continue
                await self._deliver(self._posts, txn, body, keys)
                self._took.set()
                self._past.append((txn, body))
                self.delivered += count

    def _has_work(self) -> bool:
        waiting = self._events or self._ephemeral or self._to_device or self._changed or self._counted
        return bool(waiting)

    def _next_body(self) -> tuple[int, bytes, bytes]:
        events = [self._events.popleft() for _ in range(min(self._batch, len(self._events)))]
        ephemeral = [self._ephemeral.popleft() for _ in range(min(self._batch, len(self._ephemeral)))]
        body = b'{"events":[%b]' % b",".join(events)
        if self.registration.receive_ephemeral:
            body += b',"ephemeral":[%b]' % b",".join(ephemeral)
        return len(events), body + b"}", self._keys_body(bool(events))

    async def _deliver(self, courier: Courier, txn: str, body: bytes, keys: bytes = b"") -> None:
        """Deliver until it is accepted. What it says of `keys` is said once: as Synapse 1.163, which has only the
        events of a transaction on disk and repeats no more than those."""
        path = f"/_matrix/app/v1/transactions/{txn}"
        wait = self._first_wait
        self.transactions += 1
        while True:
            await self._up.wait()
            suffering = self._faults.draw("PUT", path) if self._faults.rules else None
            try:
                if await self._attempt(courier, path, body[:-1] + keys + b"}", suffering):
                    break
            except (OSError, TimeoutError):
                pass
            keys = b""
            self.retries += 1
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._hurry.wait()
                    wait = self._first_wait
            wait = min(wait * 2, self._longest_wait)
        for _ in range(suffering.repeat if suffering is not None else 0):
            with contextlib.suppress(OSError, TimeoutError):
                await courier.request("PUT", path, body, timeout=self._timeout)

    async def _attempt(self, courier: Courier, path: str, body: bytes, suffering: Suffering | None) -> bool:
        if suffering is None:
            return (await courier.request("PUT", path, body, timeout=self._timeout)).status == 200
        await asyncio.sleep(suffering.before)
        match suffering.end:
            case Drop(after_effect=True) | Fail(after_effect=True):
                await courier.send_only("PUT", path, body)
                return False
            case Drop() | Fail() | RateLimit():
                courier.hang_up()
                return False
            case None:
                answered = await courier.request("PUT", path, body, timeout=self._timeout)
                await asyncio.sleep(suffering.after)
                return answered.status == 200

    async def redeliver(self, count: int = 1) -> None:
        """Deliver the last `count` accepted transactions again, oldest first, under their old ids."""
        if self._posts is None or count < 1:
            return
        async with self._one_at_a_time:
            for txn, body in list(self._past)[-count:]:
                await self._deliver(self._posts, txn, body)

    def withhold(self, count: int = 1) -> None:
        """Leave the next `count` transactions that have events behind, and go on with what comes after them.

        Synapse (1.163) does so where its recovery ends while it writes a transaction down.
        """
        self._withholding += count

    async def release(self) -> None:
        """Deliver what was left behind, oldest first."""
        if self._posts is None:
            return
        async with self._one_at_a_time:
            while self._withheld:
                txn, body = self._withheld.popleft()
                await self._deliver(self._posts, txn, body)
                self._past.append((txn, body))

    @property
    def withheld(self) -> int:
        """How many transactions were left behind."""
        return len(self._withheld)

    async def settled(self) -> None:
        """Return once everything that happened so far is accepted."""
        await self._quiet.wait()

    async def short_of(self, events: int) -> None:
        """Return once fewer than `events` wait."""
        while len(self._events) >= events:
            self._took.clear()
            await self._took.wait()

    def backlog(self) -> int:
        """Return how many events wait (those of the transaction under way not counted)."""
        return len(self._events)

    def stop(self) -> None:
        """Fall silent in mid-transaction, as a homeserver that is stopped."""
        self._up.clear()
        for courier in (self._posts, self._asks):
            if courier is not None:
                courier.hang_up()

    def start(self) -> None:
        """Go on; the transaction under way is repeated under its id."""
        self._up.set()
        self._hurry.set()

    # Questions

    async def _ask_for_users(self) -> None:
        while self._unknown_users:
            user = next(iter(self._unknown_users))
            del self._unknown_users[user]
            self._asked_users.add(user)
            await self._exists(f"/_matrix/app/v1/users/{quote(user, safe='')}")

    async def knows_alias(self, alias: str) -> bool:
        """Ask the appservice for a room behind an alias of its namespace; True after its 200."""
        if self._asks is None or not self.registration.claims_alias(alias):
            return False
        return await self._exists(f"/_matrix/app/v1/rooms/{quote(alias, safe='')}")

    async def _exists(self, path: str) -> bool:
        assert self._asks is not None
        try:
            return (await self._asks.request("GET", path, timeout=self._timeout)).status == 200
        except (OSError, TimeoutError):
            return False

    async def ping(self, transaction_id: str | None) -> int:
        """Ping the appservice; return the milliseconds it took (MSC2659). Transactions are retried at once.

        Raise `Refused` 400 M_URL_NOT_SET, 502 M_BAD_STATUS, 502 M_CONNECTION_FAILED, 504 M_CONNECTION_TIMEOUT.
        """
        if self._asks is None:
            raise Refused(400, "M_URL_NOT_SET", "The application service doesn't have a URL set")
        body = msgspec.json.encode({} if transaction_id is None else {"transaction_id": transaction_id})
        began = time.monotonic()
        try:
            answered = await self._asks.request("POST", "/_matrix/app/v1/ping", body, timeout=self._timeout)
        except TimeoutError as error:
            raise Refused(504, "M_CONNECTION_TIMEOUT", "Timeout while pinging application service") from error
        except OSError as error:
            raise Refused(
                502, "M_CONNECTION_FAILED", f"Failed to ping application service: {error}"
            ) from error
        if answered.status != 200:
            text = answered.body.decode("utf-8", "replace")
            words = f"HTTP {answered.status} {text}"
            raise Refused(502, "M_BAD_STATUS", words, status=answered.status, body=text)
        self._hurry.set()
        return int((time.monotonic() - began) * 1000)
