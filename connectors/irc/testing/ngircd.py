"""A real ngircd: IRC as RFC 2812 has it, no services and of IRCv3 only multi-prefix."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridgekit.testing.servers.process import (
    ServerUnavailable,
    Service,
    answers,
    find_program,
    free_port,
    private_directory,
    unprivileged_user,
)

WEBIRC_PASSWORD = "webirc-of-the-lab"
OPERATOR = ("operator", "operator-of-the-lab")

_CONFIG = """\
[Global]
    Name = ngircd.test
    Info = A server of the lab
    Network = PlainLab
    Listen = 127.0.0.1
    Ports = {port}
[Limits]
    MaxConnections = 0
    MaxConnectionsIP = 0
    MaxJoins = 0
    MaxNickLength = 30
    MaxListSize = 1000
    MaxPenaltyTime = {penalty}
    PingTimeout = 120
    PongTimeout = 20
[Options]
    DNS = no
    Ident = no
    WebircPassword = {webirc}
    PAM = no
    OperCanUseMode = yes
[Operator]
    Name = {operator}
    Password = {password}
"""


def find_binary() -> Path:
    """The ngircd program. Raises ServerUnavailable where there is none."""
    found = find_program("ngircd")
    if found is None:
        raise ServerUnavailable("ngircd is not installed: run `make servers`, or apt-get install ngircd.")
    return found


class Ngircd:
    """An IRC server on 127.0.0.1 without TLS. Stopping and starting it keeps the port; it has no other memory."""

    def __init__(self, folder: Path, binary: Path, user: str | None, *, penalty: int) -> None:
        self.port = free_port()
        operator, password = OPERATOR
        config = folder / "ngircd.conf"
        config.write_text(
            _CONFIG.format(
                port=self.port, webirc=WEBIRC_PASSWORD, operator=operator, password=password, penalty=penalty
            )
        )
        self.service = Service(
            name="ngircd",
            argv=[binary, "-n", "-f", config],
            ready=answers(self.port),
            log=folder / "ngircd.log",
            user=user,
            cwd=folder,
        )

    async def start(self) -> None:
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    def kill(self) -> None:
        """End the server at once: every client loses its connection without a word."""
        self.service.kill()


@asynccontextmanager
async def ngircd(*, penalty: int = 0) -> AsyncIterator[Ngircd]:
    """An ngircd that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed.

    `penalty` is the most seconds that one command may hold a client back; 0 switches flood protection off,
    -1 leaves it as the server ships (RFC 2813 5.8).
    """
    binary = find_binary()
    user = unprivileged_user("irc")
    with private_directory("ngircd", user) as folder:
        server = Ngircd(folder, binary, user, penalty=penalty)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
