"""A real Synapse on SQLite: every rate limit raised, application services accepted, restartable in place."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bridgekit.testing.servers.process import (
    ServerUnavailable,
    Service,
    free_port,
    private_directory,
)

PYTHON_VARIABLE = "BRIDGEKIT_SYNAPSE_PYTHON"
_PLENTY = {"per_second": 100_000, "burst_count": 100_000}


@dataclass(frozen=True, kw_only=True)
class Account:
    """A logged-in user of the homeserver."""

    user_id: str
    password: str
    access_token: str
    device_id: str


class HomeserverRefused(Exception):
    """The homeserver answered a request of the test's own with an error; the message holds status and errcode."""


def find_python() -> Path:
    """The Python that has Synapse: $BRIDGEKIT_SYNAPSE_PYTHON, else .venv-synapse beside our own or in this folder.

    Raises ServerUnavailable where there is none.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    folders = [Path(sys.prefix).parent / ".venv-synapse", Path.cwd() / ".venv-synapse"]
    candidates = [Path(named)] if named else [folder / "bin" / "python" for folder in folders]
    for python in candidates:
        if python.exists():
            return python
    raise ServerUnavailable(f"Synapse is not installed: run `make synapse`, or set {PYTHON_VARIABLE}.")


class Synapse:
    """A homeserver in a folder of its own. Stopping and starting it keeps port, data and users.

    `more` are settings of homeserver.yaml that differ from what every test needs.
    """

    def __init__(
        self,
        folder: Path,
        python: Path,
        server_name: str,
        registrations: Iterable[Path],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._more = dict(more or {})
        self.folder = folder
        self.server_name = server_name
        self.port = free_port()
        self.registrations = list(registrations)
        self.log = folder / "synapse.log"
        self._registration_secret = secrets.token_hex(16)
        self._macaroon_secret = secrets.token_hex(16)
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (folder / "signing.key").write_text(f"ed25519 a_{secrets.token_hex(2)} {seed}\n")
        (folder / "log.yaml").write_text(json.dumps(_log_config(self.log), indent=2))
        self.service = Service(
            name="Synapse",
            argv=[python, "-m", "synapse.app.homeserver", "-c", folder / "homeserver.yaml"],
            ready=self._healthy,
            log=folder / "output.log",
            seconds=90,
            cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        )

    @property
    def base_url(self) -> str:
        """The client-server API's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start and return once GET /health answers 200 (4 s the first time, 1 to 2 s later). Raises ServerFailed."""
        # JSON is YAML.
        (self.folder / "homeserver.yaml").write_text(json.dumps(self._config(), indent=2))
        await self.service.start()

    async def stop(self) -> None:
        """End the process; the data stays."""
        await self.service.stop()

    def kill(self) -> None:
        """End the process at once, as a crash would: what it holds in memory is lost."""
        self.service.kill()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def _registered(self) -> list[str]:
        """The registration files, copied as they are now: the folder of a bridge that has gone is gone as well."""
        copies = []
        for number, registration in enumerate(self.registrations):
            copy = self.folder / f"registration-{number}.yaml"
            if registration.exists():
                shutil.copyfile(registration, copy)
            copies.append(str(copy))
        return copies

    async def add_appservice(self, registration: Path) -> None:
        """Make the homeserver know one more registration file; it restarts for that (about 2 s)."""
        if registration not in self.registrations:
            self.registrations.append(registration)
            if self.service.running:
                await self.restart()

    async def register(self, localpart: str, password: str | None = None, *, admin: bool = False) -> Account:
        """Make a user and log in. Raises HomeserverRefused (M_USER_IN_USE, ...)."""
        chosen = password or secrets.token_hex(12)
        path = "/_synapse/admin/v1/register"
        nonce = (await self.request("GET", path))["nonce"]
        # Synapse, "Shared-Secret Registration": the fields joined by NUL, signed with HMAC-SHA1.
        signed = "\0".join([nonce, localpart, chosen, "admin" if admin else "notadmin"]).encode()
        mac = hmac.new(self._registration_secret.encode(), signed, hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": localpart, "password": chosen, "admin": admin, "mac": mac}
        return _account(await self.request("POST", path, body), chosen)

    async def login(self, localpart: str, password: str, *, device_id: str | None = None) -> Account:
        """Log an existing user in, on a new device unless `device_id` names one. Raises HomeserverRefused."""
        body: dict[str, Any] = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": localpart},
            "password": password,
        }
        if device_id is not None:
            body["device_id"] = device_id
        return _account(await self.request("POST", "/_matrix/client/v3/login", body), password)

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str | None = None
    ) -> Any:
        """One call of the homeserver's HTTP API (`path` quoted already), its JSON answer. Raises HomeserverRefused."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(self.base_url, timeout=aiohttp.ClientTimeout(60)) as session,
            session.request(method, path, json=body, headers=headers) as response,
        ):
            answer = await response.json(content_type=None)
            if response.status >= 400:
                raise HomeserverRefused(f"{method} {path.partition('?')[0]}: {response.status} {answer}")
            return answer

    async def _healthy(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.base_url}/health") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def _config(self) -> dict[str, Any]:
        return {
            "server_name": self.server_name,
            "public_baseurl": f"{self.base_url}/",
            "pid_file": str(self.folder / "synapse.pid"),
            "log_config": str(self.folder / "log.yaml"),
            "listeners": [
                {
                    "port": self.port,
                    "bind_addresses": ["127.0.0.1"],
                    "type": "http",
                    "tls": False,
                    "resources": [{"names": ["client"], "compress": False}],
                }
            ],
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "homeserver.db")}},
            "media_store_path": str(self.folder / "media"),
            "signing_key_path": str(self.folder / "signing.key"),
            "registration_shared_secret": self._registration_secret,
            "macaroon_secret_key": self._macaroon_secret,
            "app_service_config_files": self._registered(),
            "trusted_key_servers": [],
            "report_stats": False,
            "enable_registration": False,
            "url_preview_enabled": False,
            "max_upload_size": "50M",
            "bcrypt_rounds": 4,
            "experimental_features": {
                "msc2409_to_device_messages_enabled": True,
                "msc3202_transaction_extensions": True,
            },
            **_raised_limits(),
            **self._more,
        }


def _raised_limits() -> dict[str, Any]:
    flat = (
        "rc_message rc_registration rc_admin_redaction rc_joins_per_room rc_key_requests rc_room_creation "
        "rc_delayed_event_mgmt rc_profile rc_media_create rc_user_directory rc_reports rc_third_party_invite "
        "rc_registration_token_validity rc_3pid_validation"
    ).split()
    nested = {
        "rc_login": ["address", "account", "failed_attempts"],
        "rc_joins": ["local", "remote"],
        "rc_invites": ["per_room", "per_user", "per_issuer"],
        "rc_presence": ["per_user"],
    }
    return {
        **dict.fromkeys(flat, _PLENTY),
        **{name: dict.fromkeys(parts, _PLENTY) for name, parts in nested.items()},
    }


def _log_config(log: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "formatter": "line", "filename": str(log)}},
        "root": {"level": "WARNING", "handlers": ["file"]},
        # What it tells the bridge, and why it stopped telling it.
        "loggers": {"synapse.appservice": {"level": "INFO"}},
        "disable_existing_loggers": False,
    }


def _account(answer: Mapping[str, Any], password: str) -> Account:
    return Account(
        user_id=answer["user_id"],
        password=password,
        access_token=answer["access_token"],
        device_id=answer["device_id"],
    )


@asynccontextmanager
async def synapse(
    *, server_name: str = "hs.test", registrations: Iterable[Path] = ()
) -> AsyncIterator[Synapse]:
    """A Synapse that runs as long as the block lasts. Raises ServerUnavailable, ServerFailed."""
    python = find_python()
    with private_directory("synapse") as folder:
        server = Synapse(folder, python, server_name, registrations)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
