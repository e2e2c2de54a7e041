"""The ledger: on a server that cuts the connection again and again, every message has the fate that is told."""

import asyncio
import random
from collections import Counter

import pytest

from bridgekit.contract.errors import Disconnected, SendUncertain
from bridgekit.contract.facts import ChatOpened, Message
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import PostMessage, Sent
from connectors.irc.testing.harness import MemoryHost, Running, network_of, running
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd

MESSAGES = 1500
C = ChatId("#c")


class Bridge:
    """Keeps a session alive, as the runtime does; sends in order, again what was not sent."""

    def __init__(self, ircd: Ircd) -> None:
        self.ircd = ircd
        self.host = MemoryHost(["#c"])
        self.network = network_of(ircd, self.host)
        self.up: Running | None = None
        self.heard: list[str] = []
        self.changed = asyncio.Event()
        self.fates: dict[int, str] = {}

    async def live(self) -> None:
        while True:
            try:
                async with running(self.network) as bridge:
                    await bridge.fact(ChatOpened)
                    self.up = bridge
                    self.changed.set()
                    try:
                        assert bridge.task is not None
                        await asyncio.wait([bridge.task])
                    finally:
                        self.up = None
                        self.heard += [m.id for m in bridge.all(Message)]
            except (Disconnected, TimeoutError):
                await asyncio.sleep(0.01)

    async def say(self, number: int) -> None:
        while True:
            while self.up is None:
                self.changed.clear()
                await self.changed.wait()
            try:
                sent = await self.up.session.perform(
                    PostMessage(chat=C, content=Content(text=plain(f"m{number}")))
                )
            except Disconnected:
                await asyncio.sleep(0.005)
                continue
            except SendUncertain:
                self.fates[number] = "uncertain"
            else:
                assert isinstance(sent, Sent)
                self.fates[number] = "delivered"
            return


@pytest.mark.parametrize("caps", [PLAIN, FULL], ids=["plain", "full"])
async def test_every_message_arrives_once_or_is_called_uncertain(caps):
    rng = random.Random(1)
    ircd = Ircd(caps=caps)
    ircd.user("keeper", "#c")
    async with ircd.serving(), asyncio.timeout(300):
        bridge = Bridge(ircd)
        living = asyncio.create_task(bridge.live())
        saying: set[asyncio.Task[None]] = set()

        async def cut() -> None:
            while True:
                await asyncio.sleep(rng.uniform(0.01, 0.08))
                for client in list(ircd.clients):
                    client.deaf = rng.random() < 0.5  # what is on its way is read or lost
                    await asyncio.sleep(rng.uniform(0, 0.01))
                    client.abort()

        cutting = asyncio.create_task(cut())
        for number in range(MESSAGES):
            task = asyncio.create_task(bridge.say(number))
            saying.add(task)
            task.add_done_callback(saying.discard)
            while len(saying) >= 32:  # noqa: ASYNC110 - a plain bound on what is under way
                await asyncio.sleep(0.001)
            if number % 10 == 0:
                await asyncio.sleep(0.003)
        cutting.cancel()
        await asyncio.gather(*saying)
        living.cancel()
        await asyncio.wait([living])
    arrived = Counter(int(out.params[1][1:]) for out in ircd.channel("#c").history)
    assert len(bridge.fates) == MESSAGES
    delivered = {n for n, fate in bridge.fates.items() if fate == "delivered"}
    uncertain = bridge.fates.keys() - delivered
    assert {n for n in delivered if arrived[n] != 1} == set()
    assert {n for n in uncertain if arrived[n] > 1} == set()
    assert uncertain  # else nothing was tested
    assert len(delivered) > MESSAGES // 2


async def test_nothing_that_was_said_while_we_were_away_is_missed():
    rng = random.Random(2)
    ircd = Ircd(caps=FULL)
    bob = ircd.user("bob", "#c")
    async with ircd.serving(), asyncio.timeout(60):
        bridge = Bridge(ircd)
        living = asyncio.create_task(bridge.live())
        await ircd.until(lambda: bridge.up)
        ids = []
        for number in range(MESSAGES):
            ids.append(bob.say("#c", f"m{number}"))
            if number % 100 == 99:
                await asyncio.sleep(rng.uniform(0, 0.05))
                for client in list(ircd.clients):
                    client.abort()
            elif number % 3 == 0:
                await asyncio.sleep(0.001)
        await ircd.until(lambda: bridge.up and ids[-1] in [m.id for m in bridge.up.all(Message)], seconds=20)
        living.cancel()
        await asyncio.wait([living])
    once = list(dict.fromkeys(bridge.heard))
    assert [id for id in ids if id not in set(once)] == []
    assert once == ids
