"""Many messages from people, numbered for a ledger: the load that a benchmark puts on a bridge."""

import asyncio
import time

import msgspec

from bridgekit.testing.homeserver.delivery import Delivery
from bridgekit.testing.homeserver.world import World
from bridgekit.testing.ledger import marker

MOST_WAITING = 2_000


class Said(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One message that was said: its marker, who said it, its number, and time.monotonic() then."""

    id: str
    sender: str
    seq: int
    at: float


async def chatter(
    world: World,
    deliveries: list[Delivery],
    room_id: str,
    speakers: list[str],
    each: int,
    *,
    rate: float | None,
    first: int,
    text: str,
) -> list[Said]:
    """Let the speakers, who are in the room, take turns until everyone has said `each` messages.

    The body is the marker and `text`; speaker 0 is the first of the list, and numbers start at `first`. `rate` is
    messages per second in all, None is as fast as the appservices accept (at most 2,000 events ahead of them).
    """
    said: list[Said] = []
    began = time.monotonic()
    for seq in range(first, first + each):
        for number, speaker in enumerate(speakers):
            if rate is not None:
                wait = began + len(said) / rate - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
            elif len(said) % 100 == 0:
                await asyncio.sleep(0)
                for delivery in deliveries:
                    await delivery.short_of(MOST_WAITING)
            id = marker(number, seq)
            said.append(Said(id=id, sender=speaker, seq=seq, at=time.monotonic()))
            world.send(speaker, room_id, "m.room.message", {"msgtype": "m.text", "body": f"{id} {text}"})
    return said
