"""Encrypted pictures of matrix-js-sdk: what becomes of them towards IRC, and those that the bridge makes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from tests.runtime.running import PNG
from tests.scenarios.encryption.lab import Lab, answered, gathering


async def fetched(link: str, **headers: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(link, headers=headers) as response:
        return response.status, await response.read()


async def test_an_encrypted_picture_is_under_no_address_until_that_is_agreed_and_the_bridges_own_is_read(
    lab: Lab, tmp_path: Path
) -> None:
    """IRC takes no files, and what the room agreed to are its words: who sent the picture reads why it did not go, and
    how to agree; then there is a link, until that is taken back."""
    async with gathering(lab, tmp_path) as here, here.on_irc("bob") as (bob,):
        picture = PNG + b"a walrus in a vestry; " * 10_000
        event = await here.alice.share(here.room, picture, "obsidian-heron.png", "image/png")
        assert await here.carol.opens(here.room, here.alice.id) == picture
        ghost = lab.ghost(bob.nick)
        (told,) = await here.alice.until(
            here.room, lambda shown: [s for s in shown if "obsidian-heron.png was not sent" in s.body], bool
        )
        assert "`!bridge agree files`" in told.body
        assert told.is_trusted
        async with asyncio.timeout(60):
            while await here.alice.fates(here.room, event) != ["FAIL_PERMANENT"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await here.alice.say(here.room, "did you see it?")
        await bob.sees(lambda h: "did you see it?" in h.words, 60)
        assert not bob.seen.left(lambda h: "heron" in h.words or "http" in h.words)
        found = await lab.where("obsidian-heron", "walrus in a vestry", here.channel)
        assert {words for _, words in found} == {here.channel}, "the search finds what must be there"

        await here.alice.say(here.room, "!bridge agree files")
        await answered(lab, here.alice, here.room, "may be put under addresses")
        await here.alice.share(here.room, picture, "obsidian-heron.png", "image/png")
        shown = await bob.sees(lambda h: "obsidian-heron.png" in h.words, 60)
        link = shown.words.split()[-1]
        assert await fetched(link) == (200, picture)
        assert await fetched(link, Range="bytes=70000-70999") == (206, picture[70_000:71_000])
        assert not await lab.where("walrus in a vestry"), (
            "it is opened for who follows the link, and kept nowhere"
        )
        await here.alice.say(here.room, "!bridge disagree files")
        await answered(lab, here.alice, here.room, "open nothing any more")
        assert (await fetched(link))[0] == 410

        await here.carol.knows(ghost)
        await here.carol.asks_to_verify(here.room, ghost, "m.sas.v1", "m.qr_code.show.v1")
        code = await here.carol.opens(here.room, ghost)
        assert code.startswith(PNG[:8])
        assert await here.flaws() == []
