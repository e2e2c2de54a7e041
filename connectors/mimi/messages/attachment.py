"""Files that lie outside of a message, sealed with AES-128-GCM (draft-ietf-mimi-content 4.5; RFC 5116 5.1).

Bytes pass through piece by piece; nothing here holds a file.
"""

from __future__ import annotations

import hashlib

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.ids import NetworkId
from bridgekit.contract.people import File
from connectors.mimi.messages.parts import SHA256, Disposition, ExternalPart

NONE = 0
AES_128_GCM = 1  # IANA's AEAD numbers
KEY = 16
NONCE = 12
TAG = 16


class Seal(msgspec.Struct, frozen=True, array_like=True):
    """How to open and check a file. It is what `File.key` holds on this side."""

    encryption: int
    key: bytes
    nonce: bytes
    aad: bytes
    hash_algorithm: int
    content_hash: bytes
    hub: str = ""  # by whom it is fetched, "": by ourselves


class Sealing:
    """Seals one file: feed it with `update`, end with `finish`. A key and nonce pair is for one file, ever."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        if len(key) != KEY or len(nonce) != NONCE:
            raise ValueError("AES-128-GCM takes a key of 16 octets and a nonce of 12")
        self._key, self._nonce = key, nonce
        self._cipher = Cipher(AES(key), GCM(nonce)).encryptor()
        self._hash = hashlib.sha256()
        self._size = 0

    def update(self, chunk: bytes) -> bytes:
        """The next octets of what is to be uploaded."""
        return self._count(self._cipher.update(chunk))

    def finish(self) -> bytes:
        """The last octets of what is to be uploaded."""
        return self._count(self._cipher.finalize() + self._cipher.tag)

    def part(self, file: File, url: str, *, description: str = "") -> ExternalPart:
        """The part that tells receivers of the file, once it is finished and lies at `url`."""
        return ExternalPart(
            disposition=Disposition.ATTACHMENT,
            content_type=file.mime,
            url=url,
            size=self._size,
            encryption=AES_128_GCM,
            key=self._key,
            nonce=self._nonce,
            hash_algorithm=SHA256,
            content_hash=self._hash.digest(),
            description=description,
            filename=file.name,
        )

    def _count(self, sealed: bytes) -> bytes:
        self._hash.update(sealed)
        self._size += len(sealed)
        return sealed


class Opening:
    """Opens one file. What `update` gives is not to be believed before `finish` has returned.

    Raises PeerMisbehaved for a seal that cannot be opened, and at the end for one that was tampered with.
    """

    def __init__(self, seal: Seal) -> None:
        self._cipher: CipherContext | None = None
        if seal.encryption == AES_128_GCM:
            if len(seal.key) != KEY or len(seal.nonce) != NONCE:
                raise PeerMisbehaved("The file's key has a wrong size, so it cannot be opened.")
            decryptor = Cipher(AES(seal.key), GCM(seal.nonce)).decryptor()
            decryptor.authenticate_additional_data(seal.aad)
            self._cipher, self._finalize = decryptor, decryptor.finalize_with_tag
        elif seal.encryption != NONE:
            raise PeerMisbehaved("The file is encrypted in a way that is not known here.")
        elif seal.hash_algorithm not in (0, SHA256):
            raise PeerMisbehaved("The file cannot be checked: its hash is of a kind that is not known here.")
        self._seal = seal
        self._hash = hashlib.sha256()
        self._tail = b""

    def update(self, chunk: bytes) -> bytes:
        """The next octets of the file."""
        self._hash.update(chunk)
        if self._cipher is None:
            return chunk
        held = self._tail + chunk  # the last octets are the tag
        self._tail = held[-TAG:]
        return self._cipher.update(held[:-TAG])

    def finish(self) -> None:
        """Return if the file was whole and unchanged."""
        if self._seal.hash_algorithm == SHA256 and self._hash.digest() != self._seal.content_hash:
            raise PeerMisbehaved("The file is not the one that was sent: its hash is another.")
        if self._cipher is None:
            return
        try:
            self._finalize(self._tail)
        except (InvalidTag, ValueError):
            raise PeerMisbehaved("The file was changed on its way, or its key is wrong.") from None


def to_file(part: ExternalPart) -> File:
    """The file that a part tells of. `uri` is where it lies, `key` opens it (see `seal_of`)."""
    seal = Seal(part.encryption, part.key, part.nonce, part.aad, part.hash_algorithm, part.content_hash)
    size = part.size - TAG if part.encryption == AES_128_GCM else part.size
    return File(
        uri=part.url,
        name=part.filename or "file",
        mime=part.content_type.partition(";")[0].strip() or "application/octet-stream",
        size=max(0, size),
        key=msgspec.msgpack.encode(seal),
    )


def in_clear(uri: str, name: str) -> File:
    """A file that lies at an address as it is, with nothing to open or to check it by."""
    return File(uri=uri, name=name, key=msgspec.msgpack.encode(Seal(NONE, b"", b"", b"", 0, b"")))


def by_way_of(file: File, network: NetworkId, hub: str) -> File:
    """The file as one that `network` fetches through the provider `hub` and opens."""
    seal = msgspec.structs.replace(seal_of(file), hub=hub)
    return msgspec.structs.replace(file, via=network, key=msgspec.msgpack.encode(seal))


def seal_of(file: File) -> Seal:
    """The seal of a file that `to_file` made."""
    return msgspec.msgpack.decode(file.key or b"", type=Seal)
