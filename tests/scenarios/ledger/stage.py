"""The stage of the loss ledger: a homeserver, an IRC server and a bridge, each a process, and who speaks there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridgekit.testing.homeserver import RemoteFakeHomeserver
from bridgekit.testing.homeserver.events import Event
from bridgekit.testing.homeserver.faults import Delay
from bridgekit.testing.ledger import Ledger, find_marker, marker
from tests.bridge_process import BridgeProcess
from tests.ircd_process import RemoteIrcd
from tests.runtime.running import BOT, SERVER

CHANNEL = "#talk"
NETWORK = "net"
STATUS = "com.beeper.message_send_status"
CROWD = [f"ivan{i}" for i in range(60)]
IRC_PEOPLE = CROWD[:8]
MATRIX_PEOPLE = [f"mary{i}" for i in range(8)]


def network(port: int, room: str, **more: Any) -> dict[str, Any]:
    """The config of an IRC network on this machine, linked to `room`, that lets the bridge talk without a pause."""
    return {
        NETWORK: {
            "connector": "irc",
            "consent": "off",  # all channels here are our own
            "servers": [{"host": "127.0.0.1", "port": port, "tls": False}],
            "nick": "bridge",
            "flood": {"refill": 0},
            "links": [{"chat": CHANNEL, "room": room}],
            **more,
        }
    }


async def make_room(homeserver: RemoteFakeHomeserver) -> str:
    """A room with everybody who speaks in it, which the bridge's bot may enter and look after."""
    room = await homeserver.user("alice").create_room(preset="public_chat", invite=[BOT])
    await homeserver.user("alice").set_power(room, BOT, 100)
    for name in MATRIX_PEOPLE:
        await homeserver.user(name).join(room)
    return room


class Heard:
    """What arrived in the room so far, told to the ledgers."""

    def __init__(self, homeserver: RemoteFakeHomeserver, room: str) -> None:
        self.to_matrix = Ledger()
        self.to_irc = Ledger()
        self.said: dict[str, str] = {}  # event id -> marker
        self.fates: dict[str, list[str]] = {}  # marker -> the statuses that its sender was told, in order
        self.notices = 0
        self.copies: dict[str, list[str]] = {}  # marker -> what each copy in the room says of its making
        self._homeserver = homeserver
        self._room = room
        self._since = 0

    async def look(self) -> None:
        """Take in what is new in the room."""
        events = await self._homeserver.events(self._since)
        for place, event in enumerate(events, self._since):
            if event.room_id == self._room:
                self._take(event, place)
        self._since += len(events)

    def _take(self, event: Event, place: int) -> None:
        if event.type == STATUS:
            about = self.said[event.content["m.relates_to"]["event_id"]]
            status = event.content["status"]
            if status == "PENDING":
                return  # that is no fate yet
            self.fates.setdefault(about, []).append(status)
            if status == "FAIL_RETRIABLE":
                self.to_irc.uncertain(about)
            elif status == "FAIL_PERMANENT":
                self.to_irc.failed(about)
        elif event.type == "m.room.message" and event.sender == BOT:
            self.notices += 1
        elif event.type == "m.room.message" and (found := find_marker(event.body)) is not None:
            if event.sender.startswith("@_bk_"):
                self.to_matrix.received(found.id, event.sender, found.seq, float(place))
                source = str(event.content.get("org.bridgekit.source"))
                self.copies.setdefault(found.id, []).append(f"{source} at {event.origin_server_ts}")
            else:
                self.said[event.event_id] = found.id

    def told(self, status: str) -> list[str]:
        """Messages from Matrix whose sender was told so, once at least."""
        return [id for id, statuses in self.fates.items() if status in statuses]

    def untold(self) -> list[str]:
        """Messages from Matrix whose sender was never told what became of them."""
        return [id for id in self.said.values() if id not in self.fates]


class Stage:
    """Everything that runs, and what is known of it."""

    def __init__(
        self, homeserver: RemoteFakeHomeserver, ircd: RemoteIrcd, bridge: BridgeProcess, room: str
    ) -> None:
        self.homeserver = homeserver
        self.ircd = ircd
        self.bridge = bridge
        self.room = room
        self.heard = Heard(homeserver, room)
        self._transcript = 0

    async def ready(self) -> None:
        """Start the bridge and wait until a message crosses each way."""
        await self.bridge.start()
        await self.homeserver.wait_for(lambda e: e.type == "m.bridge", 30)

    async def slow_down(self) -> None:
        """Let both servers take their time, so that a kill finds calls without effect, and effects without answer."""
        await self.homeserver.fault("PUT */send/*", Delay(seconds=0.0, up_to=0.01))
        await self.homeserver.fault("PUT */send/*", Delay(seconds=0.0, up_to=0.02, after_effect=True))
        await self.ircd.order("fault", delay=0.02)

    async def talk_on_irc(
        self, each: int, rate: float, *, first: int = 0, people: Sequence[str] = IRC_PEOPLE
    ) -> None:
        """Everybody on IRC says `each` messages, from number `first` on, `rate` a second in all."""
        began = time.monotonic()
        for seq in range(first, first + each):
            for number, nick in enumerate(people):
                said = (seq - first) * len(people) + number
                await asyncio.sleep(began + said / rate - time.monotonic())
                id = marker(number, seq)
                ghost = f"@_bk_{NETWORK}_{nick}:{SERVER}"
                self.heard.to_matrix.sent(id, ghost, seq)
                await self.ircd.order("say", nick=nick, target=CHANNEL, text=f"{id} hello")

    async def talk_on_matrix(self, each: int, rate: float, *, first: int = 0, at_once: int = 25) -> None:
        """Everybody on Matrix says `each` messages, from number `first` on, `rate` a second in all."""
        for seq in range(first, first + each, at_once):
            count = min(at_once, first + each - seq)
            for said in await self.homeserver.chatter(self.room, MATRIX_PEOPLE, count, rate=rate, first=seq):
                name = said.sender[1:].partition(":")[0]
                self.heard.to_irc.sent(said.id, name, said.seq)

    async def look(self) -> None:
        """Feed the ledgers with what has arrived since the last look."""
        await self.heard.look()
        said = (await self.ircd.order("transcript", channel=CHANNEL, after=self._transcript))["said"]
        for place, (nick, text) in enumerate(said, self._transcript):
            if nick not in CROWD and (found := find_marker(text)) is not None:
                speaker = text.partition(">")[0].removeprefix("<")
                self.heard.to_irc.received(found.id, speaker, found.seq, float(place))
        self._transcript += len(said)

    async def settle(self, *, quiet: float = 15.0, seconds: float = 180.0) -> None:
        """Wait until nothing is missing and everybody was told, or nothing has moved for `quiet` seconds."""
        deadline = time.monotonic() + seconds
        before, moved = (-1, -1, -1), time.monotonic()
        while time.monotonic() < min(deadline, moved + quiet):
            await self.look()
            heard = self.heard
            now = (len(heard.to_matrix.missing()), len(heard.to_irc.missing()), len(heard.untold()))
            if not any(now):
                break
            if now != before:
                before, moved = now, time.monotonic()
            await asyncio.sleep(0.25)
        await asyncio.sleep(1.0)  # what comes twice comes after
        await self.look()

    def account(self) -> str:
        """The ledgers in words."""
        heard = self.heard
        fates = {
            status: len(heard.told(status)) for status in ("SUCCESS", "FAIL_RETRIABLE", "FAIL_PERMANENT")
        }
        doubled = {id: copies for id, copies in heard.copies.items() if len(copies) > 1}
        twice = f"twice in the room: {doubled}\n" if doubled else ""
        return (
            f"{twice}IRC to Matrix: {heard.to_matrix.report()}\nMatrix to IRC: {heard.to_irc.report()}\n"
            f"senders told: {fates}, nothing: {len(heard.untold())}; the bridge was started {self.bridge.starts} times"
        )

    async def is_clean(self) -> None:
        """Assert that all is as promised: nothing unexplained, every sender in order and told, no fault logged."""
        heard = self.heard
        to_matrix, to_irc = heard.to_matrix.report(), heard.to_irc.report()
        assert to_matrix.lost == to_matrix.doubled == 0, self.account()
        assert to_matrix.clean, self.account()
        assert to_irc.clean, self.account()
        assert heard.untold() == []
        assert heard.told("FAIL_PERMANENT") == []
        assert not set(heard.told("FAIL_RETRIABLE")) & set(
            heard.told("SUCCESS")
        )  # nobody doubts what was known
        assert to_irc.doubled == 0, self.account()
        for fault in ("fact_parked", "row_parked", "verb_failed", "task_failed", "store_write_failed"):
            assert self.bridge.events(fault) == []
        assert await self.homeserver.crashes() == []


@asynccontextmanager
async def stage(folder: Path, *, store: str | None = None, **irc: Any) -> AsyncIterator[Stage]:
    """The fake homeserver, the scripted ircd with everything that modern servers have, and a bridge between them.

    `irc` are further keys of the network's config.
    """
    bridge = BridgeProcess(folder)
    async with (
        RemoteFakeHomeserver.spawn(bridge.registration) as homeserver,
        RemoteIrcd.spawn(full=True) as ircd,
    ):
        room = await make_room(homeserver)
        await ircd.order("keep", channel=CHANNEL, count=1_000_000)
        for nick in CROWD:
            await ircd.order("join", nick=nick, channel=CHANNEL)
        irc = {"history_limit": 100_000, **irc}
        bridge.configure(homeserver.url, network(ircd.port, room, **irc), store=store)
        try:
            yield Stage(homeserver, ircd, bridge, room)
        finally:
            bridge.kill()
