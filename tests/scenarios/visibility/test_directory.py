"""Ghosts in the user directory of a real Synapse: who is found by searching for people, and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from bridgekit.testing.person import Person
from tests.scenarios.visibility.place import PLAIN, Place, place


async def found(who: Person, term: str) -> list[str]:
    """Whom somebody finds by a word."""
    answer = await who.call("POST", "/user_directory/search", {"search_term": term, "limit": 50})
    return [str(result["user_id"]) for result in answer["results"]]


async def finds(who: Person, term: str, other: str, stir: Callable[[], Awaitable[object]]) -> None:
    """Wait until somebody is found: then the directory knows all that happened before they came.

    Synapse looks when an event comes, and what comes at the end of a look waits for the next one: `stir` brings one.
    """
    async with asyncio.timeout(60):
        while other not in await found(who, term):
            await stir()
            await asyncio.sleep(1)


async def linked(here: Place, alice: Person, channel: str, **options: Any) -> str:
    """A room of Alice's that is linked to the channel."""
    levels = {"users": {here.bridge.bot: 100}}
    invited = {"invite": [here.bridge.bot], "power_level_content_override": levels, **options}
    room = await alice.create_room(**invited)
    await alice.sees(room, lambda e: e.sender == here.bridge.bot and "I am a bridge" in e.body)
    await alice.say(room, f"!bridge link {PLAIN} {channel}")
    await alice.sees(room, lambda e: "is now linked" in e.body, what="the link")
    return room


@pytest.mark.parametrize("everybody", [False, True], ids=["by default", "with search_all_users"])
async def test_no_ghost_is_found_by_anybody(everybody: bool) -> None:
    """Not by strangers, and not by who sits in the same room, private or public: Synapse keeps a namespace's users out
    of its directory (should_include_local_user_in_dir). People in the same rooms are found: the search does work."""
    homeserver = {"user_directory": {"enabled": True, "search_all_users": everybody}}
    async with place(homeserver=homeserver, consent="off") as here:
        alice, stranger = await here.person("alice"), await here.person("stranger")
        for kind in ("private", "public"):
            channel = f"#directory{kind}"
            bob = await here.operator(PLAIN, f"zebra{kind}", channel)
            room = await linked(here, alice, channel, preset=f"{kind}_chat")
            bob.say(channel, "here I am")
            ghost = (await alice.reads(room, "here I am")).sender
            assert ghost == here.bridge.ghost(PLAIN, bob.nick)
            # Somebody who comes after the ghost, and is in the same room: the directory has seen both then.
            human = await here.person(f"zebraman{kind}")
            await alice.invite(room, human.id)
            await human.join(room)
            stir = partial(alice.say, room, "who is there?")
            await finds(alice, "zebra", human.id, stir)
            if kind == "public" or everybody:
                await finds(stranger, "zebra", human.id, stir)
            else:
                assert await found(stranger, "zebra") == []
            for who in (alice, human, stranger):
                for term in ("zebra", bob.nick, "_bk_", ghost, here.bridge.bot):
                    assert [one for one in await found(who, term) if one in (ghost, here.bridge.bot)] == []
