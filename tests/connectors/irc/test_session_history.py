"""What a session catches up with: the gap behind a reconnect or a restart, and the history that is asked for."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from bridgekit.contract.errors import SendRejected
from bridgekit.contract.facts import (
    ChatOpened,
    Message,
    Missed,
)
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import FetchHistory, PostMessage
from connectors.irc.catchup import spelled
from connectors.irc.testing import ircd_commands
from connectors.irc.testing.harness import MemoryHost, bridge_in, network_of, running
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd
from connectors.irc.testing.ircd_line import Out

C = ChatId("#c")


async def test_the_gap_after_a_reconnect_is_filled():
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            first = bob.say("#c", "before")
            await bridge.fact(Message)
            ircd.drop("bridge")
            await bridge.ended()
        missed = [bob.say("#c", f"missed {i}") for i in range(250)]
        async with running(network) as bridge:
            await ircd.until(lambda: "missed 249" in bridge.said)
            bob.say("#c", "after")
            await ircd.until(lambda: "after" in bridge.said)
            messages = bridge.all(Message)
            replayed = dict.fromkeys(m.id for m in messages if m.replayed)
            assert [i for i in replayed if i != first] == missed
            assert not messages[-1].replayed
            assert messages[-1].content.text.body == "after"


async def test_how_far_it_has_read_outlives_the_process():
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        async with running(network_of(ircd, host)) as bridge:
            await bridge.fact(ChatOpened)
            bob.say("#c", "before")
            await bridge.fact(Message)
        bob.say("#c", "missed")
        async with running(network_of(ircd, MemoryHost(["#c"], host.kept))) as bridge:
            await bridge.fact(ChatOpened)
            await ircd.until(lambda: "missed" in bridge.said)


async def test_what_was_said_after_the_first_join_is_fetched_though_nothing_was_heard_before_the_kill():
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    bob.say("#c", "before we came")
    await asyncio.sleep(0.01)
    async with ircd.serving():
        async with running(network_of(ircd, host)) as bridge:
            await bridge.fact(ChatOpened)
            kept = dict(host.kept)  # what a process has on disk that is killed now
        bob.say("#c", "missed")
        async with running(network_of(ircd, MemoryHost(["#c"], kept))) as bridge:
            await ircd.until(lambda: bridge.said)
            assert bridge.said == ["missed"]


async def test_what_is_said_while_the_gap_is_read_waits_behind_it_and_comes_once():
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        async with running(network_of(ircd, host)) as bridge:
            await bridge.fact(ChatOpened)
        missed = [f"missed {i}" for i in range(250)]
        for words in missed:
            bob.say("#c", words)
        ircd.delay = 0.02
        async with running(network_of(ircd, MemoryHost(["#c"], host.kept))) as bridge:
            await ircd.heard("CHATHISTORY")
            bob.say("#c", "meanwhile")
            await ircd.until(lambda: "meanwhile" in bridge.said)
            assert list(dict.fromkeys(bridge.said)) == [*missed, "meanwhile"]
            assert bridge.said.count("meanwhile") == 1


@pytest.mark.parametrize("isupport", ["", "MSGREFTYPES=timestamp"], ids=["by id", "by time"])
async def test_a_page_that_is_shorter_than_asked_for_is_not_taken_for_the_last(isupport):
    """draft/chathistory: a limit is the most that is asked for. Servers have limits of their own, and leave out what
    a client cannot read."""
    ircd = Ircd(caps=FULL, isupport=isupport)
    ircd.history_page = 30
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            bob.say("#c", "before")
            await bridge.fact(Message)
        missed = [f"missed {i}" for i in range(100)]
        for words in missed:
            bob.say("#c", words)
            await asyncio.sleep(0.001)  # a moment each: a server's time is all there is to ask by
        async with running(network) as bridge:
            await ircd.until(lambda: missed[-1] in bridge.said)
            bob.say("#c", "after")
            await ircd.until(lambda: "after" in bridge.said)
            assert list(dict.fromkeys(bridge.said)) == ["before", *missed, "after"]
        asked = len(ircd.lines("CHATHISTORY"))
        async with running(network) as bridge:
            await ircd.until(lambda: len(ircd.lines("CHATHISTORY")) > asked)
            bob.say("#c", "and on")
            await ircd.until(lambda: "and on" in bridge.said)
        assert len(ircd.lines("CHATHISTORY")) == asked + 1  # nothing is new there: that is asked once


async def test_messages_of_several_lines_are_a_part_of_what_may_be_fetched():
    """draft/multiline inside chathistory: the batch is the message; its id and time are where the next page begins."""
    ircd = Ircd(caps={**FULL, "draft/multiline": "max-bytes=4096"})
    ircd.history_page = 10
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host, history_limit=25)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
        missed = [f"missed\n{i}" for i in range(40)]
        for words in missed:
            bob.say("#c", words)
        async with running(network) as bridge:
            await bridge.fact(Missed)
            assert bridge.said == missed[:25]
            assert len(ircd.lines("CHATHISTORY")) == 3


async def test_more_comings_and_goings_than_a_page_holds_do_not_end_the_history():
    """draft/event-playback: who has not asked for it gets an empty page, which has no end to go on from."""
    ircd = Ircd(caps=FULL)
    ircd.history_page = 20
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
        history = ircd.channel("#c").history
        history.extend(Out(bob.mask, "JOIN", ("#c",), tags=ircd.tags(None)) for _ in range(50))
        bob.say("#c", "missed")
        async with running(network) as bridge:
            await ircd.until(lambda: "missed" in bridge.said)


def with_each_page(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> None:
    """Do something whenever the server is asked for a page of history, before it answers."""
    answer = ircd_commands._history
    monkeypatch.setattr(ircd_commands, "_history", lambda client, p: (before(), answer(client, p)))


async def test_a_channel_that_never_falls_silent_is_caught_up_with(monkeypatch):
    """The past ends where it meets what was heard live: whoever speaks between two pages makes no third one."""
    ircd = Ircd(caps=FULL)
    ircd.history_page = 30
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host, history_limit=200)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
        missed, meanwhile = [f"missed {i}" for i in range(40)], [f"meanwhile {i}" for i in range(300)]
        for words in missed:
            bob.say("#c", words)
        coming = iter(meanwhile)
        with_each_page(monkeypatch, lambda: bob.say("#c", next(coming)))
        async with running(network) as bridge:
            await ircd.until(lambda: meanwhile[1] in bridge.said)
            bob.say("#c", "after")
            await ircd.until(lambda: "after" in bridge.said)
            assert bridge.said == [*missed, *meanwhile[:2], "after"]
            assert [m.replayed for m in bridge.all(Message)] == [True] * 40 + [False] * 3
            assert bridge.all(Missed) == []


async def test_a_kill_while_the_gap_is_read_loses_nothing(monkeypatch):
    """What was heard live waits behind the past in memory alone: how far was read must never go beyond it."""
    ircd = Ircd(caps=FULL)
    ircd.history_page = 20
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
        words = [f"missed {i}" for i in range(50)]
        for each in words:
            bob.say("#c", each)
            await asyncio.sleep(0.001)
        kills: list[tuple[list[str], dict[str, bytes]]] = []

        def speak_and_look():
            words.append(f"meanwhile {len(words)}")
            bob.say("#c", words[-1])
            network.memory.save()
            kills.append((bridge.said, dict(host.kept)))

        with_each_page(monkeypatch, speak_and_look)
        async with running(network) as bridge:
            await ircd.until(lambda: words[-1] in bridge.said)
        monkeypatch.undo()
        assert len(kills) == 3
        for told, kept in kills:
            async with running(network_of(ircd, MemoryHost(["#c"], kept))) as bridge:
                await ircd.until(lambda: words[-1] in bridge.said)
                assert {*told, *bridge.said} == {*words}


@contextlib.contextmanager
def one_moment(ircd: Ircd, monkeypatch):
    """All that is said meanwhile is said in the same millisecond."""
    with monkeypatch.context() as patched:
        now = ircd.tags(None)["time"]
        patched.setattr(ircd, "tags", lambda user: {**Ircd.tags(ircd, user), "time": now})
        yield


@pytest.mark.parametrize("isupport", ["", "MSGREFTYPES=timestamp"], ids=["by id", "by time"])
async def test_what_we_said_ourselves_uses_up_nothing_of_what_may_be_fetched(monkeypatch, isupport):
    """Also what we said in the very millisecond from which on is fetched."""
    ircd = Ircd(caps=FULL, isupport=isupport)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host, history_limit=5)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            with one_moment(ircd, monkeypatch):
                for number in range(10):
                    await bridge.session.perform(
                        PostMessage(chat=C, content=Content(text=plain(f"ours {number}")))
                    )
        bob.say("#c", "missed")
        async with running(network) as bridge:
            await ircd.until(lambda: bridge.said == ["missed"])


async def test_a_gap_that_is_too_long_ends_in_a_word_about_what_is_missing():
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        network = network_of(ircd, host, history_limit=50)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
        for number in range(250):
            bob.say("#c", f"missed {number}")
        async with running(network) as bridge:
            missed = await bridge.fact(Missed)
            bob.say("#c", "after")
            await ircd.until(lambda: "after" in bridge.said)
            assert bridge.said == [*(f"missed {number}" for number in range(50)), "after"]
            last, after = bridge.all(Message)[-2:]
            assert last.at <= missed.since <= missed.until <= after.at
            assert (
                missed.reason == "The bridge fetches 50 messages of what it missed in #c: there may be more."
            )
            assert [type(f) for f in bridge.facts if f in (last, missed, after)] == [Message, Missed, Message]
        async with running(network) as bridge:  # what was said to be missing does not turn up later
            bob.say("#c", "and on")
            await ircd.until(lambda: "and on" in bridge.said)
            assert not [words for words in bridge.said if words.startswith("missed")]
            assert bridge.all(Missed) == []


async def test_a_gap_that_the_server_keeps_to_itself_is_told(monkeypatch):
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    async with ircd.serving():
        network = network_of(ircd, host)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
        monkeypatch.setattr(
            ircd_commands,
            "_history",
            lambda client, p: client.answer(
                Out(ircd.name, "FAIL", ("CHATHISTORY", "INVALID_TARGET", p[0], p[1], "You may not read that"))
            ),
        )
        async with running(network) as bridge:
            missed = await bridge.fact(Missed)
            assert missed.reason == (
                "The bridge was not in #c for a while. The network does not give out the history of #c."
            )


class LaterHost(MemoryHost):
    """A host whose clock a test puts forward."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@pytest.mark.parametrize("restarted", [False, True], ids=["reconnected", "restarted"])
async def test_where_the_server_keeps_nothing_the_room_reads_how_long_nobody_listened(restarted):
    ircd = Ircd(caps=PLAIN)
    host = LaterHost(["#c"])
    async with ircd.serving():
        network = network_of(ircd, host)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            assert bridge.all(Missed) == []  # the first time there is nothing to miss
        host.ahead = 3725.0
        if restarted:
            network = network_of(ircd, host)
        async with running(network) as bridge:
            missed = await bridge.fact(Missed)
            assert missed.chat == C
            assert missed.reason == "The bridge was away from #c for 1 hour and 2 minutes."
            assert 3_720_000 <= missed.until - missed.since <= 3_785_000
        host.ahead += 0.2
        async with running(network) as bridge:
            missed = await bridge.fact(Missed)
            assert missed.reason == "The bridge was away from #c for a moment."


async def test_a_bouncer_that_kept_what_was_said_is_not_called_away():
    ircd = Ircd(caps={"znc.in/playback": "", "server-time": "", "batch": ""})
    host = LaterHost(["#c"])
    async with ircd.serving():
        network = network_of(ircd, host)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
        host.ahead = 600.0
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            assert bridge.all(Missed) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a moment"),
        (5, "5 seconds"),
        (60, "1 minute"),
        (61, "1 minute and 1 second"),
        (3600, "1 hour"),
        (3605, "1 hour"),
        (90_000, "1 day and 1 hour"),
        (864_000, "10 days"),
    ],
)
def test_a_time_is_spelled_as_people_do(seconds: int, words: str):
    assert spelled(seconds) == words


async def test_a_gap_whose_reading_was_cut_off_is_read_by_the_next_connection():
    """What was said meanwhile must not be told before the gap, or nobody would ever ask for the gap again."""
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        async with running(network_of(ircd, host)) as bridge:
            await bridge.fact(ChatOpened)
        missed = [f"missed {i}" for i in range(250)]
        for words in missed:
            bob.say("#c", words)
        network = network_of(ircd, host)
        ircd.delay = 0.05
        async with running(network) as bridge:
            await ircd.heard("CHATHISTORY", count=2)
            bob.say("#c", "meanwhile")
            await asyncio.sleep(0.02)
            ircd.drop("bridge")
            await bridge.ended()
            heard = bridge.said
        assert "meanwhile" not in heard
        async with running(network) as bridge:
            await ircd.until(lambda: "meanwhile" in bridge.said)
            assert list(dict.fromkeys([*heard, *bridge.said])) == [*missed, "meanwhile"]


async def test_a_session_that_is_stopped_while_it_reads_a_gap_ends():
    """It took the fate of its cancelled question for the server's answer, and asked again, with nobody to read on."""
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    bob = ircd.user("bob", "#c")
    async with ircd.serving():
        async with running(network_of(ircd, host)) as bridge:
            await bridge.fact(ChatOpened)
        for n in range(250):
            bob.say("#c", f"missed {n}")
        ircd.delay = 0.3  # so long the question after the next page is on its way
        async with asyncio.timeout(30), running(network_of(ircd, host)) as bridge:
            await ircd.until(lambda: bridge.said)
        assert bridge.said == [f"missed {n}" for n in range(len(bridge.said))]
        assert len(bridge.said) < 250


async def test_what_an_earlier_connection_of_ours_said_under_a_nick_that_lingers_is_no_strangers():
    """After a power cut the server still holds our nick, and its history our words."""
    ircd = Ircd(caps=FULL)
    host = MemoryHost(["#c"])
    async with ircd.serving():
        async with running(network_of(ircd, host)) as bridge:
            await bridge.fact(ChatOpened)
            await bridge.session.perform(PostMessage(chat=C, content=Content(text=plain("ours"))))
            ircd.user("bob", "#c").say("#c", "theirs")
            await bridge.fact(Message)
            kept = dict(host.kept)
        ircd.user("bridge", "#c")
        async with running(network_of(ircd, MemoryHost(["#c"], kept))) as bridge:
            await ircd.until(lambda: "theirs" in bridge.said)
            assert bridge.session.me.name != "bridge"
            assert "ours" not in bridge.said


async def test_what_we_said_ourselves_is_not_in_the_history():
    ircd = Ircd(caps=FULL)
    async with bridge_in(ircd) as bridge:
        ircd.user("bob", "#c").say("#c", "hi")
        await bridge.session.perform(PostMessage(chat=C, content=Content(text=plain("ours"))))
        await bridge.session.perform(FetchHistory(chat=C))
        assert bridge.said == ["hi", "hi"]
        assert [m.replayed for m in bridge.all(Message)] == [False, True]


async def test_history_is_fetched_when_asked_for():
    ircd = Ircd(caps=FULL)
    bob = ircd.user("bob", "#c")
    ids = [bob.say("#c", f"old {i}") for i in range(10)]
    async with bridge_in(ircd) as bridge:
        assert bridge.all(Message) == []
        sent = await bridge.session.perform(FetchHistory(chat=C, limit=4))
        assert sent is not None
        assert sent.note == "4 messages"
        assert [m.id for m in bridge.all(Message)] == ids[-4:]
        assert all(m.replayed for m in bridge.all(Message))


async def test_where_there_is_no_history_it_is_refused():
    ircd = Ircd(caps=PLAIN)
    async with bridge_in(ircd) as bridge:
        with pytest.raises(SendRejected, match="keeps no history"):
            await bridge.session.perform(FetchHistory(chat=C))
