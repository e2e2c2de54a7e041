"""People of two providers who talk alone: consent first (draft-ietf-mimi-protocol-06 5.7), then a group of two."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nio
import pytest

from bridgekit.testing.nio_client import NioClient, nio_client
from tests.scenarios.mimi.lab import NETWORK, Lab, Provider, uri_of
from tests.scenarios.mimi.test_talk import PICTURE

WITHIN = 120.0
ENCRYPTED = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}


@asynccontextmanager
async def two(lab: Lab, folder: Path, asks: str, asked: str) -> AsyncIterator[tuple[NioClient, NioClient]]:
    """Somebody of the first provider, and somebody of the second who can be reached from elsewhere."""
    one, other = await lab.a.synapse.register(asks), await lab.b.synapse.register(asked)
    async with (
        nio_client(lab.a.synapse, one, folder / asks) as ann,
        nio_client(lab.b.synapse, other, folder / asked) as ben,
    ):
        room = await ben.encrypted_room(lab.b.bot)
        await ben.until(lambda: any("I am a bridge" in body for body in ben.said_by(room, lab.b.bot)), WITHIN)
        await ben.say(room, f"!bridge login {NETWORK}")
        await ben.until(lambda: any("signed in" in body for body in ben.said_by(room, lab.b.bot)), WITHIN)
        yield ann, ben


async def opened(side: Provider, who: NioClient, other: NioClient) -> str:
    """A room for two with somebody's ghost, which has come with the bot."""
    ghost = side.bridge.ghost(NETWORK, uri_of(other.id))
    made = await who.call(
        "POST",
        "/createRoom",
        {
            "preset": "trusted_private_chat",
            "is_direct": True,
            "invite": [ghost],
            "initial_state": [ENCRYPTED],
        },
    )
    room = str(made["room_id"])
    await who.until(
        lambda: room in who.client.rooms and {ghost, side.bot} <= who.client.rooms[room].users.keys(), WITHIN
    )
    return room


async def invited(who: NioClient) -> str:
    """The room that the bridge asks them into."""
    await who.until(lambda: who.client.invited_rooms, WITHIN)
    (room,) = who.client.invited_rooms
    return str(room)


@pytest.mark.timeout(600)
async def test_two_people_talk_alone_after_the_one_who_was_asked_has_agreed(lab: Lab, tmp_path: Path):
    """The request is an invitation on Matrix, to join is the grant, and what was said before waits for it."""
    async with two(lab, tmp_path, "directann", "directben") as (ann, ben):
        at_a = await opened(lab.a, ann, ben)
        await ann.say(at_a, "do you hear me?")
        at_b = await invited(ben)
        assert ben.read == [] or all(room != at_b for room, *_ in ben.read), "nobody has agreed yet"
        await ben.client.join(at_b)
        there, here = (
            lab.b.bridge.ghost(NETWORK, uri_of(ann.id)),
            lab.a.bridge.ghost(NETWORK, uri_of(ben.id)),
        )
        await ben.until(lambda: ben.said_by(at_b, there) == ["do you hear me?"], WITHIN)
        for number in range(3):
            await ben.say(at_b, f"I do, {number}")
            await ann.until(lambda number=number: f"I do, {number}" in ann.said_by(at_a, here), WITHIN)  # type: ignore[misc]
            await ann.say(at_a, f"fine, {number}")
            await ben.until(lambda number=number: f"fine, {number}" in ben.said_by(at_b, there), WITHIN)  # type: ignore[misc]
        assert ann.said_by(at_a, here) == [f"I do, {number}" for number in range(3)]
        assert ben.said_by(at_b, there) == ["do you hear me?", *(f"fine, {number}" for number in range(3))]
        assert ann.unread == ben.unread == []


@dataclass(frozen=True, kw_only=True)
class End:
    """One of two people, in the room where they see the other as a ghost."""

    who: NioClient
    room: str
    ghost: str
    read_by: list[tuple[str, str]]  # (event, user) of receipts

    async def reads(self, body: str, kind: str = "m.text") -> dict[str, Any]:
        """What the other says, as it was sent: its event id and its content."""

        def found() -> list[Any]:
            return [
                e
                for e in self.who.events
                if e.sender == self.ghost and e.body == body and e.source["content"]["msgtype"] == kind
            ]

        await self.who.until(found, WITHIN)
        return dict(found()[-1].source)

    async def sees(self, type: str, **wanted: str) -> dict[str, Any]:
        """What the other does without words, which no client encrypts: a reaction, a redaction."""
        async with asyncio.timeout(WITHIN):
            while True:
                page = await self.who.call("GET", f"/rooms/{self.room}/messages?dir=b&limit=50")
                for event in page["chunk"]:
                    about = event["content"].get("m.relates_to", {}) | {"redacts": event.get("redacts")}
                    if (event["type"], event["sender"]) == (
                        type,
                        self.ghost,
                    ) and wanted.items() <= about.items():
                        return dict(event)
                await asyncio.sleep(0.2)

    async def does(self, type: str, content: dict[str, Any]) -> str:
        """Send an event that is not encrypted."""
        path = f"/rooms/{self.room}/send/{type}/{secrets.token_hex(8)}"
        return str((await self.who.call("PUT", path, content))["event_id"])

    async def redacts(self, event: str) -> None:
        await self.who.call("PUT", f"/rooms/{self.room}/redact/{event}/{secrets.token_hex(8)}", {})


def end(who: NioClient, room: str, ghost: str) -> End:
    read_by: list[tuple[str, str]] = []
    who.client.add_ephemeral_callback(
        lambda _room, event: read_by.extend((one.event_id, one.user_id) for one in event.receipts),
        nio.ReceiptEvent,
    )
    return End(who=who, room=room, ghost=ghost, read_by=read_by)


@pytest.mark.timeout(600)
async def test_two_people_alone_do_everything_that_people_do_in_a_chat(lab: Lab, tmp_path: Path):
    """Both ways: edits, reactions and their end, answers, threads, pictures, receipts, deletions."""
    async with two(lab, tmp_path, "directeve", "directfox") as (eve, fox):
        at_a = await opened(lab.a, eve, fox)
        await eve.say(at_a, "shall we?")
        at_b = await invited(fox)
        await fox.client.join(at_b)
        here = end(eve, at_a, lab.a.bridge.ghost(NETWORK, uri_of(fox.id)))
        there = end(fox, at_b, lab.b.bridge.ghost(NETWORK, uri_of(eve.id)))
        await there.reads("shall we?")
        await _everything(here, there)
        await _everything(there, here)
        assert eve.unread == fox.unread == []


async def _everything(one: End, other: End) -> None:
    name = one.who.id[1:].partition(":")[0]
    said = await one.who.say(one.room, f"{name}: first wrods")
    copy = (await other.reads(f"{name}: first wrods"))["event_id"]

    new = {"msgtype": "m.text", "body": f"{name}: first words"}
    replaces = {"rel_type": "m.replace", "event_id": said}
    await one.who.say(one.room, f"* {new['body']}", **{"m.new_content": new, "m.relates_to": replaces})
    edit = (await other.reads(f"* {name}: first words"))["content"]
    assert edit["m.new_content"]["body"] == new["body"]
    assert edit["m.relates_to"] == {"rel_type": "m.replace", "event_id": copy}

    liked = await one.does(
        "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "👍"}}
    )
    reaction = await other.sees("m.reaction", event_id=copy, key="👍")
    await one.redacts(liked)
    await other.sees("m.room.redaction", redacts=reaction["event_id"])

    await one.who.say(
        one.room, f"{name}: an answer", **{"m.relates_to": {"m.in_reply_to": {"event_id": said}}}
    )
    answer = (await other.reads(f"{name}: an answer"))["content"]
    assert answer["m.relates_to"]["m.in_reply_to"] == {"event_id": copy}

    thread = {
        "rel_type": "m.thread",
        "event_id": said,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": said},
    }
    await one.who.say(one.room, f"{name}: in a thread", **{"m.relates_to": thread})
    threaded = (await other.reads(f"{name}: in a thread"))["content"]["m.relates_to"]
    assert (threaded["rel_type"], threaded["event_id"]) == ("m.thread", copy)

    await one.who.share(one.room, PICTURE, "cat.png", "image/png")
    await other.reads("cat.png", "m.image")
    (picture,) = [e for e in other.who.events if e.sender == other.ghost and e.body == "cat.png"]
    assert await other.who.open_file(picture) == PICTURE

    await other.who.call("POST", f"/rooms/{other.room}/receipt/m.read/{copy}", {})
    await one.who.until(lambda: (said, one.ghost) in one.read_by, WITHIN)

    await one.redacts(said)
    await other.sees("m.room.redaction", redacts=copy)


@pytest.mark.timeout(600)
async def test_who_declines_is_not_talked_to_and_the_one_who_asked_reads_so(lab: Lab, tmp_path: Path):
    async with two(lab, tmp_path, "directcora", "directdan") as (cora, dan):
        at_a = await opened(lab.a, cora, dan)
        await cora.say(at_a, "do you hear me?")
        at_b = await invited(dan)
        await dan.client.room_leave(at_b)
        await cora.until(
            lambda: any("do not agree" in body for body in cora.said_by(at_a, lab.a.bot)), WITHIN
        )
        assert not [body for *_, body in dan.read if body == "do you hear me?"]


@pytest.mark.timeout(600)
async def test_who_takes_it_back_before_there_is_an_answer_leaves_no_invitation(lab: Lab, tmp_path: Path):
    """Whatever power the homeserver's rooms give to who is asked into them."""
    async with two(lab, tmp_path, "directgil", "directhal") as (gil, hal):
        at_a = await opened(lab.a, gil, hal)
        at_b = await invited(hal)
        await gil.client.room_leave(at_a)
        await hal.until(lambda: hal.client.invited_rooms.keys() - {at_b}, WITHIN)
        (told,) = hal.client.invited_rooms.keys() - {at_b}  # where the bot speaks to him alone
        await hal.client.join(told)
        await hal.until(
            lambda: any("taken back asking" in body for body in hal.said_by(told, lab.b.bot)), WITHIN
        )
        await hal.client.join(at_b)
        assert at_b not in (await hal.client.joined_rooms()).rooms
