"""Sealing of what must not lie on disk in clear: AES-256-GCM under a key that is not in the database."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bridgekit.contract.errors import BridgeError, ConfigError

ENVIRONMENT = "BRIDGEKIT_KEY"
_KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2: 96 bits; random ones are good for 2**32 values under one key
_NONCES = 64
_VERSION = b"\x01"


class SealBroken(BridgeError):
    """A sealed value was changed, moved to another row, or sealed with another key."""


class SealingKey:
    """32 random bytes that open and seal values. Lose it, and what is sealed is lost."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ConfigError([("", f"A sealing key has {_KEY_BYTES} bytes, this one has {len(key)}.")])
        self._key = key
        self._aead = AESGCM(key)
        self._nonces: list[bytes] = []  # random, and not used yet

    def __repr__(self) -> str:
        return "SealingKey(...)"

    @classmethod
    def generate(cls) -> SealingKey:
        """A new random key that is kept nowhere (tests)."""
        return cls(os.urandom(_KEY_BYTES))

    @classmethod
    def load_or_create(cls, path: Path | str, *, environ: Mapping[str, str] = os.environ) -> SealingKey:
        """The key as `load` finds it; a missing file is made, mode 0600. Raises ConfigError as `load` does."""
        key = cls.load(path, environ=environ)
        if key is not None:
            return key
        try:
            return cls(_create(Path(path)))
        except OSError as error:
            raise ConfigError([("", f"The key file {path} cannot be used: {error.strerror}.")]) from error

    @classmethod
    def load(cls, path: Path | str, *, environ: Mapping[str, str] = os.environ) -> SealingKey | None:
        """The key of BRIDGEKIT_KEY (base64) if that is set, else of the file; None where there is no file.

        Raises ConfigError if the file can be read by other users or does not hold 32 bytes in base64.
        """
        if text := environ.get(ENVIRONMENT):
            return cls(_decode(text, f"The environment variable {ENVIRONMENT}"))
        path = Path(path)
        try:
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            with open(descriptor, "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                content = file.read(4096)
        except OSError as error:
            raise ConfigError([("", f"The key file {path} cannot be used: {error.strerror}.")]) from error
        if mode & 0o077:
            raise ConfigError(
                [("", f"Other users can read the key file {path} (mode {mode:04o}). Run: chmod 600 {path}")]
            )
        return cls(_decode(content.decode("ascii", "replace"), f"The key file {path}"))

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one other purpose (RFC 5869, SHA-256): the same at every start, and no way back to the key."""
        return HKDF(hashes.SHA256(), 32, salt=None, info=f"bridgekit {purpose}".encode()).derive(self._key)

    def seal(self, value: bytes, kind: str, *row: str) -> bytes:
        """The value, sealed for one place: `kind` is "table.column", `row` the row's key."""
        nonce = self._nonce()
        return _VERSION + nonce + self._aead.encrypt(nonce, value, _place(kind, row))

    def _nonce(self) -> bytes:
        # Many at once: each call of the kernel lets another thread have the interpreter.
        if not self._nonces:
            block = os.urandom(_NONCE_BYTES * _NONCES)
            self._nonces = [block[at : at + _NONCE_BYTES] for at in range(0, len(block), _NONCE_BYTES)]
        return self._nonces.pop()

    def open(self, sealed: bytes, kind: str, *row: str) -> bytes:
        """What was sealed for that place. Raises SealBroken."""
        if sealed[:1] != _VERSION:
            raise SealBroken(f"The sealed value of {kind} is of an unknown version.")
        try:
            return self._aead.decrypt(
                sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], _place(kind, row)
            )
        except (InvalidTag, ValueError) as error:
            raise SealBroken(
                f"A sealed value of {kind} does not open: it was changed, moved or cut."
            ) from error


def _place(kind: str, row: tuple[str, ...]) -> bytes:
    # Lengths first, so that ("a", "bc") and ("ab", "c") are two places.
    if len(row) == 1:  # the inbox, for every message
        return f"{kind}\0{len(row[0])}:{row[0]}".encode("utf-8", "surrogatepass")
    return "\0".join((kind, *(f"{len(part)}:{part}" for part in row))).encode("utf-8", "surrogatepass")


def _decode(text: str, what: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigError([("", f"{what} does not hold a sealing key ({_KEY_BYTES} bytes in base64).")])
    return key


def _create(path: Path) -> bytes:
    """Write a new key so that a crash leaves the whole file or none, and a key that is there is never replaced."""
    key = os.urandom(_KEY_BYTES)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(base64.b64encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        os.unlink(draft)
    return key
