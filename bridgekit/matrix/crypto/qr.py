"""QR codes that one of ours shows and somebody's client scans: what is in them, and their picture.

Client-Server API, "QR codes" of key verification. Pure. The bridge has no camera, so it never scans one.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import NamedTuple

import segno

from bridgekit.matrix.crypto.signing import from_base64

SHOW, SCAN, RECIPROCATE = "m.qr_code.show.v1", "m.qr_code.scan.v1", "m.reciprocate.v1"
SECRET_BYTES = 16
_VERSION, _ANOTHER_USER = 2, 0
_PIXELS = 6
"""The width of one square: on a screen of today, a code is some centimetres wide."""


class Picture(NamedTuple):
    """A PNG; width and height in pixels."""

    data: bytes
    width: int
    height: int


def can_scan(methods: Collection[str]) -> bool:
    """Whether a client that names these methods can scan what one of ours shows."""
    return SCAN in methods and RECIPROCATE in methods


def written(transaction: str, ours: str, theirs: str, secret: bytes) -> bytes:
    """What the code holds; `ours` and `theirs` are the master keys of both (base64), as this side knows them.

    Raises ValueError where one is no key."""
    keys = [from_base64(key) for key in (ours, theirs)]
    if {len(key) for key in keys} != {32}:
        raise ValueError("no Ed25519 key")
    id = transaction.encode()
    head = b"MATRIX" + bytes((_VERSION, _ANOTHER_USER)) + len(id).to_bytes(2, "big")
    return head + id + b"".join(keys) + secret


def drawn(code: bytes) -> Picture:
    """The code as people's cameras read it."""
    found = segno.make_qr(code, mode="byte", error="m")
    file = io.BytesIO()
    found.save(file, kind="png", scale=_PIXELS)
    width, height = found.symbol_size(_PIXELS)
    return Picture(file.getvalue(), int(width), int(height))
