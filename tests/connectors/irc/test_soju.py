"""Behind a real soju, in front of real servers: what was missed is fetched from it, in order, and once."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from bridgekit.contract.errors import Disconnected
from bridgekit.contract.facts import ChatOpened, Message, Roster
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content, Login
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import PostMessage, React, SetTyping
from connectors.irc.network import IrcNetwork
from connectors.irc.session import IrcSession
from connectors.irc.testing.harness import MemoryHost, login_of, network_of, running
from connectors.irc.testing.inspircd import Inspircd
from connectors.irc.testing.ircd import Ircd
from connectors.irc.testing.lines import LineClient, line_client
from connectors.irc.testing.ngircd import Ngircd
from connectors.irc.testing.soju import NETWORK, PASSWORD, Gate, Soju, gate

_numbers = itertools.count(1)
FAST = {"connects_per_second": 1000}


def post(words: str, chat: str, **fields) -> PostMessage:
    return PostMessage(chat=ChatId(chat), content=Content(text=plain(words)), **fields)


@dataclass(frozen=True)
class Lab:
    """A bouncer whose account is the relay's, the network as the bridge knows it, and a friend on the server itself.

    `gate` is what the bouncer goes through to the server.
    """

    account: str
    channel: str
    network: IrcNetwork
    friend: str
    bob: LineClient
    soju: Soju
    gate: Gate

    async def add_person(self) -> Login:
        """An account of a Matrix user's own, in the channel as well."""
        account = f"own{self.account}"
        await _add(self.soju, account, self.gate, self.channel)
        await self.bob.expect(f":{account}!.* JOIN ")
        fields = {"nick": account, "account": f"{account}/{NETWORK}@puppet", "password": PASSWORD}
        return login_of(f"alice{self.account}", **fields)

    async def until_in(self, session: IrcSession) -> None:
        async with asyncio.timeout(60):
            while session.state.channel(self.channel) is None:  # noqa: ASYNC110 - a puppet tells no facts of it
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def other_client(self, account: str = "") -> AsyncIterator[LineClient]:
        """Another client of the same account."""
        async with line_client(self.soju.port) as client:
            await client.send("CAP LS 302")
            await client.send("CAP REQ :server-time echo-message draft/chathistory draft/read-marker")
            await client.send(f"PASS {PASSWORD}")
            await client.send("NICK other")
            await client.send(f"USER {account or self.account}/{NETWORK}@phone 0 * :another client")
            await client.send("CAP END")
            await client.expect(" 422 ")
            yield client


async def _add(soju: Soju, account: str, upstream: Gate, channel: str) -> None:
    await soju.add_account(account, upstream.port, nick=account)
    await soju.run_as(account, "channel", "create", f"{channel}/{NETWORK}")


@contextlib.asynccontextmanager
async def behind(soju: Soju, server: Ngircd | Inspircd) -> AsyncIterator[Lab]:
    """The bouncer is in the channel already."""
    number = next(_numbers)
    account, channel, friend = f"sojued{number}", f"#soju{number}", f"bobsoju{number}"
    async with line_client(server.port) as bob, gate(server.port) as upstream:
        await bob.register(friend, caps="message-tags" if isinstance(server, Inspircd) else "")
        await bob.send(f"JOIN {channel}")
        await bob.expect(" 366 ")
        await _add(soju, account, upstream, channel)
        await bob.expect(f":{account}!.* JOIN ")
        at = {"host": "localhost", "port": soju.tls_port, "tls_ca_file": str(soju.certificate)}
        sasl = {"account": f"{account}/{NETWORK}@bridge", "password": PASSWORD}
        host = MemoryHost([channel])
        network = network_of(Ircd(), host, servers=[at], nick=account, sasl=sasl, puppets=FAST)
        yield Lab(account, channel, network, friend, bob, soju, upstream)


@pytest.fixture(params=["ngircd", "inspircd"])
def real(request) -> Ngircd | Inspircd:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, Ngircd | Inspircd)
    return server


async def test_what_was_missed_is_fetched_once_and_in_its_place(soju: Soju, real):
    async with behind(soju, real) as lab:
        channel, bob = lab.channel, lab.bob
        async with running(lab.network) as relay:
            assert (await relay.fact(ChatOpened)).name == channel
            assert [m.person.name for m in (await relay.fact(Roster)).members] == [lab.friend]
            await bob.send(f"PRIVMSG {channel} :live")
            assert not (await relay.fact(Message)).replayed
            sent = await asyncio.gather(
                *(relay.session.perform(post(f"ours {n}", channel)) for n in range(20))
            )
            assert len({one.id for one in sent if one is not None and one.id is not None}) == 20
            await bob.expect("ours 19")
            async with lab.other_client() as phone:
                await phone.send(f"PRIVMSG {channel} :from the phone")
                await bob.expect("from the phone")
            await bob.send(f"PRIVMSG {channel} :seen")
            seen = (await relay.fact(Message, count=2)).id
            assert relay.said == ["live", "seen"]  # nobody speaks as the relay elsewhere
        for n in range(120):  # more than a page
            await bob.send(f"PRIVMSG {channel} :away {n}")
            if n % 30 == 0:  # a page holds what was said in one millisecond
                await bob.send(f"PING {n}")
                await bob.expect(f" PONG .*{n}")
        await bob.send(f"PRIVMSG {channel} :\x01ACTION away\x01")
        async with lab.other_client() as phone:
            await phone.send(f"PRIVMSG {channel} :from the phone")
            await bob.expect("from the phone")
        async with running(lab.network) as relay:
            await relay.fact(ChatOpened)
            await bob.send(f"PRIVMSG {channel} :live again")
            await relay.fact(Message, replayed=False)
            told = [
                message for message in relay.all(Message) if message.id != seen
            ]  # the last one may come again
            words = [message.content.text.body for message in told]
            assert words == [*(f"away {n}" for n in range(120)), "away", "live again"]
            assert len({message.id for message in told}) == 122
            assert [message.replayed for message in told] == [True] * 121 + [False]


async def test_a_puppet_and_another_client_of_the_same_account(soju: Soju, inspircd: Inspircd):
    """What the person says elsewhere is theirs, what they say through the bridge is not heard twice."""
    async with behind(soju, inspircd) as lab, running(lab.network) as relay:
        await relay.fact(ChatOpened)
        channel, bob, login = lab.channel, lab.bob, await lab.add_person()
        nick = login.fields["nick"]
        async with running(lab.network, login) as puppet, lab.other_client(nick) as phone:
            await lab.until_in(puppet.session)
            sent = await puppet.session.perform(post("through the bridge", channel))
            assert sent is not None
            assert sent.id
            await bob.send(f"@+draft/reply={sent.id} PRIVMSG {channel} :an answer")
            assert (await relay.fact(Message)).reply_to == sent.id
            await phone.send(f"PRIVMSG {channel} :from the phone")
            theirs = await relay.fact(Message, own=login.id)
            assert relay.said == ["an answer", "from the phone"]
            await puppet.session.perform(React(chat=ChatId(channel), target=theirs.id, reaction="+1"))
            await bob.expect(r"\+draft/react=\+1")
            await puppet.session.perform(SetTyping(chat=ChatId(channel), active=True))
            await bob.expect(r"\+typing=active")
            await phone.send(f"MARKREAD {channel} timestamp=2026-01-01T00:00:00.000Z")
            await phone.expect("MARKREAD")
            await puppet.session.perform(post("between us", lab.friend))
            await bob.expect("between us")
            await phone.send(f"PRIVMSG {lab.friend} :from the phone, too")
            await bob.expect("from the phone, too")
            await bob.send(f"PRIVMSG {nick} :yes")
            await puppet.fact(Message, own=None)
            assert puppet.said == ["from the phone, too", "yes"]


async def test_the_bouncers_password_is_no_business_of_the_networks_services(soju: Soju, ngircd: Ngircd):
    """soju takes its offer of SASL back where the network behind it has none."""
    async with behind(soju, ngircd) as lab:
        login = await lab.add_person()
        async with lab.other_client(login.fields["nick"]) as phone, running(lab.network, login) as puppet:
            await puppet.session.perform(post("hello", lab.channel))
            await phone.expect(" :?hello$")
            assert [line for line in phone.seen if PASSWORD in line] == []


async def test_what_was_said_to_a_puppet_while_it_was_away_is_told_once(soju: Soju, ngircd: Ngircd):
    async with behind(soju, ngircd) as lab:
        login, bob = await lab.add_person(), lab.bob
        nick = login.fields["nick"]
        async with running(lab.network, login) as puppet:
            await lab.until_in(puppet.session)
            await puppet.session.perform(post("hello", lab.channel))
            await bob.expect(":hello")
        await bob.send(f"PRIVMSG {nick} :away 0")
        await bob.send(f"PRIVMSG {nick} :away 1")
        await bob.send(f"PRIVMSG {lab.channel} :said to all")
        async with lab.other_client(nick) as phone:
            await phone.send(f"PRIVMSG {lab.friend} :from the phone")
            await bob.expect("from the phone")
        async with running(lab.network, login) as puppet:
            await puppet.fact(Message, count=3)
            await bob.send(f"PRIVMSG {nick} :live")
            await puppet.fact(Message, replayed=False)
            assert puppet.said == ["away 0", "away 1", "from the phone", "live"]
            assert [message.own for message in puppet.all(Message)] == [None, None, login.id, None]
            await puppet.session.perform(
                post("bye", lab.channel)
            )  # its echo comes behind soju's question for "live"
        async with running(lab.network, login) as puppet:
            await bob.send(f"PRIVMSG {nick} :live again")
            await puppet.fact(Message)
            assert puppet.said == ["live again"]


@pytest.mark.parametrize("whose", ["relay", "puppet"])
async def test_a_bouncer_that_loses_the_network_and_has_it_back(soju: Soju, ngircd: Ngircd, whose: str):
    async with behind(soju, ngircd) as lab:
        login = await lab.add_person() if whose == "puppet" else None
        account = login.fields["nick"] if login is not None else lab.account
        async with running(lab.network, login) as session:
            await lab.until_in(session.session)
            await lab.gate.shut()
            error = await session.ended()
            assert isinstance(error, Disconnected)
            assert error.notice == "The bouncer has lost its own connection to IRC."
            assert session.all(Message) == []  # what the bouncer says for itself is nobody's words
        async with asyncio.TaskGroup() as both:
            back = both.create_task(_says_back(lab, login))
            await lab.gate.open()
            await soju.reconnect(account)
            await back


async def _says_back(lab: Lab, login: Login | None) -> None:
    """It takes until the bouncer has its network."""
    async with running(lab.network, login) as session:
        await lab.until_in(session.session)
        await session.session.perform(post("back", lab.channel))
        await lab.bob.expect(":back")
        assert session.all(Message) == []
