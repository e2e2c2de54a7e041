"""Real Atheme services (NickServ, ChanServ, SaslServ), linked to an InspIRCd of the lab."""

from pathlib import Path

from bridgekit.testing.servers.process import (
    ServerUnavailable,
    Service,
    find_program,
    give,
    log_says,
)

SERVICES_NAME = "services.test"

_MODULES = """
    backend/opensex crypto/pbkdf2v2 protocol/inspircd
    nickserv/main nickserv/cert nickserv/drop nickserv/ghost nickserv/group nickserv/help nickserv/identify
    nickserv/info nickserv/logout nickserv/regain nickserv/register nickserv/release nickserv/set_core
    nickserv/enforce nickserv/set_password nickserv/status
    chanserv/main chanserv/access chanserv/ban chanserv/flags chanserv/invite chanserv/kick chanserv/op
    chanserv/register chanserv/voice
    saslserv/main saslserv/external saslserv/plain
""".split()

_CONFIG = """\
{modules}
serverinfo {{
    name = "{name}"; desc = "Services of the lab"; numeric = "00A"; recontime = 1; netname = "ModernLab";
    hidehostsuffix = "users.inspircd.test"; adminname = "Lab"; adminemail = "lab@inspircd.test";
    registeremail = "lab@inspircd.test"; mta = "/bin/true"; loglevel = {{ error; info; network; }};
    maxlogins = 100; maxusers = 0; mdlimit = 30; emaillimit = 1000; emailtime = 300; auth = none;
    casemapping = rfc1459;
}};
uplink "{uplink}" {{ host = "127.0.0.1"; password = "{password}"; port = {port}; }};
nickserv {{ spam; nick = "NickServ"; user = "NickServ"; host = "{name}"; real = "Nickname Services"; maxnicks = 5;
    expire = 0; }};
chanserv {{ nick = "ChanServ"; user = "ChanServ"; host = "{name}"; real = "Channel Services"; maxchans = 100;
    expire = 0; }};
saslserv {{ nick = "SaslServ"; user = "SaslServ"; host = "{name}"; real = "SASL Authentication Agent"; }};
general {{ flood_msgs = 0; ratelimit_uses = 100000; ratelimit_period = 1; commit_interval = 1; }};
"""


def find_binary() -> Path:
    """The Atheme program. Raises ServerUnavailable where there is none."""
    found = find_program("atheme-services")
    if found is None:
        raise ServerUnavailable(
            "Atheme is not installed: run `make servers`, or apt-get install atheme-services."
        )
    return found


class Atheme:
    """Services without a port of their own: they link to a server and are spoken to through it."""

    def __init__(
        self, folder: Path, binary: Path, user: str | None, *, link_port: int, password: str, uplink: str
    ) -> None:
        folder.mkdir()
        give(folder, user)
        config = folder / "atheme.conf"
        config.write_text(
            _CONFIG.format(
                modules="\n".join(f'loadmodule "modules/{module}";' for module in _MODULES),
                name=SERVICES_NAME,
                uplink=uplink,
                password=password,
                port=link_port,
            )
        )
        self._log = folder / "atheme.log"
        self.service = Service(
            name="Atheme",
            argv=[binary, "-n", "-c", config, "-l", self._log, "-p", folder / "atheme.pid", "-D", folder],
            ready=log_says(self._log, "finished synching"),
            log=folder / "output.log",
            user=user,
            cwd=folder,
        )

    async def start(self) -> None:
        """Start and return once the server knows all the services. Raises ServerFailed."""
        self._log.unlink(missing_ok=True)  # what an earlier run said of its link says nothing of this one's
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    def kill(self) -> None:
        self.service.kill()
