"""The fake homeserver as a test holds it: start, drive, disturb, look."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridgekit.testing.homeserver.acts import LocalActs
from bridgekit.testing.homeserver.api.app import App, Refusal
from bridgekit.testing.homeserver.delivery import Delivery
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.faults import Fault, Faults, Rule
from bridgekit.testing.homeserver.http import Listener
from bridgekit.testing.homeserver.people import Human
from bridgekit.testing.homeserver.refusals import Json
from bridgekit.testing.homeserver.registration import Registration
from bridgekit.testing.homeserver.rooms import Room
from bridgekit.testing.homeserver.tasks import Tasks
from bridgekit.testing.homeserver.traffic import Said, chatter
from bridgekit.testing.homeserver.world import World


class FakeHomeserver:
    """A homeserver for one or more appservices, in this process, for as long as its `async with` lasts.

    `registrations` are `Registration`s, plain dicts or paths of YAML files. `port` 0 picks a free one.
    `retry` is the back-off of transactions in seconds (first, longest), `batch` the most events in one.
    Leaving the block raises RuntimeError if the fake itself had a bug (see `crashes`).
    """

    def __init__(
        self,
        *registrations: Registration | Json | str | Path,
        server_name: str = "hs.test",
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        retry: tuple[float, float] = (0.02, 1.0),
        batch: int = 100,
        max_upload: int = 50 * 1024 * 1024,
    ) -> None:
        self.server_name = server_name
        self.registrations = [Registration.of(source) for source in registrations]
        self.faults = Faults(seed)
        self.world = World(
            server_name, self.registrations, wall=_wall, monotonic=time.monotonic, salt=f"seed{seed}x"
        )
        self.deliveries = {
            registration.id: Delivery(
                registration, self.world, self.faults, first_wait=retry[0], longest_wait=retry[1], batch=batch
            )
            for registration in self.registrations
        }
        self.app = App(self.world, self.faults, self.deliveries, max_upload=max_upload)
        self.keys = self.app.keys
        self.keys.watchers.extend(self.deliveries.values())
        for delivery in self.deliveries.values():
            delivery.keys = self.keys
        self.acts = LocalActs(self.app)
        self._host = host
        self._port = port
        self._tasks = Tasks()
        self._listener = Listener(self.app, self._tasks)
        self._humans: dict[str, Human] = {}
        self._waits: list[tuple[Callable[[Event], bool], asyncio.Future[Event]]] = []
        self._moved = asyncio.Event()
        self.world.watchers.extend([*self.deliveries.values(), self])

    async def __aenter__(self) -> Self:
        await self.resume()
        for name, delivery in self.deliveries.items():
            self._tasks.spawn(delivery.run(), name=f"fake-homeserver-delivery-{name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.app.close()
        for delivery in self.deliveries.values():
            delivery.stop()
        await self._tasks.aclose()
        if error is None and self.app.crashes:
            raise RuntimeError(f"the fake homeserver has a bug:\n{self.app.crashes[0]}")

    # Where it is

    @property
    def port(self) -> int:
        """The port that it listens on, also while it is paused."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL for clients and bridges."""
        return f"http://{self._host}:{self._port}"

    # People

    def user(self, name: str) -> Human:
        """Return a person by local name or full id; the account is made the first time."""
        user = self.world.user_id(name)
        if user not in self._humans:
            human = self._humans[user] = Human(self.acts, user, self.server_name)
            if user not in self.world.profiles:
                self.world.register(user)
            self.app.give_token(user, human.token)
        return self._humans[user]

    async def chatter(
        self,
        room: str,
        speakers: list[str],
        each: int,
        *,
        rate: float | None = None,
        first: int = 0,
        text: str = "hello",
    ) -> list[Said]:
        """Let people, who are in the room, take turns until everyone has said `each` numbered messages.

        `rate` is messages per second in all; None is as fast as the appservices accept them. See `traffic`.
        """
        names = [self.world.user_id(name) for name in speakers]
        room_id, deliveries = self.room(room).room_id, list(self.deliveries.values())
        return await chatter(self.world, deliveries, room_id, names, each, rate=rate, first=first, text=text)

    # Looking

    def room(self, room: str) -> Room:
        """Return a room by id or alias; raise `Refused` 404 where there is none."""
        return self.world.resolve(room)

    def timeline(self, room: str) -> list[Event]:
        """Return a room's events, state and messages, oldest first, redacted where they were."""
        return list(self.room(room).timeline)

    def messages(self, room: str) -> list[Event]:
        """Return a room's m.room.message events, oldest first."""
        return [event for event in self.room(room).timeline if event.type == "m.room.message"]

    def state(self, room: str, type: str, state_key: str = "") -> Json | None:
        """Return the content of a state event, None where there is none."""
        event = self.room(room).state.get((type, state_key))
        return None if event is None else event.content

    def members(self, room: str) -> dict[str, str]:
        """Return everybody's membership: user id to "join", "invite", "leave" or "ban"."""
        return dict(self.room(room).members)

    def joined(self, room: str) -> list[str]:
        """Return who is in the room, in the order of joining."""
        return list(self.room(room).joined)

    def invitations(self, user: str) -> list[str]:
        """Return the rooms that a user is invited to."""
        wanted = self.world.user_id(user)
        return [room.room_id for room in self.world.rooms.values() if room.members.get(wanted) == "invite"]

    @property
    def position(self) -> int:
        """How many events there are in all rooms together; `since` of the calls below."""
        return len(self.world.stream)

    def events(self, since: int = 0) -> list[Event]:
        """Return the events of all rooms in the order of arrival, as they were then (not redacted)."""
        return self.world.stream[since:]

    def arrivals(
        self, room: str | None = None, since: int = 0, type: str = "m.room.message"
    ) -> list[tuple[Event, float]]:
        """Return events of a type with the time.monotonic() of their arrival, for a ledger or a bench.

        That clock is common to all processes of a machine.
        """
        wanted = None if room is None else self.room(room).room_id
        stream = zip(self.world.stream[since:], self.world.arrived[since:], strict=True)
        return [(event, at) for event, at in stream if event.type == type and wanted in (None, event.room_id)]

    async def wait_for(
        self, wanted: Callable[[Event], bool], timeout: float = 60.0, *, since: int = 0
    ) -> Event:
        """Return the first event, past (from position `since`) or to come, for which `wanted` is true.

        Raise TimeoutError after `timeout` seconds.
        """
        for event in self.world.stream[since:]:
            if wanted(event):
                return event
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        wait = (wanted, future)
        self._waits.append(wait)
        try:
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._waits.remove(wait)

    async def wait_position(self, position: int, timeout: float = 20.0) -> int:
        """Return the position once it is past `position`, or when `timeout` is over."""
        try:
            async with asyncio.timeout(timeout):
                while self.position <= position:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            pass
        return self.position

    @property
    def calls(self) -> Counter[str]:
        """How often each endpoint was called, by names like "PUT rooms/*/send/*/*"."""
        return self.app.calls

    @property
    def unknown_calls(self) -> list[str]:
        """Calls that this homeserver does not know: assert that it is empty."""
        return self.app.unknown_calls

    @property
    def refusals(self) -> deque[Refusal]:
        """The last thousand error answers (not those made by faults)."""
        return self.app.refusals

    @property
    def crashes(self) -> list[str]:
        """Tracebacks of the fake's own bugs."""
        return self.app.crashes

    def stats(self) -> dict[str, Any]:
        """Return the counters of the sending side, by appservice id."""
        return {
            name: {
                "transactions": delivery.transactions,
                "retries": delivery.retries,
                "delivered": delivery.delivered,
                "backlog": delivery.backlog(),
            }
            for name, delivery in self.deliveries.items()
        }

    # Disturbing

    def fault(
        self,
        pattern: str,
        fault: Fault,
        *,
        p: float = 1.0,
        times: int | None = None,
        skip: int = 0,
        user: str | None = None,
    ) -> Rule:
        """Let calls that match `pattern` suffer (see `faults.Rule`); return the rule, for its `hits`."""
        return self.faults.add(pattern, fault, p=p, times=times, skip=skip, user=user)

    def heal(self, rule: Rule | None = None) -> None:
        """Take one rule back, or all."""
        if rule is None:
            self.faults.clear()
        else:
            self.faults.remove(rule)

    async def pause(self) -> None:
        """Go down: refuse connections, drop those there are, deliver nothing. Memory stays."""
        self._listener.close()
        for delivery in self.deliveries.values():
            delivery.stop()

    async def resume(self) -> None:
        """Come back on the same port; the transaction under way is delivered again under its id."""
        self._port = await self._listener.open(self._host, self._port)
        for delivery in self.deliveries.values():
            delivery.start()

    async def restart(self, *, down: float = 0.0, redeliver: int = 0) -> None:
        """Restart: connections drop, transaction ids are forgotten, `redeliver` old transactions come again."""
        await self.pause()
        self.forget_txns()
        await asyncio.sleep(down)
        await self.resume()
        await self.redeliver(redeliver)

    def drop_connections(self) -> None:
        """Cut every connection to the homeserver, and go on."""
        self._listener.drop_connections()

    def know_appservices(self, known: bool) -> None:
        """Take every appservice for a stranger, as a homeserver does that was started without their registrations."""
        self.app.knows_appservices = known

    def forget_txns(self) -> None:
        """Forget the transaction ids of sends (not those of devices), as a restart of Synapse does."""
        self.app.forget_txns()

    async def redeliver(self, count: int = 1) -> None:
        """Deliver the last accepted transactions again, under their old ids."""
        for delivery in self.deliveries.values():
            await delivery.redeliver(count)

    def withhold(self, count: int = 1) -> None:
        """Leave the next `count` transactions with events behind until `release`."""
        for delivery in self.deliveries.values():
            delivery.withhold(count)

    @property
    def withheld(self) -> int:
        """How many transactions were left behind."""
        return sum(delivery.withheld for delivery in self.deliveries.values())

    async def release(self) -> None:
        """Deliver what was left behind."""
        for delivery in self.deliveries.values():
            await delivery.release()

    async def settled(self, timeout: float = 60.0) -> None:
        """Return once the appservices have accepted everything; raise TimeoutError past `timeout` seconds."""
        async with asyncio.timeout(timeout):
            for delivery in self.deliveries.values():
                await delivery.settled()

    # Watcher of the world

    def on_event(self, room: Room, event: Event, encoded: bytes) -> None:
        """Wake who waits for it; what a test's question raises is raised in that test."""
        self._moved.set()
        for wanted, future in self._waits:
            try:
                if not future.done() and wanted(event):
                    future.set_result(event)
            except Exception as error:
                future.set_exception(error)

    def on_ephemeral(self, room: Room, edu: Json) -> None:
        """Nobody waits for these."""


def _wall() -> int:
    return time.time_ns() // 1_000_000
