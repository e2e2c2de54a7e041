"""Verification of the bridge's devices: which requests are answered."""

from __future__ import annotations

import time
from pathlib import Path

from tests.runtime.running import BOT, until
from tests.runtime.secret_client import SecretClient
from tests.runtime.test_secrecy import scene


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
