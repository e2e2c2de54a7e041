"""The scripted ircd as a program: `python -m connectors.irc.testing.ircd --port P [--full] [--bench-control]`.

With `--bench-control` the first line on stdout is JSON, `{"port": P, "control": C}`, and the TCP port C takes one
JSON object a line and answers each with one: `{"do": "burst", "channel": "#c", "count": 20000}`. See `Control`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import deque
from typing import Any

from connectors.irc.testing.ircd import FULL, PLAIN, Ircd


class Control:
    """What the outside may ask: each method is a `do`, its parameters are the other keys."""

    def __init__(self, ircd: Ircd) -> None:
        self.ircd = ircd
        self._said = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def crowd(self, channel: str, count: int, prefix: str = "user") -> dict[str, Any]:
        """`count` people in a channel."""
        self.ircd.crowd(count, channel, prefix)
        return {}

    async def burst(
        self, channel: str, count: int, users: int = 10, rate: float = 0, text: str = "message {n}"
    ) -> dict[str, Any]:
        """`users` people take turns in saying `count` lines, `rate` a second or as fast as it goes.

        {n} counts from 1 up over all bursts, {t} is the monotonic time. Answers when the last one is in the
        socket: "first" and "last" are monotonic seconds.
        """
        speakers = self.ircd.crowd(users, channel)
        first = time.monotonic()
        for i in range(count):
            self._said += 1
            if rate:
                await asyncio.sleep(max(0.0, first + i / rate - time.monotonic()))
            elif i % 100 == 99:
                await self.ircd.drained()
            line = text.replace("{n}", str(self._said)).replace("{t}", f"{time.monotonic():.6f}")
            speakers[i % users].say(channel, line)
        await self.ircd.drained()
        return {"first": first, "last": time.monotonic()}

    async def say(self, nick: str, target: str, text: str) -> dict[str, Any]:
        """One line of one person."""
        return {"msgid": self.ircd.user(nick).say(target, text)}

    async def join(self, nick: str, channel: str) -> dict[str, Any]:
        """Somebody comes."""
        self.ircd.user(nick, channel)
        return {}

    async def quit(self, nick: str, reason: str = "Quit: bye") -> dict[str, Any]:
        """Somebody goes."""
        self.ircd.find(nick).quit(reason)
        return {}

    async def members(self, channel: str) -> dict[str, Any]:
        """Who is in a channel."""
        return {"members": [user.nick for user in self.ircd.channel(channel).members]}

    async def received(self, pattern: str = "", after: int = 0) -> dict[str, Any]:
        """What the connections sent since line number `after`: [at, nick, line], and the number to go on from."""
        wanted = set(self.ircd.lines(pattern)) if pattern else None
        rows = [
            [r.at, r.nick, r.line] for r in self.ircd.received[after:] if wanted is None or r.line in wanted
        ]
        return {"received": rows, "next": len(self.ircd.received)}

    async def wait(self, pattern: str, count: int = 1, seconds: float = 60) -> dict[str, Any]:
        """Until `count` lines that match were sent; "at" is the arrival of the last."""
        await self.ircd.heard(pattern, count=count, seconds=seconds)
        return {"at": self.ircd.received[-1].at}

    async def keep(self, channel: str, count: int) -> dict[str, Any]:
        """Let the channel's history hold `count` messages."""
        kept = self.ircd.channel(channel)
        kept.history = deque(kept.history, maxlen=count)
        return {}

    async def transcript(self, channel: str, after: int = 0) -> dict[str, Any]:
        """What the channel was told, by whomever: [nick, text] in order, without the first `after` of its history."""
        history = list(self.ircd.channel(channel).history)[after:]
        return {"said": [[out.source.partition("!")[0], out.params[-1]] for out in history]}

    async def lead(self) -> dict[str, Any]:
        """How far ahead of the RFC 1459 timer any connection ever was, in seconds."""
        return {"lead": self.ircd.max_lead}

    async def drop(self, nick: str) -> dict[str, Any]:
        """Cut a connection."""
        self.ircd.drop(nick)
        return {}

    async def stop(self) -> dict[str, Any]:
        """Stop the server; `start` brings it back on the same port."""
        await self.ircd.stop()
        return {}

    async def start(self) -> dict[str, Any]:
        """After `stop`."""
        return {"port": await self.ircd.start()}

    async def fault(self, **settings: Any) -> dict[str, Any]:
        """Set attributes of the server: delay, silent, flood_kick, refuse."""
        for name, value in settings.items():
            if name not in {"delay", "silent", "flood_kick", "refuse", "password", "nicklen"}:
                raise ValueError(f"no fault is called {name}")
            setattr(self.ircd, name, value)
        return {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One control connection."""
        self._open.add(writer)
        try:
            while raw := await reader.readline():
                try:
                    order = json.loads(raw)
                    what = order.pop("do")
                    if what.startswith("_") or what in ("serve", "close"):
                        raise ValueError(f"nothing is called {what}")
                    answer = {"ok": True, **await getattr(self, what)(**order)}
                except Exception as error:  # whatever it was, the asker must know
                    answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def close(self) -> None:
        """Hang up."""
        for writer in self._open:
            writer.close()
        await asyncio.sleep(0.01)


async def _run(arguments: argparse.Namespace) -> None:
    ircd = Ircd(caps=FULL if arguments.full else PLAIN)
    ircd.whox = arguments.full
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with ircd.serving(arguments.port):
        where = {"port": ircd.port}
        control = Control(ircd)
        if arguments.bench_control:
            server = await asyncio.start_server(control.serve, "127.0.0.1", 0, limit=1 << 20)
            where["control"] = server.sockets[0].getsockname()[1]
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        await stopped.wait()
        await control.close()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description="The scripted IRC server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="with every IRCv3 extension")
    parser.add_argument("--bench-control", action="store_true", help="take orders on a control port")
    asyncio.run(_run(parser.parse_args()))
