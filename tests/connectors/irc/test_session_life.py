"""A session's life: what it emits, how it notices that the line is dead, and which doors it knocks at."""

import asyncio
import contextlib

import pytest

from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, RemoteError, SendRejected
from bridgekit.contract.facts import (
    Change,
    ChatClosed,
    ChatOpened,
    ChatVisibility,
    Invitation,
    Membership,
    Message,
    Profile,
    Retraction,
    RoleChange,
    Roster,
    Topic,
)
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content, Role
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Join, Leave, PostMessage, React, Retract
from connectors.irc import joining, upkeep
from connectors.irc.protocol.wire import Line
from connectors.irc.testing.harness import MemoryHost, bridge_in, login_of, network_of, running
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd
from connectors.irc.testing.ircd_line import Out

C = ChatId("#c")


@pytest.fixture(params=[PLAIN, FULL], ids=["plain", "full"])
def caps(request) -> dict[str, str]:
    return dict(request.param)


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
        assert str(message.chat) == message.sender.id


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
        assert isinstance(error, RemoteError)
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
