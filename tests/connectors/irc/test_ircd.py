"""The scripted ircd is itself what the other tests rely on: here it is looked at with a bare socket."""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

import pytest

from connectors.irc.testing.ircd import FULL, PLAIN, Ircd


class Wire:
    """A client of a few lines that knows nothing of the connector."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *lines: str) -> None:
        for line in lines:
            self.writer.write(f"{line}\r\n".encode())

    async def until(self, word: str) -> list[str]:
        lines: list[str] = []
        async with asyncio.timeout(60):
            while not lines or word not in lines[-1]:
                raw = await self.reader.readline()
                if not raw:
                    raise EOFError(lines)
                lines.append(raw.decode().rstrip("\r\n"))
        return lines


@contextlib.asynccontextmanager
async def joined(ircd: Ircd, nick: str = "a", *, caps: str = ""):
    reader, writer = await asyncio.open_connection("127.0.0.1", ircd.port)
    wire = Wire(reader, writer)
    if caps:
        wire.send("CAP LS 302", f"CAP REQ :{caps}")
    wire.send(f"NICK {nick}", f"USER {nick} 0 * :real {nick}", *(["CAP END"] if caps else []), "JOIN #c")
    await wire.until(" 366 ")
    try:
        yield wire
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_plain_server_knows_no_capabilities():
    ircd = Ircd(caps=PLAIN)
    async with ircd.serving(), joined(ircd) as wire:
        wire.send("CAP LS 302")
        assert (await wire.until("CAP"))[-1] == ":irc.test 421 a CAP :Unknown command"


async def test_a_made_up_user_speaks_and_hears():
    ircd = Ircd()
    async with ircd.serving(), joined(ircd) as wire:
        bob = ircd.user("bob", "#c")
        bob.say("#c", "hi")
        assert (await wire.until("PRIVMSG"))[-1] == ":bob!bob@user.example PRIVMSG #c :hi"
        wire.send("PRIVMSG bob :psst")
        await ircd.until(lambda: bob.heard)
        assert bob.heard[0].params == ("bob", "psst")


async def test_a_labelled_message_comes_back_with_its_label_and_an_id():
    ircd = Ircd(caps=FULL)
    async with ircd.serving(), joined(ircd, caps="labeled-response echo-message message-tags batch") as wire:
        wire.send("@label=x1 PRIVMSG #c :hi")
        line = (await wire.until("PRIVMSG"))[-1]
        assert line == "@label=x1;msgid=m1 :a!a@client.example PRIVMSG #c :hi"
        wire.send("@label=x2 PONG x")
        assert (await wire.until("ACK"))[-1].startswith("@label=x2 :irc.test ACK")
        wire.send("@label=x3 JOIN #d")
        lines = await wire.until("BATCH -")
        assert lines[0].startswith("@label=x3 :irc.test BATCH +")
        assert all(line.startswith("@batch=") for line in lines[1:-1])


async def test_moderation_mutes_and_strangers_are_refused():
    ircd = Ircd()
    ircd.user("op", "#c")
    async with ircd.serving(), joined(ircd) as wire:
        ircd.user("op").mode("#c", "+m")
        wire.send("PRIVMSG #c :hi", "PRIVMSG nobody :hi", "PRIVMSG #nowhere :hi")
        lines = await wire.until(" 403 ")
        assert [line.split()[1] for line in lines[1:]] == ["404", "401", "403"]


async def test_a_long_line_is_cut_at_512_bytes():
    ircd = Ircd()
    async with ircd.serving(), joined(ircd) as wire:
        ircd.user("bob", "#c").say("#c", "x" * 600)
        assert len((await wire.until("PRIVMSG"))[-1]) == 510


async def test_history_is_told_in_a_batch():
    ircd = Ircd(caps=FULL)
    bob = ircd.user("bob", "#c")
    ids = [bob.say("#c", f"line {i}") for i in range(5)]
    async with ircd.serving(), joined(ircd, caps="batch message-tags server-time draft/chathistory") as wire:
        wire.send(f"CHATHISTORY AFTER #c msgid={ids[1]} 2")
        lines = await wire.until("BATCH -")
        assert [line.rpartition(":")[2] for line in lines if "PRIVMSG" in line] == ["line 2", "line 3"]
        wire.send("CHATHISTORY LATEST #c * 2")
        lines = await wire.until("BATCH -")
        assert [line.rpartition(":")[2] for line in lines if "PRIVMSG" in line] == ["line 3", "line 4"]


async def test_it_comes_back_on_the_same_port_with_its_people():
    ircd = Ircd()
    async with ircd.serving():
        port = ircd.port
        async with joined(ircd) as wire:
            ircd.user("bob", "#c")
            await ircd.stop()
            with pytest.raises((EOFError, ConnectionError)):
                await wire.until("never")
        await ircd.start()
        assert ircd.port == port
        async with joined(ircd) as wire:
            wire.send("NAMES #c")
            assert any("bob" in line for line in await wire.until("366"))


async def test_who_talks_too_fast_is_thrown_out_where_that_is_asked_for():
    ircd = Ircd()
    ircd.flood_kick = True
    async with ircd.serving(), joined(ircd) as wire:
        wire.send(*(f"PRIVMSG #c :{i}" for i in range(20)))
        assert "Excess Flood" in (await wire.until("ERROR"))[-1]
    assert ircd.max_lead > 10


async def cost_of_lines(members: int) -> float:
    """Seconds of CPU that five thousand lines of a channel take."""
    ircd = Ircd(caps=FULL)
    async with ircd.serving(), joined(ircd, caps="message-tags server-time") as wire:
        crowd = ircd.crowd(members, "#c")

        async def count() -> int:
            seen = 0
            while seen < 5_000:
                seen += (await wire.reader.read(1 << 16)).count(b"PRIVMSG")
            return seen

        counting = asyncio.create_task(count())
        start = time.process_time()
        for i in range(5_000):
            crowd[i % 5].say("#c", f"line {i}")
            if i % 100 == 99:
                await ircd.drained()
        assert await counting == 5_000
        return time.process_time() - start


async def test_a_line_costs_no_more_in_a_channel_of_two_thousand_than_in_one_of_five():
    """It must not be what a bench measures. A line that looked at every member would cost a hundred times as much."""
    few = min([await cost_of_lines(5) for _ in range(2)])
    many = min([await cost_of_lines(2_000) for _ in range(2)])
    assert many < 4 * few, (few, many)


async def test_as_a_program_it_takes_orders():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.irc.testing.ircd", "--bench-control", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        where = json.loads(await process.stdout.readline())
        reader, writer = await asyncio.open_connection("127.0.0.1", where["control"])

        async def order(**words: object) -> dict[str, Any]:
            writer.write(json.dumps(words).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await reader.readline())
            return answer

        irc_reader, irc_writer = await asyncio.open_connection("127.0.0.1", where["port"])
        wire = Wire(irc_reader, irc_writer)
        wire.send("NICK a", "USER a 0 * :a", "JOIN #c")
        await wire.until("366")
        assert (await order(do="burst", channel="#c", count=30, users=3))["ok"]
        lines = await wire.until("message 30")
        assert [line.rpartition(":")[2] for line in lines if "PRIVMSG" in line] == [
            f"message {i}" for i in range(1, 31)
        ]
        wire.send("PRIVMSG #c :hello there")
        assert (await order(do="wait", pattern="hello there"))["ok"]
        received = await order(do="received", pattern="^PRIVMSG")
        assert [row[1:] for row in received["received"]] == [["a", "PRIVMSG #c :hello there"]]
        assert "no fault" in (await order(do="fault", nonsense=1))["error"]
        assert not (await order(do="__init__"))["ok"]
        writer.close()
        irc_writer.close()
        await writer.wait_closed()
        await irc_writer.wait_closed()
    finally:
        process.terminate()
        assert await process.wait() == 0
