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
        self._unknown_users: dict[str, None] = {}
        self._asked_users: set[str] = set()
        self._rooms: dict[str, tuple[int, bool]] = {}
        self._past: deque[tuple[str, bytes]] = deque(maxlen=REMEMBERED_TRANSACTIONS)
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
            if not self._events and not self._ephemeral:
                self._quiet.set()
                self._wake.clear()
                await self._wake.wait()
            await self._up.wait()
            await self._ask_for_users()
            async with self._one_at_a_time:
                count, body = self._next_body()
                txn = str(self._next_txn)
                self._next_txn += 1
                await self._deliver(self._posts, txn, body)
                self._took.set()
                self._past.append((txn, body))
                self.delivered += count

    def _next_body(self) -> tuple[int, bytes]:
        events = [self._events.popleft() for _ in range(min(self._batch, len(self._events)))]
        ephemeral = [self._ephemeral.popleft() for _ in range(min(self._batch, len(self._ephemeral)))]
        body = b'{"events":[%b]' % b",".join(events)
        if self.registration.receive_ephemeral:
            body += b',"ephemeral":[%b]' % b",".join(ephemeral)
        return len(events), body + b"}"

    async def _deliver(self, courier: Courier, txn: str, body: bytes) -> None:
        path = f"/_matrix/app/v1/transactions/{txn}"
        wait = self._first_wait
        self.transactions += 1
        while True:
            await self._up.wait()
            suffering = self._faults.draw("PUT", path) if self._faults.rules else None
            try:
                if await self._attempt(courier, path, body, suffering):
                    break
            except (OSError, TimeoutError):
                pass
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
