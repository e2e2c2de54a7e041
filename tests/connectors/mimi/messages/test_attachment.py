"""Files outside of a message: AES-128-GCM (draft-ietf-mimi-content 4.5)."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from bridgekit.contract.errors import PeerMisbehaved
from bridgekit.contract.people import File
from connectors.mimi.messages.attachment import Opening, Seal, Sealing, seal_of, to_file
from connectors.mimi.messages.parts import Disposition, ExternalPart

KEY, NONCE = bytes(range(16)), bytes(range(12))
CAT = File(uri="mxc://a/b", name="cat.png", mime="image/png")


def sealed(*chunks: bytes) -> tuple[bytes, ExternalPart]:
    sealing = Sealing(KEY, NONCE)
    octets = b"".join(map(sealing.update, chunks)) + sealing.finish()
    return octets, sealing.part(CAT, "https://a.example/1")


def opened(octets: bytes, seal: Seal, step: int = 7) -> bytes:
    opening = Opening(seal)
    out = b"".join(opening.update(octets[at : at + step]) for at in range(0, len(octets), step))
    opening.finish()
    return out


def test_a_file_is_sealed_as_rfc_5116_says():
    octets, part = sealed(b"hel", b"lo")
    assert octets == AESGCM(KEY).encrypt(NONCE, b"hello", None)
    assert (part.encryption, part.key, part.nonce, part.size) == (1, KEY, NONCE, 21)
    assert (part.disposition, part.content_type, part.filename) == (
        Disposition.ATTACHMENT,
        "image/png",
        "cat.png",
    )


@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 40))
def test_what_is_sealed_is_opened(chunks: list[bytes], step: int):
    octets, part = sealed(*chunks)
    assert opened(octets, seal_of(to_file(part)), step) == b"".join(chunks)


def test_a_file_is_known_by_its_size_before_it_was_sealed():
    _, part = sealed(b"hello")
    file = to_file(part)
    assert (file.uri, file.name, file.mime, file.size) == ("https://a.example/1", "cat.png", "image/png", 5)


@pytest.mark.parametrize("at", [0, 4, 20])
def test_a_file_that_was_changed_is_refused(at: int):
    octets, part = sealed(b"hello")
    changed = octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :]
    seal = seal_of(to_file(part))
    with pytest.raises(PeerMisbehaved, match="hash is another"):
        opened(changed, seal)
    with pytest.raises(PeerMisbehaved, match="changed on its way"):
        opened(changed, msgspec.structs.replace(seal, hash_algorithm=0))


def test_a_file_that_was_cut_is_refused():
    octets, part = sealed(b"hello")
    seal = msgspec.structs.replace(seal_of(to_file(part)), hash_algorithm=0)
    for end in range(len(octets)):
        with pytest.raises(PeerMisbehaved):
            opened(octets[:end], seal)


def test_a_public_file_is_checked_by_its_hash():
    part = ExternalPart(content_type="text/plain", url="https://a.example/2", size=3)
    assert opened(b"abc", seal_of(to_file(part))) == b"abc"
    wrong = msgspec.structs.replace(part, hash_algorithm=1, content_hash=bytes(32))
    with pytest.raises(PeerMisbehaved, match="hash is another"):
        opened(b"abc", seal_of(to_file(wrong)))


@pytest.mark.parametrize(
    "seal",
    [
        Seal(2, KEY, NONCE, b"", 0, b""),
        Seal(1, KEY[:8], NONCE, b"", 0, b""),
        Seal(1, KEY, b"", b"", 0, b""),
        Seal(0, b"", b"", b"", 7, b"x"),
    ],
)
def test_a_seal_that_cannot_be_opened_is_refused(seal: Seal):
    with pytest.raises(PeerMisbehaved):
        Opening(seal)
