"""Two real InspIRCds that are one network: an operator parts them and joins them again, as in a netsplit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bridgekit.testing.servers.process import (
    Service,
    answers,
    free_port,
    private_directory,
    unprivileged_user,
)
from connectors.irc.testing.inspircd import OPERATOR, find_binary
from connectors.irc.testing.lines import LineClient, line_client

NAMES = "one.lab.test", "two.lab.test"
"""Two words that may be the reason of a netsplit's QUIT (RFC 1459 4.1.6 has the servers there)."""
_PASSWORD = "link-of-the-lab"

_MODULES = """
    blockcolor cap ircv3 ircv3_batch ircv3_ctctags ircv3_echomessage ircv3_labeledresponse ircv3_msgid
    ircv3_servertime namesx spanningtree uhnames
""".split()

_CONFIG = """\
<path configdir="{folder}" datadir="{folder}" logdir="{folder}" runtimedir="{folder}">
<pid file="{folder}/inspircd.pid">
<server name="{name}" description="A server of the lab" network="LinkedLab" id="{id}">
<admin name="Lab" nick="lab" email="lab@lab.test">
{modules}
<bind address="127.0.0.1" port="{port}" type="clients">
<bind address="127.0.0.1" port="{link_port}" type="servers">
<connect name="lab" allow="*" timeout="60" pingfreq="600" hardsendq="64M" softsendq="32M" recvq="64K"
         localmax="5000" globalmax="5000" maxchans="100" fakelag="no" threshold="100000" commandrate="100000"
         resolvehostnames="no" useident="no" maxconnwarn="no">
<class name="all" commands="*" usermodes="*" chanmodes="*" privs="*" snomasks="*">
<type name="NetAdmin" classes="all">
<oper name="{operator}" password="{password}" host="*@*" type="NetAdmin">
<options prefixquit="Quit: " syntaxhints="no" announcets="yes" hostintopic="no" defaultmodes="no">
<security hidewhois="" hidesplits="no" hidebans="no" maxtargets="20" customversion="">
<performance clonesonconnect="no" netbuffersize="65536" somaxconn="1024" softlimit="4000">
<limits maxnick="30" maxchan="64" maxmodes="20" maxident="11" maxhost="64" maxquit="255" maxtopic="307"
        maxkick="255" maxreal="128" maxaway="200">
<link name="{other}" ipaddr="127.0.0.1" port="{other_port}" allowmask="127.0.0.1" timeout="30"
      sendpass="{link_password}" recvpass="{link_password}">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="{folder}/inspircd.log">
"""


class Linked:
    """Two servers on 127.0.0.1; `ports` take clients in clear. They start apart: `heal` makes them one network."""

    def __init__(self, folders: tuple[Path, Path], binary: Path, user: str | None) -> None:
        self.ports = free_port(), free_port()
        links = free_port(), free_port()
        self.services: list[Service] = []
        for here, there in ((0, 1), (1, 0)):
            folder, config = folders[here], folders[here] / "inspircd.conf"
            operator, password = OPERATOR
            config.write_text(
                _CONFIG.format(
                    folder=folder,
                    name=NAMES[here],
                    id=f"{here + 1}AA",
                    modules="\n".join(f'<module name="{module}">' for module in _MODULES),
                    port=self.ports[here],
                    link_port=links[here],
                    operator=operator,
                    password=password,
                    other=NAMES[there],
                    other_port=links[there],
                    link_password=_PASSWORD,
                )
            )
            self.services.append(
                Service(
                    name=f"InspIRCd {NAMES[here]}",
                    argv=[binary, "--nofork", "--config", config],
                    ready=answers(self.ports[here]),
                    log=folder / "output.log",
                    user=user,
                    cwd=folder,
                )
            )
        self._operator: LineClient | None = None

    @property
    def operator(self) -> LineClient:
        """An IRC operator's connection to the first server. Raises RuntimeError before `linked` has made it."""
        if self._operator is None:
            raise RuntimeError("the servers have not been started")
        return self._operator

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Both servers, linked, and their operator, while the block lasts. Raises ServerFailed, TimeoutError."""
        async with AsyncExitStack() as stack:
            for service in self.services:
                await service.start()
                stack.push_async_callback(service.stop)
            self._operator = await stack.enter_async_context(line_client(self.ports[0]))
            await self._operator.register("operator")
            await self._operator.send("OPER {} {}".format(*OPERATOR))
            await self._operator.expect(r" 381 ")
            await self.heal()
            yield

    async def part(self) -> None:
        """A netsplit: who is on one server sees all of the other go."""
        await self.operator.send(f"SQUIT {NAMES[1]} :cable cut")
        await self._until_linked(False)

    async def heal(self) -> None:
        """The servers link again; returns once each knows who is on the other."""
        await self.operator.send(f"CONNECT {NAMES[1]}")
        await self._until_linked(True)

    async def _until_linked(self, wanted: bool) -> None:
        """Ask until the first server says so. Raises TimeoutError."""
        while True:
            await self.operator.send("LINKS")  # RPL_LINKS: 364, RPL_ENDOFLINKS: 365
            seen = await self.operator.expect(rf" 364 \S+ {NAMES[1]} | 365 ")
            linked = " 364 " in seen[0]
            if linked:
                await self.operator.expect(r" 365 ")
            if linked is wanted:
                return


@asynccontextmanager
async def linked_inspircds() -> AsyncIterator[Linked]:
    """Two linked InspIRCds as long as the block lasts. Raises ServerUnavailable, ServerFailed."""
    binary, user = find_binary(), unprivileged_user("irc")
    with private_directory("linked-one", user) as one, private_directory("linked-two", user) as two:
        servers = Linked((one, two), binary, user)
        async with servers.running():
            yield servers
