"""Between the end of a connection and the moment when all that came over it has been read: nothing more leaves."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
import uvloop

from bridgekit.contract.errors import Disconnected, SendUncertain
from connectors.irc.config import Server
from connectors.irc.connection import opened
from connectors.irc.deliveries import Deliveries
from connectors.irc.flood import Flood, Limits
from connectors.irc.protocol.state import State
from connectors.irc.words.compose import OutLine

HELLO = OutLine(command="PRIVMSG", params=("#c", "hello"))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_writing_to_a_connection_that_the_server_closed_does_nothing(loop):
    """uvloop raises RuntimeError there, which is no reason to call a message failed for ever."""

    async def play() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with (
            server,
            opened(Server(host="127.0.0.1", port=port, tls=False), encoding="utf-8") as connection,
        ):
            with pytest.raises(Disconnected):
                await connection.lines()
            async with asyncio.timeout(60):
                while connection.alive:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            connection.write(b"PRIVMSG #c :hello\r\n")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(play())


async def test_what_is_said_to_a_connection_that_is_gone_was_certainly_not_sent():
    wire: list[bytes] = []
    deliveries = Deliveries(State("me"), Flood(Limits(refill=0)), wire.append, lambda: False)
    with pytest.raises(Disconnected):
        await deliveries.deliver([HELLO])
    assert wire == []


async def test_what_still_waited_for_its_turn_when_the_connection_went_was_certainly_not_sent():
    wire: list[bytes] = []
    gone = False
    flood = Flood(Limits(burst=1, refill=0.02, lead_max=0))
    deliveries = Deliveries(State("me"), flood, wire.append, lambda: not gone)
    saying = [asyncio.create_task(deliveries.deliver([HELLO])) for _ in range(2)]
    await asyncio.sleep(0)
    assert len(wire) == 1
    gone = True
    await asyncio.sleep(0.1)
    deliveries.lost()
    first, second = await asyncio.gather(*saying, return_exceptions=True)
    assert (type(first), type(second)) == (SendUncertain, Disconnected)
    assert [data for data in wire if data.startswith(b"PRIVMSG")] == [b"PRIVMSG #c hello\r\n"]


@pytest.mark.parametrize(
    ("ends", "heard_to_the_end"), [("closed", True), ("cut", False)], ids=["closed", "cut"]
)
async def test_what_was_sent_before_an_orderly_end_has_all_been_heard(ends: str, heard_to_the_end: bool):
    """RFC 9293, 3.6: a close comes behind what was sent. Of a connection that is cut, nobody knows."""
    end = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PING :x\r\n")
        await end.wait()
        if ends == "cut":  # socket(7): with no time to linger, a close is a reset
            at_once = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        opened(Server(host="127.0.0.1", port=port, tls=False), encoding="utf-8") as connection,
    ):
        await connection.lines()
        heard_at = connection.heard_at
        await asyncio.sleep(0.05)
        end.set()
        with pytest.raises(Disconnected):
            await connection.lines()
        assert (connection.heard_at > heard_at) is heard_to_the_end
