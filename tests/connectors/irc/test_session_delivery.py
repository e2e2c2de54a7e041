"""The fate of what is said: delivered, refused, uncertain, or not sent at all; on old servers and new ones."""

import asyncio
import contextlib

import pytest

from bridgekit.contract.errors import BridgeError, Disconnected, RateLimited, SendRejected, SendUncertain
from bridgekit.contract.facts import ChatOpened, Message
from bridgekit.contract.ids import ChatId, MessageId, PersonId
from bridgekit.contract.people import Content, Kind, Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Kick, PostMessage, Sent, SetTopic, Verb
from connectors.irc import deliveries
from connectors.irc.deliveries import Deliveries
from connectors.irc.flood import Flood, Limits
from connectors.irc.protocol.outline import Settings
from connectors.irc.protocol.wire import parse
from connectors.irc.testing.harness import Running, bridge_in
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd
from connectors.irc.words import compose
from tests.connectors.irc.reading import enable, in_channel

C = ChatId("#c")
ECHO = {"echo-message": "", "message-tags": "", "server-time": ""}
"""echo-message without labels: there are such servers."""
SLOW = {"burst": 1, "refill": 0.5, "lead_max": 0}


@pytest.fixture(params=[PLAIN, ECHO, FULL], ids=["plain", "echo", "full"])
def caps(request) -> dict[str, str]:
    return dict(request.param)


def post(words: str, chat: str = "#c", **fields) -> PostMessage:
    return PostMessage(chat=ChatId(chat), content=Content(text=plain(words)), **fields)


async def fates(bridge: Running, *verbs: Verb) -> list[Sent | BaseException | None]:
    return await asyncio.gather(*(bridge.session.perform(v) for v in verbs), return_exceptions=True)


async def test_a_message_is_delivered_with_the_networks_id_where_it_has_one(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        sent = await bridge.session.perform(post("hello"))
        assert ircd.lines("PRIVMSG")[-1].endswith("PRIVMSG #c hello")
        assert sent == Sent(id=MessageId(ircd.channel("#c").history[-1].tags["msgid"]) if caps else None)


@pytest.mark.parametrize("caps", [FULL, {"draft/relaymsg": "/"}], ids=["labels", "plain"])
async def test_who_may_not_speak_in_others_names_says_who_speaks(caps):
    """Ergo offers draft/relaymsg to everybody, and lets only operators of a channel use it."""
    ircd = Ircd(caps={**caps, "draft/relaymsg": "/"})
    op = ircd.user("op", "#c")
    ann = Person(id=PersonId("@ann:hs"), name="Ann")
    async with bridge_in(ircd) as bridge:
        assert bridge.session.capabilities(C).speakers
        refused = await fates(bridge, post("one", speaker=ann), post("two", speaker=ann))
        assert [type(fate) for fate in refused] == [RateLimited, RateLimited]
        assert not bridge.session.capabilities(C).speakers
        written = len(ircd.lines("RELAYMSG"))
        (late,) = await fates(bridge, post("three", speaker=ann))  # worded before the refusal came
        assert isinstance(late, RateLimited)
        assert len(ircd.lines("RELAYMSG")) == written
        await bridge.session.perform(post("one", prefix="<Ann> "))
        op.mode("#c", "+o", "bridge")
        await ircd.until(lambda: bridge.session.capabilities(C).speakers)
        await bridge.session.perform(post("four", speaker=ann))
    said = [(out.source.partition("!")[0], out.params[1]) for out in ircd.channel("#c").history]
    assert said == [("bridge", "<Ann> one"), ("Ann/m", "four")]


async def test_what_we_said_ourselves_is_not_heard_as_somebody_elses(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        await bridge.session.perform(post("hello"))
        ircd.user("bob", "#c").say("#c", "hi")
        await bridge.fact(Message)
        assert bridge.said == ["hi"]


async def test_overlapping_messages_are_written_in_the_order_of_the_calls(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        results = await fates(bridge, *(post(f"word{i}") for i in range(100)))
        assert all(isinstance(r, Sent) for r in results)
        said = [line.rpartition(" ")[2] for line in ircd.lines("PRIVMSG")]
        assert said == [f"word{i}" for i in range(100)]
        ids = [r.id for r in results if isinstance(r, Sent)]
        if caps:
            assert ids == [out.tags["msgid"] for out in ircd.channel("#c").history]


async def test_on_a_plain_server_one_ping_vouches_for_many_messages():
    ircd = Ircd(caps=PLAIN)
    async with bridge_in(ircd) as bridge:
        await fates(bridge, *(post(f"word{i}") for i in range(100)))
        assert len(ircd.lines("^PING")) <= 2


async def test_where_the_server_echoes_no_ping_is_spent():
    for caps in (ECHO, FULL):
        ircd = Ircd(caps=caps)
        async with bridge_in(ircd) as bridge:
            await fates(bridge, *(post(f"word{i}") for i in range(10)))
            assert ircd.lines("^PING") == []


async def test_several_lines_are_one_message_with_several_ids(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        sent = await bridge.session.perform(post("one\ntwo\nthree"))
        assert sent is not None
        assert sent.note == "sent as 3 lines"
        ids = [out.tags["msgid"] for out in ircd.channel("#c").history]
        assert ([sent.id, *sent.more] == ids) if caps else (sent.id is None and sent.more == ())


async def test_a_refusal_is_a_sentence(caps):
    """404 ERR_CANNOTSENDTOCHAN."""
    ircd = Ircd(caps=caps)
    ircd.user("op", "#c")
    async with bridge_in(ircd) as bridge:
        ircd.user("op").mode("#c", "+m")
        with pytest.raises(SendRejected, match="#c does not let the bridge speak"):
            await bridge.session.perform(post("hello"))
        ircd.user("op").mode("#c", "+v", "bridge")
        assert isinstance(await bridge.session.perform(post("hello")), Sent)


async def test_a_nick_that_is_not_there_is_a_refusal(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        with pytest.raises(SendRejected, match="nobody"):
            await bridge.session.perform(post("hello", "nobody"))


async def test_a_refusal_in_one_chat_is_not_held_against_another(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.channel("#c").mute = "404"
        ircd.user("bob")
        lost, delivered = await fates(bridge, post("a"), post("b", "bob"))
        assert isinstance(lost, SendRejected)
        assert isinstance(delivered, Sent)
        assert ircd.user("bob").heard[-1].params == ("bob", "b")


async def test_after_a_refusal_the_next_message_elsewhere_is_vouched_for(caps, monkeypatch):
    """Found on ngircd: the PONG of a PING whose only message was refused before it went unheard."""
    monkeypatch.setattr(deliveries, "PATIENCE", 3600)
    ircd = Ircd(caps=caps)
    ircd.user("bob")
    async with bridge_in(ircd) as bridge:
        with pytest.raises(SendRejected):
            await bridge.session.perform(post("a", "nobody"))
        async with asyncio.timeout(60):
            assert isinstance(await bridge.session.perform(post("b", "bob")), Sent)


async def test_all_refused_are_all_rejected(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.channel("#c").mute = "404"
        results = await fates(bridge, *(post(f"word{i}") for i in range(5)))
        assert [type(r) for r in results] == [SendRejected] * 5


async def test_of_several_at_once_the_refused_one_is_named_or_all_are_in_doubt(caps):
    """A plain server does not say which of two lines it refused; one with echoes or labels does."""
    ircd = Ircd(caps=caps)
    ircd.censored = "bad"
    async with bridge_in(ircd) as bridge:
        results = await fates(bridge, post("good"), post("bad"), post("fine"))
        kinds = [type(r) for r in results]
        if caps:
            assert kinds == [Sent, SendRejected, Sent]
        else:
            assert kinds == [SendUncertain] * 3
            # Once warned, it looks closely
            results = await fates(bridge, post("good"), post("bad"), post("fine"))
            assert [type(r) for r in results] == [Sent, SendRejected, Sent]


async def test_a_message_of_which_only_a_part_arrived_is_uncertain(caps):
    ircd = Ircd(caps=caps)
    ircd.censored = "bad"
    async with bridge_in(ircd) as bridge:
        with pytest.raises(SendUncertain, match="Only a part"):
            await bridge.session.perform(post("good\nbad\nfine"))


async def test_services_that_do_not_echo_have_heard_it_all_the_same(monkeypatch):
    """translation.md IRC 13: services do not echo; a missing echo is not a failure."""
    monkeypatch.setattr(deliveries, "PATIENCE", 0.1)
    for caps in (ECHO, FULL):
        ircd = Ircd(caps=caps)
        ircd.user("ChanServ", service=True)
        async with bridge_in(ircd) as bridge:
            sent = await bridge.session.perform(post("help", "chanserv"))
            assert sent == Sent()


async def test_a_connection_that_breaks_after_the_words_left_makes_them_uncertain(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.silent = True
        saying = asyncio.create_task(bridge.session.perform(post("hello")))
        await asyncio.sleep(0.05)
        assert not saying.done()
        ircd.drop("bridge")
        with pytest.raises(SendUncertain):
            await saying
        assert isinstance(await bridge.ended(), Disconnected)


async def test_what_never_left_is_tried_again_on_the_next_connection(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd, flood=SLOW) as bridge:
        results = asyncio.gather(
            *(bridge.session.perform(post(f"{i}")) for i in range(4)), return_exceptions=True
        )
        await ircd.heard("PRIVMSG")
        ircd.silent = True
        ircd.drop("bridge")
        kinds = [type(r) for r in await results]
        assert kinds[-1] is Disconnected
        assert set(kinds) <= {Sent, SendUncertain, Disconnected}
        with pytest.raises(Disconnected):
            await bridge.session.perform(post("late"))


async def test_cancelled_before_it_was_written_nothing_was_sent(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd, flood=SLOW) as bridge:
        first = asyncio.create_task(bridge.session.perform(post("first")))
        second = asyncio.create_task(bridge.session.perform(post("second")))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(Disconnected):
            await second
        await first
        await asyncio.sleep(0.6)
        assert not ircd.lines("second")


async def test_cancelled_after_it_was_written_nobody_knows(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        ircd.silent = True
        saying = asyncio.create_task(bridge.session.perform(post("hello")))
        await asyncio.sleep(0.05)
        saying.cancel()
        with pytest.raises(SendUncertain):
            await saying


async def test_what_is_left_of_a_long_paste_is_not_sent_when_it_is_cancelled(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd, flood=SLOW, max_lines=100) as bridge:
        paste = asyncio.create_task(bridge.session.perform(post("\n".join(f"line{i}" for i in range(50)))))
        later = asyncio.create_task(bridge.session.perform(post("never")))
        await ircd.heard("line0")
        paste.cancel()
        later.cancel()
        with pytest.raises(SendUncertain, match="The rest was stopped"):
            await paste
        with pytest.raises(Disconnected):
            await later
        assert len(ircd.lines("line")) <= 2


async def test_what_was_written_before_a_stop_is_proved_and_not_in_doubt():
    """The PING that proves it waits for its turn under flood control; who is stopped does not wait for that."""
    ircd = Ircd(caps=PLAIN)
    async with bridge_in(ircd, flood={"burst": 4, "refill": 30, "lead_max": 0}) as bridge:
        await bridge.fact(ChatOpened)
        saying = [asyncio.create_task(bridge.session.perform(post(f"word{i}"))) for i in range(20)]
        await ircd.heard("word0")
        await asyncio.sleep(0.2)
        for task in saying:
            task.cancel()
        fates = await asyncio.gather(*saying, return_exceptions=True)
        arrived = len(ircd.lines("PRIVMSG #c"))
        assert 0 < arrived < 20
        assert [type(fate) for fate in fates] == [Sent] * arrived + [Disconnected] * (20 - arrived)
        assert len(ircd.lines("PING bk-")) <= 2


async def test_the_penalty_timer_of_rfc_1459_is_never_ten_seconds_ahead(monkeypatch):
    """RFC 1459 8.10, with the ircd's own clock as the judge which throws out whoever is."""
    ircd = Ircd(caps=PLAIN)
    ircd.flood_kick = True
    async with bridge_in(ircd, flood={}) as bridge:
        saying = [asyncio.create_task(bridge.session.perform(post(f"word{i}"))) for i in range(20)]
        await asyncio.sleep(7)
        assert bridge.task is not None
        assert not bridge.task.done()
        assert ircd.max_lead <= 10.5
        assert len(ircd.lines("PRIVMSG")) >= 3
        for task in saying:
            task.cancel()
        await asyncio.gather(*saying, return_exceptions=True)


async def test_moderation_goes_before_what_is_being_said(caps):
    ircd = Ircd(caps=caps)
    ircd.channel("#c")
    async with bridge_in(ircd, flood={"burst": 1, "refill": 0.1, "lead_max": 0}) as bridge:
        ircd.user("bob", "#c")
        await bridge.fact(ChatOpened)
        talking = asyncio.gather(*(bridge.session.perform(post(f"word{i}")) for i in range(5)))
        await bridge.session.perform(
            Kick(chat=ChatId("#c"), person=Person(id=PersonId("bob"), name="bob"), reason="out")
        )
        await talking
        order = [line.split()[-2] for line in ircd.lines("PRIVMSG|KICK")]
        assert order.index("bob") < 3
        assert "bob" not in [user.nick for user in ircd.channel("#c").members]


async def test_a_moderators_verb_is_refused_with_a_sentence(caps):
    """482 ERR_CHANOPRIVSNEEDED."""
    ircd = Ircd(caps=caps)
    ircd.user("op", "#c")
    async with bridge_in(ircd) as bridge:
        with pytest.raises(SendRejected, match="operator"):
            await bridge.session.perform(SetTopic(chat=ChatId("#c"), topic="new"))


async def test_a_refused_topic_says_nothing_about_the_words_beside_it(caps):
    """482 ERR_CHANOPRIVSNEEDED names only the channel, but it never answers a PRIVMSG (RFC 2812 5.2)."""
    ircd = Ircd(caps=caps)
    ircd.user("op", "#c")
    async with bridge_in(ircd) as bridge:
        topic, *words = await asyncio.gather(
            bridge.session.perform(SetTopic(chat=ChatId("#c"), topic="new")),
            *(bridge.session.perform(post(f"word{i}")) for i in range(5)),
            return_exceptions=True,
        )
        assert isinstance(topic, SendRejected)
        assert all(isinstance(word, Sent) for word in words), words


async def test_refused_words_say_nothing_about_the_topic_beside_them(caps):
    """404 ERR_CANNOTSENDTOCHAN answers words alone (RFC 2812 5.2)."""
    ircd = Ircd(caps=caps)
    channel = ircd.channel("#c")
    channel.modes.pop("t")
    async with bridge_in(ircd) as bridge:
        await bridge.fact(ChatOpened)
        channel.mute = "404"
        done = await asyncio.gather(
            bridge.session.perform(SetTopic(chat=ChatId("#c"), topic="new")),
            bridge.session.perform(post("word")),
            return_exceptions=True,
        )
        assert [type(result) for result in done] == [Sent, SendRejected]


async def test_no_word_of_ours_can_end_the_line(caps):
    """CVE-2023-38690: no CR, LF or NUL in any parameter."""
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        evil = "x\r\nQUIT :gone\r\nPRIVMSG #c :y\0z"
        for verb in (post(evil), post("x", "a\r\nQUIT"), SetTopic(chat=ChatId("#c"), topic=evil)):
            with contextlib.suppress(BridgeError):
                await bridge.session.perform(verb)
        assert not ircd.lines("^(@\\S+ )?QUIT")
        assert bridge.task is not None
        assert not bridge.task.done()


async def test_emotes_and_notices_have_their_own_commands(caps):
    ircd = Ircd(caps=caps)
    async with bridge_in(ircd) as bridge:
        for kind, line in (
            (Kind.EMOTE, "PRIVMSG #c :\x01ACTION waves\x01"),
            (Kind.NOTICE, "NOTICE #c waves"),
        ):
            sent = await bridge.session.perform(
                PostMessage(chat=ChatId("#c"), content=Content(text=plain("waves"), kind=kind))
            )
            assert isinstance(sent, Sent)
            assert ircd.lines("PRIVMSG|NOTICE")[-1].endswith(line)


@contextlib.asynccontextmanager
async def batch_on_its_way():
    """Two lines in one batch, on a server that has no labels: the delivery, and a way to let the server speak."""
    offered = "batch message-tags echo-message draft/multiline=max-bytes=4096"
    one = in_channel(*enable("batch", "message-tags", "echo-message", "draft/multiline", values=offered))
    wire: list[bytes] = []
    on_the_wire = Deliveries(one.state, Flood(Limits(refill=0)), wire.append)
    verb = PostMessage(chat=C, content=Content(text=plain("one\ntwo")))
    lines = compose.lines(verb, one.state, one.people, Settings())
    sent = asyncio.create_task(on_the_wire.deliver(lines))
    await asyncio.sleep(0)
    assert wire[0].startswith(b"BATCH +")

    def answer(*texts: str) -> list[bool]:
        heard = []
        for text in texts:
            line = parse(text.encode())
            assert line is not None
            heard.append(on_the_wire.read(line, one.read(line, 1)))
        return heard

    yield sent, answer
    on_the_wire.lost()


async def test_a_batch_is_known_by_its_echo_where_there_are_no_labels():
    """draft/multiline asks for no labeled-response: the message needs its id, and is nobody else's words."""
    async with batch_on_its_way() as (sent, answer):
        me = ":me!~m@my.host"
        heard = answer(
            f"@msgid=m9 {me} BATCH +7 draft/multiline #c", f"@batch=7 {me} PRIVMSG #c one",
            f"@batch=7 {me} PRIVMSG #c two", f"{me} BATCH -7",
        )  # fmt: skip
        assert heard == [False, False, False, True]
        assert (await sent).id == "m9"


async def test_a_batch_that_is_refused_was_not_said():
    async with batch_on_its_way() as (sent, answer):
        answer(":irc.example 404 me #c :Cannot send to channel")
        with pytest.raises(SendRejected, match="does not let the bridge speak"):
            await sent
