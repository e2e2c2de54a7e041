"""matrix-js-sdk verifies the bot and a ghost, as Element does: by a QR code that it scans, and by emoji."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
from nio.crypto.attachments import decrypt_attachment

from connectors.irc.testing.person import IrcPerson
from tests.matrix.crypto.qr_reader import scanned
from tests.runtime.running import until
from tests.scenarios.encryption.js_client import JsClient
from tests.scenarios.encryption.lab import Gathering, Lab, gathering

METHODS = ("m.sas.v1", "m.qr_code.show.v1")


async def opened(lab: Lab, who: JsClient, file: dict[str, Any]) -> bytes:
    """An encrypted file of a message, in clear."""
    address = f"{lab.synapse.base_url}/_matrix/client/v1/media/download/{file['url'].removeprefix('mxc://')}"
    headers = {"Authorization": f"Bearer {who.account.access_token}"}
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.get(address, headers=headers) as answer,
    ):
        sealed = await answer.read()
    clear: bytes = decrypt_attachment(sealed, file["key"]["k"], file["hashes"]["sha256"], file["iv"])
    return clear


async def test_bot_and_ghost_are_verified_by_codes_that_a_client_scans(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        ghost = lab.ghost(bob.nick)
        await bob.say(here.channel, "is it me?")
        await here.everybody_reads("is it me?")
        for ours in (lab.bridge.bot, ghost):
            await here.carol.knows(ours)
            assert await here.carol.asks_to_verify(here.room, ours, *METHODS) == list(METHODS)
            shown = await here.carol.picture(here.room, ours)
            code = scanned(await opened(lab, here.carol, shown["file"]))
            assert not await here.carol.has_verified(ours)
            await here.carol.scan(code)
            await here.carol.comes_to_trust(ours)
        assert await here.flaws() == []
        assert not bob.seen.left(lambda h: "Scan this" in h.words), "nothing of it is anybody else's business"


async def test_bot_and_ghost_are_verified_by_emoji_in_the_room_and_in_none(lab: Lab, tmp_path: Path) -> None:
    """Alice asks in the room, where the emoji stand; Carol asks their devices, and they stand in the bridge's log."""
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        await bob.say(here.channel, "it is me")
        await here.everybody_reads("it is me")
        for ours in (lab.ghost(bob.nick), lab.bridge.bot):
            await by_emoji_in_the_room(here, ours, bob)
            await by_emoji_in_the_log(here, ours)
        assert await here.flaws() == []


async def by_emoji_in_the_room(here: Gathering, ours: str, bob: IrcPerson) -> None:
    await here.alice.asks_to_verify(here.room, ours, *METHODS)
    emoji = " ".join(await here.alice.compare())
    await here.alice.until(
        here.room, lambda shown: [s for s in shown if s.sender == ours and emoji in s.body], bool
    )
    assert not await here.alice.has_verified(ours)
    await here.alice.confirm()
    await here.alice.comes_to_trust(ours)
    assert not bob.seen.left(lambda h: emoji in h.words), "nothing of it is anybody else's business"


async def by_emoji_in_the_log(here: Gathering, ours: str) -> None:
    await here.carol.knows(ours)
    named = await here.carol.asks_to_verify_device(ours, here.lab.device(ours), *METHODS)
    assert named == ["m.sas.v1"], "there is no place to show a code"
    emoji = " ".join(await here.carol.compare())
    await until(lambda: (ours, emoji) in logged(here.lab), 60)
    assert not await here.carol.has_verified(ours)
    await here.carol.confirm()
    await here.carol.comes_to_trust(ours)


def logged(lab: Lab) -> list[tuple[str, str]]:
    """What the bridge has logged to be compared, with whom it is of."""
    lines = [json.loads(line) for line in lab.bridge.log.read_text().splitlines() if line.startswith("{")]
    return [(line["user"], line["shown"]) for line in lines if line["event"] == "verification_string"]
