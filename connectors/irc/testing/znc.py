"""A real ZNC: a bouncer that keeps one account on an IRC server while its client is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridgekit.testing.servers.process import (
    ServerUnavailable,
    Service,
    answers,
    find_program,
    free_port,
    give,
    private_directory,
    unprivileged_user,
)

PASSWORD = "account/lab:bouncer-of-the-lab"
"""What a client says as PASS: the user, the network and the user's password."""

_CONFIG = """\
Version = 1.8.2
AnonIPLimit = 0
ConnectDelay = 1
ServerThrottle = 1
<Listener lab>
    Port = {port}
    Host = 127.0.0.1
    IPv4 = true
    IPv6 = false
    SSL = false
</Listener>
<User account>
    Pass = plain#bouncer-of-the-lab
    Nick = {nick}
    AltNick = {nick}_
    Ident = account
    RealName = An account of the lab
    ChanBufferSize = 500
    QueryBufferSize = 500
    <Network lab>
        FloodRate = 1000
        FloodBurst = 1000
        JoinDelay = 0
        Server = 127.0.0.1 {upstream}
    </Network>
</User>
"""


def find_binary() -> Path:
    """The znc program. Raises ServerUnavailable where there is none."""
    found = find_program("znc")
    if found is None:
        raise ServerUnavailable("ZNC is not installed: run `make servers`, or apt-get install znc.")
    return found


@asynccontextmanager
async def znc(upstream: int, *, nick: str) -> AsyncIterator[int]:
    """A ZNC that keeps `nick` on the server at 127.0.0.1:`upstream` as long as the block lasts; its own port.

    Raises ServerUnavailable, ServerFailed.
    """
    binary, user, port = find_binary(), unprivileged_user("nobody"), free_port()
    with private_directory("znc", user) as folder:
        configs = folder / "configs"
        configs.mkdir()
        config = configs / "znc.conf"
        config.write_text(_CONFIG.format(port=port, nick=nick, upstream=upstream))
        for path in (configs, config):
            give(path, user)
        service = Service(
            name="ZNC",
            argv=[binary, "--foreground", "--datadir", folder],
            ready=answers(port),
            log=folder / "output.log",
            user=user,
            cwd=folder,
        )
        await service.start()
        try:
            yield port
        finally:
            await service.stop()
