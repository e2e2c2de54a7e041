"""The canary in the database: a sealed word that tells whether a key is the right one, before it is needed."""

from __future__ import annotations

from bridgekit.contract.errors import ConfigError
from bridgekit.store.driver import Driver, Reader, unusable
from bridgekit.store.sealing import SealBroken, SealingKey

_WORD = b"bridgekit"
_PLACE = ("meta.value", "canary")
_PUT = "INSERT INTO meta (name, value) VALUES ('canary', $1) ON CONFLICT DO NOTHING"
COPYING = "copying"
"""The row of `meta` that stands there while a copy is under way."""


class WrongKey(ConfigError):
    """Another key has sealed what is in the database."""

    def __init__(self) -> None:
        super().__init__(
            [("", "This database was sealed with another key: give the key file that it was made with.")]
        )


async def check_key(driver: Driver, key: SealingKey) -> None:
    """Compare the key with the one that sealed the database; a new one gets this. Raises WrongKey, ConfigError."""
    await look_at_key(driver, key)
    if await _sealed(driver) is None:
        await driver.script([(_PUT, (key.seal(_WORD, *_PLACE),))])


async def look_at_key(driver: Driver, key: SealingKey) -> None:
    """Compare the key with the one that sealed the database, if any has. Raises WrongKey, ConfigError."""
    if await driver.fetch("SELECT 1 FROM meta WHERE name = $1", COPYING):
        raise unusable("A copy into this database broke off half way: delete the database and copy again.")
    await check_sealed_with(driver, key)


async def check_sealed_with(reader: Reader, key: SealingKey) -> None:
    """Raises WrongKey where another key than this has sealed what is in the database."""
    sealed = await _sealed(reader)
    try:
        if sealed is not None and key.open(sealed, *_PLACE) != _WORD:
            raise SealBroken("another canary")
    except SealBroken:
        raise WrongKey from None


async def _sealed(reader: Reader) -> bytes | None:
    found = await reader.fetch("SELECT value FROM meta WHERE name = 'canary'")
    return bytes(found[0][0]) if found else None
