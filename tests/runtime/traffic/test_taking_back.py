"""Taking back what was said: with all that became of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from bridgekit.contract.ids import LoginId
from bridgekit.contract.verbs import EditMessage, PostMessage, Retract, Verb
from tests.runtime.fake_network import Town
from tests.runtime.running import linked, said, town_world, until


def without_edits() -> Town:
    """A network on which an edit becomes a message of its own."""
    town = Town()
    town.can = msgspec.structs.replace(town.can, verbs=town.can.verbs - {EditMessage})
    return town


async def test_a_message_is_taken_back_with_what_its_edits_became(tmp_path: Path) -> None:
    town = without_edits()
    async with town_world(tmp_path, town) as place, place.bridge():
        alice, room = await linked(place)
        event = await alice.send(room, "hello")
        await town.until(lambda: len(town.said()) == 1)
        await alice.edit(room, event, "my password is hunter2, by the way")
        await town.until(lambda: len(town.said()) == 2)
        await alice.redact(room, event)
        await town.until(lambda: len(town.done(Retract)) == 2)
        ids = [deed.id for deed in town.deeds if isinstance(deed.verb, PostMessage) and deed.verb.key]
        assert [verb.target for verb in town.done(Retract)] == ids


async def test_an_edit_that_is_still_on_its_way_is_taken_back_too(tmp_path: Path) -> None:
    town = without_edits()
    sending, gate = asyncio.Event(), asyncio.Event()

    async def hesitate(login: LoginId | None, verb: Verb) -> None:
        if isinstance(verb, PostMessage) and "three" in verb.content.text.body:
            sending.set()
            await gate.wait()

    town.behave = hesitate
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        alice, room = await linked(place)
        event = await alice.send(room, "one")
        await town.until(lambda: len(town.said()) == 1)
        await alice.edit(room, event, "two words that are not one")
        await town.until(lambda: len(town.said()) == 2)
        await alice.edit(room, event, "three words that are others")
        await sending.wait()
        await alice.redact(room, event)
        await until(lambda: bridge.rooms.depth()[0] == 2)  # the edit, and what takes it back
        gate.set()
        await town.until(lambda: len(town.done(Retract)) == 3)
        assert len(town.said()) == 3


async def test_what_an_edit_became_is_still_known_after_a_restart(tmp_path: Path) -> None:
    town = without_edits()
    async with town_world(tmp_path, town) as place:
        async with place.bridge():
            alice, room = await linked(place)
            event = await alice.send(room, "hello")
            await town.until(lambda: len(town.said()) == 1)
            await alice.edit(room, event, "my password is hunter2, by the way")
            await town.until(lambda: len(town.said()) == 2)
            await said(place, lambda e: e.type == "com.beeper.message_send_status")
        async with place.bridge():
            await alice.redact(room, event)
            await town.until(lambda: len(town.done(Retract)) == 2)
