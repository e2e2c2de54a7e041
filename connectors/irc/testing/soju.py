"""A real soju: a bouncer that keeps what was said, and answers questions about it (CHATHISTORY)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridgekit.testing.servers.process import (
    ServerFailed,
    ServerUnavailable,
    Service,
    answers,
    find_program,
    free_port,
    private_directory,
    unprivileged_user,
)
from connectors.irc.testing.certificate import write_certificate

PASSWORD = "bouncer-of-the-lab"
NETWORK = "lab"
_MYINFO = re.compile(rb"(?:@\S+ )?(:\S+) 004 (\S+) ")

_CONFIG = """\
listen irc+insecure://127.0.0.1:{port}
listen ircs://127.0.0.1:{tls_port}
listen unix+admin://{folder}/admin
tls {certificate} {key}
hostname soju.test
db sqlite3 {folder}/soju.db
message-store db
"""


def find_binaries() -> tuple[Path, Path]:
    """The programs soju and sojuctl. Raises ServerUnavailable where there are none."""
    soju, control = find_program("soju"), find_program("sojuctl")
    if soju is None or control is None:
        raise ServerUnavailable("soju is not installed: run `make servers`, or apt-get install soju.")
    return soju, control


class Soju:
    """A bouncer on 127.0.0.1. Stopping and starting keeps ports, accounts, networks, history and certificate.

    `port` takes clear connections, `tls_port` TLS; `certificate` is the file that a client must trust.
    """

    def __init__(self, folder: Path, binary: Path, control: Path, user: str | None) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self.certificate, key = write_certificate(folder, "soju.test")
        self._control = control
        self._config = folder / "config"
        self._config.write_text(
            _CONFIG.format(
                folder=folder, port=self.port, tls_port=self.tls_port, certificate=self.certificate, key=key
            )
        )
        self.service = Service(
            name="soju",
            argv=[binary, "-config", self._config],
            ready=answers(self.port),
            log=folder / "output.log",
            user=user,
            cwd=folder,
        )

    async def start(self) -> None:
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    async def add_account(self, account: str, upstream: int, *, nick: str) -> None:
        """Make an account, with PASSWORD, that keeps `nick` on the server at 127.0.0.1:`upstream`, and wait until it
        is there. Who signs in as `account/NETWORK` is on that server."""
        await self.control("user", "create", "-username", account, "-password", PASSWORD, "-nick", nick)
        address = f"irc+insecure://127.0.0.1:{upstream}"
        await self.run_as(
            account, "network", "create", "-addr", address, "-name", NETWORK, "-auto-away", "false"
        )
        await self.connected(account)

    async def reconnect(self, account: str) -> None:
        """Have the account connect to its server anew, now: after a failure it would wait for a minute."""
        await self.run_as(account, "network", "update", NETWORK, "-enabled", "true")
        await self.connected(account)

    async def connected(self, account: str, seconds: float = 60.0) -> None:
        """Wait until the account is on its server. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while "[connected" not in await self.run_as(account, "network", "status"):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)

    async def run_as(self, account: str, *words: str) -> str:
        """Tell the bouncer's service something in an account's name; its answer. Raises ServerFailed."""
        return await self.control("user", "run", account, *words)

    async def control(self, *words: str) -> str:
        """Tell the bouncer's service something as its administrator; its answer. Raises ServerFailed."""
        process = await asyncio.create_subprocess_exec(
            self._control, "-config", self._config, *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = (await process.communicate())[0].decode(errors="replace")
        if process.returncode != 0:
            raise ServerFailed(f"sojuctl {' '.join(words)} failed:\n{said}")
        return said


class Gate:
    """Stands before an IRC server on 127.0.0.1 and tells a bouncer that it need not pace itself (soju.im/SAFERATE).

    Without that soju says one line in two seconds. `shut` breaks all connections and lets nobody in, until `open`.
    """

    def __init__(self, server: int) -> None:
        self.port = free_port()
        self._server = server
        self._listener: asyncio.Server | None = None
        self._passing: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def shut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in self._passing:
            writer.transport.abort()
        while self._passing:  # noqa: ASYNC110 - until they have noticed
            await asyncio.sleep(0.01)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours, theirs = await asyncio.open_connection("127.0.0.1", self._server)
        self._passing |= {writer, theirs}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._carry(reader, theirs), self._carry(ours, writer))
        self._passing -= {writer, theirs}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if (welcome := _MYINFO.match(line)) is not None:
                line += b"%s 005 %s soju.im/SAFERATE :are supported by this server\r\n" % welcome.groups()
            writer.write(line)
        writer.close()


@asynccontextmanager
async def gate(server: int) -> AsyncIterator[Gate]:
    """A gate before 127.0.0.1:`server`, open at first, as long as the block lasts."""
    made = Gate(server)
    await made.open()
    try:
        yield made
    finally:
        await made.shut()


@asynccontextmanager
async def soju() -> AsyncIterator[Soju]:
    """A soju that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed."""
    binary, control = find_binaries()
    user = unprivileged_user("nobody")
    with private_directory("soju", user) as folder:
        server = Soju(folder, binary, control, user)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
