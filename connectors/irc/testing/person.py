"""Somebody on IRC with a client that stays on: they talk, answer PING, and keep what they see."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import msgspec

from bridgekit.contract.text import Text
from bridgekit.testing.sightings import Sightings
from connectors.irc.protocol.wire import Line, build, parse
from connectors.irc.words.format import decode

_ACTION = "\x01ACTION "


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """One line, and what of it is for people. `kind` is `text`, `emote`, `notice`, or `line` for what is not said."""

    line: Line
    kind: str
    nick: str
    target: str = ""
    raw: str = ""
    """The words with their codes."""

    @property
    def text(self) -> Text:
        """The words with their formatting."""
        return decode(self.raw)

    @property
    def words(self) -> str:
        """The words without it."""
        return self.text.body

    def __str__(self) -> str:
        return f"{self.nick} {self.line.command} {' '.join(self.line.params)}"[:300]


class IrcPerson:
    """One connection. `seen` holds every line but PING, the person's own not among them (there is no echo)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, nick: str) -> None:
        self.nick = nick
        self.seen: Sightings[Heard] = Sightings(show=str)
        self._reader = reader
        self._writer = writer

    async def send(self, command: str, *params: str, tags: Mapping[str, str] | None = None) -> None:
        """One line. Raises ValueError for what is none."""
        self._writer.write(build(command, *params, tags=tags))
        await self._writer.drain()

    async def join(self, channel: str) -> None:
        """Enter a channel and wait until its names were told."""
        await self.send("JOIN", channel)
        await self.sees(lambda h: h.line.command == "366" and h.line.param(1).lower() == channel.lower())

    async def say(self, target: str, words: str) -> None:
        await self.send("PRIVMSG", target, words)

    async def me(self, target: str, words: str) -> None:
        """`/me words`."""
        await self.send("PRIVMSG", target, f"{_ACTION}{words}\x01")

    async def notice(self, target: str, words: str) -> None:
        await self.send("NOTICE", target, words)

    async def rename(self, nick: str) -> None:
        """Take another nick, and wait until it is ours."""
        await self.send("NICK", nick)
        await self.sees(lambda h: h.line.command == "NICK" and h.line.param(0) == nick)
        self.nick = nick

    async def sees(
        self, matches: Callable[[Heard], bool], seconds: float = 60, what: str = "the line"
    ) -> Heard:
        """The next line that matches and was not taken before. Raises NotSeen."""
        return await self.seen.take(matches, seconds, f"{self.nick}: {what}")

    async def reads(self, words: str, *, target: str = "", kind: str = "text", seconds: float = 60) -> Heard:
        """The next thing said with exactly these words (formatting aside). Raises NotSeen."""
        return await self.sees(
            lambda h: h.kind == kind and h.words == words and target.lower() in ("", h.target.lower()),
            seconds,
            f"“{words[:60]}”",
        )

    async def listen(self) -> None:
        """Read until the connection ends."""
        with contextlib.suppress(OSError):
            while raw := await self._reader.readline():
                line = parse(raw)
                if line is None:
                    continue
                if line.command == "PING":
                    await self.send("PONG", line.param(0))
                else:
                    self.seen.add(heard(line))

    async def quit(self, words: str = "bye") -> None:
        """Say goodbye and hang up."""
        with contextlib.suppress(OSError):
            await self.send("QUIT", words)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def heard(line: Line) -> Heard:
    """What a line says to people."""
    if line.command not in ("PRIVMSG", "NOTICE"):
        return Heard(line=line, kind="line", nick=line.nick)
    raw, kind = line.param(1), "text" if line.command == "PRIVMSG" else "notice"
    if raw.startswith(_ACTION):
        raw, kind = raw.removeprefix(_ACTION).removesuffix("\x01"), "emote"
    return Heard(line=line, kind=kind, nick=line.nick, target=line.param(0), raw=raw)


@asynccontextmanager
async def irc_person(
    port: int, nick: str, *channels: str, caps: Iterable[str] = ()
) -> AsyncIterator[IrcPerson]:
    """Connect to 127.0.0.1:port in clear, register with the capabilities, join; ends with QUIT. Raises OSError,
    NotSeen."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    person = IrcPerson(reader, writer, nick)
    listening = asyncio.create_task(person.listen(), name=f"irc of {nick}")
    try:
        if wanted := " ".join(caps):
            await person.send("CAP", "REQ", wanted)
        await person.send("NICK", nick)
        await person.send("USER", nick, "0", "*", f"{nick} of the lab")
        if wanted:
            await person.sees(lambda h: h.line.param(1) == "ACK", what="the capabilities")
            await person.send("CAP", "END")
        await person.sees(lambda h: h.line.command == "001", what="a welcome")
        for channel in channels:
            await person.join(channel)
        yield person
    finally:
        await person.quit()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
