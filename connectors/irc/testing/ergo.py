"""A real Ergo: accounts, history and every message extension of IRCv3 in one server, with names beyond ASCII."""

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
    run,
    unprivileged_user,
)
from connectors.irc.testing.certificate import write_certificate
from connectors.irc.testing.lines import line_client

WEBIRC_PASSWORD = "webirc-of-the-lab"
OPERATOR = ("operator", "operator-of-the-lab")
# bcrypt of these passwords, as `ergochat genpasswd` prints it
_WEBIRC_HASH = "$2a$04$Pvd9F/T6gBQF5h1uo6CbpOxw1Q.iCLZCGRW4Zt6Ufej5BVVVrIjWe"
_OPERATOR_HASH = "$2a$04$4NuhKqv3NqKgGJczm.4Ul.nDvqyj94HLYxlA9eUTgD3W8.Ys6Z3Uu"

_CONFIG = """\
network: {{name: ErgoLab}}
server:
    name: ergo.test
    listeners:
        "127.0.0.1:{port}": {{}}
        "127.0.0.1:{tls_port}": {{tls: {{cert: "{certificate}", key: "{key}"}}}}
    casemapping: {casemapping}
    enforce-utf8: true
    lookup-hostnames: false
    check-ident: false
    coerce-ident: ""
    relaymsg: {{enabled: true, separators: "/", available-to-chanops: true}}
    webirc: [{{password: "{webirc}", hosts: [127.0.0.1]}}]
    max-sendq: 8M
    compatibility: {{force-trailing: true, send-unprefixed-sasl: true}}
    ip-limits: {{count: false, throttle: false}}
    ip-cloaking: {{enabled: false}}
accounts:
    authentication-enabled: true
    registration:
        enabled: true
        allow-before-connect: true
        throttling: {{enabled: false}}
        bcrypt-cost: 4
        verify-timeout: 32h
        email-verification: {{enabled: false}}
    login-throttling: {{enabled: false}}
    advertise-scram: true
    nick-reservation: {{enabled: true, method: strict, force-nick-equals-account: false}}
    multiclient: {{enabled: true, allowed-by-default: false, always-on: disabled, auto-away: opt-out}}
    default-user-modes: +i
channels:
    default-modes: +ntC
    max-channels-per-client: 500
    registration: {{enabled: true}}
oper-classes:
    admin:
        title: Admin
        capabilities: [kill, ban, nofakelag, relaymsg, sajoin, samode, snomasks, accreg, chanreg, history]
opers:
    {operator}: {{class: admin, hidden: true, password: "{password}"}}
logging: [{{method: stderr, type: "* -userinput -useroutput", level: info}}]
debug: {{recover-from-errors: false}}
lock-file: "{folder}/ircd.lock"
datastore: {{path: "{folder}/ircd.db", autoupgrade: false}}
languages: {{enabled: false}}
limits:
    nicklen: 32
    identlen: 20
    realnamelen: 150
    channellen: 64
    awaylen: 390
    kicklen: 390
    topiclen: 390
    monitor-entries: 100
    whowas-entries: 100
    chan-list-modes: 100
    registration-messages: 1024
    multiline: {{max-bytes: 4096, max-lines: 100}}
fakelag: {{enabled: false}}
history:
    enabled: true
    channel-length: 2048
    client-length: 256
    chathistory-maxmessages: 1000
    autoreplay-on-join: 0
    restrictions: {{expire-time: 1w, query-cutoff: none, grace-period: 1h}}
    persistent: {{enabled: false}}
    retention: {{allow-individual-delete: true}}
    tagmsg-storage: {{default: false, whitelist: ["+draft/react", "+draft/unreact"]}}
"""


def find_binary() -> Path:
    """The Ergo program. Raises ServerUnavailable where there is none."""
    found = find_program("ergochat") or find_program("ergo")
    if found is None:
        raise ServerUnavailable("Ergo is not installed: run `make servers`, or apt-get install ergochat.")
    return found


class Ergo:
    """An IRC server on 127.0.0.1. Stopping and starting keeps ports, accounts and certificate, but no history.

    `port` takes clear connections, `tls_port` TLS; `certificate` is the file that a client must trust.
    """

    def __init__(self, folder: Path, binary: Path, user: str | None, *, casemapping: str) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self.certificate, key = write_certificate(folder, "ergo.test")
        operator, _ = OPERATOR
        config = folder / "ircd.yaml"
        config.write_text(
            _CONFIG.format(
                folder=folder,
                port=self.port,
                tls_port=self.tls_port,
                certificate=self.certificate,
                key=key,
                casemapping=casemapping,
                webirc=_WEBIRC_HASH,
                operator=operator,
                password=_OPERATOR_HASH,
            )
        )
        self._database = folder / "ircd.db"
        self._initdb: list[str | Path] = [binary, "initdb", "--conf", config]
        self.service = Service(
            name="Ergo",
            argv=[binary, "run", "--conf", config],
            ready=answers(self.port),
            log=folder / "output.log",
            user=user,
            cwd=folder,
        )

    async def start(self) -> None:
        """Start it, the first time with an empty database. Raises ServerFailed."""
        if not self._database.exists():
            await run(self._initdb, log=self.service.log, user=self.service.user)
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    def kill(self) -> None:
        """End the server at once: every client loses its connection without a word."""
        self.service.kill()

    async def register_account(self, account: str, password: str) -> None:
        """Register a nick with NickServ, so that SASL and IDENTIFY know it. Raises TimeoutError if refused."""
        async with line_client(self.port) as client:
            await client.register(account)
            await client.send(f"PRIVMSG NickServ :REGISTER {password}")
            await client.expect(r"NickServ!\S+ NOTICE \S+ :.*[Aa]ccount created")

    async def add_certificate(self, account: str, password: str, show: tuple[Path, Path]) -> None:
        """Let that client certificate (certificate and key file) log in to the account by SASL EXTERNAL."""
        async with line_client(self.tls_port, trust=self.certificate, show=show) as client:
            await client.register(f"{account}-adds")
            await client.send(f"PRIVMSG NickServ :IDENTIFY {account} {password}")
            await client.expect(r"NickServ!\S+ NOTICE \S+ :.*now logged in")
            await client.send("PRIVMSG NickServ :CERT ADD")
            await client.expect(r"NickServ!\S+ NOTICE \S+ :Certificate fingerprint successfully added")


@asynccontextmanager
async def ergo(*, casemapping: str = "precis") -> AsyncIterator[Ergo]:
    """An Ergo that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed.

    `casemapping` is its word for which names there are: `ascii` is what it ships with, `precis` (RFC 8265) and
    `permissive` take letters of all alphabets.
    """
    binary, user = find_binary(), unprivileged_user("irc")
    with private_directory("ergo", user) as folder:
        server = Ergo(folder, binary, user, casemapping=casemapping)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
