"""A group of five users on each side: everything that people do in a chat crosses, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from bridgekit.testing.person import Event, Person
from tests.scenarios.mimi.lab import Lab, Provider, everybody

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """The people of one provider in their room."""

    provider: Provider
    people: list[Person]
    room: str

    @property
    def first(self) -> Person:
        return self.people[0]


@asynccontextmanager
async def group(lab: Lab, size: int) -> AsyncIterator[tuple[Side, Side]]:
    """As many people on each side, in rooms that are linked with one room of the hub's."""
    chat = lab.chat()
    async with AsyncExitStack() as stack:
        sides = []
        for provider, stem in ((lab.a, "alice"), (lab.b, "bob")):
            people = [await stack.enter_async_context(provider.somebody(stem)) for _ in range(size)]
            room = await provider.linked(people[0], chat, *people[1:])
            sides.append(Side(provider=provider, people=people, room=room))
        yield sides[0], sides[1]


async def seen(at: Side, of: Person, matches: Callable[[Event], bool], what: str) -> Event:
    """What the first person of a side sees somebody of the other side do."""
    ghost = at.provider.ghost(of)
    return await at.first.sees(at.room, lambda e: e.sender == ghost and matches(e), 60, what)


async def shown(at: Side, body: str, *, of: Person) -> Event:
    """Somebody's words."""
    return await seen(at, of, lambda e: e.type == "m.room.message" and e.body == body, f"“{body}”")


@pytest.mark.timeout(600)
async def test_five_and_five_talk(lab: Lab):
    async with group(lab, 5) as (a, b):
        for side, other in ((a, b), (b, a)):
            for number, one in enumerate(side.people):
                await one.say(side.room, f"{one.name} says {number}")
            for number, one in enumerate(side.people):
                await shown(other, f"{one.name} says {number}", of=one)
        for side, other in ((a, b), (b, a)):
            await everybody(*(one.say(side.room, f"{one.name} at once") for one in side.people))
            for one in side.people:
                await shown(other, f"{one.name} at once", of=one)

        await _everything(a, b)
        await _everything(b, a)
        await _partings(a, b)


async def _everything(side: Side, other: Side) -> None:
    """What one says, does to it and sends arrives at the other side as the same thing."""
    one, them = side.people[1], other.first
    said = await one.say(side.room, f"{one.name}: first wrods")
    there = await shown(other, f"{one.name}: first wrods", of=one)

    await one.edit(side.room, said, f"{one.name}: first words")
    edit = await seen(other, one, lambda e: e.relates.get("rel_type") == "m.replace", "the edit")
    assert (edit.relates["event_id"], edit.content["m.new_content"]["body"]) == (
        there.id,
        f"{one.name}: first words",
    )

    key = "👍" if side.provider.domain.startswith("a") else "🎉"
    fan = side.people[2]
    liked = await fan.react(side.room, said, key)
    reaction = await seen(other, fan, lambda e: e.type == "m.reaction", "the reaction")
    assert (reaction.relates["event_id"], reaction.relates["key"]) == (there.id, key)
    await fan.redact(side.room, liked)
    gone = await seen(other, fan, lambda e: e.type == "m.room.redaction", "the reaction taken back")
    assert gone.redacts == reaction.id

    await side.people[3].reply(side.room, said, f"{one.name}: an answer")
    answer = await shown(other, f"{one.name}: an answer", of=side.people[3])
    assert answer.relates["m.in_reply_to"]["event_id"] == there.id

    relation: dict[str, Any] = {"rel_type": "m.thread", "event_id": said, "is_falling_back": True}
    in_thread = {"m.relates_to": relation | {"m.in_reply_to": {"event_id": said}}}
    await one.say(side.room, f"{one.name}: in a thread", more=in_thread)
    threaded = await shown(other, f"{one.name}: in a thread", of=one)
    assert (threaded.relates["rel_type"], threaded.relates["event_id"]) == ("m.thread", there.id)
    back = {"rel_type": "m.thread", "event_id": there.id, "m.in_reply_to": {"event_id": threaded.id}}
    await them.say(other.room, f"{them.name}: likewise", more={"m.relates_to": back})
    returned = await shown(side, f"{them.name}: likewise", of=them)
    assert (returned.relates["rel_type"], returned.relates["event_id"]) == ("m.thread", said)

    await one.send_file(side.room, PICTURE, "cat.png", "image/png", kind="m.image")
    picture = await seen(other, one, lambda e: e.kind == "m.image", "the picture")
    assert picture.content.get("filename", picture.body) == "cat.png"
    assert picture.content["info"]["mimetype"] == "image/png"
    assert await _download(other.provider, them, picture.content["url"]) == PICTURE

    await them.has_read(other.room, there.id)
    reader = side.provider.ghost(them)
    await side.first.read_by.take(lambda seen: seen == (said, reader), 60, f"{them.name} has read")

    await one.redact(side.room, said)
    redaction = await seen(other, one, lambda e: e.type == "m.room.redaction", "the deletion")
    assert redaction.redacts == there.id


async def _partings(hub: Side, other: Side) -> None:
    """Who leaves the one room is gone from the other; who is put out of the one is put out of the other."""
    *_, leaves, put_out = other.people
    await leaves.leave(other.room)
    ghost = hub.provider.ghost(leaves)
    await hub.first.sees(hub.room, lambda e: _gone(e, ghost), 60, f"{leaves.name} has left")
    await hub.first.kick(hub.room, hub.provider.ghost(put_out))
    gone = await other.first.sees(
        other.room, lambda e: _gone(e, put_out.id), 60, f"{put_out.name} is put out"
    )
    assert gone.sender == other.provider.bot


def _gone(event: Event, user: str) -> bool:
    return event.state_key == user and event.content.get("membership") == "leave"


async def _download(provider: Provider, who: Person, mxc: str) -> bytes:
    path = f"/_matrix/client/v1/media/download/{mxc.removeprefix('mxc://')}"
    headers = {"Authorization": f"Bearer {who.account.access_token}"}
    async with (
        aiohttp.ClientSession(provider.synapse.base_url) as session,
        session.get(path, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.read()
