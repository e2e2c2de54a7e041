"""What a session does: what it declares, once, in order, and nothing that hostile words could add."""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import get_args

import pytest

from bridgekit.contract.capabilities import Capabilities
from bridgekit.contract.errors import BridgeError, SendRejected
from bridgekit.contract.ids import MessageId, PersonId
from bridgekit.contract.people import Kind, Person
from bridgekit.contract.verbs import PostMessage, Sent, Verb
from bridgekit.testing.contract.bench import Bench, chat_called, check_sent
from bridgekit.testing.contract.samples import (
    HOSTILE,
    MARK,
    SURROGATES,
    harmless,
    is_sentence,
    one_of_each,
    post,
)

VERBS: tuple[type[Verb], ...] = get_args(Verb)
EVE = Person(id=PersonId("eve"), name="eve")
NO_MESSAGE = MessageId("no-such-message")
PREFIX = "<Ann> "
_LINE = re.compile(r"\r\n|\r|\n")


def lines(received: list[str]) -> list[str]:
    """The lines that the peer's people read."""
    return [line for said in received for line in _LINE.split(said) if line]


def need_words(bench: Bench) -> None:
    """Skip where nothing can be said."""
    if PostMessage not in bench.can().verbs:
        pytest.skip("nothing can be said on this network")


class SpeakingContract:
    """What `perform` and `capabilities` promise."""

    async def test_capabilities_are_told_at_once_for_any_chat(self, bench: Bench) -> None:
        assert not inspect.iscoroutinefunction(bench.session.capabilities)
        names = [name for name in (bench.peer.shared, bench.peer.somebody, bench.peer.nowhere) if name]
        for chat in [chat_called(bench.network, name) for name in names]:
            can = bench.can(chat)
            assert isinstance(can, Capabilities)
            assert can.verbs <= set(VERBS)
            assert Kind.TEXT in can.kinds
            assert can.pipeline >= 1
            assert min(can.max_bytes, can.max_lines) >= 0

    async def test_what_is_declared_is_done(self, bench: Bench) -> None:
        """Of what needs no message and no rights: the bridge asks for whatever is declared, and expects it to work."""
        can = bench.can().verbs
        for verb in harmless(bench.shared):
            if type(verb) in can:
                outcome = await bench.attempt(verb)
                assert not isinstance(outcome, BridgeError), f"{type(verb).__name__}: {outcome}"

    async def test_every_verb_is_performed_or_refused_with_a_sentence(self, bench: Bench) -> None:
        """Those that are not declared, too: a capability may be gone by the time that a verb arrives."""
        for verb in one_of_each(bench.shared, EVE, "words", NO_MESSAGE):
            await bench.attempt(verb)

    async def test_a_message_reaches_the_other_side_once(self, bench: Bench) -> None:
        need_words(bench)
        check_sent(await bench.perform(post(bench.shared, "hello there")))
        await bench.works("a second one")
        assert len(await bench.received("hello there")) == 1

    async def test_a_message_to_a_person_alone_reaches_them(self, bench: Bench) -> None:
        if not bench.peer.somebody:
            pytest.skip("nobody can be written to alone")
        chat = chat_called(bench.network, bench.peer.somebody)
        check_sent(await bench.perform(post(chat, "psst")))
        assert len(await bench.received("psst", chat=chat)) == 1

    async def test_each_line_of_a_relayed_message_names_the_speaker(self, bench: Bench) -> None:
        """A line without it would be words that somebody put into the bridge's own mouth."""
        need_words(bench)
        if bench.can().speakers:
            pytest.skip("the network shows speakers by itself")
        words = f"first\nsecond\r\n\n \rthird {'long ' * 400}last"
        await bench.perform(post(bench.shared, words, prefix=PREFIX))
        await bench.received("last")
        said = lines(await bench.peer.received(bench.shared))
        assert [line for line in said if not line.startswith(PREFIX)] == []
        for word in ("first", "second", "third"):
            assert [line for line in said if line.startswith(f"{PREFIX}{word}")]

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_hostile_words_inject_nothing(self, bench: Bench, name: str) -> None:
        need_words(bench)
        prefix = "" if bench.can().speakers else PREFIX
        await bench.attempt(post(bench.shared, HOSTILE[name], prefix=prefix), hostile=True)
        said = lines(await bench.peer.received(bench.shared))
        assert [line for line in said if not line.startswith(prefix)] == []
        await bench.works("after hostile words")
        assert await bench.peer.injected(MARK) == []

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_hostile_words_anywhere_else_inject_nothing(self, bench: Bench, name: str) -> None:
        """In names, topics, reasons, reactions, quotes and ids."""
        hostile = HOSTILE[name]
        for verb in one_of_each(
            bench.shared, Person(id=PersonId(hostile), name=hostile), hostile, MessageId(hostile)
        ):
            await bench.attempt(verb, hostile=True)
        assert await bench.peer.injected(MARK) == []
        assert bench.reading is not None
        assert not bench.reading.done()

    async def test_what_is_no_text_at_all_breaks_nothing(self, bench: Bench) -> None:
        await bench.attempt(post(bench.shared, SURROGATES))
        await bench.works("after surrogates")
        bench.broken.clear()  # who repeats what the bridge would never hand over does no harm

    async def test_a_megabyte_is_sent_or_refused_and_the_session_lives_on(self, bench: Bench) -> None:
        need_words(bench)
        await bench.attempt(post(bench.shared, "mega byte " * 100_000))
        await bench.works("after a megabyte")

    async def test_an_empty_message_is_sent_or_refused(self, bench: Bench) -> None:
        need_words(bench)
        for words in ("", "\n", "\r\n\r\n"):
            await bench.attempt(post(bench.shared, words))
        await bench.works("after nothing")

    async def test_pipelined_messages_keep_the_order_of_the_calls(self, bench: Bench) -> None:
        need_words(bench)
        outcomes = await bench.pipelined([post(bench.shared, f"pipelined {i}") for i in range(200)])
        assert [o for o in outcomes if isinstance(o, BridgeError)] == []
        said = lines(await bench.received("pipelined", 200))
        assert said == [f"pipelined {i}" for i in range(200)]
        ids = [o.id for o in outcomes if isinstance(o, Sent) and o.id]
        assert len(set(ids)) == len(ids)

    async def test_a_verb_may_be_cancelled_at_any_moment(self, bench: Bench) -> None:
        """It ends at once and is said once at most; what was not sent says so (Disconnected: it may be tried again)."""
        need_words(bench)
        unsent: list[str] = []
        for turns in range(12):
            words = f"cancelled-{turns}-"
            task = asyncio.create_task(bench.session.perform(post(bench.shared, words)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            async with asyncio.timeout(30):
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, BridgeError):
                assert is_sentence(outcome.notice)
                if outcome.certain:
                    unsent.append(words)
            else:
                assert outcome is None or isinstance(outcome, Sent | asyncio.CancelledError)
        await bench.works("after cancelling")
        received = await bench.peer.received(bench.shared)
        for turns in range(12):
            assert sum(f"cancelled-{turns}-" in said for said in received) <= 1
        assert [words for words in unsent if any(words in said for said in received)] == []

    async def test_nothing_can_be_said_in_a_chat_that_is_not_there(self, bench: Bench) -> None:
        if not bench.peer.nowhere:
            pytest.skip("every chat can be spoken in")
        chat = chat_called(bench.network, bench.peer.nowhere)
        with pytest.raises(SendRejected) as refused:
            await bench.perform(post(chat, "anybody?"))
        assert is_sentence(refused.value.notice)
        await bench.works("after nowhere")
