"""Signed JSON: signatures made and checked (Matrix specification, appendices, "Signing JSON") (pure)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vodozemac import Ed25519PublicKey, Ed25519Signature

Json = dict[str, Any]

SEED_BYTES = 32


def canonical(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON without `signatures` and `unsigned`: what a signature is made of. Raises ValueError."""
    bare = {key: part for key, part in value.items() if key not in ("signatures", "unsigned")}
    text = json.dumps(bare, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return text.encode("utf-8")


def unpadded(data: bytes) -> str:
    """Base64 without "=", as keys and signatures are written."""
    return base64.b64encode(data).decode().rstrip("=")


def from_base64(text: str) -> bytes:
    """The bytes of padded or unpadded base64. Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error


class SigningKey:
    """An Ed25519 key of cross-signing, from its 32 secret bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = unpadded(self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"

    def sign(self, value: Json, user: str, key_id: str = "") -> Json:
        """The object with one more signature, under `ed25519:<key_id>` (the public key itself if none is given)."""
        return signed(value, user, key_id or self.public, unpadded(self._key.sign(canonical(value))))


def signed(value: Json, user: str, key_id: str, signature: str) -> Json:
    """The object with one more signature that was made elsewhere."""
    signatures = {who: dict(keys) for who, keys in value.get("signatures", {}).items()}
    signatures.setdefault(user, {})[f"ed25519:{key_id}"] = signature
    return {**value, "signatures": signatures}


def is_signed(value: Mapping[str, Any], user: str, key_id: str, key: str) -> bool:
    """Whether the object bears a good signature of `user` by `ed25519:<key_id>`, whose public key is `key`."""
    signatures = value.get("signatures")
    mine = signatures.get(user) if isinstance(signatures, dict) else None
    signature = mine.get(f"ed25519:{key_id}") if isinstance(mine, dict) else None
    if not isinstance(signature, str):
        return False
    try:
        Ed25519PublicKey.from_base64(key).verify_signature(
            canonical(value), Ed25519Signature.from_base64(signature)
        )
    except (ValueError, UnicodeEncodeError, RecursionError):  # vodozemac's errors are ValueErrors
        return False
    return True
