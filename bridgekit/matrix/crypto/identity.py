"""The identity of one of ours: its cross-signing keys, and what they sign (pure)."""

from __future__ import annotations

from bridgekit.contract.ids import PersonId
from bridgekit.matrix.crypto.signing import Json, SigningKey
from bridgekit.store.keys import Secrets


class Identity:
    """The three cross-signing keys of a user of ours."""

    def __init__(self, user: PersonId, seeds: Secrets) -> None:
        self._user = user
        self._master = SigningKey(seeds.master)
        self._self_signing = SigningKey(seeds.self_signing)
        self._user_signing = SigningKey(seeds.user_signing)
        self.master = self._master.public

    def sign(self, device_keys: Json) -> Json:
        """The device's keys with the self-signing key's signature: it is a device of this user."""
        return self._self_signing.sign(device_keys, self._user)

    def keys(self) -> Json:
        """The public keys, as device_signing/upload takes them."""
        return {
            "master_key": self._public("master", self._master),
            "self_signing_key": self._vouched_for("self_signing", self._self_signing),
            "user_signing_key": self._vouched_for("user_signing", self._user_signing),
        }

    def _public(self, usage: str, key: SigningKey) -> Json:
        return {"user_id": self._user, "usage": [usage], "keys": {f"ed25519:{key.public}": key.public}}

    def _vouched_for(self, usage: str, key: SigningKey) -> Json:
        return self._master.sign(self._public(usage, key), self._user)
