"""From a socket to a welcome: capabilities, signing in, nicks, and every way of being turned away."""

import asyncio
import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from bridgekit.contract.errors import Disconnected, LoginBanned, LoginRejected, RemoteError
from bridgekit.contract.facts import ChatOpened, ChatVisibility
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import Join, PostMessage
from connectors.irc import registering, services, upkeep
from connectors.irc.testing.certificate import write_certificate
from connectors.irc.testing.harness import MemoryHost, login_of, network_of, running
from connectors.irc.testing.ircd import FULL, PLAIN, Ircd
from connectors.irc.testing.ircd_client import Client
from connectors.irc.testing.ircd_line import Out

ACCOUNTS = {"bridge": "secretpassword"}


@pytest.fixture(params=[PLAIN, FULL], ids=["plain", "full"])
def caps(request) -> dict[str, str]:
    return dict(request.param)


async def refused(network, login=None) -> RemoteError:
    with pytest.raises((LoginRejected, Disconnected)) as caught:
        async with network.connect(login):
            pass
    return caught.value


async def test_it_registers_and_joins_what_is_linked(caps):
    ircd = Ircd(caps=caps)
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#a", "#b"]))) as bridge:
        await bridge.fact(ChatOpened, chat="#a")
        await bridge.fact(ChatOpened, chat="#b")
        assert ircd.lines("^JOIN") == ["JOIN #a,#b"]
        assert bridge.session.me.name == "bridge"
        assert bridge.session.me.bot


async def test_a_secret_channel_is_opened_as_secret(caps):
    ircd = Ircd(caps=caps)
    ircd.user("op", "#a").mode("#a", "+s")
    ircd.user("op").topic("#a", "the topic")
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#a"]))) as bridge:
        opened = await bridge.fact(ChatOpened)
        assert (opened.name, opened.topic) == ("#a", "the topic")
        seen = (await bridge.fact(ChatVisibility)).visibility
        assert (seen.known, seen.listed, seen.detail) == (True, False, "+nst")


async def test_everything_wanted_and_offered_is_requested():
    ircd = Ircd(caps=FULL)
    async with ircd.serving(), running(network_of(ircd)) as bridge:
        on = bridge.session.state.caps.enabled
        assert on >= {
            "message-tags",
            "server-time",
            "labeled-response",
            "echo-message",
            "batch",
            "account-tag",
        }
        assert on >= {"draft/chathistory", "chghost", "setname", "extended-join", "away-notify", "cap-notify"}
        assert ircd.client("bridge").caps == on


async def test_a_refused_capability_does_not_cost_the_others():
    """CAP REQ is answered by NAK for the whole list."""
    ircd = Ircd(caps={**FULL, "chghost": ""})
    ircd.refused_caps = {"chghost"}
    async with ircd.serving(), running(network_of(ircd)) as bridge:
        assert "message-tags" in bridge.session.state.caps
        assert "chghost" not in bridge.session.state.caps


async def test_a_taken_nick_gets_a_suffix_and_the_wanted_one_is_won_back_when_its_holder_quits(caps):
    ircd = Ircd(caps=caps)
    holder = ircd.user("bridge", "#a")
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#a"]))) as bridge:
        assert bridge.session.me.name == "bridge_"
        await bridge.fact(ChatOpened)
        holder.quit()
        await ircd.until(lambda: "bridge" in ircd.users and ircd.users["bridge"].client)
        await ircd.until(lambda: bridge.session.me.name == "bridge")


async def test_a_nick_that_is_too_long_for_the_server_is_cut_at_the_first_refusal(caps):
    """ngircd's NICKLEN is 9, and it refuses what is longer; each refusal costs its sender two seconds there."""
    ircd = Ircd(caps=caps)
    ircd.nicklen, ircd.cuts_nicks = 9, False
    async with ircd.serving(), running(network_of(ircd, nick="example-bridge")) as bridge:
        assert bridge.session.me.name == "example-b"
        assert ircd.lines("^NICK") == ["NICK example-bridge", "NICK example-b"]


async def test_the_wanted_nick_is_won_back_when_its_holder_is_renamed(caps):
    ircd = Ircd(caps=caps)
    holder = ircd.user("bridge", "#a")
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#a"]))) as bridge:
        await bridge.fact(ChatOpened)
        holder.change_nick("somebody")
        await ircd.until(lambda: bridge.session.me.name == "bridge")


async def test_the_wanted_nick_is_tried_again_by_the_clock(caps, monkeypatch):
    monkeypatch.setattr(upkeep, "TICK", 0.02)
    monkeypatch.setattr(upkeep, "REGAIN", 0.05)
    ircd = Ircd(caps=caps)
    holder = ircd.user("bridge")  # in no channel of ours: nobody tells us that they leave
    async with ircd.serving(), running(network_of(ircd)) as bridge:
        await ircd.heard("^NICK bridge$", count=3)
        holder.quit()
        await ircd.until(lambda: bridge.session.me.name == "bridge")
        asked = len(ircd.lines("^NICK"))
        await asyncio.sleep(0.2)
        assert len(ircd.lines("^NICK")) == asked


async def test_a_wrong_server_password_is_the_owners_to_correct(caps):
    ircd = Ircd(caps=caps)
    ircd.password = "right"
    async with ircd.serving():
        error = await refused(network_of(ircd, password="wrong"))
        assert isinstance(error, LoginRejected)
        async with network_of(ircd, password="right").connect(None):
            pass


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("You are banned from this server- Temporary K-line 60 min. - spam (2026/11/29)", LoginBanned),
        ("Go away", LoginBanned),
        ("You are banned: too many connections from your host", registering.TooMany),
    ],
)
async def test_a_ban_that_comes_as_a_numeric_is_a_ban_too(monkeypatch, words, kind):
    """RFC 2812 5.2: ERR_YOUREBANNEDCREEP, which most servers say before their ERROR."""
    monkeypatch.setattr(Client, "try_register", lambda client: client.numeric("465", words))
    ircd = Ircd()
    async with ircd.serving():
        error = await refused(network_of(ircd))
        assert type(error) is kind
        assert words in error.notice


async def test_why_a_server_has_banned_us_may_stand_in_its_last_word_alone(monkeypatch):
    """InspIRCd's connectban, to whoever comes back too often at once: for some minutes."""
    why = "Z-lined: Your IP range has been attempting to connect too many times in too short a duration. Wait a while."

    def refuse(client: Client) -> None:
        client.numeric("465", "You're banned!")
        client.fail(f"Closing link: (x@127.0.0.1) [{why}]")

    monkeypatch.setattr(Client, "try_register", refuse)
    ircd = Ircd()
    async with ircd.serving():
        error = await refused(network_of(ircd))
        assert type(error) is Disconnected
        assert why in error.notice
        assert error.retry_after == 120.0


@pytest.mark.parametrize(
    ("words", "kind", "at_least"),
    [
        ("K-Lined: spam", LoginBanned, 3600),
        ("You are banned from this server", LoginBanned, 3600),
        ("Trying to reconnect too fast.", Disconnected, 60),
        ("Throttled: Reconnecting too fast", Disconnected, 60),
        ("Too many connections from your IP", registering.TooMany, 200),
        ("Server shutting down", Disconnected, 0.0),
    ],
)
async def test_the_servers_last_word_decides_about_the_next_try(caps, words, kind, at_least):
    """Throttled: wait; K-lined: stay away, for hours; too many connections: fewer at a time."""
    ircd = Ircd(caps=caps)
    ircd.refuse = words
    async with ircd.serving():
        error = await refused(network_of(ircd))
        assert type(error) is kind
        assert words in error.notice
        if at_least is not None:
            assert error.retry_after is not None
            assert error.retry_after >= at_least


async def test_scram_is_taken_where_both_sides_know_it():
    ircd = Ircd(caps=FULL, accounts=ACCOUNTS)
    async with ircd.serving():
        network = network_of(
            ircd, MemoryHost(["#a"]), sasl={"account": "bridge", "password": "secretpassword"}
        )
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            assert ircd.lines("^AUTHENTICATE")[0] == "AUTHENTICATE SCRAM-SHA-256"
            assert ircd.find("bridge").account == "bridge"
            assert bridge.session.me.account == "bridge"
    assert not any("secret" in line for line in ircd.lines())


async def test_a_password_never_goes_in_the_clear_over_a_connection_without_tls():
    """translation.md IRC 14: PLAIN over TLS only."""
    ircd = Ircd(caps={**FULL, "sasl": "PLAIN"}, accounts=ACCOUNTS)
    async with ircd.serving():
        network = network_of(ircd, sasl={"account": "bridge", "password": "secretpassword"})
        error = await refused(network)
        assert isinstance(error, LoginRejected)
    assert ircd.lines("^AUTHENTICATE") == []


@pytest.mark.parametrize("mechanism", ["auto", "scram-sha-256"])
async def test_where_signing_in_is_required_and_fails_nothing_is_joined(mechanism):
    ircd = Ircd(caps=FULL, accounts=ACCOUNTS)
    async with ircd.serving():
        sasl = {"account": "bridge", "password": "wrong", "mechanism": mechanism}
        error = await refused(network_of(ircd, MemoryHost(["#a"]), sasl=sasl))
        assert isinstance(error, LoginRejected)
        assert "check the account and password" in error.notice
    assert ircd.lines("^JOIN") == []


async def test_where_signing_in_is_not_required_the_bridge_goes_on_without():
    ircd = Ircd(caps=FULL, accounts=ACCOUNTS)
    async with ircd.serving():
        sasl = {"account": "bridge", "password": "wrong", "required": False}
        async with running(network_of(ircd, MemoryHost(["#a"]), sasl=sasl)) as bridge:
            await bridge.fact(ChatOpened)


async def test_a_server_without_capabilities_cannot_satisfy_a_required_sign_in():
    ircd = Ircd(caps=PLAIN, accounts=ACCOUNTS)
    async with ircd.serving():
        sasl = {"account": "bridge", "password": "secretpassword"}
        error = await refused(network_of(ircd, MemoryHost(["#a"]), sasl=sasl))
        assert isinstance(error, LoginRejected)
    assert ircd.lines("^JOIN") == []


async def test_nickserv_is_told_before_anything_is_joined(caps):
    ircd = Ircd(caps=caps, accounts=ACCOUNTS)
    ircd.user("NickServ", service=True)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a"]), nickserv={"password": "secretpassword"})
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            spoken = ircd.lines("^(PRIVMSG|JOIN)")
            assert spoken == ["PRIVMSG NickServ :IDENTIFY secretpassword", "JOIN #a"]


async def test_what_is_said_before_the_relay_is_identified_waits_for_it(caps):
    """The runtime performs as soon as there is a session; then nothing has been joined yet."""
    ircd = Ircd(caps=caps, accounts=ACCOUNTS)
    ircd.delay = 0.05
    ircd.user("NickServ", service=True)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a"]), nickserv={"password": "secretpassword"})
        async with running(network) as bridge:
            post = PostMessage(chat=ChatId("#a"), content=Content(text=plain("early")))
            await asyncio.gather(
                bridge.session.perform(Join(chat=ChatId("#a"))), bridge.session.perform(post)
            )
            spoken = [
                line.partition(" ")[2] if line.startswith("@") else line
                for line in ircd.lines("PRIVMSG|JOIN")
            ]
            assert spoken == ["PRIVMSG NickServ :IDENTIFY secretpassword", "JOIN #a", "PRIVMSG #a early"]


async def test_who_gets_the_wanted_nick_back_is_identified_for_it(caps, monkeypatch):
    """Not all services take an account's name: those know only the nick that one has."""
    monkeypatch.setattr(services, "SECONDS", 0.1)
    ircd = Ircd(caps=caps)
    ircd.user("NickServ", service=True)
    holder = ircd.user("bridge", "#a")
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a"]), nickserv={"password": "secretpassword"})
        async with running(network) as bridge:
            await ircd.heard("IDENTIFY bridge secretpassword")
            await bridge.fact(ChatOpened)
            ircd.accounts = dict(ACCOUNTS)
            holder.quit()
            await ircd.until(lambda: bridge.session.me.name == "bridge")
            await ircd.until(lambda: ircd.find("bridge").account == "bridge")


async def test_who_is_renamed_again_and_again_fights_ever_more_seldom(caps, monkeypatch):
    """Services give a nick that is registered to who has not identified another one, after a grace period."""
    monkeypatch.setattr(upkeep, "TICK", 0.005)
    monkeypatch.setattr(upkeep, "REGAIN", 0.01)
    ircd = Ircd(caps=caps)
    async with ircd.serving(), running(network_of(ircd)) as bridge:
        client, began = ircd.client("bridge"), asyncio.get_running_loop().time()
        for number in range(5):
            ircd.rename(client.user, f"Guest{number}")
            await ircd.heard("^NICK bridge$", count=number + 2)
            await ircd.until(lambda: client.user.nick == bridge.session.me.name == "bridge")
        # A lower bound is safe on any machine: five waits, each twice as long as the one before
        assert asyncio.get_running_loop().time() - began >= 0.01 * (2 + 4 + 8 + 16 + 32)


async def test_services_that_never_answer_do_not_keep_the_bridge_out(caps, monkeypatch):
    monkeypatch.setattr(services, "SECONDS", 0.1)
    ircd = Ircd(caps=caps)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a"]), nickserv={"password": "x y"})
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)


async def test_services_that_come_back_are_told_once_more(caps, monkeypatch):
    """The relay stays connected through a netsplit of theirs: nothing else would ever identify it."""
    monkeypatch.setattr(services, "SECONDS", 0.1)
    monkeypatch.setattr(services, "AGAIN", 0.1)
    ircd = Ircd(caps=caps, accounts=ACCOUNTS)
    members_only = ircd.channel("#r")
    members_only.refuse = "477"
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a", "#r"]), nickserv={"password": "secretpassword"})
        async with running(network) as bridge:
            await bridge.fact(ChatOpened, chat="#a")
            members_only.refuse = ""
            ircd.user("NickServ", service=True)
            await ircd.until(lambda: ircd.find("bridge").account == "bridge")
            await bridge.fact(ChatOpened, chat="#r")
            told = len(ircd.lines("IDENTIFY"))
            await asyncio.sleep(0.3)
            assert len(ircd.lines("IDENTIFY")) == told


async def test_a_wrong_password_is_told_once(caps, monkeypatch):
    """Services ban whoever tries often."""
    monkeypatch.setattr(services, "SECONDS", 0.1)
    monkeypatch.setattr(services, "AGAIN", 0.05)
    ircd = Ircd(caps=caps, accounts=ACCOUNTS)
    ircd.user("NickServ", service=True)
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a"]), nickserv={"password": "wrong"})
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            await asyncio.sleep(0.5)
            assert len(ircd.lines("IDENTIFY")) == 1


async def test_why_services_did_not_identify_us_stands_in_the_log_without_the_password(caps, monkeypatch):
    monkeypatch.setattr(services, "SECONDS", 0.5)
    ircd = Ircd(caps=caps)
    nickserv = ircd.user("NickServ")
    host = MemoryHost()
    with capture_logs() as logs:
        host.log = structlog.get_logger("irc")
        async with ircd.serving(), running(network_of(ircd, host, nickserv={"password": "hunter2"})):
            await ircd.heard("IDENTIFY")
            nickserv.notice("bridge", "hunter2 is not the password of \x02bridge\x02.")
            await ircd.until(lambda: any(entry["event"] == "irc_not_identified" for entry in logs))
    (entry,) = [entry for entry in logs if entry["event"] == "irc_not_identified"]
    assert entry["answer"] == "[password] is not the password of bridge."
    assert entry["service"] == "NickServ"
    assert "hunter2" not in str(logs)


def secure_ircd(folder: Path, lasts: timedelta = timedelta(days=30), **settings) -> tuple[Ircd, Path]:
    certificate, key = write_certificate(folder, "irc.test", lasts=lasts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return Ircd(tls=context, **settings), certificate


async def test_plain_is_good_over_tls(tmp_path):
    ircd, certificate = secure_ircd(tmp_path, caps={**FULL, "sasl": "PLAIN"}, accounts=ACCOUNTS)
    async with ircd.serving():
        server = {"host": "localhost", "port": ircd.port, "tls_ca_file": str(certificate)}
        sasl = {"account": "bridge", "password": "secretpassword"}
        async with running(network_of(ircd, MemoryHost(["#a"]), servers=[server], sasl=sasl)) as bridge:
            await bridge.fact(ChatOpened)
            assert ircd.find("bridge").account == "bridge"


async def test_external_signs_in_with_the_certificate(tmp_path):
    ircd, certificate = secure_ircd(tmp_path, caps=FULL)
    ircd.external_account = "bridge"
    async with ircd.serving():
        key = next(p for p in tmp_path.iterdir() if p != certificate)
        server = {"host": "localhost", "port": ircd.port, "tls_ca_file": str(certificate)}
        server |= {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
        async with network_of(ircd, servers=[server], sasl={"mechanism": "external"}).connect(None):
            assert ircd.lines("^AUTHENTICATE")[0] == "AUTHENTICATE EXTERNAL"


@pytest.mark.parametrize("restarted", [False, True], ids=["reconnected", "restarted"])
async def test_services_that_are_away_are_waited_for_where_they_were_once(tmp_path, restarted):
    """Servers offer no SASL while its agent is split off: no reason to stop for good, or to come in as nobody."""
    ircd, certificate = secure_ircd(tmp_path, caps={**FULL, "sasl": "PLAIN"}, accounts=ACCOUNTS)
    host = MemoryHost(["#a"])
    sasl = {"account": "bridge", "password": "secretpassword"}
    login = login_of("carol", password="carolspassword", account="carol")
    async with ircd.serving():
        server = {"host": "localhost", "port": ircd.port, "tls_ca_file": str(certificate)}
        network = network_of(ircd, host, sasl=sasl, servers=[server])
        async with running(network):
            pass
        ircd.caps = {name: value for name, value in FULL.items() if name != "sasl"}
        if restarted:
            network = network_of(ircd, host, sasl=sasl, servers=[server])
        for who in (None, login):
            error = await refused(network, who)
            assert isinstance(error, Disconnected)
            assert "services are away" in error.notice
            assert error.retry_after
        ircd.caps = {**FULL, "sasl": "PLAIN"}
        async with running(network) as bridge:
            assert bridge.session.me.account == "bridge"
    assert not any("IDENTIFY" in line for line in ircd.lines())


async def test_a_certificate_that_nobody_vouches_for_gets_no_word_from_us(tmp_path):
    ircd, _ = secure_ircd(tmp_path, caps=FULL)
    async with ircd.serving():
        server = {"host": "localhost", "port": ircd.port}
        error = await refused(network_of(ircd, servers=[server]))
        assert isinstance(error, Disconnected)
        assert "not to be trusted" in error.notice
        assert ircd.lines() == []


async def test_a_certificate_that_has_run_out_gets_no_word_from_us_and_its_successor_does(tmp_path):
    """The file that the config names is read for each connection: whoever renews it restarts nothing."""
    ircd, certificate = secure_ircd(tmp_path, caps=FULL, lasts=timedelta(seconds=-1))
    async with ircd.serving():
        server = {"host": "localhost", "port": ircd.port, "tls_ca_file": str(certificate)}
        network = network_of(ircd, servers=[server])
        error = await refused(network)
        assert isinstance(error, Disconnected)
        assert "certificate has expired" in error.notice
        assert ircd.lines() == []
        assert ircd.tls is not None
        ircd.tls.load_cert_chain(*write_certificate(tmp_path, "irc.test"))
        async with network.connect(None):
            pass


async def test_our_certificate_is_waited_for_while_it_is_renewed(tmp_path):
    """Whoever renews it writes the certificate and its key one after the other."""
    ircd, trusted = secure_ircd(tmp_path, caps=FULL)
    ircd.external_account = "bridge"
    certificate, key = write_certificate(tmp_path, "client")
    async with ircd.serving():
        server = {"host": "localhost", "port": ircd.port, "tls_ca_file": str(trusted)}
        server |= {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
        network = network_of(ircd, servers=[server], sasl={"mechanism": "external"})
        (tmp_path / "new").mkdir()
        renewed, its_key = write_certificate(tmp_path / "new", "client")
        renewed.rename(certificate)
        error = await refused(network)
        assert type(error) is Disconnected
        assert "cannot be used" in error.notice
        its_key.rename(key)
        async with network.connect(None):
            pass


async def test_the_next_server_is_tried_when_one_cannot_be_reached():
    ircd = Ircd()
    async with ircd.serving():
        servers = [
            {"host": "127.0.0.1", "port": 1, "tls": False},
            {"host": "127.0.0.1", "port": ircd.port, "tls": False},
        ]
        network = network_of(ircd, servers=servers)
        error = await refused(network)
        assert isinstance(error, Disconnected)
        async with network.connect(None) as session:
            assert session.me.name == "bridge"


async def test_an_address_that_swallows_everything_does_not_stand_before_one_that_answers(monkeypatch):
    """RFC 8305: a host with a route for IPv6 that leads nowhere, say; the resolver puts it first all the same."""
    monkeypatch.setattr("connectors.irc.connection.ADDRESS_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    nowhere = [(f"2001:db8::{i}", 6667, 0, 0) for i in range(1, 300)]
    connect = loop.sock_connect

    async def resolved(host, port, **_):
        six = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", address) for address in nowhere]
        return [*six, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def connected(sock, address):
        if address in nowhere:
            await asyncio.Event().wait()
        await connect(sock, address)

    monkeypatch.setattr(loop, "getaddrinfo", resolved)
    monkeypatch.setattr(loop, "sock_connect", connected)
    ircd = Ircd()
    async with ircd.serving(), network_of(ircd).connect(None) as session:
        assert session.me.name == "bridge"


async def test_a_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr("connectors.irc.registering.SECONDS", 0.1)
    ircd = Ircd()
    ircd.silent = True
    async with ircd.serving():
        error = await refused(network_of(ircd))
        assert isinstance(error, Disconnected)
        assert "did not welcome us" in error.notice


@pytest.mark.parametrize("required", [False, True])
async def test_services_that_do_not_answer_keep_out_only_who_has_to_sign_in(monkeypatch, required):
    """A server may go on to offer SASL while its agent hangs."""
    monkeypatch.setattr(registering, "SECONDS", 2.0)
    monkeypatch.setattr(registering, "SIGN_IN_SECONDS", 0.1)
    monkeypatch.setattr(Client, "authenticate", lambda client, chunk: None)
    ircd = Ircd(caps=FULL, accounts=ACCOUNTS)
    sasl = {"account": "bridge", "password": "secretpassword", "required": required}
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a"]), sasl=sasl)
        if required:
            assert "did not answer the sign-in" in (await refused(network)).notice
            return
        async with running(network) as bridge:
            await bridge.fact(ChatOpened)
            assert bridge.session.me.account is None
            assert ircd.lines("^AUTHENTICATE")[-1] == "AUTHENTICATE *"


def offer_sasl(ircd: Ircd, *, told: bool) -> None:
    """The services are back; `told`: the server says so (cap-notify)."""
    ircd.caps = {**FULL, "sasl": "PLAIN,SCRAM-SHA-256"}
    for client in ircd.clients if told else ():
        client.answer(Out(ircd.name, "CAP", (client.user.nick, "NEW", "sasl=PLAIN,SCRAM-SHA-256")))


AWAY = {name: value for name, value in FULL.items() if name != "sasl"}


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
async def test_who_came_in_without_services_signs_in_when_they_are_back(monkeypatch, told):
    """InspIRCd 3 takes SASL off its list while its agent is split off, and tells nobody when it is back."""
    if not told:
        monkeypatch.setattr(services, "AGAIN", 0.05)
    ircd = Ircd(caps=AWAY, accounts=ACCOUNTS)
    members_only = ircd.channel("#r")
    members_only.refuse = "477"
    sasl = {"account": "bridge", "password": "secretpassword", "required": False}
    async with ircd.serving():
        network = network_of(ircd, MemoryHost(["#a", "#r"]), sasl=sasl)
        async with running(network) as bridge:
            await bridge.fact(ChatOpened, chat="#a")
            members_only.refuse = ""
            offer_sasl(ircd, told=told)
            await bridge.fact(ChatOpened, chat="#r")
            assert bridge.session.me.account == "bridge"
            assert network.memory.signs_in
            tried = len(ircd.lines("^AUTHENTICATE"))
            ircd.clients[0].answer(Out(ircd.name, "CAP", ("bridge", "DEL", "sasl")))
            offer_sasl(ircd, told=True)  # they were away once more, and we stayed signed in
            await ircd.until(lambda: len(ircd.lines("CAP REQ sasl")) == 2)
            ircd.user("bob", "#a").say("#a", "still there")
            await ircd.until(lambda: bridge.said)
            assert len(ircd.lines("^AUTHENTICATE")) == tried


async def test_services_that_hung_are_asked_once_more(monkeypatch):
    monkeypatch.setattr(registering, "SIGN_IN_SECONDS", 0.05)
    monkeypatch.setattr(services, "SASL_SECONDS", 0.05)
    monkeypatch.setattr(services, "AGAIN", 0.05)
    ircd = Ircd(caps=FULL, accounts=ACCOUNTS)
    sasl = {"account": "bridge", "password": "secretpassword", "required": False}
    with monkeypatch.context() as hanging:
        hanging.setattr(Client, "authenticate", lambda client, chunk: None)
        async with ircd.serving(), running(network_of(ircd, MemoryHost(["#a"]), sasl=sasl)) as bridge:
            await bridge.fact(ChatOpened)
            await ircd.until(lambda: len(ircd.lines(r"^AUTHENTICATE \*")) >= 2)
            hanging.undo()
            monkeypatch.setattr(services, "SASL_SECONDS", 60.0)
            await ircd.until(lambda: bridge.session.me.account == "bridge")


async def test_a_password_that_turns_out_wrong_when_services_are_back_is_tried_once(monkeypatch):
    monkeypatch.setattr(services, "AGAIN", 0.05)
    ircd = Ircd(caps=AWAY, accounts=ACCOUNTS)
    sasl = {"account": "bridge", "password": "wrong", "required": False, "mechanism": "scram-sha-256"}
    async with ircd.serving(), running(network_of(ircd, MemoryHost(["#a"]), sasl=sasl)) as bridge:
        await bridge.fact(ChatOpened)
        offer_sasl(ircd, told=True)
        await ircd.heard("^AUTHENTICATE SCRAM")
        with capture_logs() as logs:
            await ircd.until(lambda: [one for one in logs if one["event"] == "irc_not_identified"])
        await asyncio.sleep(0.3)
        assert len(ircd.lines("^AUTHENTICATE SCRAM")) == 1


async def test_a_puppet_whose_password_turns_out_wrong_is_told_and_stays_away(tmp_path, monkeypatch):
    """It was let in where the services could not be asked; what is known now is what a refused sign-in says."""
    monkeypatch.setattr(services, "SECONDS", 0.05)
    ircd, certificate = secure_ircd(tmp_path, caps=AWAY, accounts={"ali": "pw"})
    async with ircd.serving():
        server = {"host": "localhost", "port": ircd.port, "tls_ca_file": str(certificate)}
        network = network_of(ircd, servers=[server])
        async with running(network, login_of("alice", nick="ali", password="wrong")) as puppet:
            await ircd.heard("IDENTIFY")
            await asyncio.sleep(0.1)
            offer_sasl(ircd, told=True)
            error = await puppet.ended()
            assert isinstance(error, LoginRejected)
            assert "check the account and password" in error.notice


@pytest.mark.parametrize(
    "login", [None, login_of("ali", password="pw", account="ali")], ids=["relay", "puppet"]
)
async def test_services_that_are_away_at_the_first_start_are_waited_for(login):
    """Nothing tells a network without services from one whose services are split off: whoever waits needs nobody."""
    ircd = Ircd(caps=AWAY, accounts={**ACCOUNTS, "ali": "pw"})
    sasl = {"account": "bridge", "password": "secretpassword"}
    async with ircd.serving():
        network = network_of(ircd, sasl=sasl)
        error = await refused(network, login)
        assert isinstance(error, Disconnected)
        assert "its services are away, or it has none" in error.notice
        assert error.retry_after
        ircd.caps = FULL
        async with network.connect(login) as session:
            assert session.me.account


async def test_a_server_that_breaks_the_sign_in_off_itself_has_nobody_to_ask(monkeypatch):
    """Solanum answers 906 while its services are split off; a wrong password is a 904."""
    abort = lambda client, chunk: client.numeric("906", "SASL authentication aborted")  # noqa: E731
    monkeypatch.setattr(Client, "authenticate", abort)
    ircd = Ircd(caps=FULL, accounts=ACCOUNTS)
    async with ircd.serving():
        error = await refused(network_of(ircd, sasl={"account": "bridge", "password": "secretpassword"}))
        assert isinstance(error, Disconnected)


async def test_a_puppet_signs_in_as_its_owner_says(caps):
    ircd = Ircd(caps=FULL, accounts={"ali": "pw"})
    async with ircd.serving():
        async with network_of(ircd).connect(login_of("alice", nick="ali", password="pw")) as session:
            assert session.me.name == "ali"
            assert session.me.account == "ali"
        error = await refused(network_of(ircd), login_of("bob", nick="bob", password="wrong"))
        assert isinstance(error, LoginRejected)


async def test_where_there_is_no_sasl_a_puppet_tells_nickserv_but_only_over_tls(tmp_path):
    ircd, certificate = secure_ircd(tmp_path, caps=PLAIN, accounts={"ali": "pw"})
    ircd.user("NickServ", service=True)
    async with ircd.serving():
        server = {"host": "localhost", "port": ircd.port, "tls_ca_file": str(certificate)}
        async with running(
            network_of(ircd, servers=[server]), login_of("alice", nick="ali", password="pw")
        ) as puppet:
            await ircd.heard("^PRIVMSG NickServ :IDENTIFY ali pw$")
            await ircd.until(lambda: puppet.session.me.account == "ali")
    clear = Ircd(caps=PLAIN, accounts={"ali": "pw"})
    async with clear.serving():
        error = await refused(network_of(clear), login_of("alice", nick="ali", password="pw"))
        assert isinstance(error, LoginRejected)
        assert not clear.lines("pw")
