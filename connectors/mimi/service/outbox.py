"""What other providers are still to hear: on disk until they answer 201 (draft-ietf-mimi-protocol-06 5.5).

One lane for each room and peer, in order; a peer that is away holds up nobody but itself. Letters wait on disk: memory
holds their numbers.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

import msgspec

from bridgekit.contract.connector import Host
from bridgekit.contract.errors import BridgeError, Disconnected, NotAllowed
from connectors.mimi import uris
from connectors.mimi.service.hub import Delivery
from connectors.mimi.service.peers import MAX_BODY, Answer
from connectors.mimi.wire.rooms import FANOUT

PREFIX = "outbox/"
FIRST_WAIT = 1.0
LONGEST_WAIT = 300.0
GIVE_UP = 14 * 24 * 3600 * 1000  # ms: a peer that was away for longer joins its rooms anew
BATCH, TOGETHER = 512 * 1024, 64
"""Octets and letters that are sent as one."""
MOST_OF_ONE = 64 * 1024 * 1024
"""Octets of one user's words that wait for one peer in one room."""
MOST_OF_PROVIDER = 512 * 1024 * 1024
"""Octets of whatever the users of one provider caused that wait for one peer."""
TOO_LARGE = 413  # RFC 9110 15.5.14


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """One body on its way. `at` in ms; `by` is whose it is: the user whose words it has, the provider that brought the
    handshake, "" for a handshake of our own."""

    to: str
    room: str
    body: bytes
    at: int
    by: str = ""


class Outbox:
    """Sends letters until they have arrived: `send` says to whom, about which room, and what.

    `run` is to be a task of its owner's.
    """

    def __init__(self, host: Host, send: Callable[[str, str, bytes], Awaitable[Answer]]) -> None:
        self._host = host
        self._send = send
        self._lanes: dict[tuple[str, str], array[int]] = {}  # the numbers of what waits, in order
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._next = 0
        self._resting: dict[tuple[str, str], asyncio.Event] = {}
        self._heaps: Counter[tuple[str, ...]] = (
            Counter()
        )  # octets by peer, room and user, and by peer and provider

    async def load(self) -> None:
        """Take up what an earlier process left."""
        async for key, raw in self._host.walk(PREFIX):
            letter = msgspec.msgpack.decode(raw, type=Letter)
            number = int(key.removeprefix(PREFIX).partition("/")[0])
            self._next = max(self._next, number + 1)
            self._lanes.setdefault((letter.to, letter.room), array("Q")).append(number)
            self._weigh(letter, len(letter.body))

    def has_room(self, deliveries: Iterable[Delivery], by: str) -> bool:
        """Whether so little of what `by` caused waits that this may be kept, too: nobody fills the disk alone."""
        return not by or all(
            self._heaps[each.to, each.room, by] < MOST_OF_ONE
            and self._heaps[each.to, uris.parse(by).domain] < MOST_OF_PROVIDER
            for each in deliveries
        )

    def _weigh(self, letter: Letter, octets: int) -> None:
        if not letter.by:
            return
        for heap in ((letter.to, letter.room, letter.by), (letter.to, uris.parse(letter.by).domain)):
            self._heaps[heap] += octets
            if not self._heaps[heap]:
                del self._heaps[heap]

    def prepare(
        self, deliveries: Iterable[Delivery], now: int, by: str = ""
    ) -> tuple[dict[str, bytes], Callable[[], None]]:
        """The rows to store together with what they tell of, and what to call once that is done.

        Raises NotAllowed for what is longer than any peer takes: it would keep whatever comes after it from arriving.
        """
        rows: dict[str, bytes] = {}
        letters: list[tuple[int, Letter]] = []
        for delivery in deliveries:
            number = self._next
            self._next += 1
            letter = Letter(delivery.to, delivery.room, FANOUT.encode(delivery.fanout), now, by)
            if len(letter.body) > MAX_BODY:
                raise NotAllowed("That is longer than any provider takes.")
            rows[_key(number, letter.to)] = msgspec.msgpack.encode(letter)
            letters.append((number, letter))

        def go() -> None:
            for number, letter in letters:
                lane = (letter.to, letter.room)
                self._lanes.setdefault(lane, array("Q")).append(number)
                self._weigh(letter, len(letter.body))
                self._wake(lane)

        return rows, go

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for lane in list(self._lanes):
                self._wake(lane)
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    @property
    def waiting(self) -> int:
        """How many letters have not arrived."""
        return sum(map(len, self._lanes.values()))

    def alive(self, peer: str) -> None:
        """That peer has been heard of: what waits for it is sent now."""
        for (to, _), rest in self._resting.items():
            if to == peer:
                rest.set()

    def _wake(self, lane: tuple[str, str]) -> None:
        if self._group is not None and lane not in self._tasks:
            task = self._group.create_task(self._work(lane), name=f"outbox {lane[0]}")
            self._tasks[lane] = task

    async def _work(self, lane: tuple[str, str]) -> None:
        to, room = lane
        numbers, wait, lost, most = self._lanes[lane], FIRST_WAIT, False, TOGETHER
        while numbers:
            batch, body = await self._batch(to, numbers[:most])
            answer = await self._try(to, room, body) if body else Answer(201, b"")
            if answer.status == TOO_LARGE and len(batch) > 1:
                most = 1
                continue
            if answer.status == TOO_LARGE:
                self._host.log.error("delivery_given_up", peer=to, room=room, octets=len(body))
            if answer.status in (201, TOO_LARGE):
                await self._host.put_all({_key(number, to): None for number, _ in batch})
                del numbers[: len(batch)]
                for _, letter in batch:
                    if letter is not None:
                        self._weigh(letter, -len(letter.body))
                if lost:
                    self._host.log.info("peer_back", peer=to)
                wait, lost, most = FIRST_WAIT, False, TOGETHER
                continue
            if not lost:
                self._host.log.warning(
                    "peer_lost", peer=to, waiting=len(numbers), status=answer.status or None
                )
                lost = True
            most = len(batch)  # 5.5: the same octets again are known again where they had arrived
            await self._rest(lane, wait, answer.retry_after or 0.0)
            wait = min(wait * 2, LONGEST_WAIT)
        # At once with the look that found nothing: who adds to the lane from now on starts another task.
        self._lanes.pop(lane, None)
        self._tasks.pop(lane, None)

    async def _rest(self, lane: tuple[str, str], seconds: float, asked: float) -> None:
        """As long as the peer asked for; else until it is heard of, or for `seconds`."""
        if asked:
            await asyncio.sleep(asked)
            return
        rest = self._resting[lane] = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await rest.wait()
        except TimeoutError:
            pass
        finally:
            del self._resting[lane]

    async def _batch(self, to: str, numbers: Iterable[int]) -> tuple[list[tuple[int, Letter | None]], bytes]:
        """The next letters, None for what is gone, as one body: several fan-outs of a room may be sent as one."""
        taken: list[tuple[int, Letter | None]] = []
        body = b""
        oldest = self._host.now() * 1000 - GIVE_UP
        for number in numbers:
            raw = await self._host.get(_key(number, to))
            letter = None if raw is None else msgspec.msgpack.decode(raw, type=Letter)
            if letter is not None and letter.at < oldest:
                self._host.log.error("delivery_given_up", peer=to)
            elif letter is not None:
                if body and len(body) + len(letter.body) > BATCH:
                    break
                body += letter.body
            taken.append((number, letter))
        return taken, body

    async def _try(self, to: str, room: str, body: bytes) -> Answer:
        """Status 0 where there was no answer. Whatever goes wrong with one peer is no other's business."""
        try:
            return await self._send(to, room, body)
        except Disconnected as problem:
            return Answer(0, b"", problem.retry_after)
        except BridgeError:
            return Answer(0, b"")
        except Exception:
            self._host.log.exception("delivery_failed", peer=to, room=room)
            return Answer(0, b"")


def _key(number: int, to: str) -> str:
    return f"{PREFIX}{number:016d}/{quote(to, safe='')}"
