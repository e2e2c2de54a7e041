"""`bridgekit api` and `dashboard`, and how commands reach the running bridge: its admin listener, shown its token."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp

from bridgekit.admin.callers import PREFIX, PURPOSE
from bridgekit.config import Config, load
from bridgekit.contract.errors import ConfigError
from bridgekit.store import SealingKey

SECONDS = 30


def address(config: Config) -> str:
    """Where the admin listener is, seen from this machine; without a slash at the end."""
    host = config.admin.listen.host
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{config.admin.listen.port}"


def token(config: Config) -> str:
    """What the admin listener wants to be shown. Raises ConfigError where the bridge's key is not there."""
    file = config.store.key_file
    key = SealingKey.load(file)
    if key is None:
        raise ConfigError([("store.key_file", f"{file} is not there: it is the key of the bridge that runs")])
    return key.derive(PURPOSE).hex()


def ask(path: Path, what: str, method: str = "GET", body: str = "") -> int:
    """Print what the running bridge answers to a call (`rooms`, `/api/v1/rooms`); 0 where it does it."""
    config = load(path)
    what = f"{PREFIX}/{what.strip('/').removeprefix(PREFIX.strip('/')).lstrip('/')}"
    return asyncio.run(_ask(address(config) + what, token(config), method, body))


def dashboard(path: Path) -> int:
    """Print the address of the dashboard, with the token behind the `#`, which browsers tell no server."""
    config = load(path)
    print(f"{address(config)}/#{token(config)}")
    return 0


async def _ask(url: str, token: str, method: str = "GET", body: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(SECONDS)
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
            http.request(method, url, data=body or None) as answer,
        ):
            print((await answer.text()).rstrip("\n"))
            return 0 if answer.ok else 1
    except TimeoutError:
        print(
            f"The bridge has not answered at {url} for {SECONDS} seconds, and may still do what it was asked: it waits "
            "for the homeserver or a network. `bridgekit check` says what is wrong.",
            file=sys.stderr,
        )
        return 1
    except aiohttp.ClientError:
        print(f"The bridge does not answer at {url}. It has to run.", file=sys.stderr)
        return 1
