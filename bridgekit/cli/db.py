"""`bridgekit db`: the schema brought up to date, everything copied to another database, a backup."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridgekit import logs
from bridgekit.config import DatabaseUrl, load
from bridgekit.contract.errors import ConfigError
from bridgekit.store import SealingKey
from bridgekit.store import copy as copying
from bridgekit.store import migrate as migrating
from bridgekit.store.urls import connect


def migrate(path: Path) -> int:
    """Run the migrations that the database has not seen."""
    config = load(path)
    logs.setup("error")

    async def work() -> int:
        driver = await connect(config.store.url.get_secret_value())
        try:
            return await migrating.migrate(driver)
        finally:
            await driver.close()

    steps = asyncio.run(work())
    print(f"{config.store.url}: {f'{steps} migrations run' if steps else 'the schema is up to date'}")
    return 0


def copy(path: Path, to: str) -> int:
    """Copy everything into the empty database `to`; the bridge must be stopped."""
    config = load(path)
    logs.setup("error")
    key = SealingKey.load(config.store.key_file)
    if key is None:
        raise ConfigError(
            [("store.key_file", f"{config.store.key_file} is not there: without it nothing opens")]
        )
    copied = asyncio.run(copying.copy(config.store.url.get_secret_value(), to, key))
    for table, rows in copied.items():
        print(f"{rows:>10}  {table}")
    print(f"copied to {DatabaseUrl(to)}; now set store.url to it, and keep the same store.key_file")
    return 0


def backup(path: Path, to: Path) -> int:
    """Write the database, as it is at one moment, to a new file; the bridge may be running."""
    config = load(path)
    logs.setup("error")
    asyncio.run(copying.backup(config.store.url.get_secret_value(), to))
    print(
        f"wrote {to}; keep {config.store.key_file.name} too, but in another place: the one is no use without the other"
    )
    return 0
