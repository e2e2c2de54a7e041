"""The session against servers that nobody here wrote: ngircd without extensions, InspIRCd with Atheme."""

import asyncio
import contextlib
import itertools

import pytest

from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, SendRejected
from bridgekit.contract.facts import ChatOpened, ChatVisibility, Membership, Message, Roster, Topic
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Join, PostMessage, Sent, SetTopic
from connectors.irc import deliveries, services
from connectors.irc.puppets import address_of
from connectors.irc.registering import REJECTED_SECONDS
from connectors.irc.testing.certificate import write_certificate
from connectors.irc.testing.ergo import Ergo
from connectors.irc.testing.harness import MemoryHost, login_of, network_of, running
from connectors.irc.testing.inspircd import OPERATOR, WEBIRC_PASSWORD, Inspircd
from connectors.irc.testing.ircd import Ircd
from connectors.irc.testing.lines import line_client
from connectors.irc.testing.ngircd import Ngircd

_numbers = itertools.count(1)
FAST = {"connects_per_second": 1000}


def post(words: str, chat: str) -> PostMessage:
    return PostMessage(chat=ChatId(chat), content=Content(text=plain(words)))


def at(port: int) -> Ircd:
    """The address of a real server, as the harness wants it."""
    ircd = Ircd()
    ircd.port = port
    return ircd


@pytest.fixture(params=["ngircd", "inspircd", "ergo"])
def real(request) -> Ngircd | Inspircd | Ergo:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Ngircd | Inspircd | Ergo)
    return server


async def test_relay_and_puppet_talk_and_know_what_became_of_it(real, monkeypatch):
    number = next(_numbers)
    channel = f"#talk{number}"
    network = network_of(at(real.port), MemoryHost([channel]), nick=f"relay{number}", puppets=FAST)
    async with running(network) as relay, running(network, login_of(f"carol{number}")) as puppet:
        await relay.fact(ChatOpened)
        assert (await relay.fact(ChatVisibility)).visibility.known
        await relay.fact(Roster)
        sent = await relay.session.perform(post("hello", channel))
        modern = not isinstance(real, Ngircd)
        assert isinstance(sent, Sent)
        assert (sent.id is not None) == modern
        results = await asyncio.gather(
            *(puppet.session.perform(post(f"word{i}", channel)) for i in range(200))
        )
        ids = [r.id for r in results if r is not None]
        assert len(set(ids)) == (200 if modern else 1)
        with pytest.raises(SendRejected, match="nobody-at-all"):
            await puppet.session.perform(post("x", "nobody-at-all"))
        monkeypatch.setattr(deliveries, "PATIENCE", 3600)
        async with asyncio.timeout(60):
            await puppet.session.perform(post("y", channel))
        await relay.session.perform(SetTopic(chat=ChatId(channel), topic="the topic é"))
        assert (await relay.fact(Topic)).topic == "the topic é"
        joined = await relay.fact(Membership)
        assert joined.person.id == puppet.session.me.id
        assert [m for m in relay.all(Message) if not m.private] == []


async def test_two_puppets_talk_in_private(real):
    number = next(_numbers)
    network = network_of(at(real.port), puppets=FAST)
    async with (
        running(network, login_of(f"dora{number}")) as one,
        running(network, login_of(f"emil{number}")) as two,
    ):
        await one.session.perform(post("psst é", two.session.me.id))
        await _until(lambda: "psst é" in two.said)
        (message,) = [m for m in two.all(Message) if m.content.text.body == "psst é"]  # services talk, too
        assert message.private
        assert message.sender.id == one.session.me.id


async def test_webirc_gives_each_user_an_address_that_can_be_banned(real):
    """Both believe the gateway's address, and look host names up by themselves."""
    number = next(_numbers)
    puppets = {**FAST, "webirc": {"password": WEBIRC_PASSWORD}}
    network = network_of(at(real.port), puppets=puppets)
    hosts = []
    for name in (f"fritz{number}", f"franz{number}"):
        async with running(network, login_of(name)) as puppet:
            await puppet.session.perform(Join(chat=ChatId(f"#web{number}")))
            await _until(lambda puppet=puppet: puppet.session.state.host)
            hosts.append(puppet.session.state.host)
    assert hosts == [
        address_of("fd62:6b69:7463::/48", f"@{name}{number}:example.org") for name in ("fritz", "franz")
    ]


@pytest.fixture(params=["inspircd", "ergo"])
def accounts(request) -> Inspircd | Ergo:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Inspircd | Ergo)
    return server


@pytest.mark.parametrize("mechanism", ["auto", "plain"])
async def test_sasl_with_real_services_over_tls(accounts, mechanism):
    """By itself, that is by SCRAM-SHA-256 on Ergo."""
    account = f"gina{next(_numbers)}"
    await accounts.register_account(account, "secretpw")
    server = {"host": "localhost", "port": accounts.tls_port, "tls_ca_file": str(accounts.certificate)}
    sasl = {"account": account, "password": "secretpw", "mechanism": mechanism}
    async with running(network_of(at(0), servers=[server], nick=account, sasl=sasl)) as bridge:
        assert bridge.session.me.account == account
    wrong = {**sasl, "password": "wrong"}
    with pytest.raises(LoginRejected):
        async with network_of(at(0), servers=[server], nick=account, sasl=wrong).connect(None):
            pass


async def test_sasl_external_with_real_services(accounts, tmp_path):
    account = f"hans{next(_numbers)}"
    await accounts.register_account(account, "secretpw")
    certificate, key = write_certificate(tmp_path, "client")
    await accounts.add_certificate(account, "secretpw", (certificate, key))
    server = {"host": "localhost", "port": accounts.tls_port, "tls_ca_file": str(accounts.certificate)}
    server |= {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
    sasl = {"account": account, "mechanism": "external"}
    network = network_of(at(0), servers=[server], nick=f"{account}x", sasl=sasl)
    async with running(network) as bridge:
        assert bridge.session.me.account == account
    renewed = write_certificate(tmp_path, "client")
    with pytest.raises(LoginRejected, match="CERT ADD") as refused:
        async with network.connect(None):
            pass
    assert refused.value.retry_after
    await accounts.add_certificate(account, "secretpw", renewed)
    async with network.connect(None) as session:
        assert session.me.account == account


async def test_real_services_that_are_away_at_the_first_start_need_nobody(inspircd, monkeypatch):
    """InspIRCd offers no SASL meanwhile, and tells nobody who is there that it does again."""
    monkeypatch.setattr(services, "AGAIN", 0.2)
    account = f"jana{next(_numbers)}"
    await inspircd.register_account(account, "secretpw")
    server = {"host": "localhost", "port": inspircd.tls_port, "tls_ca_file": str(inspircd.certificate)}
    sasl = {"account": account, "password": "secretpw"}
    required = network_of(at(0), servers=[server], nick=f"{account}x", sasl=sasl)
    other = network_of(at(0), servers=[server], nick=f"{account}y", sasl={**sasl, "required": False})
    await inspircd.services.stop()
    async with contextlib.AsyncExitStack() as stack:
        try:
            with pytest.raises(Disconnected):
                await stack.enter_async_context(required.connect(None))
            bridge = await stack.enter_async_context(running(other))
        finally:
            await inspircd.services.start()
        await _until(lambda: bridge.session.me.account == account)
    async with required.connect(None) as session:
        assert session.me.account == account


async def test_nickserv_with_real_services(inspircd):
    number = next(_numbers)
    account, channel = f"ida{number}", f"#nickserv{number}"
    await inspircd.register_account(account, "secretpw")
    network = network_of(
        at(inspircd.port), MemoryHost([channel]), nick=account, nickserv={"password": "secretpw"}
    )
    async with running(network) as bridge:
        await bridge.fact(ChatOpened)
        assert bridge.session.state.account == account


async def test_real_services_identify_us_though_the_nick_was_taken_when_we_came(inspircd):
    """IDENTIFY without an account means the nick that one has at the moment: with a suffix, nobody's."""
    account = f"kurt{next(_numbers)}"
    await inspircd.register_account(account, "secretpw")
    network = network_of(at(inspircd.port), nick=account, nickserv={"password": "secretpw"})
    async with line_client(inspircd.port) as squatter:
        await squatter.register(account)
        async with running(network) as bridge:
            assert bridge.session.me.name == f"{account}_"
            await _until(lambda: bridge.session.state.account == account)


async def test_a_real_ban_passes(inspircd):
    """Who is there is put out, who comes is turned away, and is let in when the operators have lifted it."""
    network = network_of(at(inspircd.port), nick=f"banned{next(_numbers)}", username="banned")
    async with line_client(inspircd.port) as operator:
        await operator.register("kliner")
        await operator.send("OPER {} {}".format(*OPERATOR))
        await operator.expect(" 381 ")
        async with running(network) as bridge:
            await operator.send("KLINE *banned@* 1h :spam from you")
            put_out = await bridge.ended()
        with pytest.raises(LoginBanned) as turned_away:
            async with network.connect(None):
                pass
        for why in (put_out, turned_away.value):
            assert type(why) is LoginBanned
            assert "spam from you" in why.notice
            assert why.retry_after == REJECTED_SECONDS
        await operator.send("KLINE *banned@*")
        await operator.send("PING lifted")
        await operator.expect("PONG .*lifted")
        async with network.connect(None):
            pass


async def _until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition of a test, with no event of its own
            await asyncio.sleep(0.01)
