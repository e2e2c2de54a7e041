"""Verification of the bridge's devices: which requests are answered."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from nio.crypto.attachments import decrypt_attachment

from bridgekit.matrix.crypto.qr import SECRET_BYTES
from bridgekit.matrix.crypto.signing import from_base64, unpadded
from tests.matrix.crypto.qr_reader import scanned
from tests.runtime.running import BOT, until
from tests.runtime.secret_client import SecretClient
from tests.runtime.secret_rooms import BOB, scene


def ask(alice: SecretClient, transaction: str, *, minutes: float) -> None:
    """Alice's client asks to verify the bot's device; `minutes` ago."""
    content = {
        "from_device": alice.machine.device,
        "methods": ["m.sas.v1"],
        "timestamp": int((time.time() - 60 * minutes) * 1000),
        "transaction_id": transaction,
    }
    (bot,) = alice.devices_of(BOT)
    alice.send(BOT, bot.id, "m.key.verification.request", content)


async def test_a_request_out_of_a_backlog_is_not_answered(tmp_path: Path) -> None:
    """Client-Server API, m.key.verification.request: older than ten minutes, or more than five ahead, is ignored."""
    async with scene(tmp_path) as now:
        ask(now.alice, "old", minutes=11)
        ask(now.alice, "ahead", minutes=-6)
        ask(now.alice, "new", minutes=9)
        await until(lambda: now.alice.answers() and now.alice.verification)
        await now.place.homeserver.settled()
        now.alice.collect()
        answers = [(type, content["transaction_id"]) for type, content in now.alice.verification]
        assert answers == [("m.key.verification.ready", "new")]


async def test_a_request_in_clear_in_an_encrypted_room_is_answered_with_emoji_and_a_code(
    tmp_path: Path,
) -> None:
    """Clients on matrix-js-sdk encrypt nothing of a verification. Nor does anything of it go to the network."""
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        request = {
            "msgtype": "m.key.verification.request",
            "body": "verify me",
            "from_device": now.alice.machine.device,
            "methods": ["m.sas.v1", "m.qr_code.scan.v1", "m.reciprocate.v1"],
            "to": BOB,
        }
        id = await now.alice.human.send(now.room, request, "m.room.message")
        ready = "m.key.verification.ready"
        await until(lambda: now.alice.events_of(now.room, BOB, ready))
        (answer,) = now.alice.events_of(now.room, BOB, ready)
        assert answer["methods"] == ["m.sas.v1", "m.qr_code.show.v1", "m.reciprocate.v1"]
        relation = {"rel_type": "m.reference", "event_id": id}
        assert answer["m.relates_to"] == relation

        def pictures() -> list[dict[str, Any]]:
            said = now.alice.events_of(now.room, BOB, "m.room.message")
            return [content for content in said if content["msgtype"] == "m.image"]

        await until(pictures)
        (picture,) = pictures()
        key = picture["file"]
        stored = now.place.homeserver.app.media.get("hs.test", key["url"].rpartition("/")[2])
        code = decrypt_attachment(stored.content, key["key"]["k"], key["hashes"]["sha256"], key["iv"])
        identities = now.place.homeserver.keys.identities
        masters = [next(iter(identities[who]["master_key"]["keys"].values())) for who in (BOB, now.alice.id)]
        assert scanned(code).startswith(
            b"MATRIX\x02\x00"
            + len(id).to_bytes(2, "big")
            + id.encode()
            + b"".join(from_base64(key) for key in masters)
        )
        secret = unpadded(scanned(code)[-SECRET_BYTES:])
        start = {"from_device": now.alice.machine.device, "method": "m.reciprocate.v1", "secret": secret}
        await now.alice.human.send(now.room, {**start, "m.relates_to": relation}, "m.key.verification.start")
        await until(lambda: now.alice.events_of(now.room, BOB, "m.key.verification.done"))
        assert now.town.said() == []


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "in clear"])
async def test_a_request_of_a_room_out_of_a_backlog_is_not_answered(tmp_path: Path, encrypted: bool) -> None:
    """The same bounds by the event's own time, which is all that there is in a room."""
    async with scene(tmp_path) as now:
        await now.bob_says("hello")
        now.alice.share(now.room)
        world, asked = now.place.homeserver.app.world, {}
        for minutes in (-11, 6, -9):
            content = {
                "msgtype": "m.key.verification.request",
                "body": f"verify me ({minutes})",
                "from_device": now.alice.machine.device,
                "methods": ["m.sas.v1"],
                "to": BOB,
            }
            type = "m.room.encrypted" if encrypted else "m.room.message"
            sent = now.alice.sealed(now.room, content) if encrypted else content
            at = int((time.time() + 60 * minutes) * 1000)
            asked[minutes] = world.send(now.alice.id, now.room, type, sent, ts=at).event_id
        ready = "m.key.verification.ready"
        await until(lambda: now.alice.events_of(now.room, BOB, ready))
        await now.place.homeserver.settled()
        answers = [one["m.relates_to"]["event_id"] for one in now.alice.events_of(now.room, BOB, ready)]
        assert answers == [asked[-9]]
        assert now.town.said() == []
