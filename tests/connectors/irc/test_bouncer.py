"""Behind a real ZNC, in front of a real ngircd: what it keeps is replayed, what it throws away is not delivered."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from bridgekit.contract.errors import Disconnected, SendUncertain
from bridgekit.contract.facts import ChatOpened, Message
from bridgekit.contract.ids import ChatId
from bridgekit.contract.people import Content
from bridgekit.contract.text import plain
from bridgekit.contract.verbs import PostMessage
from connectors.irc import registering
from connectors.irc.network import IrcNetwork
from connectors.irc.protocol import bouncer
from connectors.irc.protocol.wire import parse
from connectors.irc.testing.harness import MemoryHost, network_of, running
from connectors.irc.testing.ircd import Ircd
from connectors.irc.testing.lines import LineClient, line_client
from connectors.irc.testing.ngircd import Ngircd
from connectors.irc.testing.ngircd import ngircd as run_ngircd
from connectors.irc.testing.znc import PASSWORD, znc

_numbers = itertools.count(1)


def post(words: str, chat: str) -> PostMessage:
    return PostMessage(chat=ChatId(chat), content=Content(text=plain(words)))


@contextlib.asynccontextmanager
async def behind(server: Ngircd, channel: str) -> AsyncIterator[tuple[IrcNetwork, LineClient]]:
    """The relay's network behind a bouncer, and bob in the channel on the server itself."""
    nick = f"bounced{next(_numbers)}"
    async with znc(server.port, nick=nick) as port, line_client(server.port) as bob:
        await bob.register(f"bob{nick}")
        await bob.send(f"JOIN {channel}")
        await bob.expect(" 366 ")
        ircd = Ircd()
        ircd.port = port
        yield network_of(ircd, MemoryHost([channel]), nick=nick, password=PASSWORD), bob


async def test_what_a_bouncer_kept_is_told_once_and_as_a_replay(ngircd: Ngircd):
    channel = f"#kept{next(_numbers)}"
    async with behind(ngircd, channel) as (network, bob):
        async with running(network) as relay:
            await relay.fact(ChatOpened)
            nick = relay.session.state.nick
            await bob.send(f"PRIVMSG {channel} :live")
            assert not (await relay.fact(Message)).replayed
            sent = await asyncio.gather(
                *(relay.session.perform(post(f"ours {n}", channel)) for n in range(20))
            )
            assert len({one.id for one in sent if one is not None}) == 20  # ZNC sends our words back itself
            await bob.expect("ours 19")
        for words in ("away 0", "\x01ACTION away 1\x01", "away 2"):
            await bob.send(f"PRIVMSG {channel} :{words}")
        await bob.send(f"PRIVMSG {nick} :between us")
        await bob.send(f"TOPIC {channel} :another")
        await bob.send(f"PRIVMSG {nick} :\x01PING done\x01")
        await bob.expect("NOTICE .*PING done")  # ZNC answers for its client, so it has all that came before
        async with running(network) as relay:
            assert (await relay.fact(ChatOpened)).topic == "another"
            await relay.fact(Message, private=True)
            assert relay.said == ["away 0", "away 1", "away 2", "between us"]
            assert all(message.replayed for message in relay.all(Message))
            await bob.send(f"PRIVMSG {channel} :live again")
            assert not (await relay.fact(Message, count=5)).replayed


async def test_what_a_bouncer_without_a_network_is_given_is_not_called_delivered():
    """ZNC says to its client alone that it has no connection, and answers PING all the same."""
    channel = "#lost"
    async with run_ngircd() as server, behind(server, channel) as (network, bob):
        async with running(network) as relay:
            await relay.fact(ChatOpened)
            await bob.expect(" JOIN ")
            server.kill()
            error = await relay.ended()
            assert isinstance(error, Disconnected)
            assert error.notice == "The bouncer has lost its own connection to IRC."
            with pytest.raises((Disconnected, SendUncertain)):
                await relay.session.perform(post("into the void", channel))
            assert relay.all(Message) == []  # nor is what ZNC says for itself anybody's words
        await server.start()
        async with running(network) as relay:
            await relay.fact(ChatOpened)


async def test_a_bouncer_without_a_network_is_named_where_no_welcome_comes(monkeypatch):
    monkeypatch.setattr(registering, "SECONDS", 3.0)
    ircd = Ircd()
    async with znc(1, nick="bounced") as ircd.port:
        network = network_of(ircd, MemoryHost(["#c"]), nick="bounced", password=PASSWORD)
        with pytest.raises(Disconnected, match="The bouncer has no connection to IRC"):
            async with running(network):
                pass


@pytest.mark.parametrize(
    ("raw", "lost"),
    [
        (":*status!znc@znc.in PRIVMSG me :Disconnected from IRC. Reconnecting...", True),
        (":*status!znc@znc.in PRIVMSG me :Your message to #c got lost, you are not connected to IRC!", True),
        (":*status!znc@znc.in PRIVMSG me :Connection Refused.  Reconnecting...", True),
        (":*status!znc@znc.in PRIVMSG me :Connected!", False),
        (":status!znc@znc.in PRIVMSG me :Disconnected from IRC. Reconnecting...", False),
        (":bob!u@host PRIVMSG #c :my client says: Disconnected from IRC. Reconnecting...", False),
    ],
)
def test_only_a_bouncer_tells_that_it_has_lost_the_network(raw: str, lost: bool):
    line = parse(raw.encode())
    assert line is not None
    assert bouncer.lost(line) is lost
