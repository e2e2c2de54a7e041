"""What outsiders are given of a channel by a real homeserver, step by step: nothing that the channel did not open."""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from bridgekit.testing.person import Person
from tests.scenarios.visibility.place import MODERN, PLAIN, XMPP, Owner, Place, place

HISTORY = "m.room.history_visibility"
_numbers = itertools.count(1)


def whisper(here: Place, bob: Owner) -> str:
    """Bob says something that no outsider may read."""
    word = f"secret-{next(_numbers)}-word"
    here.secrets.append(word)
    bob.say(word)
    return word


async def secret(here: Place, alice: Person, room: str, bob: Owner) -> str:
    """The same, where it passes: the event that members see."""
    return (await alice.reads(room, whisper(here, bob))).id


async def talks_while_opened(here: Place, alice: Person, room: str, bob: Owner) -> list[str]:
    """Bob says forty words in a second and a half; in the middle of it Alice opens the room to the world."""
    words = [f"secret-{next(_numbers)}-race" for _ in range(40)]
    here.secrets += words
    for number, word in enumerate(words):
        bob.say(word)
        if number == 15:
            await alice.set_state(room, HISTORY, {"history_visibility": "world_readable"})
        await asyncio.sleep(0.03)
    return words


async def shown(alice: Person, room: str, words: list[str]) -> tuple[list[str], int]:
    """Which of the words Alice can still read, and how many were taken back."""
    path = f"/rooms/{quote(room, safe='')}/messages?dir=b&limit=500"
    bodies = [e["content"].get("body", "") for e in reversed((await alice.call("GET", path))["chunk"])]
    kept = [body for body in bodies if body in words]
    told = [re.match(r"⚠ (\d+) messages? that came in while", body) for body in bodies]
    return kept, sum(int(found[1]) for found in told if found)


async def visibility(alice: Person, room: str) -> tuple[str, str]:
    return (
        (await alice.state(room, HISTORY))["history_visibility"],
        (await alice.state(room, "m.room.join_rules"))["join_rule"],
    )


async def becomes(alice: Person, room: str, wanted: tuple[str, str], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while await visibility(alice, room) != wanted:  # noqa: ASYNC110 - the homeserver tells nobody
            await asyncio.sleep(0.1)


@dataclass
class Scene:
    """One room that is linked to one chat; Alice is its creator, and Bob owns the chat."""

    here: Place
    name: str
    network: str
    alice: Person
    bob: Owner
    room: str

    async def tries(self, step: str, event: str) -> None:
        await self.here.tries(f"{self.name}, {step}", self.room, event, self.alice)

    async def secret(self) -> str:
        return await secret(self.here, self.alice, self.room, self.bob)

    async def opened_to_the_world(self) -> None:
        await self.alice.set_state(self.room, HISTORY, {"history_visibility": "world_readable"})


async def scene(here: Place, name: str, network: str, shuts: dict[str, str] | None) -> Scene:
    bob = await here.owner(network, "bob", shuts=shuts)
    alice = await here.person("alice")
    bot = here.bridge.bot
    room = await alice.create_room(
        preset="public_chat",
        invite=[bot],
        visibility="public",
        power_level_content_override={"users": {bot: 100}},
    )
    await alice.sees(room, lambda e: e.sender == bot and e.kind == "m.notice", what="the bot")
    return Scene(here, name, network, alice, bob, room)


async def is_linked_shut_and_opened_to_the_world(at: Scene) -> None:
    alice, room, bob = at.alice, at.room, at.bob

    # Link without consent: nothing passes, to members neither.
    await alice.say(room, f"!bridge link {at.network} {bob.chat}")
    await alice.sees(room, lambda e: "nothing passes yet" in e.body, what="the answer")
    whisper(at.here, bob)
    await bob.asked()
    first = await alice.say(room, "anybody?")
    await at.tries("link without consent", first)
    assert not [e for e in alice.seen.all if "secret-" in e.body]

    # Consent: who is there reads, who comes later does not.
    await bob.agree()
    await alice.sees(room, lambda e: "has agreed to: bridge, media" in e.body, what="the consent")
    await becomes(alice, room, ("joined", "public"))
    await at.tries("consent", await at.secret())

    # Secret (+s, hidden, members-only): the door is shut before another word is shown.
    await bob.shut()
    event = await at.secret()
    assert await visibility(alice, room) == ("joined", "invite")
    await at.tries("made secret", event)

    # The Matrix side opens it to the world while Bob talks: put back before another word is shown, and what went
    # through before the bridge knew is taken back.
    words = await talks_while_opened(at.here, alice, room, bob)
    await becomes(alice, room, ("joined", "invite"))
    await alice.sees(room, lambda e: "more open than its chats allow" in e.body, what="why it was put back")
    event = await at.secret()
    kept, gone = await shown(alice, room, words)
    assert (len(kept) + gone, kept) == (40, [word for word in words if word in kept])
    await at.tries("world_readable", event)


async def is_put_back_opened_again_and_revoked(at: Scene) -> None:
    alice, room, bob = at.alice, at.room, at.bob

    # A restart, while the room was opened: nothing passes before it is closed again.
    await becomes(alice, room, ("joined", "invite"))
    event = await at.secret()
    await at.tries("restart", event)

    # Open again: when it has been calm the door opens too, and the past stays closed.
    await bob.open()
    await becomes(alice, room, ("joined", "public"), 90)
    await at.tries("opened again", event)

    # Consent taken back: nothing passes from that moment on.
    bob.say("!bridge revoke")
    word = whisper(at.here, bob)
    await alice.sees(room, lambda e: "has taken back the consent" in e.body, what="the revocation")
    await at.tries("revoked", event)
    assert word not in "".join(e.body for e in alice.seen.all)


@pytest.mark.timeout(600)
async def test_no_outsider_is_given_what_the_chat_did_not_open() -> None:
    """Four chats at once: each of them waits until it is calm."""
    async with place(rooms=True) as here:
        await here.strangers()
        scenes = [
            await scene(here, name, network, shuts)
            for name, network, shuts in (
                ("plain", PLAIN, None),
                ("modern", MODERN, None),
                ("xmpp, hidden", XMPP, {"publicroom": "0"}),
                ("xmpp, members only", XMPP, {"membersonly": "1"}),
            )
        ]
        async with asyncio.TaskGroup() as group:
            for at in scenes:
                group.create_task(is_linked_shut_and_opened_to_the_world(at), name=at.name)
        await here.bridge.stop()
        for at in scenes:
            await at.opened_to_the_world()
        await here.bridge.start()
        async with asyncio.TaskGroup() as group:
            for at in scenes:
                group.create_task(is_put_back_opened_again_and_revoked(at), name=at.name)


@pytest.mark.timeout(400)
async def test_two_links_leave_the_room_as_open_as_the_more_secret_of_them() -> None:
    async with place() as here:
        bob, eve = await here.owner(PLAIN, "bob"), await here.owner(MODERN, "eve")
        alice = await here.person("alice")
        bot = here.bridge.bot

        # That nothing leaked says something, because through these doors something can be seen.
        await here.strangers()
        words, names = await here.seen_of_an_open_room(alice)
        assert words["nobody"] == set()  # Synapse asks everybody who they are
        assert words["guest"] >= {"messages", "context", "event", "initialSync"}
        assert words["fresh account"] >= {
            "messages",
            "context",
            "event",
            "initialSync",
            "sync",
            "sliding sync",
            "search for words",
        }
        assert names["nobody"] >= {"publicRooms", "summary"}
        assert names["guest"] & names["fresh account"] >= {"publicRooms", "summary", "hierarchy", "state"}

        room = await alice.create_room(
            preset="public_chat", invite=[bot], power_level_content_override={"users": {bot: 100}}
        )
        await alice.sees(room, lambda e: e.sender == bot and e.kind == "m.notice", what="the bot")
        for network, who in ((PLAIN, bob), (MODERN, eve)):
            await alice.say(room, f"!bridge link {network} {who.chat} history")
            await who.asked()
            await who.agree()
            await alice.sees(room, lambda e: "has agreed to: " in e.body, what="the consent")
        await becomes(alice, room, ("shared", "public"))
        await eve.shut()
        event = await secret(here, alice, room, eve)
        assert await visibility(alice, room) == ("joined", "invite")
        await here.tries("one of two is secret", room, event, alice)

        # Alice puts it into the public directory, of which no event tells: the bridge looks, and takes it out.
        listing = f"/directory/list/room/{quote(room, safe='')}"
        await alice.call("PUT", listing, {"visibility": "public"})
        await alice.sees(room, lambda e: "Somebody made this room more open" in e.body, what="the unlisting")
        assert (await alice.call("GET", listing))["visibility"] == "private"
        await here.tries("was listed", room, event, alice)
        event = await secret(here, alice, room, bob)
        await here.tries("the other speaks", room, event, alice)
