"""Encrypted files over a stream: AES-256-CTR and the hash of the whole on Matrix (specification, "encrypted
attachments"), AES-256-GCM where a network keeps them (`contract.filekeys`)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM

from bridgekit.contract import filekeys
from bridgekit.contract.errors import MatrixRefused
from bridgekit.matrix.crypto.signing import from_base64, unpadded

KEY_BYTES = 32
VERSION = "v2"


class Key(msgspec.Struct, frozen=True):
    """A JSON Web Key."""

    k: str
    alg: str = ""
    kty: str = ""


class FileKey(msgspec.Struct, frozen=True):
    """What `file` of a message says beside its `url`."""

    key: Key
    iv: str
    hashes: dict[str, str] = {}
    v: str = ""


_file_key = msgspec.json.Decoder(FileKey).decode


class Sealing:
    """One file that is being encrypted, under a key of its own."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(KEY_BYTES)
        # The counter starts at zero: its 64 bits never reach those that are random.
        self._iv = secrets.token_bytes(8) + bytes(8)
        self._hash = hashlib.sha256()

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes, encrypted, as they come; their number does not change."""
        encryptor = Cipher(AES(self._key), CTR(self._iv)).encryptor()
        async for chunk in chunks:
            sealed = encryptor.update(chunk)
            self._hash.update(sealed)
            yield sealed

    def key(self) -> bytes:
        """`file` of the message, without `url`, as JSON: known when all bytes have gone through."""
        k = base64.urlsafe_b64encode(self._key).decode().rstrip("=")
        return msgspec.json.encode(
            {
                "v": VERSION,
                "key": {
                    "kty": "oct",
                    "key_ops": ["encrypt", "decrypt"],
                    "alg": "A256CTR",
                    "k": k,
                    "ext": True,
                },
                "iv": unpadded(self._iv),
                "hashes": {"sha256": unpadded(self._hash.digest())},
            }
        )


def opening(chunks: AsyncIterator[bytes], key: bytes) -> AsyncIterator[bytes]:
    """The bytes in clear, as they come; `key` is `file` of the message as JSON, or what `contract.filekeys` writes.

    Raises MatrixRefused: at once where the key is none, and after the last byte where hash or tag says that the file
    is not what was sent. So whoever passes it on must not call it done before the end.
    """
    try:
        found = _file_key(key)
        secret = base64.urlsafe_b64decode(found.key.k + "=" * (-len(found.key.k) % 4))
        iv = from_base64(found.iv)
        is_gcm = found.key.alg == filekeys.GCM
        wanted = b"" if is_gcm else from_base64(found.hashes["sha256"])
    except (msgspec.MsgspecError, ValueError, KeyError):
        raise MatrixRefused("The encrypted file came without a usable key.") from None
    if is_gcm and len(secret) == KEY_BYTES and 8 <= len(iv) <= 64:
        return _opened_with_tag(chunks, secret, iv)
    if len(secret) != KEY_BYTES or len(iv) != 16 or found.key.alg != "A256CTR":
        raise MatrixRefused("The file is encrypted in a way that the bridge does not know.")
    return _opened(chunks, Cipher(AES(secret), CTR(iv)).decryptor(), wanted)


async def _opened(
    chunks: AsyncIterator[bytes], decryptor: CipherContext, wanted: bytes
) -> AsyncIterator[bytes]:
    whole = hashlib.sha256()
    async for chunk in chunks:
        whole.update(chunk)
        yield decryptor.update(chunk)
    if not hmac.compare_digest(whole.digest(), wanted):
        raise MatrixRefused("The encrypted file was changed on its way, or is not whole.")


async def _opened_with_tag(chunks: AsyncIterator[bytes], secret: bytes, iv: bytes) -> AsyncIterator[bytes]:
    decryptor = Cipher(AES(secret), GCM(iv)).decryptor()
    held = b""  # the last bytes are no part of the file
    async for chunk in chunks:
        held += chunk
        if len(held) > filekeys.TAG_BYTES:
            yield decryptor.update(held[: -filekeys.TAG_BYTES])
            held = held[-filekeys.TAG_BYTES :]
    try:
        decryptor.finalize_with_tag(held)
    except (InvalidTag, ValueError):
        raise MatrixRefused("The encrypted file was changed on its way, or is not whole.") from None
