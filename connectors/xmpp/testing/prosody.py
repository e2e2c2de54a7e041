"""A real Prosody: accounts, rooms with an archive and occupant ids, file upload, and a place for a component."""

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
    run,
    unprivileged_user,
)
from connectors.xmpp.testing.certificate import write_certificate

DOMAIN = "xmpp.test"
ROOMS = f"rooms.{DOMAIN}"
COMPONENT = f"matrix.{DOMAIN}"
SECRET = "component-of-the-lab"

_CONFIG = """\
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
plugin_paths = {{ }}
log = {{ info = "{folder}/prosody.log"; }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ }}
s2s_ports = {{ }}
component_ports = {{ {component_port} }}
component_interfaces = {{ "127.0.0.1" }}
http_ports = {{ {http_port} }}
https_ports = {{ {https_port} }}
https_interfaces = {{ "127.0.0.1" }}
https_ssl = {{ certificate = "{certificate}"; key = "{key}"; }}
http_interfaces = {{ "127.0.0.1" }}
http_default_host = "upload.{domain}"
http_external_url = "{files}"
modules_enabled = {{
  "roster"; "saslauth"; "tls"; "disco"; "carbons"; "pep"; "private"; "smacks"; "vcard4"; "vcard_legacy";
  "ping"; "mam"; "time"; "version"; "blocklist"; "bookmarks"; "posix"; "websocket";
}}
modules_disabled = {{ "s2s"; }}
authentication = "internal_hashed"
c2s_require_encryption = true
consider_websocket_secure = true
ssl = {{ certificate = "{certificate}"; key = "{key}"; }}
archive_expires_after = "1d"

VirtualHost "{domain}"
  disco_items = {{ {{ "{rooms}", "Rooms" }}, {{ "upload.{domain}", "Files" }} }}

Component "{rooms}" "muc"
  name = "Rooms"
  modules_enabled = {{ "muc_mam" }}
  muc_log_by_default = true
  muc_log_expires_after = "1d"
  restrict_room_creation = false
  muc_room_locking = false
  muc_room_default_public = true
  muc_room_default_persistent = true
  muc_tombstones = false

Component "upload.{domain}" "http_file_share"
  http_file_share_size_limit = 1048576
  http_file_share_access = {{ "{domain}", "{component}" }}
  http_external_url = "{files}"

Component "{component}"
  component_secret = "{secret}"
"""


def find_binary() -> Path:
    """The prosody program. Raises ServerUnavailable where there is none."""
    found = find_program("prosody")
    if found is None:
        raise ServerUnavailable("Prosody is not installed: run `make servers`, or apt-get install prosody.")
    return found


class Prosody:
    """An XMPP server on 127.0.0.1 with STARTTLS. Stopping and starting it keeps ports, accounts and archives."""

    def __init__(self, folder: Path, binary: Path, user: str | None, *, tls_files: bool = False) -> None:
        self.port, self.component_port = free_port(), free_port()
        self.http_port, https_port = free_port(), free_port()
        files = f"https://127.0.0.1:{https_port}/" if tls_files else f"http://127.0.0.1:{self.http_port}/"
        self.certificate, key = write_certificate(folder, DOMAIN, ROOMS)
        self.config = folder / "prosody.cfg.lua"
        self.log = folder / "prosody.log"
        self._folder = folder
        self._user = user
        self.config.write_text(
            _CONFIG.format(
                folder=folder,
                port=self.port,
                component_port=self.component_port,
                http_port=self.http_port,
                https_port=https_port,
                files=files,
                domain=DOMAIN,
                rooms=ROOMS,
                component=COMPONENT,
                certificate=self.certificate,
                key=key,
                secret=SECRET,
            )
        )
        data = folder / "data"
        data.mkdir()
        for path in (data, self.config, self.certificate, key):
            give(path, user)
        self.service = Service(
            name="prosody",
            argv=[binary, "--config", self.config, "-F"],
            ready=answers(self.port),
            log=folder / "prosody.out",
            user=user,
            cwd=folder,
        )
        self._control = find_program("prosodyctl")
        self._registered: set[str] = set()

    @property
    def websocket(self) -> str:
        """Where web clients connect (RFC 7395), without TLS."""
        return f"ws://127.0.0.1:{self.http_port}/xmpp-websocket"

    async def start(self) -> None:
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    def kill(self) -> None:
        """End the server at once: every client loses its connection without a word."""
        self.service.kill()

    async def register(self, name: str, password: str = "") -> tuple[str, str]:
        """An account called `name`, made if there is none; its JID and password."""
        password = password or f"{name}-of-the-lab"
        if name not in self._registered:
            if self._control is None:
                raise ServerUnavailable("prosodyctl is not installed.")
            argv: list[str | Path] = [
                self._control,
                "--config",
                self.config,
                "register",
                name,
                DOMAIN,
                password,
            ]
            await run(argv, log=self._folder / "prosodyctl.out", user=self._user)
            self._registered.add(name)
        return f"{name}@{DOMAIN}", password


@asynccontextmanager
async def prosody(*, tls_files: bool = False) -> AsyncIterator[Prosody]:
    """A Prosody that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed.

    `tls_files`: its files lie at https addresses, with a certificate that nobody else believes.
    """
    binary = find_binary()
    user = unprivileged_user("prosody")
    with private_directory("prosody", user) as folder:
        server = Prosody(folder, binary, user, tls_files=tls_files)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
