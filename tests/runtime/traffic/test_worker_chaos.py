"""Whatever goes wrong on the way and whenever the process ends: nothing is lost, doubled, reordered or left untold."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from bridgekit.contract import facts
from bridgekit.contract.errors import Disconnected, RateLimited, SendRejected, SendUncertain
from bridgekit.contract.ids import MATRIX, MessageId, PersonId, PortalKey
from bridgekit.contract.people import Person
from bridgekit.contract.verbs import PostMessage, Sent
from bridgekit.core.model import SideView
from bridgekit.runtime.cases import Fate
from bridgekit.runtime.traffic.steps import Step
from bridgekit.store import SealingKey, Store
from tests.runtime.traffic.surroundings import (
    ANN,
    BOB,
    CHANNEL,
    LOGINS,
    MATRIX_SIDE,
    PARROT,
    Around,
    Scene,
    said,
)

SIDES = (MATRIX_SIDE, CHANNEL, PARROT)
PEOPLE = {
    MATRIX_SIDE: [ANN, BOB, Person(id=PersonId("@eve:example.org"), name="Eve")],
    CHANNEL: [Person(id=PersonId(name), name=name) for name in ("ada", "cyd")],
    PARROT: [Person(id=PersonId(name), name=name) for name in ("polly",)],
}
LIMIT_MESSAGES = 40


class World:
    """What was said, and what came of it, over all the lives of the process."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.dice = random.Random(seed)
        self.arrived: dict[PortalKey, list[tuple[str, str]]] = {side: [] for side in SIDES}  # (actor, words)
        self.spoken: list[tuple[PortalKey, Person, str]] = []
        self.fates: dict[int, dict[PortalKey, Fate]] = {}
        self.numbers: dict[str, int] = {}
        self.scene = self._live()

    def _live(self) -> Scene:
        around = Around(
            self.store,
            SideView(key=CHANNEL, label="IRCnet", logins=LOGINS),
            SideView(key=PARROT, label="Parrot"),
        )
        around.behave = self._behave
        return Scene(self.store, around)

    async def _behave(self, step: Step) -> Sent | None:
        side, verb = step.action.side, step.action.verb
        assert isinstance(verb, PostMessage)
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(0)
        match self.dice.randrange(20) if side.network != MATRIX else 9:
            case 0:
                raise Disconnected("Lost.")
            case 1:
                raise RateLimited("Slower.", retry_after=0.001)
            case 2:
                raise SendRejected("No.")
            case 3:
                raise ZeroDivisionError
            case 4:
                raise SendUncertain("Perhaps.")
            case _:
                pass
        words = verb.content.text.body
        # The homeserver knows what it was sent before by its transaction id.
        if side.network != MATRIX or (step.action.actor, words) not in self.arrived[side]:
            self.arrived[side].append((step.action.actor, words))
        await asyncio.sleep(0)
        return Sent(id=MessageId(f"{side.network}/{words}"))

    async def say(self, count: int) -> None:
        for _ in range(count):
            side = self.dice.choice(SIDES)
            who = self.dice.choice(PEOPLE[side])
            words = f"{len(self.spoken)}"
            before = [w for s, _, w in self.spoken if s == side]
            reply = MessageId(self.dice.choice(before)) if before and self.dice.random() < 0.3 else None
            self.spoken.append((side, who, words))
            (self.numbers[words],) = await self.scene.hear(side, said(side, who, words, reply_to=reply))

    async def crash(self) -> None:
        """The process ends in the middle of everything; the next one takes up what is on disk."""
        await asyncio.sleep(self.dice.random() * 0.004)
        await self.scene.stop()
        self._collect()
        await self.store.commit()
        self.scene = self._live()
        for row in await self.store.inbox.pending():
            origin = PortalKey(row.side, row.chat, row.receiver)
            self.scene.take_up(row.id, origin, facts.decode(row.body), recovering=True)

    async def end(self) -> None:
        await self.scene.quiet()
        await self.scene.stop()
        self._collect()

    def _collect(self) -> None:
        for number, fates in self.scene.around.told:
            self.fates[number] = {side: fate for side, fate, _ in fates}


@pytest.mark.parametrize("seed", range(25))
async def test_everything_that_was_said_arrives_once_in_order_or_its_sender_knows(seed: int, tmp_path: Path):
    store = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", SealingKey.generate())
    world = World(store, seed)
    for _ in range(4):
        await world.say(LIMIT_MESSAGES // 4)
        if seed % 5:  # every fifth life is a long one
            await world.crash()
    await world.end()
    assert await store.inbox.count() == 0
    assert await store.inbox.parked() == []
    for side in SIDES:
        arrived = [words for _, words in world.arrived[side]]
        assert len(set(arrived)) == len(arrived), "doubled"
        for origin, _, words in world.spoken:
            if origin == side:
                assert words not in arrived, "it went back to where it came from"
                continue
            fate = world.fates[world.numbers[words]][side]
            if words in arrived:
                assert fate is not Fate.FAILED
            else:
                assert fate is not Fate.DELIVERED, f"{words} was lost on {side}"
        for actor in {actor for actor, _ in world.arrived[side]}:
            mine = [int(words) for who, words in world.arrived[side] if who == actor]
            assert mine == sorted(mine), f"{actor} was reordered on {side}"
    for origin, _, words in world.spoken:
        copies = await store.copies.of(origin.network, origin.chat, MessageId(words))
        for side in SIDES:
            named = [c.id for c in copies if (c.side, c.chat) == (side.network, side.chat)]
            fate = Fate.DELIVERED if side == origin else world.fates[world.numbers[words]][side]
            if fate is Fate.DELIVERED:
                assert named == [words if side == origin else f"{side.network}/{words}"]
    await store.close()
