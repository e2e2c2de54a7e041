"""Encrypted files, against matrix-nio's own reading of the specification."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nio.crypto.attachments import decrypt_attachment, encrypt_attachment

from bridgekit.contract.errors import MatrixRefused
from bridgekit.matrix.crypto.attachments import Sealing, opening

PIECES = st.lists(st.binary(max_size=200), max_size=6)


async def stream(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


@given(PIECES)
async def test_what_is_sealed_is_read_by_others(pieces: list[bytes]) -> None:
    sealing = Sealing()
    sealed = await whole(sealing.through(stream(pieces)))
    key: dict[str, Any] = msgspec.json.decode(sealing.key())
    clear = decrypt_attachment(sealed, key["key"]["k"], key["hashes"]["sha256"], key["iv"])
    assert clear == b"".join(pieces)
    assert len(sealed) == len(clear)


@given(PIECES)
async def test_what_others_seal_is_read(pieces: list[bytes]) -> None:
    sealed, key = encrypt_attachment(b"".join(pieces))
    file = msgspec.json.encode({**key, "url": "mxc://hs.test/a"})
    cut = [sealed[:7], sealed[7:]]
    assert await whole(opening(stream(cut), file)) == b"".join(pieces)


async def test_a_file_that_was_changed_is_no_file() -> None:
    sealing = Sealing()
    sealed = bytearray(await whole(sealing.through(stream([b"hello"]))))
    sealed[0] ^= 1
    with pytest.raises(MatrixRefused, match="changed on its way"):
        await whole(opening(stream([bytes(sealed)]), sealing.key()))
    with pytest.raises(MatrixRefused, match="changed on its way"):
        await whole(opening(stream([]), sealing.key()))


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"[]",
        b'{"key":{"k":"AA","alg":"A256CTR"},"iv":"AAAAAAAAAAAAAAAAAAAAAA","hashes":{"sha256":"AA"}}',
        b'{"key":{"k":"","alg":"A128CBC"},"iv":"","hashes":{"sha256":""}}',
        b'{"key":{"k":"AA","alg":"A256CTR"},"iv":"AA","hashes":{}}',
        b'{"key":{"k":"\xc3\xa9","alg":"A256CTR"},"iv":"?","hashes":{"sha256":"?"}}',
    ],
)
def test_a_key_that_is_none_is_refused_before_a_byte_is_read(key: bytes) -> None:
    with pytest.raises(MatrixRefused):
        opening(stream([b"x"]), key)


def test_no_two_files_have_a_key_in_common() -> None:
    assert Sealing().key() != Sealing().key()
