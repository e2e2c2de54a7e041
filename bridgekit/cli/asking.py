"""`bridgekit api`, and how any command reaches the running bridge: its admin listener, with the key's token."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp

from bridgekit.admin.callers import PURPOSE
from bridgekit.config import Config, load
from bridgekit.store import SealingKey

SECONDS = 30


def address(config: Config) -> str:
    """Where the admin listener is, seen from this machine; without a slash at the end."""
    host = config.admin.listen.host
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{config.admin.listen.port}"


def token(config: Config) -> str:
    """What the admin listener wants to be shown."""
    return SealingKey.load_or_create(config.store.key_file).derive(PURPOSE).hex()


def ask(path: Path, what: str) -> int:
    """Print what the running bridge answers to GET `what`; 0 where that is 200."""
    config = load(path)
    return asyncio.run(_ask(f"{address(config)}/{what.lstrip('/')}", token(config)))


async def _ask(url: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(SECONDS)
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http, http.get(url) as answer:
            print((await answer.text()).rstrip("\n"))
            return 0 if answer.status == 200 else 1
    except (aiohttp.ClientError, TimeoutError):
        print(f"The bridge does not answer at {url}. It has to run.", file=sys.stderr)
        return 1
