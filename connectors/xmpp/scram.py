"""SCRAM (RFC 5802, RFC 7677) as slixmpp has it, with the salted password computed in C, and not for ever.

slixmpp computes each round in Python, and with every login the whole bridge stands still meanwhile; a server asks for
thousands, and may ask for any number.
"""

from __future__ import annotations

import hashlib
from typing import Any

from slixmpp.util.sasl.client import SASLCancelled, sasl_mech
from slixmpp.util.sasl.mechanisms import SCRAM

MOST_ROUNDS = 1_000_000
"""Servers ask for 4,096 (RFC 7677, 4) up to some hundred thousand."""


class Scram(SCRAM):  # type: ignore[misc]
    """SCRAM with every hash, with and without channel binding."""

    def Hi(self, text: Any, salt: bytes, iterations: int) -> bytes:
        """The salted password. Raises SASLCancelled, upon which slixmpp goes on to what else the server offers."""
        if not 0 < iterations <= MOST_ROUNDS:
            raise SASLCancelled(f"the server asks for {iterations} rounds of its password hash")
        try:
            return hashlib.pbkdf2_hmac(self.hash().name, bytes(text), salt, iterations)
        except ValueError as error:  # a hash that is none for this
            raise SASLCancelled(str(error)) from None


def install() -> None:
    """Let slixmpp use it in the place of its own. Twice is harmless."""
    sasl_mech(SCRAM.score)(Scram)
