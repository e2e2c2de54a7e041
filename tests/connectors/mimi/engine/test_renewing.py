"""A certificate that is renewed while the provider runs is the one that others see next."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from connectors.mimi.certificates import Authority
from connectors.mimi.config import MimiConfig
from connectors.mimi.service import renewing
from tests.connectors.mimi.engine.pair import Pair, Side


async def shown(asked: Side, by: Side) -> bytes:
    """The certificate that one provider shows to another that connects now."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1",
        asked.config.port,
        ssl=by.config.credentials.client(),
        server_hostname=asked.config.domain,
    )
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    assert isinstance(found, bytes)
    return found


def in_file(side: Side) -> bytes:
    return ssl.PEM_cert_to_DER_cert(side.config.certificate.read_text())


async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(renewing, "EVERY", 0.05)
    pair = Pair(tmp_path)
    async with pair.up():
        first = in_file(pair.a)
        assert await shown(pair.a, pair.b) == first
        with capture_logs() as logs:
            pair.authority.issue("a.example")
            async with asyncio.timeout(30):
                while await shown(pair.a, pair.b) == first:  # noqa: ASYNC110 - a handshake is all that tells
                    await asyncio.sleep(0.05)
        assert await shown(pair.a, pair.b) == in_file(pair.a) != first
        assert "certificate_renewed" in [entry["event"] for entry in logs]
        await pair.a.says("ann", "still here")
        await pair.b.reads("still here")


async def test_a_certificate_without_its_key_changes_nothing_until_the_key_is_there(tmp_path: Path):
    authority = Authority(tmp_path, now=datetime.datetime.now(datetime.UTC))
    files = authority.issue("a.example")
    context = files.client()
    with capture_logs() as logs:
        keeper = renewing.Renewing(files, [context], structlog.get_logger())
        old_key = files.key.read_bytes()
        authority.issue("a.example")
        new_key = files.key.read_bytes()
        files.key.write_bytes(old_key)
        keeper.look()
        keeper.look()
        files.key.unlink()
        keeper.look()
        files.key.write_bytes(new_key)
        keeper.look()
        keeper.look()
    assert [entry["event"] for entry in logs] == [
        "certificate_not_renewed",
        "certificate_not_renewed",
        "certificate_renewed",
    ]
    assert logs[0]["reason"] == "key values mismatch"


def test_a_certificate_that_is_no_use_is_told_with_the_config(tmp_path: Path):
    config = Pair(tmp_path).a.config
    config.key.unlink()
    with pytest.raises(ValueError, match="the certificate files are no use: no such file or directory"):
        MimiConfig.model_validate(config.model_dump())
