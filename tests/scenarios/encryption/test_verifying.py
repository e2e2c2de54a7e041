"""matrix-js-sdk verifies the bot and a ghost, as Element does: by a QR code that it scans, and by emoji."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
from nio.crypto.attachments import decrypt_attachment

from tests.matrix.crypto.qr_reader import scanned
from tests.scenarios.encryption.js_client import JsClient
from tests.scenarios.encryption.lab import Lab, gathering

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


async def test_the_bot_is_verified_by_a_code_that_a_client_scans(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here:
        bot = lab.bridge.bot
        await here.carol.knows(bot)
        assert await here.carol.asks_to_verify(here.room, bot, *METHODS) == list(METHODS)
        shown = await here.carol.picture(here.room, bot)
        code = scanned(await opened(lab, here.carol, shown["file"]))
        assert not await here.carol.has_verified(bot)
        await here.carol.scan(code)
        await here.carol.comes_to_trust(bot)
        assert await here.flaws() == []


async def test_a_ghost_is_verified_by_emoji_that_stand_in_the_room(lab: Lab, tmp_path: Path) -> None:
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        ghost = lab.ghost(bob.nick)
        await bob.say(here.channel, "it is me")
        await here.everybody_reads("it is me")
        await here.alice.asks_to_verify(here.room, ghost, *METHODS)
        emoji = " ".join(await here.alice.compare())
        await here.alice.until(
            here.room, lambda shown: [s for s in shown if s.sender == ghost and emoji in s.body], bool
        )
        assert not await here.alice.has_verified(ghost)
        await here.alice.confirm()
        await here.alice.comes_to_trust(ghost)
        assert await here.flaws() == []
        assert not bob.seen.left(lambda h: emoji in h.words), "nothing of it is anybody else's business"
