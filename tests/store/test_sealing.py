"""What is sealed cannot be read without the key, nor moved, nor changed; and the key is guarded."""

import base64
import os
from pathlib import Path

import pytest

from bridgekit.contract.errors import ConfigError
from bridgekit.store import SealBroken, SealingKey, Store, WrongKey
from bridgekit.store.canary import check_key
from bridgekit.store.migrate import migrate, migrations, version_of
from bridgekit.store.urls import connect
from tests.store.samples import SECRET, everything


def test_a_value_opens_only_with_its_key_and_in_its_place():
    key = SealingKey.generate()
    sealed = key.seal(b"secret", "kv.value", "a", "bc")
    assert key.open(sealed, "kv.value", "a", "bc") == b"secret"
    assert key.seal(b"secret", "kv.value", "a", "bc") != sealed
    wrong = [
        (SealingKey.generate(), sealed, ("kv.value", "a", "bc")),
        (key, sealed, ("kv.value", "ab", "c")),
        (key, sealed, ("kv.value", "a", "bd")),
        (key, sealed, ("logins.fields", "a", "bc")),
        (key, sealed[:-1] + bytes([sealed[-1] ^ 1]), ("kv.value", "a", "bc")),
        (key, b"\x02" + sealed[1:], ("kv.value", "a", "bc")),
        (key, sealed[:8], ("kv.value", "a", "bc")),
        (key, b"", ("kv.value", "a", "bc")),
    ]
    for other, value, place in wrong:
        with pytest.raises(SealBroken):
            other.open(value, *place)


def test_a_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path):
    path = tmp_path / "bridge.key"
    sealed = SealingKey.load_or_create(path, environ={}).seal(b"x", "kind")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(path.read_text())) == 32
    assert SealingKey.load_or_create(path, environ={}).open(sealed, "kind") == b"x"
    assert [file.name for file in tmp_path.iterdir()] == ["bridge.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int):
    path = tmp_path / "bridge.key"
    SealingKey.load_or_create(path, environ={})
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 600"):
        SealingKey.load_or_create(path, environ={})


@pytest.mark.parametrize("content", [b"", b"not base64!", base64.b64encode(b"short"), b"\xff" * 44])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "bridge.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="32 bytes in base64"):
        SealingKey.load_or_create(path, environ={})


def test_a_key_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be used"):
        SealingKey.load_or_create(tmp_path / "nowhere" / "bridge.key", environ={})


def test_the_environment_comes_before_the_file(tmp_path: Path):
    secret = base64.b64encode(os.urandom(32)).decode()
    first = SealingKey.load_or_create(tmp_path / "none", environ={"BRIDGEKIT_KEY": secret})
    second = SealingKey.load_or_create(tmp_path / "none", environ={"BRIDGEKIT_KEY": secret})
    assert second.open(first.seal(b"x", "kind"), "kind") == b"x"
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match="BRIDGEKIT_KEY"):
        SealingKey.load_or_create(tmp_path / "none", environ={"BRIDGEKIT_KEY": "short"})


def test_a_key_does_not_show_itself():
    assert repr(SealingKey.generate()) == "SealingKey(...)"


async def test_the_wrong_key_is_refused_at_open(url: str, key: SealingKey):
    await (await Store.open(url, key)).close()
    with pytest.raises(WrongKey, match="sealed with another key"):
        await Store.open(url, SealingKey.generate())
    await (await Store.open(url, key)).close()


async def test_a_database_of_an_older_version_is_not_migrated_with_the_wrong_key(
    url: str, key: SealingKey, monkeypatch: pytest.MonkeyPatch
):
    every = migrations()
    with monkeypatch.context() as older:
        older.setattr("bridgekit.store.migrate.migrations", lambda: every[:1])
        driver = await connect(url)
        await migrate(driver)
        await check_key(driver, key)
        await driver.close()
    with pytest.raises(WrongKey):
        await Store.open(url, SealingKey.generate())
    driver = await connect(url)
    assert await version_of(driver) == 1
    await driver.close()
    await (await Store.open(url, key)).close()


async def test_no_secret_lies_in_the_files_in_clear(tmp_path: Path, key: SealingKey):
    store = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", key)
    await store.commit(*everything(store))
    while_open = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    await store.close()
    closed = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for content in (while_open, closed):
        assert b"@bob:example.org" in content
        assert SECRET.encode() not in content
    assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o600


async def test_no_secret_lies_in_a_postgresql_table_in_clear(postgres, key: SealingKey):
    import asyncpg

    url = await postgres.create_database()
    store = await Store.open(url, key)
    await store.commit(*everything(store))
    connection = await asyncpg.connect(url)
    try:
        for table in ("inbox", "logins", "kv"):
            rows = await connection.fetch(f"SELECT * FROM {table}")
            assert rows
            assert SECRET.encode() not in b"".join(
                value for row in rows for value in row.values() if isinstance(value, bytes)
            )
            assert SECRET not in str(rows)
    finally:
        await connection.close()
    await store.close()


def test_a_derived_key_is_the_same_at_every_start_and_another_for_each_purpose():
    secret = os.urandom(32)
    first, again = SealingKey(secret), SealingKey(secret)
    assert first.derive("media") == again.derive("media")
    assert (
        len({first.derive("media"), first.derive("other"), SealingKey.generate().derive("media"), secret})
        == 4
    )
    assert len(first.derive("media")) == 32
