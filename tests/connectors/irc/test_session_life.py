"""A session's life: what it emits, how it notices that the line is dead, and what it catches up with afterwards."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, SendRejected
from bridgekit.contract.facts import (
    Change,
    ChatClosed,
    ChatOpened,
    ChatVisibility,
    Invitation,
    Membership,
    Message,
    Missed,
    Profile,
    Retraction,
    RoleChange,
    Roster,
    Topic,
)
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content, Role
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import FetchHistory, Join, Leave, PostMessage, React, Retract
from connectors.irc import joining, upkeep
from connectors.irc.catchup import spelled
from connectors.irc.protocol.wire import Line
from connectors.irc.testing import ircd_commands
from connectors.irc.testing.harness import MemoryHost, login_of, network_of, running
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd
from connectors.irc.testing.ircd_line import Out

C = ChatId("#c")


@pytest.fixture(params=[PLAIN, FULL], ids=["plain", "full"])
def caps(request) -> dict[str, str]:
    return dict(request.param)


@contextlib.asynccontextmanager
async def bridge_in(ircd: Ircd, **config):
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#c"]), **config)) as bridge:
        await bridge.fact(ChatOpened)
        yield bridge


async def test_everybody_who_is_there_is_told_at_once(caps):
    ircd = Ircd(caps=caps)
    ircd.crowd(500, "#c")
    ircd.user("op", account="boss").join("#c", prefix="o")
    async with bridge_in(ircd) as bridge:
        roster = await bridge.fact(Roster)
        assert len(roster.members) == 501
        assert {m.person.name: m.role for m in roster.members}["op"] is Role.MODERATOR
        assert not any(m.person.name == "bridge" for m in roster.members)


async def test_the_first_words_in_a_channel_of_thousands_come_before_its_list(caps, monkeypatch):
    ircd = Ircd(caps=caps)
    ircd.crowd(2000, "#c")
    async with bridge_in(ircd) as bridge:
        assert not ircd.lines("WHO #c")
        ircd.find("user7").say("#c", "first")
        await bridge.fact(Message)
        assert not [f for f in bridge.facts if isinstance(f, Roster)]
        assert len((await bridge.fact(Roster)).members) == 2000


async def test_a_server_that_does_not_answer_who_leaves_no_channel_without_its_list(caps, monkeypatch):
    monkeypatch.setattr("connectors.irc.session.WHO_LATER", 0.05)
    monkeypatch.setattr("connectors.irc.session.WHO_OVERDUE", 0.1)
    monkeypatch.setattr("connectors.irc.words.compose.after_names", lambda state, channel: [])
    ircd = Ircd(caps=caps)
    ircd.crowd(2000, "#c")
    async with bridge_in(ircd) as bridge:
        assert len((await bridge.fact(Roster)).members) == 2000


async def test_what_was_said_before_the_goodbye_is_heard(caps):
    """A bridge that is stopped has read what the server sent before it answered the QUIT."""
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        bob = ircd.user("bob", "#c")
        await bridge.fact(Membership, change=Change.JOIN)
        bob.say("#c", "last words")
        bridge.task.cancel()
        await asyncio.wait([bridge.task])
        assert bridge.said == ["last words"]
    assert len(ircd.lines("QUIT")) == 1


async def test_a_server_that_says_nothing_holds_up_no_goodbye(caps, monkeypatch):
    monkeypatch.setattr("connectors.irc.session.HEAR_OUT", 0.1)
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.silent = True
        bridge.task.cancel()
        await asyncio.wait([bridge.task], timeout=60)
        assert bridge.task.cancelled()


async def test_what_happens_in_the_channel_is_emitted(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        bob = ircd.user("bob", "#c")
        person = (await bridge.fact(Membership, change=Change.JOIN)).person
        bob.say("#c", "hello")
        bob.act("#c", "waves")
        assert (await bridge.fact(Message, 2)).sender.id == person.id
        assert bridge.said == ["hello", "waves"]
        bob.change_nick("robert")
        profile = await bridge.fact(Profile)
        assert (profile.person.id, profile.person.name, profile.previous) == (person.id, "robert", "bob")
        op = ircd.user("op", "#c")
        op.mode("#c", "+v", "robert")
        assert (await bridge.fact(RoleChange)).role is Role.VOICE
        op.topic("#c", "news")
        assert (await bridge.fact(Topic)).topic == "news"
        op.mode("#c", "+i")
        assert (await bridge.fact(ChatVisibility, 2)).visibility.detail == "+int"
        op.kick("#c", "robert", "enough")
        kicked = await bridge.fact(Membership, change=Change.KICK)
        assert (kicked.person.id, kicked.reason) == (person.id, "enough")
        assert kicked.actor is not None
        assert kicked.actor.name == "op"
        op.quit("Quit: bye")
        await bridge.fact(Membership, change=Change.LEAVE)
        op = ircd.user("carol")
        op.invite("bridge", "#elsewhere")
        assert (await bridge.fact(Invitation)).chat == "#elsewhere"


async def test_a_netsplit_is_marked_as_one(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.crowd(20, "#c")
        ircd.split([f"user{i}" for i in range(20)])
        await bridge.fact(Membership, 20, change=Change.LEAVE, split=True)


async def test_a_private_message_is_private(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.user("bob").say("bridge", "psst")
        message = await bridge.fact(Message)
        assert message.private
        assert message.chat == message.sender.id


async def test_a_ping_is_answered_also_while_talk_waits(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd, flood={"burst": 1, "refill": 2, "lead_max": 0}) as bridge:
        talking = [
            asyncio.create_task(bridge.session.perform(PostMessage(chat=C, content=Content(text=plain("x")))))
            for _ in range(3)
        ]
        await asyncio.sleep(0.01)
        ircd.client("bridge").write(b"PING :are you there\r\n")
        await ircd.heard("^PONG :?are you there")
        assert len(ircd.lines("PRIVMSG")) < 3
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


async def test_a_half_open_socket_is_noticed(caps, monkeypatch):
    """translation.md IRC 19: a half-open socket is noticed in a minute."""
    assert upkeep.DEAD_AFTER + upkeep.TICK <= 60
    monkeypatch.setattr(upkeep, "TICK", 0.02)
    monkeypatch.setattr(upkeep, "PING_AFTER", 0.1)
    monkeypatch.setattr(upkeep, "DEAD_AFTER", 0.3)
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        await ircd.heard("^PING alive")
        ircd.silent = True
        error = await bridge.ended()
        assert isinstance(error, Disconnected)
        assert error.notice == "The IRC server went silent."


async def test_a_quiet_server_that_answers_is_not_dead(caps, monkeypatch):
    monkeypatch.setattr(upkeep, "TICK", 0.02)
    monkeypatch.setattr(upkeep, "PING_AFTER", 0.05)
    monkeypatch.setattr(upkeep, "DEAD_AFTER", 0.15)
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        await ircd.heard("^PING alive", count=3)
        assert bridge.task is not None
        assert not bridge.task.done()


@pytest.mark.parametrize(
    ("words", "kind", "retry"),
    [
        ("K-Lined", LoginBanned, 3600.0),
        ("Killed (op (bye))", Disconnected, 300.0),
        ("Ping timeout", Disconnected, 0.0),
    ],
)
async def test_the_servers_last_word_is_heeded(caps, words, kind, retry):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.kill("bridge", words)
        error = await bridge.ended()
        assert type(error) is kind
        assert error.retry_after == retry


@pytest.mark.parametrize("words", ["Quit: bye", "Killed (op (bye))"])
async def test_who_has_quit_is_not_connected_though_the_socket_stays_open(caps, words):
    """RFC 2812 3.1.7: a server closes the connection behind a QUIT; what stands between may not."""
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.user("bob", "#c").quit()
        client = ircd.client("bridge")
        client.write(f":{client.user.mask} QUIT :{words}\r\n".encode())
        error = await bridge.ended()
        assert type(error) is Disconnected
        assert error.retry_after == (300.0 if "Killed" in words else 0.0)


async def test_that_one_quit_once_ends_no_connection_of_today():
    ircd = Ircd(caps=FULL)
    async with bridge_in(ircd) as bridge:
        client = ircd.client("bridge")
        past = Out(client.user.mask, "QUIT", ("bye",), user=client.user)
        client.batch("chathistory", "#c", messages=[past])
        ircd.user("bob", "#c").say("#c", "still there?")
        await bridge.fact(Message)
        assert bridge.task is not None
        assert not bridge.task.done()


async def test_who_is_killed_twice_stays_away(caps):
    """translation.md IRC 17: KILL is not KICK."""
    ircd = Ircd(caps=caps)
    async with ircd.serving():
        network = network_of(ircd)
        kinds = []
        for _ in range(2):
            async with running(network) as bridge:
                ircd.kill("bridge", "Killed (op (go away))")
                kinds.append(type(await bridge.ended()))
        assert kinds == [Disconnected, LoginRejected]


async def test_at_the_end_the_channels_see_why(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd, quit_message="upgrading"):
        pass
    assert ircd.lines("^QUIT") == ["QUIT upgrading"]


async def test_a_closed_door_is_told_once_and_knocked_at_again(caps, monkeypatch):
    monkeypatch.setattr(upkeep, "TICK", 0.02)
    monkeypatch.setattr(joining, "RETRY", (0.05,))
    ircd = Ircd(caps=caps)
    ircd.channel("#shut").refuse = "473"
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#shut", "#open"]))) as bridge:
        await bridge.fact(ChatOpened, chat=ChatId("#open"))
        closed = await bridge.fact(ChatClosed)
        assert (closed.chat, closed.final) == ("#shut", False)
        assert closed.reason == "#shut is invite-only: ask an operator to invite the bridge."
        await ircd.heard("^JOIN #shut", count=3)
        assert len(bridge.all(ChatClosed)) == 1
        ircd.channel("#shut").refuse = ""
        await bridge.fact(ChatOpened, chat=ChatId("#shut"))


async def test_who_was_asked_to_invite_the_bridge_does_not_wait_for_it(caps, monkeypatch):
    """The room reads "ask an operator to invite the bridge": whoever does sees it come."""
    monkeypatch.setattr(joining, "RETRY", (3600.0,))
    ircd = Ircd(caps=caps)
    ircd.channel("#shut").refuse = "473"
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#shut"]))) as bridge:
        await bridge.fact(ChatClosed)
        ircd.channel("#shut").refuse = ""
        ircd.user("op").invite("bridge", "#else")
        ircd.user("op").invite("bridge", "#shut")
        await bridge.fact(ChatOpened, chat=ChatId("#shut"))
        assert ircd.lines("^JOIN") == ["JOIN #shut", "JOIN #shut"]


async def test_an_invitation_is_no_way_back_in_for_whom_an_operator_put_out(caps):
    """Everybody may invite into a channel that is open."""
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        op = ircd.user("op", "#c")
        op.kick("#c", "bridge", "enough")
        await bridge.fact(ChatClosed)
        op.invite("bridge", "#c")
        await bridge.fact(Invitation)
        await ircd.drained()
        assert ircd.lines("^JOIN") == ["JOIN #c"]


@pytest.mark.parametrize("why", ["474", "475", "477", "489", "470"])
async def test_a_door_that_a_person_has_to_open_is_knocked_at_seldom_and_not_never(monkeypatch, why):
    """A ban that was lifted, a key or a mode that was taken away: nobody tells a bridge of it."""
    monkeypatch.setattr(upkeep, "TICK", 0.02)
    monkeypatch.setattr(joining, "SELDOM", 0.05)
    monkeypatch.setattr(joining, "RETRY", (3600.0,))
    ircd = Ircd()
    shut = ircd.channel("#shut")
    if why == "470":
        shut.forward = "##shut"
    else:
        shut.refuse = why
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#shut"]))) as bridge:
        assert (await bridge.fact(ChatClosed)).final
        await ircd.heard("^JOIN #shut", count=3)
        assert len([closed for closed in bridge.all(ChatClosed) if closed.chat == "#shut"]) == 1
        shut.forward = shut.refuse = ""
        await bridge.fact(ChatOpened, chat=ChatId("#shut"))


@pytest.mark.parametrize("login", [None, login_of("carol")])
async def test_a_channel_to_which_a_forward_leads_is_left_again(caps, login):
    """Nobody linked it, so nobody there knows that a bridge reads along."""
    ircd = Ircd(caps=caps)
    ircd.channel("#x").forward = "##x"
    async with ircd.serving(), running(network := network_of(ircd), login) as bridge:
        with pytest.raises(SendRejected, match="#x sends everybody on to ##x: link that channel instead"):
            await bridge.session.perform(Join(chat=ChatId("#x")))
        await ircd.heard("^PART ##x")
        await ircd.until(lambda: not ircd.channel("##x").members)
        if login is not None:
            assert network.memory.channels(login.id) == []
        await bridge.session.perform(Join(chat=ChatId("##x")))
        assert len(ircd.channel("##x").members) == 1
        with pytest.raises(SendRejected, match="link that channel instead"):
            await bridge.session.perform(Join(chat=ChatId("#x")))
        await ircd.drained()
        assert len(ircd.channel("##x").members) == 1  # there it was asked for


async def test_a_join_that_is_refused_is_a_sentence(caps):
    ircd = Ircd(caps=caps)
    ircd.channel("#k").modes["k"] = "sesame"
    async with bridge_in(ircd) as bridge:
        with pytest.raises(SendRejected, match="#k needs a key"):
            await bridge.session.perform(Join(chat=ChatId("#k")))
        await bridge.session.perform(Join(chat=ChatId("#k"), secret="sesame"))
        await bridge.fact(ChatOpened, chat=ChatId("#k"))


async def test_the_key_that_let_us_in_is_remembered_over_a_restart(caps):
    ircd = Ircd(caps=caps)
    ircd.channel("#k").modes["k"] = "sesame"
    host = MemoryHost()
    async with ircd.serving():
        async with running(network_of(ircd, host)) as bridge:
            await bridge.session.perform(Join(chat=ChatId("#k"), secret="sesame"))
        async with running(network_of(ircd, MemoryHost(["#k"], host.kept))) as bridge:
            await bridge.fact(ChatOpened, chat=ChatId("#k"))


async def test_leaving_is_leaving(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        await bridge.session.perform(Leave(chat=C, reason="unlinked"))
        assert (await bridge.fact(ChatClosed)).final
        assert ircd.lines("^(@\\S+ )?PART")[-1].endswith("PART #c unlinked")
        with pytest.raises(SendRejected):
            await bridge.session.perform(PostMessage(chat=C, content=Content(text=plain("x"))))


async def test_words_for_a_channel_wait_for_the_join_that_is_under_way(caps):
    ircd = Ircd(caps=caps)
    ircd.delay = 0.05
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#c"]))) as bridge:
        await ircd.heard("^JOIN")
        await bridge.session.perform(PostMessage(chat=C, content=Content(text=plain("early"))))
        assert any("early" in line for line in ircd.lines("PRIVMSG"))


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


@pytest.mark.parametrize("connected", [True, False])
async def test_who_is_erased_is_named_in_no_memory_and_what_banned_them_stands(connected):
    ircd = Ircd(caps=FULL)
    op = ircd.user("op").join("#c", prefix="o")
    host = MemoryHost(["#c"])
    async with ircd.serving():
        network = network_of(ircd, host, puppets={"mode": "on_request"})
        zoe, ann = login_of("zoe", nick="zoe"), login_of("ann", nick="ann")
        async with contextlib.AsyncExitStack() as stack:
            bridge = await stack.enter_async_context(running(network))
            for login in (zoe, ann):
                own = await stack.enter_async_context(running(network, login))
                await own.session.perform(Join(chat=C))
                await bridge.fact(Membership, change=Change.JOIN)
            for one in ("zoe", "ann"):
                op.mode("#c", "+b", f"{one}!*@*")
                await bridge.fact(Membership, change=Change.BAN)
        async with contextlib.AsyncExitStack() as stack:
            if connected:
                bridge = await stack.enter_async_context(running(network))
                await bridge.fact(ChatOpened)
            await network.take_leave(zoe)
            assert len(await network.forget_owner(zoe.owner)) == 1
            assert not any(b"zoe" in kept for kept in host.kept.values())
            assert any(ann.owner.encode() in kept for kept in host.kept.values())
            assert "zoe!*@*" in ircd.channel("#c").bans
            if not connected:
                bridge = await stack.enter_async_context(running(network))
                await bridge.fact(ChatOpened)
            for one in ("zoe", "ann"):
                op.mode("#c", "-b", f"{one}!*@*")
            lifted = await bridge.fact(Membership, change=Change.UNBAN)
            assert lifted.stands_for == ann.owner
            assert await network.forget_owner(zoe.owner) == []


@pytest.mark.parametrize("restarted", [False, True], ids=["reconnected", "restarted"])
@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
async def test_whose_own_account_was_banned_is_let_in_again_by_whichever_connection_sees_it(restarted, away):
    """A ban may stand for years. Whoever of ours it hit is out of the Matrix room, too."""
    ircd = Ircd(caps=FULL)
    op = ircd.user("op").join("#c", prefix="o")
    host = MemoryHost(["#c"])
    async with ircd.serving():
        network = network_of(ircd, host, puppets={"mode": "on_request"})
        login = login_of("zoe", nick="zoe")
        async with running(network) as bridge, running(network, login) as zoe:
            await zoe.session.perform(Join(chat=C))
            await bridge.fact(Membership, change=Change.JOIN)
            op.mode("#c", "+b", "zoe!*@*")
            op.mode("#c", "+b", "*!*@elsewhere")
            banned = await bridge.fact(Membership, change=Change.BAN)
            op.kick("#c", "zoe")
            await bridge.fact(Membership, change=Change.KICK)
        if away:
            op.mode("#c", "-b", "zoe!*@*")
        if restarted:
            network = network_of(ircd, MemoryHost(["#c"], host.kept), puppets={"mode": "on_request"})
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            if not away:
                op.mode("#c", "-b", "zoe!*@*")
            lifted = await bridge.fact(Membership, change=Change.UNBAN)
            assert (lifted.person.id, lifted.stands_for) == (banned.person.id, login.owner)
            assert network.memory.bans("#c") == {}
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            assert len(ircd.lines("MODE #c b")) == 1  # who has nothing to compare does not ask


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


async def test_what_can_be_done_is_told_as_it_is_now():
    """It is asked many times for each verb, and the server may change its mind between two of them."""
    ircd = Ircd(caps=FULL)
    bob = ircd.user("bob", "#c")
    async with bridge_in(ircd) as bridge:
        before = bridge.session.capabilities(C)
        assert React not in before.verbs  # no message had an id yet
        bob.say("#c", "hello")
        await bridge.fact(Message)
        now = bridge.session.capabilities(C)
        assert React in now.verbs
        assert bridge.session.capabilities(C) is now
        bridge.session.state.feed(Line(command="CAP", params=("*", "DEL", "message-tags")))
        assert React not in bridge.session.capabilities(C).verbs
        own = bridge.session.state
        bridge.session.state.feed(
            Line(command="JOIN", params=("#d",), source=f"{own.nick}!{'u' * 8}@{'h' * 40}")
        )
        assert bridge.session.capabilities(C).line_bytes < now.line_bytes


async def test_reactions_and_retractions_go_both_ways_where_the_server_has_them():
    ircd = Ircd(caps=FULL)
    bob = ircd.user("bob", "#c")
    async with bridge_in(ircd) as bridge:
        theirs = bob.say("#c", "hello")
        message = await bridge.fact(Message)
        can = bridge.session.capabilities(C).verbs
        assert React in can
        assert Retract in can
        await bridge.session.perform(React(chat=C, target=message.id, reaction="👍"))
        assert any(f"+draft/react=👍;+draft/reply={theirs}" in line for line in ircd.lines("TAGMSG"))
        ours = await bridge.session.perform(PostMessage(chat=C, content=Content(text=plain("mine"))))
        assert ours is not None
        assert ours.id is not None
        await bridge.session.perform(Retract(chat=C, target=ours.id))
        assert ircd.lines("REDACT")[-1].endswith(f"REDACT #c {ours.id}")
        bob.say("#c", "behind it")
        await bridge.fact(Message, 2)
        assert bridge.all(Retraction) == []  # what we did ourselves is no news
        with pytest.raises(SendRejected):
            await bridge.session.perform(Retract(chat=C, target=message.id))


async def test_ctcp_is_answered_and_not_in_a_hurry(caps):
    """translation.md IRC 6: answer VERSION/PING/TIME, rate limited."""
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        bob = ircd.user("bob")
        for _ in range(10):
            bob.say("bridge", "\x01VERSION\x01")
        bob.say("bridge", "done")
        await bridge.fact(Message)
        await ircd.heard("NOTICE bob :\x01VERSION ")
        assert len(ircd.lines("NOTICE bob")) == 1


async def test_a_line_that_nobody_can_read_costs_only_itself(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        client = ircd.client("bridge")
        for rubbish in (
            b"\r\n",
            b":\r\n",
            b":x\r\n",
            b"@ \r\n",
            b"JOIN\r\n",
            b":a!b@c MODE\r\n",
            b"\xff\xfe\r\n",
            b"x\0y\r\n",
        ):
            client.write(rubbish)
        client.write(b":bob!b@h PRIVMSG #c :caf\xe9\r\n")
        assert (await bridge.fact(Message)).content.text.body == "café"


async def test_many_channels_are_joined_a_few_at_a_time(caps):
    ircd = Ircd(caps=caps)
    channels = [f"#c{i}" for i in range(40)]
    async with ircd.serving(), running(network_of(ircd, MemoryHost(channels))) as bridge:
        await ircd.until(lambda: len(bridge.all(ChatOpened)) == 40)
        assert len(ircd.lines("^JOIN")) == 5


async def test_a_channel_that_is_being_left_is_entered_anew(caps):
    """A link that moves to another room leaves and comes back in one breath."""
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.delay = 0.1
        leaving = asyncio.create_task(bridge.session.perform(Leave(chat=C, reason="moved")))
        await asyncio.sleep(0)
        await bridge.session.perform(Join(chat=C))
        await leaving
        await bridge.fact(ChatOpened, 2)
        await bridge.session.perform(PostMessage(chat=C, content=Content(text=plain("back"))))
        assert ircd.lines("JOIN|PART|PRIVMSG")[-1].endswith("PRIVMSG #c back")
