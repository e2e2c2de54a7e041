"""Franks: a hub's stamp on a message that it cannot read (draft-ietf-mimi-protocol-06 5.4.1)."""

from __future__ import annotations

import hashlib
import hmac

from bridgekit.contract.errors import PeerMisbehaved
from connectors.mimi.mls import Engine, Signer
from connectors.mimi.wire.components import FRANK_AAD, SAFE_AAD, Component, FrankingAgent
from connectors.mimi.wire.mls import CREDENTIAL, ExternalSender
from connectors.mimi.wire.rooms import (
    FRANKING_CONTEXT,
    FRANKING_INTEGRITY,
    Frank,
    FrankingContext,
    FrankingIntegrity,
)

_LABEL = "FrankingIntegrityTBS"


def tag(salt: bytes, application_data: bytes) -> bytes:
    """What the sender puts beside the ciphertext: it commits to the message and tells nothing of it."""
    return hmac.digest(salt, application_data, hashlib.sha256)


def tag_of(authenticated_data: bytes) -> bytes | None:
    """The tag in the Safe AAD of a message, if there is one. Raises PeerMisbehaved."""
    for item in SAFE_AAD.decode(authenticated_data):
        if item.id == Component.FRANK_AAD:
            return FRANK_AAD.decode(item.data)
    return None


class Franker:
    """The hub's side. `key` is its secret, with which it knows its own franks again; `signer` is the room's agent."""

    def __init__(self, key: bytes, signer: Signer, cipher_suite: int) -> None:
        self._key, self._signer, self._suite = key, signer, cipher_suite

    def frank(self, franking_tag: bytes, context: FrankingContext) -> Frank:
        """Stamp a message that was accepted."""
        stamp = self._stamp(franking_tag, context)
        signed = FRANKING_INTEGRITY.encode(FrankingIntegrity(stamp, self._suite, context))
        return Frank(stamp, self._suite, self._signer.sign(_LABEL, signed))

    def sign(self, label: str, content: bytes) -> bytes:
        """SignWithLabel, as the hub."""
        return self._signer.sign(label, content)

    @property
    def sender(self) -> ExternalSender:
        """The hub as it stands in a group's external_senders."""
        return ExternalSender(self._signer.signature_key, CREDENTIAL.decode(self._signer.credential))

    def is_mine(self, frank: Frank, franking_tag: bytes, context: FrankingContext) -> bool:
        """Whether this hub stamped that message, from that sender, then: what an abuse report claims."""
        return hmac.compare_digest(frank.server_frank, self._stamp(franking_tag, context))

    def _stamp(self, franking_tag: bytes, context: FrankingContext) -> bytes:
        return hmac.digest(self._key, franking_tag + FRANKING_CONTEXT.encode(context), hashlib.sha256)


def check(engine: Engine, agent: FrankingAgent, suite: int, frank: Frank, context: FrankingContext) -> None:
    """The receiver's side: that nobody on the way changed sender, room or time. Raises PeerMisbehaved."""
    signed = FRANKING_INTEGRITY.encode(FrankingIntegrity(frank.server_frank, frank.cipher_suite, context))
    if frank.cipher_suite != suite or not engine.verify(
        suite, agent.signature_key, _LABEL, signed, frank.signature
    ):
        raise PeerMisbehaved("The message's sender, room or time was changed on its way.")
