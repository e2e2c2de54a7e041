"""What people of a network say to the bridge's own account, in private."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bridgekit.contract.facts import Message
from bridgekit.contract.ids import LoginId, NetworkId, PortalKey
from bridgekit.contract.people import Kind
from bridgekit.contract.verbs import PostMessage
from tests.runtime.fake_network import Town, person, says
from tests.runtime.running import town_world, until

TOWN = NetworkId("town")


def asks(name: str, words: str = "hello?", **more: Any) -> Message:
    """Words of `name` to the bridge alone."""
    return says(name, words, chat=f"dm:{name.lower()}", private=True, **more)


def answers(town: Town) -> list[tuple[str, str]]:
    return [(post.chat, post.content.text.body) for post in town.done(PostMessage)]


async def test_who_speaks_to_the_bridge_reads_once_what_it_is(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await until(lambda: bridge.accounts.is_ready(TOWN))
        town.emit(asks("Bob"), asks("Bob", "anybody there?"))
        await town.until(lambda: town.done(PostMessage))
        (post,) = town.done(PostMessage)
        assert post.chat == "dm:bob"
        assert post.content.kind is Kind.NOTICE
        assert post.content.text.body.startswith("I am @bridgebot:hs.test, a bridge between Town and Matrix")
        town.emit(asks("Bob", "and now?"), asks("Carol"))
        await town.until(lambda: len(town.done(PostMessage)) == 2)
        assert [chat for chat, _ in answers(town)] == ["dm:bob", "dm:carol"]
        assert bridge.registry.portals == {}


async def test_machines_and_what_was_said_long_ago_get_no_answer(tmp_path: Path) -> None:
    """RFC 2812 3.3.2: automatic replies MUST NEVER be sent in response to a NOTICE."""
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await until(lambda: bridge.accounts.is_ready(TOWN))
        town.emit(
            asks("Bob", "automatic", kind=Kind.NOTICE),
            asks("Serv", sender=person("Serv", bot=True)),
            asks("Dave", replayed=True),
            asks("Alice", own=LoginId("town/alice")),
            asks("Carol"),
        )
        await town.until(lambda: town.done(PostMessage))
        assert [chat for chat, _ in answers(town)] == ["dm:carol"]


async def test_many_strangers_do_not_make_the_bridge_flood_the_network(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await until(lambda: bridge.accounts.is_ready(TOWN))
        town.emit(*(asks(f"Stranger{number}") for number in range(50)))
        await town.until(lambda: len(town.done(PostMessage)) == 5)
        await asyncio.sleep(0.1)
        assert len(town.done(PostMessage)) == 5


async def test_words_that_somebody_waits_for_are_not_answered(tmp_path: Path) -> None:
    town = Town()
    async with town_world(tmp_path, town) as place, place.bridge() as bridge:
        await until(lambda: bridge.accounts.is_ready(TOWN))
        taken: list[str] = []

        def listen(side: PortalKey, message: Message) -> bool:
            words = message.content.text.body
            if words == "yes":
                taken.append(words)
            return words == "yes"

        bridge.doorstep.listeners.append(listen)
        town.emit(asks("Bob", "yes"), asks("Bob", "no idea"))
        await town.until(lambda: town.done(PostMessage))
        assert taken == ["yes"]
        assert len(town.done(PostMessage)) == 1
