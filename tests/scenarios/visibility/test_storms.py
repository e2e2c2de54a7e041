"""Storms of netsplits, reconnects and a gate that opens and closes, on real servers: every message has its end."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest

from bridgekit.testing.ledger import find_marker, marker
from bridgekit.testing.person import Person
from bridgekit.testing.servers.bridge import BridgeProcess
from bridgekit.testing.servers.process import private_directory
from bridgekit.testing.servers.synapse import Account as Matrix
from bridgekit.testing.servers.synapse import Synapse, find_python
from connectors.irc.protocol.wire import Line, parse
from connectors.irc.testing.linked import Linked, linked_inspircds
from tests.scenarios.visibility.accounts import (
    Account,
    Arrived,
    Told,
    from_irc,
    from_matrix,
    late,
    read_unseen,
    said,
)
from tests.scenarios.visibility.crowd import Member, Road, crowd, together

CHANNEL, NETWORK, RELAY, SERVER = "#storm", "net", "stormbridge", "storm.test"
STATUS = "com.beeper.message_send_status"
EACH = 250
"""People on each of the two servers."""
SPEAKERS = 6
"""Of them on each server, who talk."""
READERS = ["ann", "ben", "cat", "dan"]
"""People on Matrix, each with an account of their own in the channel."""
EVERY = 0.8
"""Seconds between two messages of one speaker."""
STILL = 90.0
"""Seconds without a fate more, after which what is open counts as forgotten."""


@dataclass
class Storm:
    """Everything that runs, who talks, and what they have said."""

    servers: Linked
    road: Road
    sides: list[list[Member]]
    synapse: Synapse
    bridge: BridgeProcess
    alice: Person
    room: str
    readers: dict[str, Matrix]
    talk: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody says anything while it is not set."""
    sent: dict[str, str] = field(default_factory=dict)
    """What was said in Matrix: marker, and event id."""

    @property
    def here(self) -> Member:
        """Who listens on the bridge's server."""
        return self.sides[0][0]

    @property
    def beyond(self) -> Member:
        return self.sides[1][0]

    @property
    def speakers(self) -> list[Member]:
        return [member for side in self.sides for member in side[1 : SPEAKERS + 1]]

    @property
    def people(self) -> set[str]:
        return {member.nick for member in self.speakers}

    # Talking ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def everybody_talking(self) -> AsyncIterator[None]:
        """While the block lasts, and each ends the sentence."""
        stop = asyncio.Event()
        self.talk.set()
        async with asyncio.TaskGroup() as group:
            for number, member in enumerate(self.speakers):
                group.create_task(self._talk_on_irc(number, member, stop))
            for number, account in enumerate(self.readers.values(), len(self.speakers)):
                group.create_task(self._talk_on_matrix(number, account, stop))
            try:
                yield
            finally:
                stop.set()

    async def _talk_on_irc(self, number: int, member: Member, stop: asyncio.Event) -> None:
        seq = 0
        while not stop.is_set():
            await self.talk.wait()
            seq += member.say(f"{marker(number, seq)} hello")
            await asyncio.sleep(EVERY)

    async def _talk_on_matrix(self, number: int, account: Matrix, stop: asyncio.Event) -> None:
        seq = 0
        while not stop.is_set():
            await self.talk.wait()
            await self.says(account, marker(number, seq), bold=seq % 4 == 2)
            seq += 1
            await asyncio.sleep(EVERY)

    async def says(self, account: Matrix, id: str, *, bold: bool = False) -> None:
        """Somebody on Matrix says a marker. In bold it is refused: the channel takes no formatting (mode +c)."""
        path = f"/_matrix/client/v3/rooms/{quote(self.room)}/send/m.room.message/{id}"
        content = {"msgtype": "m.text", "body": f"{id} hello"}
        if bold:
            content |= {"format": "org.matrix.custom.html", "formatted_body": f"<b>{id} hello</b>"}
        answer = await self.synapse.request("PUT", path, content, token=account.access_token)
        self.sent[id] = answer["event_id"]

    # Waiting ---------------------------------------------------------------------------------------------------

    async def all_see(self, nicks: set[str], *, there: bool) -> None:
        """Wait until the listeners on both servers have seen these come, or those of the other server go."""
        for listener in (self.here, self.beyond):
            async with asyncio.timeout(90):
                while not all(present(listener.lines, nick) is there for nick in nicks - {listener.nick}):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    # What is known ---------------------------------------------------------------------------------------------

    def arrived(self) -> list[Arrived]:
        """The crowd's messages in the room, in its order, each with the moment at which the homeserver took it."""
        with closing(sqlite3.connect(self.synapse.folder / "homeserver.db", timeout=30)) as database:
            rows = database.execute(
                "SELECT event_id, received_ts FROM events WHERE room_id = ?", (self.room,)
            ).fetchall()
        times = dict(rows)
        return [
            Arrived(found.id, event.sender, times[event.id])
            for event in self.alice.seen.all
            if event.room == self.room
            and event.sender.startswith("@_bk_")
            and event.type == "m.room.message"
            and (found := find_marker(event.body))
        ]

    def told(self) -> dict[str, Told]:
        """What each who spoke in Matrix was told last."""
        markers = {event: id for id, event in self.sent.items()}
        return {
            markers[about]: Told(event.content["status"], event.content.get("message", ""))
            for event in self.alice.seen.all
            if event.type == STATUS
            and (about := event.relates.get("event_id")) in markers
            and event.content["status"] != "PENDING"
        }

    def irc_account(self, held: set[str] | None = None) -> Account:
        return from_irc(
            lines(self.here), lines(self.beyond), self.road.handed, self.arrived(),
            people=self.people, relay=RELAY, held=held or set(),
        )  # fmt: skip

    def heard(self) -> list[list[str]]:
        """The markers that came from Matrix, as each listener heard them."""
        ours = {*READERS, RELAY}
        return [
            [id for line in lines(listener) if (id := said(line, ours))]
            for listener in (self.here, self.beyond)
        ]

    def matrix_account(self) -> Account:
        return from_matrix(self.sent, self.told(), self.heard())

    def open_ends(self) -> tuple[int, int]:
        """How many messages have no fate yet: from IRC, and from Matrix."""
        times = {message.id for message in self.arrived()}
        given = {id for one in self.road.handed if (id := said(one.line, self.people))}
        return len(given - times), len(self.sent.keys() - self.told().keys())

    async def settled(self) -> None:
        """Wait until nothing is open. What comes twice comes after. Raises AssertionError where nothing moves for
        long: how fast a homeserver works off what was held is its own affair."""
        loop = asyncio.get_running_loop()
        before, moved = self.open_ends(), loop.time()
        while any(now := self.open_ends()):
            if now != before:
                before, moved = now, loop.time()
            assert loop.time() - moved < STILL, f"{self.irc_account()}\n{self.matrix_account()}"
            await asyncio.sleep(0.5)
        await asyncio.sleep(2)


def lines(member: Member) -> list[Line]:
    """What somebody in the channel saw."""
    return [line for raw in member.lines if (line := parse(raw.encode())) is not None]


def present(seen: list[str], nick: str) -> bool:
    """Whether somebody is in the channel, by the last that was seen of them."""
    for raw in reversed(seen):
        if raw.startswith(f":{nick}!") and (found := re.match(r"\S+ (JOIN|QUIT|PART) ", raw)):
            return found[1] == "JOIN"
    return False


@asynccontextmanager
async def storm() -> AsyncIterator[Storm]:
    """Two linked servers, five hundred people in a channel, a bridge, a Synapse, and a room that is linked to it."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(linked_inspircds())
        sides = await stack.enter_async_context(crowd(servers.ports, CHANNEL, EACH, SPEAKERS))
        road = await stack.enter_async_context(Road(servers.ports, RELAY).open())
        folder = stack.enter_context(private_directory("storm"))
        for part in ("synapse", "bridge"):
            (folder / part).mkdir()
        synapse = Synapse(folder / "synapse", find_python(), SERVER, [])
        bridge = BridgeProcess(
            folder / "bridge",
            homeserver_url=synapse.base_url,
            server_name=SERVER,
            permissions={f"@bridgeadmin:{SERVER}": "admin", f"@alice:{SERVER}": "user", SERVER: "user"},
            networks={
                NETWORK: {
                    "connector": "irc",
                    "consent": "off",  # all channels here are our own
                    "nick": RELAY,
                    "servers": [{"host": "127.0.0.1", "port": road.port, "tls": False}],
                    "puppets": {"mode": "auto", "nick": "{localpart}", "connects_per_second": 50},
                    "flood": {"refill": 0, "lead_max": 0},
                    "members": "active",  # what a Synapse here takes in 500 joins is no part of this test
                }
            },
        )
        synapse.registrations.append(bridge.registration)
        await synapse.start()
        stack.push_async_callback(synapse.stop)
        await bridge.start()
        stack.push_async_callback(bridge.stop)
        accounts = {name: await synapse.register(name) for name in ("alice", *READERS)}
        alice = await stack.enter_async_context(Person(synapse.base_url, accounts["alice"]))
        room = await alice.create_room(
            preset="public_chat",
            invite=[bridge.bot],
            power_level_content_override={"users": {bridge.bot: 100}},
        )
        await alice.sees(room, lambda e: e.sender == bridge.bot and e.kind == "m.notice", what="the bot")
        for name in READERS:
            await synapse.request(
                "POST", f"/_matrix/client/v3/join/{quote(room)}", {}, token=accounts[name].access_token
            )
        await alice.say(room, f"!bridge link {NETWORK} {CHANNEL}")
        await alice.sees(room, lambda e: "is now linked" in e.body, what="the link")
        here = Storm(
            servers, road, sides, synapse, bridge, alice, room, {name: accounts[name] for name in READERS}
        )
        await here.all_see({RELAY, "alice", *READERS}, there=True)
        yield here


async def banned(here: Storm, nick: str) -> None:
    """The network bans one person; returns when they have seen them go."""
    came = next(line for line in reversed(lines(here.here)) if line.nick == nick and line.command == "JOIN")
    await here.servers.operator.send(f"GLINE {came.user}@* 1h :no more of this")
    await here.all_see({nick}, there=False)


@pytest.mark.timeout(900)
async def test_under_gate_netsplit_and_reconnect_storms_every_message_has_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Five hundred members; while everybody talks: two netsplits, two hundred and fifty who reconnect at once, the
    bridge's connection cut twice, in a netsplit too, its puppets' cut once. Then one puppet is put out for good.

    Every message is delivered once, failed with why, or held with why, and none in silence. What the bridge was not
    given, since it was away (which the room is told) or on the other side of a netsplit, is counted apart: no client
    of IRC hears that.
    """
    ours = {RELAY, "alice", *READERS}
    async with storm() as here:
        here.here.send(f"MODE {CHANNEL} +c")
        async with here.everybody_talking():
            await asyncio.sleep(3)
            await here.servers.part()
            await asyncio.sleep(4)
            await here.servers.heal()
            await here.all_see(ours, there=True)
            await asyncio.sleep(2)

            for member in here.sides[1][1:]:
                member.drop()
            await together(here.sides[1][1:])
            here.road.cut(RELAY)
            await asyncio.sleep(3)
            for nick in ("alice", *READERS):
                here.road.cut(nick)
            await asyncio.sleep(2)
            await here.all_see(ours, there=True)

            # Once with nothing under way: what a gate that is open would let through, it lets through at once.
            here.talk.clear()
            await here.settled()
            await here.servers.part()
            here.talk.set()
            await asyncio.sleep(6)
            here.road.cut(RELAY)
            await asyncio.sleep(3)
            await here.servers.heal()
            await here.all_see(ours, there=True)
            await asyncio.sleep(2)
        await here.settled()
        irc, matrix = here.irc_account(), here.matrix_account()
        with capsys.disabled():
            sys.stdout.write(f"\nIRC to Matrix, {irc}\nMatrix to IRC, {matrix}\n")
        assert (irc.wrong, irc.fates["unexplained"]) == ([], 0)
        assert (matrix.wrong, matrix.fates["unexplained"]) == ([], 0)
        assert min(irc.fates["delivered"], matrix.fates["delivered"]) > 0
        assert matrix.fates["failed, with why"] > 0
        assert irc.fates["said beyond a netsplit"] > 0
        assert irc.fates["said while the bridge was away"] > 0
        for _ in range(2):  # what nobody can fetch, the room is told of, once for each time
            await here.alice.sees(here.room, lambda e: f"The bridge was away from {CHANNEL} for" in e.body)
        assert late(message.id for message in here.arrived()) == []
        for heard in here.heard():
            assert late(heard) == []
        unseen, waited = read_unseen(here.road.handed, here.arrived(), {"alice", *READERS}, here.people)
        assert unseen == []
        assert waited > 0
        with capsys.disabled():
            sys.stdout.write(
                f"{waited} messages were said while a reader's puppet was not there: 0 read unseen\n"
            )

        # Somebody whom the network bans, and who stays in the room: what is said is held, and the room is told why.
        await banned(here, "dan")
        await asyncio.sleep(1)
        held = {marker(number, 900_000) for number in range(len(here.speakers))}
        for id, member in zip(sorted(held), here.speakers, strict=True):
            assert member.say(f"{id} hello")
        why = await here.alice.sees(
            here.room,
            lambda e: "@dan:storm.test is in this room" in e.body and "has banned" in e.body,
            what="why words are held",
        )
        count = re.match(r"⚠ (\d+) messages from #storm on net are held", why.body)
        assert count is not None
        assert int(count[1]) >= 1
        irc = here.irc_account(held)
        assert (irc.wrong, irc.fates["held"]) == ([], len(held))
        path = f"/_matrix/client/v3/rooms/{quote(here.room)}/leave"
        await here.synapse.request("POST", path, {}, token=here.readers["dan"].access_token)
        await here.settled()
        irc = here.irc_account()
        assert (irc.wrong, irc.fates["held"], irc.fates["unexplained"]) == ([], 0, 0)
        bad = {"fact_parked", "row_parked", "verb_failed", "task_failed", "store_write_failed"}
        assert [said for said in here.bridge.complaints() if said["event"] in bad] == []
