"""What a session tells: facts that can be kept, told apart and put where they belong."""

from __future__ import annotations

import asyncio

import pytest

from bridgekit.contract import facts, verbs
from bridgekit.testing.contract.bench import Bench
from bridgekit.testing.contract.peer import Ability
from bridgekit.testing.contract.samples import HOSTILE


def need(bench: Bench, ability: Ability) -> None:
    """Skip what this peer cannot show."""
    if ability not in bench.peer.abilities:
        pytest.skip(f"this peer cannot {ability}")


class HearingContract:
    """What others say becomes facts. That each can be written to disk and read back is checked of every fact."""

    async def test_the_session_says_that_it_is_in_the_chat(self, bench: Bench) -> None:
        opened = bench.all(facts.ChatOpened)
        assert [fact.chat for fact in opened] == [bench.shared] * len(opened)
        assert opened
        assert not opened[0].private

    async def test_what_is_said_in_a_shared_chat_is_a_shared_message(self, bench: Bench) -> None:
        need(bench, Ability.SAY)
        await bench.peer.say(bench.shared, "ada", "good morning")
        heard = await bench.message("good morning")
        assert heard.chat == bench.shared
        assert not heard.private
        assert not heard.replayed
        assert heard.content.text.body == "good morning"
        assert heard.sender.id
        assert heard.sender.name == "ada"

    async def test_a_message_says_when_in_milliseconds(self, bench: Bench) -> None:
        need(bench, Ability.SAY)
        await bench.peer.say(bench.shared, "ada", "what time is it")
        heard = await bench.message("what time is it")
        assert 1_000_000_000_000 < heard.at < 100_000_000_000_000

    async def test_the_same_words_twice_are_two_messages(self, bench: Bench) -> None:
        """The id tells a message from its twin: only a replay of the same one may have the same id."""
        need(bench, Ability.SAY)
        for _ in range(3):
            await bench.peer.say(bench.shared, "ada", "again")
        heard = await bench.hear(facts.Message, 3, where=lambda m: m.content.text.body == "again")
        assert len({m.id for m in heard}) == 3
        assert all(m.id for m in heard)

    async def test_one_person_is_one_identity_and_two_are_two(self, bench: Bench) -> None:
        need(bench, Ability.SAY)
        for who in ("ada", "bob", "ada"):
            await bench.peer.say(bench.shared, who, f"{who} here")
        heard = await bench.hear(facts.Message, 3, where=lambda m: m.content.text.body.endswith(" here"))
        assert heard[0].sender.id == heard[2].sender.id != heard[1].sender.id

    async def test_what_is_said_quickly_is_heard_in_order_and_once(self, bench: Bench) -> None:
        need(bench, Ability.SAY)
        for i in range(100):
            await bench.peer.say(bench.shared, "ada", f"quick {i}")
        await bench.message("quick 99")
        said = [
            m.content.text.body for m in bench.all(facts.Message) if m.content.text.body.startswith("quick")
        ]
        assert said == [f"quick {i}" for i in range(100)]

    async def test_what_is_said_to_the_account_alone_is_private(self, bench: Bench) -> None:
        need(bench, Ability.WHISPER)
        await bench.peer.whisper(bench.session.me, "ada", "just between us")
        heard = await bench.message("just between us")
        assert heard.private
        assert heard.chat == bench.network.direct(heard.sender.id)
        assert heard.chat != bench.shared

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_whatever_others_say_the_session_lives_on(self, bench: Bench, name: str) -> None:
        need(bench, Ability.SAY)
        await bench.peer.say(bench.shared, "eve", HOSTILE[name])
        await bench.peer.say(bench.shared, "ada", "still there?")
        await bench.message("still there?")
        assert all(not set(m.id) & set("\r\n\0") for m in bench.all(facts.Message))

    async def test_a_message_read_again_from_history_is_the_same_message(self, bench: Bench) -> None:
        """So a gap can be filled without anything appearing twice."""
        need(bench, Ability.SAY)
        if verbs.FetchHistory not in bench.can().verbs:
            pytest.skip("the network keeps no history")
        for i in range(3):
            await bench.peer.say(bench.shared, "ada", f"remember {i}")
        await bench.message("remember 2")
        await bench.perform(verbs.FetchHistory(chat=bench.shared, limit=3))
        replayed = await bench.hear(facts.Message, 3, where=lambda m: m.replayed)
        first = [m for m in bench.all(facts.Message) if not m.replayed and "remember" in m.content.text.body]
        assert [(m.id, m.at, m.content, m.chat) for m in replayed] == [
            (m.id, m.at, m.content, m.chat) for m in first
        ]

    async def test_what_the_session_itself_said_is_not_heard_as_somebody_elses(self, bench: Bench) -> None:
        """Else it would come back to those who said it."""
        await bench.works("an echo?")
        await asyncio.sleep(0.05)
        me = bench.session.me.id
        assert [m for m in bench.all(facts.Message) if m.sender.id == me and m.own is None] == []
