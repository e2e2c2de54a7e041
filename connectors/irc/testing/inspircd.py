"""A real InspIRCd with Atheme services: IRCv3 tags, echo, labels, TLS, accounts, SASL."""

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
from connectors.irc.testing.atheme import SERVICES_NAME, Atheme
from connectors.irc.testing.atheme import find_binary as find_atheme
from connectors.irc.testing.certificate import write_certificate
from connectors.irc.testing.lines import line_client

WEBIRC_PASSWORD = "webirc-of-the-lab"
OPERATOR = ("operator", "operator-of-the-lab")
_LINK_PASSWORD = "link-of-the-lab"

_MODULES = """
    allowinvite auditorium banexception botmode callerid cap cgiirc chanhistory chghost customprefix cycle deaf
    delayjoin hidechans hideoper inviteexception ircv3 ircv3_accounttag ircv3_batch ircv3_capnotify ircv3_chghost
    ircv3_ctctags ircv3_echomessage ircv3_invitenotify ircv3_labeledresponse ircv3_msgid ircv3_servertime knock monitor
    muteban namesx noctcp operprefix permchannels redirect sajoin sakick samode sanick sapart saquit sasl satopic
    services_account servprotect sethost setname silence spanningtree ssl_gnutls sslinfo sslmodes starttls stripcolor
    svshold uhnames uninvite watch
""".split()

_CONFIG = """\
<path configdir="{folder}" datadir="{folder}" logdir="{folder}" runtimedir="{folder}">
<pid file="{folder}/inspircd.pid">
<server name="inspircd.test" description="A server of the lab" network="ModernLab" id="0AA">
<admin name="Lab" nick="lab" email="lab@inspircd.test">
{modules}
<sslprofile name="lab" provider="gnutls" certfile="{certificate}" keyfile="{key}" hash="sha256"
            requestclientcert="yes">
<bind address="127.0.0.1" port="{port}" type="clients">
<bind address="127.0.0.1" port="{tls_port}" type="clients" sslprofile="lab">
<bind address="127.0.0.1" port="{link_port}" type="servers">
<connect name="lab" allow="*" timeout="60" pingfreq="120" hardsendq="8M" softsendq="2M" recvq="64K"
         localmax="5000" globalmax="5000" maxchans="500" fakelag="{fakelag}" threshold="{threshold}"
         commandrate="{commandrate}" resolvehostnames="no" useident="no" maxconnwarn="no">
<cgihost type="webirc" password="{webirc}" mask="127.0.0.1">
<class name="all" commands="*" usermodes="*" chanmodes="*" privs="*" snomasks="*">
<type name="NetAdmin" classes="all">
<oper name="{operator}" password="{password}" host="*@*" type="NetAdmin">
<customprefix name="founder" letter="q" prefix="~" rank="50000" ranktoset="50000">
<customprefix name="admin" letter="a" prefix="&amp;" rank="40000" ranktoset="50000">
<customprefix name="halfop" letter="h" prefix="%" rank="20000" ranktoset="30000">
<options prefixquit="Quit: " syntaxhints="no" announcets="yes" hostintopic="no" exemptchanops=""
         defaultmodes="not" allowzerolimit="no">
<security hidewhois="" hidesplits="no" hidebans="no" maxtargets="20" customversion="">
<performance clonesonconnect="no" netbuffersize="65536" somaxconn="512">
<limits maxnick="30" maxchan="64" maxmodes="20" maxident="11" maxhost="64" maxquit="255" maxtopic="307"
        maxkick="255" maxreal="128" maxaway="200">
<watch maxwatch="1000"> <monitor maxentries="1000"> <silence maxentries="100"> <callerid maxaccepts="128">
<chanhistory maxlines="100" prefixmsg="no" bots="yes">
<sasl target="{services}">
<uline server="{services}" silent="yes">
<link name="{services}" ipaddr="127.0.0.1" port="{link_port}" allowmask="127.0.0.1" timeout="30"
      sendpass="{link_password}" recvpass="{link_password}">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="{folder}/inspircd.log">
"""


def find_binary() -> Path:
    """The InspIRCd program. Raises ServerUnavailable where there is none."""
    found = find_program("inspircd")
    if found is None:
        raise ServerUnavailable("InspIRCd is not installed: run `make servers`, or apt-get install inspircd.")
    return found


class Inspircd:
    """An IRC server on 127.0.0.1 with services. Stopping and starting keeps ports, accounts and certificate.

    `port` takes clear connections, `tls_port` TLS; `certificate` is the file that a client must trust.
    """

    def __init__(
        self, folder: Path, binary: Path, services: Path, user: str | None, *, flood_protection: bool
    ) -> None:
        self.port, self.tls_port, link_port = free_port(), free_port(), free_port()
        self.certificate, key = write_certificate(folder, "inspircd.test")
        operator, password = OPERATOR
        config = folder / "inspircd.conf"
        config.write_text(
            _CONFIG.format(
                folder=folder,
                modules="\n".join(f'<module name="{module}">' for module in _MODULES),
                certificate=self.certificate,
                key=key,
                port=self.port,
                tls_port=self.tls_port,
                link_port=link_port,
                fakelag="yes" if flood_protection else "no",
                threshold=10 if flood_protection else 100_000,
                commandrate=1000 if flood_protection else 100_000,
                webirc=WEBIRC_PASSWORD,
                operator=operator,
                password=password,
                services=SERVICES_NAME,
                link_password=_LINK_PASSWORD,
            )
        )
        self.service = Service(
            name="InspIRCd",
            argv=[binary, "--nofork", "--config", config],
            ready=answers(self.port),
            log=folder / "output.log",
            user=user,
            cwd=folder,
        )
        self.services = Atheme(
            folder / "services",
            services,
            user,
            link_port=link_port,
            password=_LINK_PASSWORD,
            uplink="inspircd.test",
        )

    async def start(self) -> None:
        """Start both and return once they are linked, so that NickServ is there. Raises ServerFailed."""
        await self.service.start()
        await self.services.start()

    async def stop(self) -> None:
        await self.services.stop()
        await self.service.stop()

    def kill(self) -> None:
        """End both at once: every client loses its connection without a word."""
        self.services.kill()
        self.service.kill()

    async def register_account(self, account: str, password: str) -> None:
        """Register a nick with NickServ, so that SASL and IDENTIFY know it. Raises TimeoutError if refused."""
        async with line_client(self.port) as client:
            await client.register(account)
            await client.send(f"PRIVMSG NickServ :REGISTER {password} {account}@example.org")
            await client.expect(r"NickServ!\S+ NOTICE \S+ :.*is now registered")

    async def add_certificate(self, account: str, password: str, show: tuple[Path, Path]) -> None:
        """Let that client certificate (certificate and key file) log in to the account by SASL EXTERNAL."""
        async with line_client(self.tls_port, trust=self.certificate, show=show) as client:
            await client.register(account)
            await client.send(f"PRIVMSG NickServ :IDENTIFY {account} {password}")
            await client.expect(r"NickServ!\S+ NOTICE \S+ :.*now identified")
            await client.send("PRIVMSG NickServ :CERT ADD")
            await client.expect(r"NickServ!\S+ NOTICE \S+ :Added fingerprint")


@asynccontextmanager
async def inspircd(*, flood_protection: bool = False) -> AsyncIterator[Inspircd]:
    """An InspIRCd with services that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed."""
    binary, services = find_binary(), find_atheme()
    user = unprivileged_user("irc")
    with private_directory("inspircd", user) as folder:
        server = Inspircd(folder, binary, services, user, flood_protection=flood_protection)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
