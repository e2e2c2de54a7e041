"""SASL as IRC carries it: PLAIN, EXTERNAL and SCRAM-SHA-256 as pure exchanges, and their 400-byte chunks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from typing import Protocol

from bridgekit.contract.errors import PeerMisbehaved

CHUNK = 400
"""IRCv3 SASL: a chunk of exactly 400 base64 characters says that more follows."""
MAX_MESSAGE = 16_384
"""Longer server messages are nonsense: nothing that we speak needs a tenth of it."""
MIN_ITERATIONS = 1
MAX_ITERATIONS = 1_000_000
"""RFC 7677 asks for 4096 or more (a low count weakens the server's store, not us); a peer may not keep us busy."""


class Exchange(Protocol):
    """One attempt at signing in. `respond` is called with each server message, the first one mostly empty."""

    mechanism: str

    def respond(self, challenge: bytes) -> bytes:
        """The client's next message. Raises PeerMisbehaved where the server did not play by the rules."""
        ...

    @property
    def complete(self) -> bool:
        """True when the server's success may be believed."""
        ...


class External:
    """RFC 4422 appendix A: the TLS client certificate speaks for us; `authzid` is who we want to be, if anyone."""

    mechanism = "EXTERNAL"
    complete = True

    def __init__(self, authzid: str = "") -> None:
        self._authzid = authzid

    def respond(self, challenge: bytes) -> bytes:
        """The authorization identity, whatever was asked."""
        return self._authzid.encode()


class Plain:
    """RFC 4616. Never to be used without TLS: the password travels as it is."""

    mechanism = "PLAIN"
    complete = True

    def __init__(self, account: str, password: str) -> None:
        if "\0" in account or "\0" in password:
            raise ValueError("NUL is not allowed in an account or a password")
        self._message = b"\0".join((account.encode(), account.encode(), password.encode()))

    def respond(self, challenge: bytes) -> bytes:
        """authzid NUL authcid NUL password, whatever was asked."""
        return self._message


class ScramSha256:
    """RFC 5802 with SHA-256 (RFC 7677), without channel binding. `nonce` is printable ASCII without a comma."""

    mechanism = "SCRAM-SHA-256"

    def __init__(self, account: str, password: str, nonce: str) -> None:
        self._password = saslprep(password).encode()
        name = saslprep(account).replace("=", "=3D").replace(",", "=2C")
        self._nonce = nonce
        self._first_bare = f"n={name},r={nonce}"
        self._signature: bytes | None = None
        self._step = 0
        self.complete = False

    def respond(self, challenge: bytes) -> bytes:
        """client-first, client-final, and an empty answer to a server-final whose signature is right."""
        self._step += 1
        match self._step:
            case 1:
                return f"n,,{self._first_bare}".encode()
            case 2:
                return self._final(challenge)
            case 3:
                self._verify(challenge)
                return b""
            case _:
                raise PeerMisbehaved("The server goes on with SCRAM after its end")

    def _final(self, challenge: bytes) -> bytes:
        server_first = _text(challenge)
        fields = _fields(server_first)
        nonce = fields.get("r", "")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise PeerMisbehaved("The server's SCRAM nonce does not continue ours")
        if "m" in fields:
            raise PeerMisbehaved("The server asks for a SCRAM extension that nobody knows")
        try:
            salt = base64.b64decode(fields["s"], validate=True)
            iterations = int(fields["i"])
        except (KeyError, ValueError, binascii.Error) as error:
            raise PeerMisbehaved("The server's SCRAM challenge is incomplete") from error
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS or not salt:
            raise PeerMisbehaved("The server's SCRAM parameters are out of bounds")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={nonce}"
        auth = ",".join((self._first_bare, server_first, without_proof)).encode()
        client_signature = hmac.digest(hashlib.sha256(client_key).digest(), auth, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, client_signature, strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), auth, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def _verify(self, challenge: bytes) -> None:
        fields = _fields(_text(challenge))
        if "e" in fields:
            raise PeerMisbehaved("The server refused the SCRAM proof")
        try:
            signature = base64.b64decode(fields["v"], validate=True)
        except (KeyError, ValueError, binascii.Error) as error:
            raise PeerMisbehaved("The server's last SCRAM message has no signature") from error
        if self._signature is None or not hmac.compare_digest(signature, self._signature):
            raise PeerMisbehaved("The server does not know our password: its SCRAM signature is wrong")
        self.complete = True


def saslprep(text: str) -> str:
    """RFC 4013, for stored strings and queries alike. Raises ValueError on what it prohibits."""
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if any(table(c) for c in normal for table in prohibited):
        raise ValueError("a character that no account or password may have")
    if any(stringprep.in_table_d1(c) for c in normal):  # RFC 3454 section 6: right to left
        if any(stringprep.in_table_d2(c) for c in normal):
            raise ValueError("left-to-right and right-to-left letters in one word")
        if not (stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])):
            raise ValueError("a right-to-left word must begin and end with a right-to-left letter")
    return normal


def chunks(message: bytes) -> list[str]:
    """The parameters of the AUTHENTICATE lines that carry `message`; "+" is nothing, or the end after a full chunk."""
    encoded = base64.b64encode(message).decode()
    parts = [encoded[i : i + CHUNK] for i in range(0, len(encoded), CHUNK)]
    if not parts or len(parts[-1]) == CHUNK:
        parts.append("+")
    return parts


class Assembler:
    """Puts the chunks of the server's messages together again."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def feed(self, chunk: str) -> bytes | None:
        """The whole message once its last chunk came, None until then. Raises PeerMisbehaved."""
        if chunk != "+":
            self._parts.append(chunk)
        if len(chunk) > CHUNK or sum(map(len, self._parts)) > MAX_MESSAGE:
            raise PeerMisbehaved("A SASL message of the server is too long")
        if len(chunk) == CHUNK:
            return None
        encoded, self._parts = "".join(self._parts), []
        try:
            return base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error) as error:
            raise PeerMisbehaved("A SASL message of the server is not base64") from error


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise PeerMisbehaved("A SASL message of the server is not UTF-8") from error


def _fields(message: str) -> dict[str, str]:
    return {part[0]: part[2:] for part in message.split(",") if len(part) >= 2 and part[1] == "="}
