"""A real ejabberd: rooms with an archive and stanza-ids but without occupant ids, and a place for a component."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bridgekit.testing.servers.process import (
    ServerFailed,
    ServerUnavailable,
    Service,
    answers,
    find_program,
    free_port,
    give,
    private_directory,
    unprivileged_user,
)
from connectors.xmpp.testing.certificate import write_certificate
from connectors.xmpp.testing.prosody import COMPONENT, DOMAIN, ROOMS, SECRET

_CONFIG = """\
loglevel: warning
hosts: ["{domain}"]
certfiles: ["{pem}"]
default_db: mnesia
auth_password_format: scram
listen:
  - {{port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, starttls_required: true, max_stanza_size: 524288}}
  - port: {component_port}
    ip: "127.0.0.1"
    module: ejabberd_service
    access: all
    max_stanza_size: 524288
    hosts: {{"{component}": {{password: "{secret}"}}}}
  - port: {http_port}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {{"/api": mod_http_api, "/up": mod_http_upload}}
acl: {{local: {{user_regexp: ""}}}}
access_rules: {{local: {{allow: local}}, c2s: {{allow: all}}}}
api_permissions: {{"lab": {{from: [mod_http_api], who: all, what: [register]}}}}
modules:
  mod_disco: {{}}
  mod_roster: {{}}
  mod_ping: {{}}
  mod_carboncopy: {{}}
  mod_stream_mgmt: {{}}
  mod_offline: {{}}
  mod_mam: {{default: always}}
  mod_http_upload:
    host: "upload.{domain}"
    docroot: "{data}/upload"
    put_url: "http://127.0.0.1:{http_port}/up"
    access: all
  mod_muc:
    host: "{rooms}"
    access: all
    access_create: all
    min_message_interval: 0
    min_presence_interval: 0
    default_room_options: {{mam: true, persistent: true, public: true, allow_subscription: false}}
"""


def find_binary() -> tuple[Path, Path]:
    """Erlang, and the folder of ejabberd's code. Raises ServerUnavailable where either is missing."""
    erl = find_program("erl")
    code = sorted(Path("/usr/lib").glob("*/ejabberd-*/ebin"))
    if erl is None or not code:
        raise ServerUnavailable("ejabberd is not installed: run `make servers`, or apt-get install ejabberd.")
    return erl, code[-1]


class Ejabberd:
    """An XMPP server on 127.0.0.1 with STARTTLS. Stopping and starting it keeps ports, accounts and archives."""

    def __init__(self, folder: Path, erl: Path, code: Path, user: str | None) -> None:
        self.port, self.component_port, self.http_port = free_port(), free_port(), free_port()
        self.certificate, key = write_certificate(folder, DOMAIN, ROOMS)
        pem, config = folder / "server.pem", folder / "ejabberd.yml"
        pem.write_bytes(self.certificate.read_bytes() + key.read_bytes())
        data = folder / "data"
        data.mkdir()
        config.write_text(
            _CONFIG.format(
                domain=DOMAIN,
                data=data,
                pem=pem,
                port=self.port,
                component_port=self.component_port,
                http_port=self.http_port,
                component=COMPONENT,
                secret=SECRET,
                rooms=ROOMS,
            )
        )
        for path in (data, pem, config):
            give(path, user)
        # Without a node name Erlang starts no daemon of its own (epmd), which would stay behind.
        argv: list[str | Path] = [
            erl,
            "-noinput",
            "-mnesia",
            "dir",
            f'"{data}"',
            "-ejabberd",
            "quiet",
            "false",
            "-s",
            "ejabberd",
        ]
        self.service = Service(
            name="ejabberd",
            argv=argv,
            ready=answers(self.component_port),
            log=folder / "ejabberd.out",
            user=user,
            cwd=folder,
            env={
                **os.environ,
                "HOME": str(folder),
                "ERL_LIBS": str(code.parent.parent),
                "EJABBERD_CONFIG_PATH": str(config),
                "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"),
                "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
            },
        )
        self._registered: set[str] = set()

    async def start(self) -> None:
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    async def register(self, name: str, password: str = "") -> tuple[str, str]:
        """An account called `name`, made if there is none; its JID and password."""
        password = password or f"{name}-of-the-lab"
        if name not in self._registered:
            asked = {"user": name, "host": DOMAIN, "password": password}
            url = f"http://127.0.0.1:{self.http_port}/api/register"
            async with aiohttp.ClientSession() as session, session.post(url, json=asked) as response:
                if response.status not in (200, 409):
                    raise ServerFailed(f"ejabberd did not register {name}: {await response.text()}")
            self._registered.add(name)
        return f"{name}@{DOMAIN}", password


@asynccontextmanager
async def ejabberd() -> AsyncIterator[Ejabberd]:
    """An ejabberd that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed."""
    erl, code = find_binary()
    user = unprivileged_user("ejabberd")
    with private_directory("ejabberd", user) as folder:
        server = Ejabberd(folder, erl, code, user)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
