"""The yardstick: a loop that reads IRC lines and sends PUTs, and back; aiohttp, fast JSON, no logic, no disk.

`python -m tests.bench.bare CONFIG`: the config is JSON, see `Config`. It keeps the order of each sender, or with
`strict` that of the room, and promises nothing else: what is in memory when it dies is lost.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import uvloop
from aiohttp import web

CONNECTIONS = 64


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is."""

    homeserver: str
    server_name: str
    port: int
    irc_port: int
    channel: str
    room: str
    strict: bool = False


class Bare:
    """One channel, one room."""

    def __init__(self, config: Config, http: aiohttp.ClientSession) -> None:
        self._config = config
        self._http = http
        self._room = f"{config.homeserver}/_matrix/client/v3/rooms/{quote(config.room)}"
        self._txn = count()
        self._queues: dict[str, asyncio.Queue[tuple[str, str]]] = {}
        self._ghosts: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # IRC to Matrix

    async def read(self) -> None:
        """Until the server closes."""
        config = self._config
        reader, self._writer = await asyncio.open_connection("127.0.0.1", config.irc_port)
        self._writer.write(b"NICK bare\r\nUSER bare 0 * :bare\r\n")
        while raw := await reader.readline():
            source, _, rest = raw.decode().rstrip("\r\n").partition(" ")
            if source == "PING":
                self._writer.write(f"PONG {rest}\r\n".encode())
                continue
            command, _, rest = rest.partition(" ")
            if command == "001":
                self._writer.write(f"JOIN {config.channel}\r\n".encode())
            elif command == "353":
                for nick in rest.partition(" :")[2].split():
                    self._ghost(nick.lstrip("~&@%+"))
            elif command == "PRIVMSG":
                self._relay(source[1:].partition("!")[0], rest.partition(" :")[2])

    def _relay(self, nick: str, text: str) -> None:
        lane = "" if self._config.strict else nick
        queue = self._queues.get(lane)
        if queue is None:
            queue = self._queues[lane] = asyncio.Queue()
            self._spawn(self._send(queue))
        queue.put_nowait((nick, text))

    async def _send(self, queue: asyncio.Queue[tuple[str, str]]) -> None:
        while True:
            nick, text = await queue.get()
            await self._ghost(nick)
            body = msgspec.json.encode({"msgtype": "m.text", "body": text})
            await self._call("PUT", f"{self._room}/send/m.room.message/b{next(self._txn)}", body, nick)

    def _ghost(self, nick: str) -> asyncio.Task[None]:
        if nick not in self._ghosts:
            self._ghosts[nick] = self._spawn(self._make(nick))
        return self._ghosts[nick]

    async def _make(self, nick: str) -> None:
        body = msgspec.json.encode(
            {"type": "m.login.application_service", "inhibit_login": True, "username": f"_bk_net_{nick}"}
        )
        await self._call("POST", f"{self._config.homeserver}/_matrix/client/v3/register", body)
        await self._call("POST", f"{self._room}/join", b"{}", nick)

    async def _call(self, method: str, url: str, body: bytes, nick: str = "") -> None:
        query = {"user_id": f"@_bk_net_{nick}:{self._config.server_name}"} if nick else None
        async with self._http.request(method, url, params=query, data=body) as response:
            await response.read()
            response.raise_for_status()

    # Matrix to IRC

    async def transaction(self, request: web.Request) -> web.Response:
        """Every message of somebody who is no ghost goes to the channel."""
        for event in msgspec.json.decode(await request.read())["events"]:
            if event["type"] == "m.room.message" and not event["sender"].startswith("@_bk_"):
                sender = event["sender"][1:].partition(":")[0]
                line = f"PRIVMSG {self._config.channel} :<{sender}> {event['content']['body']}\r\n"
                if self._writer is not None:
                    self._writer.write(line.encode())
        return web.json_response({})


async def main(config: Config) -> None:
    """Run until killed."""
    headers = {"Authorization": "Bearer as-secret"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
        bare = Bare(config, http)
        app = web.Application(client_max_size=1 << 26)
        app.router.add_put("/_matrix/app/v1/transactions/{txn}", bare.transaction)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", config.port).start()
        body = msgspec.json.encode(
            {"type": "m.login.application_service", "inhibit_login": True, "username": "bridgebot"}
        )
        await http.post(f"{config.homeserver}/_matrix/client/v3/register", data=body)
        await http.post(f"{config.homeserver}/_matrix/client/v3/join/{quote(config.room)}", data=b"{}")
        await bare.read()


if __name__ == "__main__":
    uvloop.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Config)))
