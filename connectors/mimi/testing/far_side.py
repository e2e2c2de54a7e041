"""The other side for the contract suite: a provider that is the hub of an open room, and its people."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from bridgekit.contract import facts
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Person
from bridgekit.testing.contract import Ability
from connectors.mimi.clients.seat import Seat
from connectors.mimi.messages.parts import PLAIN, MimiContent, SinglePart, origin
from connectors.mimi.mls import installed
from connectors.mimi.service.people import People
from connectors.mimi.service.presets import MEMBER
from connectors.mimi.testing.cast import ROOM, Client, create
from connectors.mimi.testing.household import Household, framed
from connectors.mimi.testing.houses import House, Town, running
from connectors.mimi.wire import rooms
from connectors.mimi.wire.mls import RATCHET_TREE

HUB, BRIDGE = "a.example", "b.example"


class FarSide:
    """`bridgekit.testing.contract.Peer`."""

    abilities = frozenset({Ability.SAY})
    shared = ROOM
    somebody = ""
    nowhere = f"mimi://{HUB}/r/nowhere"

    def __init__(self, town: Town, household: Household) -> None:
        self.town = town
        self._household = household
        self._engine = town.engine
        self._clients: dict[str, Client] = {}
        self._alice = Client("alice", HUB, engine=town.engine)

    @property
    def house(self) -> House:
        return self.town[HUB]

    async def begin(self) -> None:
        """Alice makes the room."""
        self._household.move_in(self._alice)
        seat = create(self._alice, self.house.signer, open_=True)
        self._household.sit(self._alice, seat)
        await self.house.provider.make_room(ROOM, seat.group.group_info(), seat.group.ratchet_tree())
        self._household.tidy = self._tidy

    async def _tidy(self, room: str) -> None:
        """Alice commits what others proposed: somebody must (RFC 9420 12.4)."""
        seat = self._household.seats[self._alice.uri, room]
        bundle = seat.tidy()
        answer = await self.house.provider.update(room, bundle, HUB)
        if isinstance(answer, rooms.Updated):
            seat.accepted()
            await self._household.heard(room, [rooms.CommitFanout(answer.accepted, bundle.message)])
        else:
            seat.refused()

    async def say(self, chat: ChatId, who: str, words: str) -> None:
        client = await self._joined(who)
        message = MimiContent(
            salt=secrets.token_bytes(16),
            part=SinglePart(content_type=PLAIN, content=words.encode()),
            extensions=origin(client.user, ROOM),
        )
        for _ in range(100):
            request = self._household.seats[client.uri, ROOM].say(framed(message), message.salt)
            answer = await self.house.provider.submit(ROOM, request, HUB)
            if isinstance(answer, rooms.Accepted):
                return
            await asyncio.sleep(0.05)  # an epoch behind: the hub's own users hear through its outbox as well
        raise TimeoutError(f"{who} cannot speak: {answer}")

    async def _joined(self, who: str) -> Client:
        if who in self._clients:
            return self._clients[who]
        client = Client(who, HUB, engine=self._engine)
        for _ in range(100):
            room = self.house.provider.room(ROOM)
            found = rooms.GroupInfoAndTree(
                room.group_info, rooms.FullTree(RATCHET_TREE.decode(room.ratchet_tree()))
            )
            seat, commit = Seat.join_external(
                self._engine, client.identity, found, user=client.user, room_uri=ROOM, role=MEMBER
            )
            answer = await self.house.provider.update(ROOM, commit, HUB)
            if isinstance(answer, rooms.Updated):
                # In the order of the epochs: what came before is on its way through the outbox.
                await self._household.until(partial(self._all_in, commit.message.epoch))
                await self._household.heard(ROOM, [rooms.CommitFanout(answer.accepted, commit.message)])
                self._household.move_in(client)
                self._household.sit(client, seat)
                self._clients[who] = client
                return client
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{who} cannot join: {answer}")

    def _all_in(self, epoch: int) -> bool:
        return all(seat.group.epoch >= epoch for seat in self._household.seats.values())

    async def whisper(self, to: Person, who: str, words: str) -> None:
        raise NotImplementedError

    async def received(self, chat: ChatId) -> list[str]:
        return [
            fact.content.text.body
            for fact in self._household.facts[self._alice.uri]
            if isinstance(fact, facts.Message) and fact.sender.id.startswith(f"mimi://{BRIDGE}/")
        ]

    async def injected(self, mark: str) -> list[str]:
        return []  # bodies are counted octets: there is no line or header to put anything into

    async def drop(self) -> None:
        raise NotImplementedError

    async def refuse_logins(self) -> None:
        raise NotImplementedError


class Ground(msgspec.Struct, frozen=True):
    """What the bridge's side needs: files and addresses."""

    certificate: Path
    key: Path
    authorities: Path
    peers: dict[str, str]


@asynccontextmanager
async def far_side(folder: Path, port: int) -> AsyncIterator[tuple[FarSide, Ground]]:
    """The hub, running; the bridge is awaited at `port`."""
    engine = installed()
    household = Household(engine, People())
    town = Town(folder, engine, HUB, local=lambda domain: household)
    credentials = town.authority.issue(BRIDGE)
    house = town[HUB]
    house.addresses[BRIDGE] = f"https://127.0.0.1:{port}"
    async with running(house, engine):
        side = FarSide(town, household)
        await side.begin()
        ground = Ground(
            credentials.certificate, credentials.key, town.authority.path, {HUB: house.addresses[HUB]}
        )
        yield side, ground
