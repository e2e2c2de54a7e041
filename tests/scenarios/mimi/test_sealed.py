"""Rooms that are encrypted on Matrix and on MIMI: what is said crosses, and the label tells who could read it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from bridgekit.core.protection import STATE_TYPE
from bridgekit.testing.nio_client import NioClient, nio_client
from tests.scenarios.encryption.js_client import driver
from tests.scenarios.mimi.lab import NETWORK, Lab, Provider, uri_of

PICTURE = b"\x89PNG\r\n\x1a\n" + b"a kingfisher over the canal" * 2000


async def test_what_two_people_say_encrypted_crosses_mls_and_both_rooms_say_so(lab: Lab, tmp_path: Path):
    """Megolm to one bridge, MLS (RFC 9420) between the two, Megolm from the other: nobody agrees to anything. Carol
    has matrix-js-sdk, which excludes insecure devices."""
    chat = lab.chat("sealed")
    accounts = [
        await side.synapse.register(name) for side, name in ((lab.a, "sealedann"), (lab.b, "sealedben"))
    ]
    async with (
        nio_client(lab.a.synapse, accounts[0], tmp_path / "ann") as ann,
        nio_client(lab.b.synapse, accounts[1], tmp_path / "ben") as ben,
        driver(tmp_path) as process,
    ):
        at_a, at_b = await _linked(lab.a, ann, chat), await _linked(lab.b, ben, chat)
        link = {"network": NETWORK, "chat": chat, "protection": "bridge"}
        sealed = {"protection": "bridge", "matrix": "bridge", "links": [link]}
        assert await _label(lab.a, at_a, ann.token, sealed) == sealed
        assert await _label(lab.b, at_b, ben.token, sealed) == sealed
        for one, room, other, there in ((ann, at_a, ben, at_b), (ben, at_b, ann, at_a)):
            words = f"only for you, says {one.id}"
            await one.say(room, words)
            await other.until(lambda other=other, words=words: any(body == words for *_, body in other.read))  # type: ignore[misc]
            (event,) = [event for event in other.events if event.body == words]
            assert event.decrypted
            assert event.sender not in (ann.id, ben.id, lab.a.bot, lab.b.bot)
            assert await other.is_vouched_for(event)
            assert other.said_by(there, event.sender) == [words]
        account = await lab.a.synapse.register("sealedcarol")
        carol = await process.login(lab.a.synapse, account, strict=True)
        await ann.call("POST", f"/rooms/{at_a}/invite", {"user_id": carol.id})
        await carol.join(at_a)
        await ben.share(at_b, PICTURE, "kingfisher.png", "image/png")
        ghost = lab.a.bridge.ghost(NETWORK, uri_of(ben.id))
        assert await carol.opens(at_a, ghost) == PICTURE
        (shown,) = await carol.reads(at_a, "kingfisher.png")
        assert shown.is_trusted
        await carol.share(at_a, PICTURE[::-1], "canal.png", "image/png")
        await ben.until(lambda: any(event.body == "canal.png" for event in ben.events))
        (event,) = [event for event in ben.events if event.body == "canal.png"]
        assert await ben.open_file(event) == PICTURE[::-1]
        assert ann.unread == ben.unread == []


async def test_a_room_in_clear_that_is_linked_with_mls_is_called_what_its_weaker_side_is(lab: Lab):
    """The meet; and between the sealed side and the other somebody has to agree first."""
    chat = lab.chat("half")
    async with lab.a.somebody("cora") as cora:
        room = await lab.a.room(cora)
        await lab.a.command(cora, room, f"link {NETWORK} {chat}", "is now linked")
        link = {"network": NETWORK, "chat": chat, "protection": "bridge"}
        label = {"protection": "transport", "matrix": "transport"}
        token = cora.account.access_token
        before, after = (label | {"links": [link | {"agreed": agreed}]} for agreed in (False, True))
        assert await _label(lab.a, room, token, before) == before
        await lab.a.command(cora, room, f"agree {NETWORK} {chat}", "has agreed")
        assert await _label(lab.a, room, token, after) == after


async def _linked(side: Provider, who: NioClient, chat: str) -> str:
    """An encrypted room of theirs that is linked."""
    room = await who.encrypted_room(side.bot)
    await who.until(lambda: any("I am a bridge" in body for body in who.said_by(room, side.bot)))
    await who.call("PUT", f"/rooms/{room}/state/m.room.power_levels/", {"users": {side.bot: 100}})
    await who.say(room, f"!bridge link {NETWORK} {chat}")
    await who.until(lambda: any("is now linked" in body for body in who.said_by(room, side.bot)))
    return room


async def _label(side: Provider, room: str, token: str, expected: Any) -> Any:
    """What the room says of itself, once it says what is expected, or when that has taken long enough."""
    path = f"/_matrix/client/v3/rooms/{room}/state/{STATE_TYPE}/"
    found = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while found != expected:
                found = await side.synapse.request("GET", path, token=token)
                await asyncio.sleep(0.1)
    return found
