"""How a file lies encrypted where a network keeps it: what a connector writes into `File.key`."""

from __future__ import annotations

import base64

import msgspec

GCM = "A256GCM"
TAG_BYTES = 16


def gcm(secret: bytes, iv: bytes) -> bytes:
    """AES-256-GCM under `secret` (32 bytes) and `iv`; the tag stands behind the last byte (NIST SP 800-38D)."""
    k = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    return msgspec.json.encode(
        {"key": {"kty": "oct", "alg": GCM, "k": k}, "iv": base64.b64encode(iv).decode().rstrip("=")}
    )
