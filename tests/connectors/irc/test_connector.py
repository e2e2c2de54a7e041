"""The network that sessions share: puppets beside the relay, who hears whom, limits, and what operators may see."""

import asyncio

import pytest
from pydantic import ValidationError

from bridgekit.contract.connector import API_VERSION
from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, SendRejected
from bridgekit.contract.facts import Change, ChatOpened, Invitation, Membership, Message
from bridgekit.contract.ids import ChatId, PersonId
from bridgekit.contract.people import Content, Person
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Join, Leave, PostMessage, Sent, ShowProfile
from connectors.irc import connection, upkeep
from connectors.irc.config import IrcConfig
from connectors.irc.connector import connector
from connectors.irc.puppets import address_of, realname_of
from connectors.irc.testing.harness import MemoryHost, login_of, network_of, running
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd

C = ChatId("#c")
BOUNCER = {**FULL, "soju.im/bouncer-networks": ""}
FAST = {"connects_per_second": 1000}


@pytest.fixture(params=[PLAIN, FULL], ids=["plain", "full"])
def caps(request) -> dict[str, str]:
    return dict(request.param)


def post(words: str, chat: str = "#c") -> PostMessage:
    return PostMessage(chat=ChatId(chat), content=Content(text=plain(words)))


def test_the_manifest_says_what_a_login_needs():
    manifest = connector.manifest
    assert (manifest.id, manifest.config, manifest.api_version) == ("irc", IrcConfig, API_VERSION)
    assert {field.name for field in manifest.login_fields if field.password} == {
        "password",
        "server_password",
    }


@pytest.mark.parametrize(
    ("caps", "more", "services"),
    [
        (PLAIN, {}, set()),
        (PLAIN, {"nickserv": {"password": "secretpw"}}, {"nickserv"}),
        ({"server-time": ""}, {}, set()),
        ({"sasl": "PLAIN"}, {}, {"nickserv", "chanserv"}),
        (FULL, {}, {"nickserv", "chanserv"}),
    ],
)
async def test_a_nick_is_a_service_only_where_the_network_has_services(caps, more, services):
    """Where there are none, anybody may be called NickServ, and has to be no stranger to write to somebody."""
    ircd = Ircd(caps=caps)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#c"]), **more)
        async with running(network):
            await ircd.heard("^JOIN #c")
            found = {nick for nick in ("nickserv", "chanserv", "bob") if network.is_service(PersonId(nick))}
            assert found == services


def test_every_option_is_described_and_an_unknown_one_is_a_mistake():
    def described(schema: dict[str, object], names: dict[str, object]) -> None:
        for name, option in names.items():
            assert isinstance(option, dict)
            assert option.get("description"), name

    schema = IrcConfig.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        described(schema, section.get("properties", {}))
    for wrong in (
        {"nik": "x"},
        {"flood": {"brust": 1}},
        {"puppets": {"mode": "perhaps"}},
        {"encoding": "klingon"},
    ):
        with pytest.raises(ValidationError):
            IrcConfig.model_validate({"servers": [{"host": "irc.example"}], **wrong})


async def test_what_people_call_a_chat():
    network = network_of(Ircd())
    assert network.chat_id("#Chan[]") == ("#chan{}", False)
    assert network.chat_id("Alice") == ("alice", True)
    for nonsense in ("", "#", "#a b", "#a,b", "a b", "a!b@c", "a,b", "two words", "#a\r\nQUIT", "#a\x07"):
        assert network.chat_id(nonsense) is None
    assert network.chat_name(C) == "#c"
    assert network.direct(PersonId("alice")) == "alice"


async def test_a_channel_is_called_as_it_writes_itself(caps):
    ircd = Ircd(caps=caps)
    ircd.channel("#ChAn")
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#chan"]))
        async with running(network) as relay:
            await relay.fact(ChatOpened)
            assert network.chat_name(ChatId("#chan")) == "#ChAn"
            ircd.user("BoB").say("bridge", "hi")
            message = await relay.fact(Message)
            assert network.chat_name(message.chat) == "BoB"
            assert network.chat_id("bOb") == (message.chat, True)


async def test_a_puppet_is_told_from_the_relay_and_is_not_heard_twice(caps):
    """What our own puppet says is neither emitted by the relay nor by the puppet; what others say, once."""
    ircd = Ircd(caps=caps)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#c"]), puppets=FAST)
        async with running(network) as relay, running(network, login_of("alice")) as puppet:
            await relay.fact(ChatOpened)
            await puppet.session.perform(Join(chat=C))
            joined = await relay.fact(Membership, change=Change.JOIN)
            assert joined.person.id == puppet.session.me.id
            assert puppet.session.me.name == "alice[m]"
            sent = await puppet.session.perform(post("hello"))
            assert isinstance(sent, Sent)
            ircd.user("bob", "#c").say("#c", "hi")
            await relay.fact(Message)
            await asyncio.sleep(0.05)
            assert relay.said == ["hi"]
            assert puppet.facts == []


async def test_a_puppet_goes_where_it_is_to_speak(caps):
    ircd = Ircd(caps=caps)
    async with ircd.serving():
        network = network_of(ircd, puppets=FAST)
        async with running(network, login_of("alice")) as puppet:
            sent = await puppet.session.perform(post("hello"))
            assert isinstance(sent, Sent)
            assert ircd.channel("#c").history[-1].source.startswith("alice[m]!")
            ircd.channel("#shut").refuse = "474"
            with pytest.raises(SendRejected, match="banned from #shut"):
                await puppet.session.perform(post("hello", "#shut"))


async def test_a_puppet_comes_back_to_its_channels(caps):
    ircd = Ircd(caps=caps)
    host = MemoryHost()
    async with ircd.serving():
        async with running(network_of(ircd, host, puppets=FAST), login_of("alice")) as puppet:
            for channel in ("#a", "#b", "#c"):
                await puppet.session.perform(Join(chat=ChatId(channel)))
            await puppet.session.perform(Leave(chat=ChatId("#b")))
        ircd.received.clear()
        async with running(network_of(ircd, MemoryHost(kept=host.kept), puppets=FAST), login_of("alice")):
            await ircd.heard("^JOIN #a,#c$")


async def test_private_words_come_from_the_session_that_heard_them(caps):
    ircd = Ircd(caps=caps)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#c"]), puppets=FAST)
        async with running(network) as relay, running(network, login_of("alice")) as puppet:
            bob = ircd.user("bob", "#c")
            bob.say("alice[m]", "psst")
            message = await puppet.fact(Message)
            assert message.private
            assert message.own is None
            assert str(message.chat) == str(message.sender.id)
            bob.invite("alice[m]", "#party")
            assert (await puppet.fact(Invitation)).chat == "#party"
            await puppet.session.perform(post("what?", str(message.chat)))
            assert bob.heard[-1].params == ("bob", "what?")
            assert relay.all(Message) == []
            assert [type(fact) for fact in puppet.facts] == [Message, Invitation]


async def test_what_a_person_says_from_elsewhere_with_their_own_account_is_theirs():
    """A bouncer: the same nick speaks through the bridge and through another client."""
    ircd = Ircd(caps=BOUNCER)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#c"]), puppets=FAST)
        async with running(network) as relay, running(network, login_of("alice")) as puppet:
            await relay.fact(ChatOpened)
            await puppet.session.perform(post("through the bridge"))
            await puppet.session.perform(
                PostMessage(chat=C, content=Content(text=plain("/me by the bridge")))
            )
            ircd.find("alice[m]").say("#c", "from elsewhere")
            message = await relay.fact(Message)
            assert (message.content.text.body, message.own) == ("from elsewhere", "alice")
            ircd.user("bob")
            ircd.find("alice[m]").say("bob", "also from elsewhere")
            private = await puppet.fact(Message)
            assert (private.content.text.body, private.own, private.chat) == (
                "also from elsewhere",
                "alice",
                "bob",
            )
            assert relay.said == ["from elsewhere"]


async def test_what_the_puppet_said_to_a_person_is_not_heard_again():
    for caps in (PLAIN, FULL, BOUNCER):
        ircd = Ircd(caps=caps)
        bob = ircd.user("bob")
        async with ircd.serving(), running(network_of(ircd, puppets=FAST), login_of("alice")) as puppet:
            await puppet.session.perform(post("hello", "bob"))
            bob.say("alice[m]", "hi")
            await puppet.fact(Message)
            assert puppet.said == ["hi"]


async def test_a_puppet_that_was_renamed_is_still_ours(caps):
    ircd = Ircd(caps=caps)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#c"]), puppets=FAST)
        async with running(network) as relay, running(network, login_of("alice")) as puppet:
            await relay.fact(ChatOpened)
            await puppet.session.perform(Join(chat=C))
            before = puppet.session.me.id
            ircd.rename(ircd.find("alice[m]"), "guest123")
            await ircd.until(lambda: puppet.session.me.name == "guest123")
            assert puppet.session.me.id == before
            await puppet.session.perform(post("hello"))
            ircd.user("bob", "#c").say("#c", "hi")
            await relay.fact(Message)
            assert relay.said == ["hi"]


async def test_operators_see_which_matrix_user_it_is():
    """translation.md IRC 15: the real name carries the Matrix id, the ident is unique for each Matrix user."""
    ircd = Ircd()
    async with ircd.serving():
        network = network_of(ircd, puppets=FAST)
        async with network.connect(login_of("alice")), network.connect(login_of("al-ice")):
            alice, other = ircd.find("alice[m]"), ircd.find("al-ice[m]")
            assert (alice.realname, other.realname) == ("@alice:example.org", "@al-ice:example.org")
            assert alice.user != other.user
            assert alice.user.startswith("alice")
    assert realname_of("{displayname} ({mxid})", "@a:b", "Ann") == "Ann (@a:b)"
    assert realname_of("{displayname}", "@a:b", "Ann") == "@a:b Ann"


async def test_the_ident_server_knows_each_connection_while_it_lasts():
    async def ask(port: int, ours: int, theirs: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{ours}, {theirs}\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return answer

    ircd = Ircd()
    asked: list[str] = []
    async with ircd.serving():
        network = network_of(ircd, ident_listen="127.0.0.1:0", puppets=FAST)
        async with network.connect(login_of("alice")):
            server = connector._idents["127.0.0.1:0"]
            port = ircd.client("alice[m]").peer[1]
            asked.append(await ask(server.port, port, ircd.port))
            assert f"USERID : UNIX : {ircd.find('alice[m]').user}" in asked[0]
            async with network.connect(login_of("bob")):
                pass
            assert "UNIX" in await ask(server.port, port, ircd.port)


async def test_webirc_tells_the_server_a_host_and_an_address_of_their_own():
    ircd = Ircd()
    async with ircd.serving():
        webirc = {"password": "gw", "host": "{localpart}.{domain}"}
        network = network_of(ircd, puppets={**FAST, "webirc": webirc})
        async with network.connect(login_of("alice")), network.connect(login_of("b@d_ name")):
            first = ircd.lines("^WEBIRC")[0].split()
            assert first[1:4] == ["gw", "bridgekit", "alice.example.org"]
            assert first[4].startswith("fd62:6b69:7463:")
            assert ircd.find("alice[m]").host == "alice.example.org"
            assert ircd.lines("^WEBIRC")[1].split()[3] == "b-d--name.example.org"
        async with network.connect(None):
            assert len(ircd.lines("^WEBIRC")) == 2


def test_each_user_has_an_address_of_their_own_that_stays_the_same():
    one, two = (
        address_of("2001:db8::/64", "@alice:example.org"),
        address_of("2001:db8::/64", "@bob:example.org"),
    )
    assert one != two
    assert one == address_of("2001:db8::/64", "@alice:example.org")
    assert one.startswith("2001:db8:")


async def test_a_puppet_connects_from_its_own_address():
    ircd = Ircd()
    await ircd.start(host="::1")
    try:
        server = {"host": "::1", "port": ircd.port, "tls": False}
        network = network_of(ircd, servers=[server], puppets=FAST)
        # A config wants a /64, of which this machine has one address.
        own = network.config.puppets.model_copy(update={"ipv6_prefix": "::1/128"})
        network.config = network.config.model_copy(update={"puppets": own})
        async with network.connect(login_of("alice")):
            assert ircd.client("alice[m]").peer[0] == "::1"
    finally:
        await ircd.stop()


async def test_whose_own_address_leads_nowhere_reads_what_is_missing(monkeypatch):
    """The relay is well all the while: that the server does not answer would send the admin the wrong way."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.3)
    ircd = Ircd()
    puppets = {**FAST, "ipv6_prefix": "2001:db8:1:2::/64"}
    missing = r"to 2001:db8:1:2:[0-9a-f:]+: the server needs IPv6, and that network a route to this machine"
    await ircd.start(host="::1")
    try:
        for host in ("::1", "127.0.0.1"):
            server = {"host": host, "port": ircd.port, "tls": False}
            with pytest.raises(Disconnected, match=missing):
                async with network_of(ircd, servers=[server], puppets=puppets).connect(login_of("alice")):
                    pass
    finally:
        await ircd.stop()


async def test_there_is_a_limit_to_how_many_of_us_are_connected():
    ircd = Ircd()
    async with ircd.serving():
        network = network_of(ircd, puppets={**FAST, "max_connections": 1})
        async with network.connect(login_of("alice")):
            with pytest.raises(Disconnected, match="Too many people") as caught:
                async with network.connect(login_of("bob")):
                    pass
            assert caught.value.retry_after == 300.0
            async with network.connect(None):
                pass
        async with network.connect(login_of("bob")):
            pass


async def test_connections_are_opened_one_after_the_other_and_the_relay_does_not_wait():
    ircd = Ircd()
    async with ircd.serving():
        network = network_of(ircd, puppets={"connects_per_second": 10})
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def one(name: str) -> float:
            async with network.connect(login_of(name)):
                return loop.time() - start

        times = sorted(await asyncio.gather(*(one(f"user{i}") for i in range(4))))
        assert times[-1] >= 0.3
        start = loop.time()
        async with network.connect(None):
            assert loop.time() - start < 0.1


async def test_after_too_many_connections_fewer_are_tried():
    ircd = Ircd()
    async with ircd.serving():
        network = network_of(ircd, puppets=FAST)
        async with running(network, login_of("a")) as a, running(network, login_of("b")):
            ircd.kill("a[m]", "Too many connections from your host")
            error = await a.ended()
            assert isinstance(error, Disconnected)
            with pytest.raises(Disconnected, match="Too many people"):
                async with network.connect(login_of("c")):
                    pass


async def test_whom_a_full_server_turns_away_the_others_do_not_follow():
    """Each knock counts for those who ban who knocks too often."""
    ircd = Ircd()
    async with ircd.serving():
        network = network_of(ircd, puppets=FAST)
        async with network.connect(login_of("a")):
            ircd.refuse = "Too many connections from your host"
            with pytest.raises(Disconnected, match="too many connections from here"):
                async with network.connect(login_of("b")):
                    pass
            ircd.refuse = ""
            with pytest.raises(Disconnected, match="Too many people"):
                async with network.connect(login_of("c")):
                    pass


async def test_a_network_that_has_banned_the_bridge_does_not_see_its_people_either():
    """A hundred puppets that knock from the same address are no way to have a ban lifted."""
    ircd = Ircd()
    async with ircd.serving():
        network = network_of(ircd, puppets={"connects_per_second": 1000})
        ircd.refuse = "K-Lined: spam"
        with pytest.raises(LoginBanned):
            async with network.connect(None):
                pass
        tries = len(ircd.received)
        with pytest.raises(Disconnected, match="K-Lined: spam"):
            async with network.connect(login_of("carol")):
                pass
        assert len(ircd.received) == tries
        ircd.refuse = ""
        async with network.connect(None), network.connect(login_of("carol")):
            pass


async def test_where_puppets_are_not_allowed_a_login_is_refused():
    ircd = Ircd()
    async with ircd.serving():
        with pytest.raises(LoginRejected, match="does not allow"):
            async with network_of(ircd, puppets={"mode": "off"}).connect(login_of("alice")):
                pass


async def test_the_wanted_nick_of_a_puppet_is_longer_than_nine_letters():
    ircd = Ircd()
    async with ircd.serving():
        async with network_of(ircd, puppets=FAST).connect(login_of("averylongusername")) as session:
            assert session.me.name == "averylongusername[m]"
        ircd.nicklen = 12
        network = network_of(ircd, puppets=FAST)
        async with network.connect(None):
            pass
        async with network.connect(login_of("averylongusername")) as session:
            assert session.me.name == "averylong[m]"


@pytest.mark.parametrize(("before", "after"), [("rfc1459", "ascii"), ("ascii", "rfc1459")])
async def test_a_chat_is_the_same_where_the_network_folds_names_in_another_way(before, after):
    """ISUPPORT CASEMAPPING: a server of another make, or of another version, may have another one."""
    host = MemoryHost()
    chats: set[str] = set()
    for mapping in (before, after):
        ircd = Ircd()
        ircd.isupport = f"CASEMAPPING={mapping}"
        dan = ircd.user("dan", "#Foo[1]")
        async with ircd.serving():
            network = network_of(ircd, MemoryHost(chats or ["#foo[1]"], host.kept))
            async with running(network) as relay:
                opened = await relay.fact(ChatOpened)
                chats.add(opened.chat)
                dan.say("#Foo[1]", "hello")
                assert (await relay.fact(Message)).chat == opened.chat
                assert network.chat_id("#foo[1]") == (opened.chat, False)
                assert network.chat_name(opened.chat) == "#Foo[1]"
                await relay.session.perform(PostMessage(chat=opened.chat, content=Content(text=plain("hi"))))
                await ircd.heard(r"^PRIVMSG #Foo\[1\] hi")
                (joined,) = ircd.lines("^JOIN")
                assert joined.split()[1].lower() == "#foo[1]"
    assert len(chats) == 1


async def test_a_link_of_the_config_means_the_channel_as_it_is_written_there():
    """It is read before the network says how it folds names."""
    ircd = Ircd()
    ircd.isupport = "CASEMAPPING=ascii"
    ircd.user("dan", "#Foo[1]")
    async with ircd.serving():
        host = MemoryHost()
        network = network_of(ircd, host)
        named = network.chat_id("#foo[1]")
        assert named is not None
        host.linked.append(named[0])
        async with running(network) as relay:
            assert (await relay.fact(ChatOpened)).chat == named[0]
            assert ircd.lines("^JOIN") == ["JOIN #foo[1]"]


async def test_a_channel_is_entered_by_the_name_that_was_asked_for():
    """InspIRCd says CASEMAPPING=rfc1459, and takes #a~ and #a^ for two channels."""
    ircd = Ircd()
    async with ircd.serving():
        host = MemoryHost()
        network = network_of(ircd, host)
        async with running(network) as relay:
            named = network.chat_id("#Ab[c]~")
            assert named is not None
            await relay.session.perform(Join(chat=named[0]))
            assert ircd.lines("^JOIN") == ["JOIN #Ab[c]~"]
            assert (await relay.fact(ChatOpened)).chat == named[0]
            assert network.chat_id("#AB[C]~") == named
            assert network.chat_name(named[0]) == "#Ab[c]~"
        host.linked.append(named[0])
        async with running(network_of(ircd, MemoryHost(host.linked, host.kept))) as relay:
            await relay.fact(ChatOpened)
            assert ircd.lines("^JOIN") == ["JOIN #Ab[c]~"] * 2


async def test_people_are_the_same_after_a_restart():
    ircd = Ircd(caps=FULL)
    bob = ircd.user("bob", "#c", account="bob")
    host = MemoryHost(["#c"])
    async with ircd.serving():
        async with running(network_of(ircd, host)) as relay:
            await relay.fact(ChatOpened)
            await ircd.heard("^WHO")
            bob.say("#c", "one")
            first = (await relay.fact(Message)).sender.id
            bob.change_nick("robert")
            bob.say("#c", "two")
            assert (await relay.fact(Message, 2)).sender.id == first
        async with running(network_of(ircd, MemoryHost(["#c"], host.kept))) as relay:
            await relay.fact(ChatOpened)
            bob.say("#c", "three")
            await ircd.until(lambda: "three" in relay.said)
            assert relay.all(Message)[-1].sender.id == first


async def test_a_puppet_whose_user_is_silent_for_long_leaves_and_says_why(monkeypatch):
    """translation.md IRC 18: a puppet that is let go never leaves its Matrix user reading unseen."""
    monkeypatch.setattr(upkeep, "TICK", 0.02)
    ircd = Ircd()
    async with ircd.serving():
        network = network_of(ircd, puppets={**FAST, "idle": "part", "idle_days": 7})
        async with running(network, login_of("alice")) as puppet:
            await puppet.session.perform(post("hello"))
            await asyncio.sleep(0.1)
            assert not ircd.lines("^PART")
            network.memory._now.spoken["alice"] -= 8 * upkeep.DAY
            await ircd.heard("^PART #c :Silent for 7 days")
            await ircd.until(lambda: not network.memory.channels("alice"))


async def test_a_puppet_that_was_put_out_does_not_come_back_by_itself(caps):
    ircd = Ircd(caps=caps)
    op = ircd.user("op", "#c")
    async with ircd.serving():
        network = network_of(ircd, puppets=FAST)
        async with running(network, login_of("alice")) as puppet:
            await puppet.session.perform(Join(chat=C))
            op.kick("#c", "alice[m]")
            await ircd.until(lambda: not puppet.session.state.channels)
        ircd.received.clear()
        async with running(network, login_of("alice")):
            await asyncio.sleep(0.05)
            assert not ircd.lines("JOIN")


async def test_a_puppet_keeps_its_nick_whatever_its_person_is_called_now(caps):
    """What ends a nick tells puppets from people (`puppets.nick`): a name alone would be somebody else's."""
    ircd = Ircd(caps=caps)
    async with ircd.serving(), running(network_of(ircd, puppets=FAST), login_of("alice")) as puppet:
        assert ShowProfile not in puppet.session.capabilities(C).verbs
        speaker = Person(id=PersonId("@alice:example.org"), name="Alicia")
        await puppet.session.perform(Join(chat=C))
        with pytest.raises(SendRejected):
            await puppet.session.perform(ShowProfile(chat=C, speaker=speaker))
        assert not ircd.lines("^NICK Alicia")


async def test_what_a_bouncer_kept_is_replayed_also_without_a_batch():
    """ZNC's buffer: plain lines with an old server-time right behind the welcome."""
    ircd = Ircd(caps=BOUNCER)
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#c"]))) as relay:
        await relay.fact(ChatOpened)
        ircd.client("bridge").write(b"@time=2026-01-01T00:00:00.000Z :bob!b@h PRIVMSG #c :old\r\n")
        assert (await relay.fact(Message)).replayed
        ircd.user("bob", "#c").say("#c", "new")
        assert not (await relay.fact(Message, 2)).replayed
